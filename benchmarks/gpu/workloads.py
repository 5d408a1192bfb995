"""The workloads of the targets, by name, with their exact lengths and token ids.

Each is a list of requests in the order in which they are sent, all at once; every answer has
exactly `num_out` tokens.
"""

import random
from collections.abc import Callable
from typing import NamedTuple


class Ask(NamedTuple):
    """One request."""

    token_ids: list[int]
    num_out: int


class Workload(NamedTuple):
    """A workload and the targets of its output tokens per second."""

    shape: str  # of the model: "8B" or "0.6B"
    asks: Callable[[], list[Ask]]
    limit: int  # what the machine allows, computed
    must: int
    moon: int
    peer: int  # the best of SGLang and vLLM, measured on the same kind of machine


def _single() -> list[Ask]:
    rng = random.Random(2)
    return [Ask([rng.randint(10, 100000) for _ in range(1024)], 256)]


def _mixed() -> list[Ask]:
    rng = random.Random(0)
    asks = []
    for _ in range(512):
        token_ids = [rng.randint(10, 100000)] * rng.randint(256, 1024)
        asks.append(Ask(token_ids, rng.randint(128, 512)))
    return asks


def _shared(num_groups: int, num_out: int) -> list[Ask]:
    rng = random.Random(1)
    asks = []
    for _ in range(num_groups):
        prefix = [rng.randint(10, 100000) for _ in range(2048)]
        for _ in range(16):
            own = [rng.randint(10, 100000) for _ in range(128)]
            asks.append(Ask(prefix + own, num_out))
    rng.shuffle(asks)
    return asks


def _forks(length: int) -> list[Ask]:
    rng = random.Random(3)
    prefix = [rng.randint(10, 100000) for _ in range(length)]
    return [Ask(prefix + [rng.randint(10, 100000) for _ in range(16)], 256) for _ in range(64)]


def _nano() -> list[Ask]:
    rng = random.Random(0)
    prompts = [[rng.randint(0, 10000) for _ in range(rng.randint(100, 1024))] for _ in range(256)]
    return [Ask(prompt, rng.randint(100, 1024)) for prompt in prompts]


WORKLOADS = {
    "single": Workload("8B", _single, 284, 215, 245, 204),
    "forks2k": Workload("8B", lambda: _forks(2048), 15500, 10500, 13500, 7427),
    "forks8k": Workload("8B", lambda: _forks(8192), 12000, 9000, 11000, 3833),
    "forks32k": Workload("8B", lambda: _forks(32768), 6200, 4500, 5500, 1262),
    "prefix": Workload("8B", lambda: _shared(32, 128), 13900, 10000, 12500, 6791),
    "gsp": Workload("8B", lambda: _shared(64, 256), 20200, 12000, 16000, 7969),
    "mixed": Workload("8B", _mixed, 12200, 9200, 10000, 9172),
    "0.6B single": Workload("0.6B", _single, 3284, 720, 1300, 604),
    "nano": Workload("0.6B", _nano, 36200, 26000, 33000, 23575),
}

_LLAMA_8B = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "tie_word_embeddings": False,
    "initializer_range": 0.02,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_QWEN3_06B = _LLAMA_8B | {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "tie_word_embeddings": True,
}
SHAPES = {"8B": _LLAMA_8B, "0.6B": _QWEN3_06B}  # config.json of each
