"""Tiny random model directories, made by transformers: what our own layers are compared with.

Each is a complete Hugging Face directory (config, safetensors, byte-level tokenizer, ChatML
template, generation config) of a few hundred kB. Weights are wide enough (std 0.1) that two
different computations give different tokens, and biases and norms are random too, so that a bias
or a norm weight left out cannot pass.
"""

import json
from pathlib import Path

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' "
    "+ message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")  # ids 0, 1, 2; 2 is eos
VOCAB_SIZE = 288  # 3 special, 256 bytes, 13 merges, the rest unused as in real, padded vocabularies
MERGES = (
    *(("t", "h"), ("th", "e"), ("i", "n"), ("Ġ", "the"), ("a", "n"), ("an", "d"), ("e", "r")),
    *(("Ġ", "a"), ("o", "n"), ("Ġ", "s"), ("l", "l"), ("h", "e"), ("he", "ll")),
)

_SHARED = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}
_LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
_YARN_ROPE = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 128,
}
_LINEAR_ROPE = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}

# name -> (transformers' model_type, what differs from _SHARED)
TINY_MODELS: dict[str, tuple[str, dict]] = {
    "llama": ("llama", {}),
    "llama-tied-biases": (
        "llama",
        {
            "tie_word_embeddings": True,
            "attention_bias": True,
            "mlp_bias": True,
            "head_dim": 24,
            "num_attention_heads": 8,
            "num_key_value_heads": 8,
        },
    ),
    "llama3-rope": ("llama", {"rope_parameters": _LLAMA3_ROPE, "tie_word_embeddings": True}),
    "llama-linear-rope": ("llama", {"rope_parameters": _LINEAR_ROPE}),
    "llama-yarn-rope": ("llama", {"rope_parameters": _YARN_ROPE}),
    "mistral": ("mistral", {"head_dim": 32, "sliding_window": None}),
    "mistral-window": ("mistral", {"head_dim": 32, "sliding_window": 24}),
    "qwen2": ("qwen2", {"tie_word_embeddings": True}),
    "qwen3": ("qwen3", {"head_dim": 32, "tie_word_embeddings": True}),
    "qwen3-untied": ("qwen3", {"head_dim": 16, "num_key_value_heads": 1}),
}


def make_tiny_model(
    name: str, root: Path, *, seed: int = 0, max_shard_size: str | None = None
) -> Path:
    """Directory `root/name` holding the tiny fp32 model `name`; made unless it is there already.

    `max_shard_size` ("100KB") splits the weights over several safetensors files.
    """
    path = Path(root) / name
    if (path / "generation_config.json").exists():
        return path
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    model_type, overrides = TINY_MODELS[name]
    config = AutoConfig.for_model(model_type, **{**_SHARED, **overrides})
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            mean = 1.0 if "norm" in parameter_name else 0.0
            parameter.normal_(mean, 0.1, generator=generator)
    write_tiny_tokenizer(path)
    model.save_pretrained(path, **({"max_shard_size": max_shard_size} if max_shard_size else {}))
    generation = {"bos_token_id": 1, "eos_token_id": [2, 0], "pad_token_id": 0}
    (path / "generation_config.json").write_text(json.dumps(generation))
    return path


def write_tiny_tokenizer(path: Path) -> None:
    """tokenizer.json and tokenizer_config.json of a byte-level BPE tokenizer with ChatML tokens."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    path.mkdir(parents=True, exist_ok=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*SPECIAL_TOKENS, *alphabet, *("".join(pair) for pair in MERGES)]
    vocab = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=list(MERGES)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in SPECIAL_TOKENS])
    tokenizer.save(str(path / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "add_bos_token": False,
        "chat_template": CHATML,
        "model_max_length": 512,
    }
    (path / "tokenizer_config.json").write_text(json.dumps(settings, indent=2))
