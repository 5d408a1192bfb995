"""One small byte-level tokenizer for all tests of this folder."""

import pytest

from ramify.runtime.models.config import ModelConfig, model_config_from_dict
from ramify.runtime.tokenizer.tokenizer import Tokenizer, load_tokenizer
from tests.tiny_models import VOCAB_SIZE, write_tiny_tokenizer


@pytest.fixture(scope="session")
def config() -> ModelConfig:
    return model_config_from_dict(
        {
            "architectures": ["LlamaForCausalLM"],
            "vocab_size": VOCAB_SIZE,
            "hidden_size": 64,
            "intermediate_size": 112,
            "num_hidden_layers": 1,
            "num_attention_heads": 4,
            "max_position_embeddings": 512,
            "eos_token_id": 2,
        }
    )


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory, config: ModelConfig) -> Tokenizer:
    directory = tmp_path_factory.mktemp("tokenizer")
    write_tiny_tokenizer(directory)
    return load_tokenizer(directory, config)
