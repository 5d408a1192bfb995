"""Vocabulary files in tiktoken's format: one line per token, its bytes in base64 and its rank."""

import base64
import re
from pathlib import Path

import tiktoken

from ramify.lang.errors import LoadError
from ramify.runtime.tokenizer.patterns import LLAMA3, QWEN

# tiktoken's regex backtracks over a whole run of spaces, and fails on very long ones. Cut as in
# Llama 3's own tokenizer.py.
_LONG_RUN = re.compile(r"\s{25000}|\S{25000}")
_LLAMA3_RANKS = 128_000
_LLAMA3_NAMED = {
    0: "<|begin_of_text|>",
    1: "<|end_of_text|>",
    4: "<|finetune_right_pad_id|>",
    6: "<|start_header_id|>",
    7: "<|end_header_id|>",
    8: "<|eom_id|>",
    9: "<|eot_id|>",
    10: "<|python_tag|>",
}
_QWEN_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_QWEN_EXTRAS = 205


class TiktokenCodec:
    """Llama 3's tokenizer.model or Qwen's qwen.tiktoken. See `Codec`.

    The format holds neither the pattern that splits text nor the special tokens: both belong to
    the family. `added_tokens` (from tokenizer_config.json) takes the place of the family's.
    """

    def __init__(self, path: Path, added_tokens: dict[str, int] | None = None) -> None:
        ranks = _read_ranks(path)
        if path.suffix == ".tiktoken":
            pattern, special, prefix = QWEN, _qwen_special(len(ranks)), None
        elif len(ranks) == _LLAMA3_RANKS:
            pattern, special, prefix = LLAMA3, _llama3_special(), "<|begin_of_text|>"
        else:
            raise LoadError(
                f"{path} holds {len(ranks)} tokens in tiktoken's format: only Llama 3's "
                f"({_LLAMA3_RANKS}) and *.tiktoken of Qwen are known; add a tokenizer.json"
            )
        self.special_tokens = added_tokens or special
        self._encoding = tiktoken.Encoding(
            path.stem, pat_str=pattern, mergeable_ranks=ranks, special_tokens=self.special_tokens
        )
        table = [b""] * (max(*ranks.values(), *self.special_tokens.values()) + 1)
        for token, index in ranks.items():
            table[index] = token
        for name, index in self.special_tokens.items():
            table[index] = name.encode()
        self.token_bytes = tuple(table)
        self.prefix_ids: tuple[int, ...] = ()
        if prefix in self.special_tokens:
            self.prefix_ids = (self.special_tokens[prefix],)

    def encode(self, text: str, *, is_first: bool) -> list[int]:
        """See `Codec.encode`. Byte-level: a text that goes on is read like one that starts."""
        text.encode("utf-8")
        ids: list[int] = []
        start = 0
        for cut in (*(run.end() for run in _LONG_RUN.finditer(text)), len(text)):
            ids += self._encoding.encode(
                text[start:cut], allowed_special="all", disallowed_special=()
            )
            start = cut
        return ids

    def token_id(self, token: str) -> int | None:
        """See `Codec.token_id`."""
        return self.special_tokens.get(token)


def is_tiktoken_file(path: Path) -> bool:
    """Whether `path` looks like tiktoken's format (SentencePiece uses the same file name)."""
    with path.open("rb") as file:
        line = file.readline(1024).split()
    return len(line) == 2 and line[1].isdigit()


def _read_ranks(path: Path) -> dict[bytes, int]:
    ranks: dict[bytes, int] = {}
    try:
        for line in path.read_bytes().splitlines():
            if line:
                token, rank = line.split()
                ranks[base64.b64decode(token, validate=True)] = int(rank)
    except ValueError as error:
        raise LoadError(
            f"{path} cannot be read as a tiktoken vocabulary (line {len(ranks) + 1}: {error})"
        ) from error
    if sorted(ranks.values()) != list(range(len(ranks))):
        raise LoadError(f"{path} is not a whole tiktoken vocabulary: its ranks have gaps")
    return ranks


def _llama3_special() -> dict[str, int]:
    names: dict[str, int] = {}
    reserved = 0
    for offset in range(256):
        name = _LLAMA3_NAMED.get(offset)
        if name is None:
            name = f"<|reserved_special_token_{reserved}|>"
            reserved += 1
        names[name] = _LLAMA3_RANKS + offset
    return names


def _qwen_special(num_ranks: int) -> dict[str, int]:
    names = (*_QWEN_SPECIAL, *(f"<|extra_{index}|>" for index in range(_QWEN_EXTRAS)))
    return {name: num_ranks + index for index, name in enumerate(names)}
