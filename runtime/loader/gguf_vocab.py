"""The tokenizer inside a GGUF file, as tokenizer.json, tokenizer_config.json and chat template.

A GGUF file names its pre-tokenizer instead of holding it. What follows puts it back: without the
splitting of digits, SmolLM2 would read "2024" as one token it never saw in training.
"""

from typing import Any

from ramify.lang.errors import LoadError
from ramify.runtime.loader.gguf_model import GGUFModel
from ramify.runtime.tokenizer.patterns import LLAMA3, QWEN

_CONTROL, _USER_DEFINED = 3, 4  # llama.cpp's token types of added tokens

_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
_GPT2_SPLIT = {**_BYTE_LEVEL, "use_regex": True}


def _regex_split(pattern: str) -> list[dict[str, Any]]:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated"}
    return [{**split, "invert": False}, {**_BYTE_LEVEL, "use_regex": False}]


# llama.cpp's name -> the steps of tokenizers' pre-tokenizer
_PRE_TOKENIZERS: dict[str, list[dict[str, Any]]] = {
    "gpt-2": [_GPT2_SPLIT],
    "smollm": [{"type": "Digits", "individual_digits": True}, _GPT2_SPLIT],
    "llama-bpe": _regex_split(LLAMA3),
    "qwen2": _regex_split(QWEN),
}


def tokenizer_files(model: GGUFModel, max_length: int) -> dict[str, Any]:
    """File name -> JSON value, or text for the template."""
    kind, pre = model.require("tokenizer.ggml.model"), model.get("tokenizer.ggml.pre", "gpt-2")
    if kind != "gpt2" or pre not in _PRE_TOKENIZERS:
        raise LoadError(
            f"{model.path}: its tokenizer (model {kind!r}, pre-tokenizer {pre!r}) is not supported "
            f"in a GGUF file: must be gpt2 with one of {', '.join(_PRE_TOKENIZERS)}; give the "
            "Hugging Face directory of this model"
        )
    tokens: list[str] = model.require("tokenizer.ggml.tokens")
    files: dict[str, Any] = {
        "tokenizer.json": _tokenizer_json(model, tokens, _PRE_TOKENIZERS[pre]),
        "tokenizer_config.json": _tokenizer_config(model, tokens, pre, max_length),
    }
    template = model.get("tokenizer.chat_template")
    if template is not None:
        files["chat_template.jinja"] = template
    return files


def _tokenizer_json(
    model: GGUFModel, tokens: list[str], pre_tokenizers: list[dict[str, Any]]
) -> dict[str, Any]:
    types: list[int] = model.require("tokenizer.ggml.token_type")
    added = [
        {
            "id": index,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": kind == _CONTROL,
        }
        for index, (token, kind) in enumerate(zip(tokens, types, strict=True))
        if kind in (_CONTROL, _USER_DEFINED)
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": pre_tokenizers},
        "post_processor": None,
        "decoder": {**_BYTE_LEVEL, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": pre_tokenizers is _PRE_TOKENIZERS["llama-bpe"],
            "vocab": {token: index for index, token in enumerate(tokens)},
            "merges": [merge.split(" ") for merge in model.require("tokenizer.ggml.merges")],
        },
    }


def _tokenizer_config(
    model: GGUFModel, tokens: list[str], pre: str, max_length: int
) -> dict[str, Any]:
    names = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
    special = {}
    for name, key in names.items():
        token_id = model.get(f"tokenizer.ggml.{key}_token_id")
        if token_id is not None:
            special[name] = tokens[token_id]
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **special,
        "add_bos_token": model.get("tokenizer.ggml.add_bos_token", pre == "llama-bpe"),
        "clean_up_tokenization_spaces": False,
        "model_max_length": max_length,
    }
