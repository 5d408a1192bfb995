"""tokenizer.json, through the package tokenizers."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tokenizers

from ramify.lang.errors import LoadError

# Decoder steps that make a SentencePiece decoder: each token is its own text, with "▁" for space.
_SENTENCEPIECE = {"Replace", "ByteFallback", "Fuse", "Strip", "Metaspace"}
_SPACE = "▁"


class JsonCodec:
    """A tokenizer.json with a byte-level or SentencePiece decoder. See `Codec`."""

    def __init__(self, path: Path) -> None:
        try:
            first = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the package raises nothing narrower
            raise LoadError(f"{path} cannot be read as a tokenizer: {error}") from error
        first.no_truncation()
        first.no_padding()
        self._first = first
        self._continued = _without_prefix_space(first)
        vocab = first.get_vocab(with_added_tokens=True)
        self.token_bytes = _token_bytes(vocab, _decoder_steps(first, path))
        added = first.get_added_tokens_decoder()
        self.special_tokens = {
            token.content: index for index, token in added.items() if token.special
        }
        self.prefix_ids = _prefix_ids(first)

    def encode(self, text: str, *, is_first: bool) -> list[int]:
        """See `Codec.encode`."""
        text.encode("utf-8")
        tokenizer = self._first if is_first else self._continued
        return list(tokenizer.encode(text, add_special_tokens=False).ids)

    def token_id(self, token: str) -> int | None:
        """See `Codec.token_id`."""
        index = self._first.token_to_id(token)
        return None if index is None else int(index)


def _without_prefix_space(tokenizer: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """The same tokenizer for text that goes on: no space is put before it."""
    raw = json.loads(tokenizer.to_str()) if _adds_prefix_space(tokenizer) else None
    if raw is None:
        return tokenizer
    for step in _steps(raw["pre_tokenizer"]):
        if step["type"] == "Metaspace":
            step["prepend_scheme"] = "never"
        elif step["type"] == "ByteLevel":
            step["add_prefix_space"] = False
    raw["normalizer"] = _drop_prepend(raw["normalizer"])
    return tokenizers.Tokenizer.from_str(json.dumps(raw))


def _adds_prefix_space(tokenizer: tokenizers.Tokenizer) -> bool:
    steps = [*_steps(_part(tokenizer.normalizer)), *_steps(_part(tokenizer.pre_tokenizer))]
    return any(
        step["type"] == "Prepend"
        or (step["type"] == "Metaspace" and step.get("prepend_scheme") != "never")
        or (step["type"] == "ByteLevel" and step.get("add_prefix_space", False))
        for step in steps
    )


def _drop_prepend(normalizer: dict[str, Any] | None) -> dict[str, Any] | None:
    if normalizer is None or normalizer["type"] == "Prepend":
        return None
    if normalizer["type"] == "Sequence":
        kept = [step for step in normalizer["normalizers"] if step["type"] != "Prepend"]
        return {"type": "Sequence", "normalizers": kept}
    return normalizer


def _part(component: Any) -> dict[str, Any] | None:
    """A component of a tokenizer as it stands in tokenizer.json."""
    return None if component is None else json.loads(component.__getstate__())


def _steps(part: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """A component and all components inside it."""
    if part is None:
        return
    yield part
    for inside in ("normalizers", "pretokenizers", "decoders"):
        for step in part.get(inside, ()):
            yield from _steps(step)


def _decoder_steps(tokenizer: tokenizers.Tokenizer, path: Path) -> set[str]:
    steps = {step["type"] for step in _steps(_part(tokenizer.decoder))} - {"Sequence"}
    if "ByteLevel" not in steps and (not steps or not steps <= _SENTENCEPIECE):
        shown = ", ".join(sorted(steps)) or "none"
        raise LoadError(
            f"{path}: decoder {shown}: must be ByteLevel, or SentencePiece's (Metaspace; Replace, "
            "ByteFallback, Fuse, Strip). Only tokens that stand for bytes of text can be streamed"
        )
    return steps


def _token_bytes(vocab: dict[str, int], steps: set[str]) -> tuple[bytes, ...]:
    table = [b""] * (max(vocab.values(), default=-1) + 1)
    if "ByteLevel" in steps:
        alphabet = _byte_level_alphabet()
        for token, index in vocab.items():
            table[index] = _byte_level_bytes(token, alphabet)
        return tuple(table)
    for token, index in vocab.items():
        table[index] = token.replace(_SPACE, " ").encode()
    if "ByteFallback" in steps:
        for byte in range(256):
            if (index := vocab.get(f"<0x{byte:02X}>", -1)) >= 0:
                table[index] = bytes((byte,))
    return tuple(table)


def _byte_level_bytes(token: str, alphabet: dict[int, int]) -> bytes:
    """Bytes a byte-level token stands for; added tokens outside the alphabet are their own text."""
    try:
        return bytes([alphabet[ord(char)] for char in token])
    except KeyError:
        return token.encode()


def _byte_level_alphabet() -> dict[int, int]:
    """GPT-2's alphabet: a printable character for each byte (code point -> byte)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: byte for byte in printable} | {256 + i: byte for i, byte in enumerate(others)}


def _prefix_ids(tokenizer: tokenizers.Tokenizer) -> tuple[int, ...]:
    """What the post-processor puts before a text. What it puts after (an EOS) is never wanted."""
    bare = tokenizer.encode("a", add_special_tokens=False).ids
    full = tokenizer.encode("a", add_special_tokens=True).ids
    for start in range(len(full) - len(bare) + 1):
        if full[start : start + len(bare)] == bare:
            return tuple(full[:start])
    return ()
