"""Prompts to token ids, and token ids to text, for one model."""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path

from ramify.lang.errors import InvalidRequest, LoadError
from ramify.lang.protocol import Prompt, TextSegment
from ramify.runtime.models.config import ModelConfig
from ramify.runtime.tokenizer.codec import Codec
from ramify.runtime.tokenizer.json_codec import JsonCodec
from ramify.runtime.tokenizer.special import SpecialFiles, read_special_files
from ramify.runtime.tokenizer.tiktoken_codec import TiktokenCodec, is_tiktoken_file

CACHE_SIZE = 2_000_000  # characters and tokens of remembered segments together


class Tokenizer:
    """A model's vocabulary. Safe to use from several threads."""

    def __init__(self, codec: Codec, special: SpecialFiles, config: ModelConfig) -> None:
        self._codec = codec
        self._cache = _SegmentCache(CACHE_SIZE)
        self.vocab_size = config.vocab_size  # ids the model knows; may exceed the tokenizer's
        self.token_bytes = codec.token_bytes  # by id; ids beyond it stand for no text
        self.special_names = codec.special_tokens  # "<|im_end|>" -> id
        self.special_ids = frozenset(self.special_names.values())
        self.special_tokens = special.special_tokens  # by name, for the chat template
        self.chat_template = special.chat_template  # Jinja source
        self.bos_token_id = self._named("bos_token", config.bos_token_id)
        self.eos_token_ids = self._eos_token_ids(special, config)
        self._prefix = self._automatic_prefix(special)

    @property
    def start_token_id(self) -> int | None:
        """What stands for an empty prompt: BOS, or EOS where the model has no BOS."""
        if self.bos_token_id is not None:
            return self.bos_token_id
        return self.eos_token_ids[0] if self.eos_token_ids else None

    def encode(self, text: str, *, is_first: bool) -> list[int]:
        """Token ids of one text.

        With `is_first` it is the start of a sequence: it gets the model's automatic BOS unless it
        begins with it, and SentencePiece's leading space. Special tokens in it are recognised.
        """
        ids = self._cache.get(text, is_first)
        if ids is None:
            try:
                ids = tuple(self._codec.encode(text, is_first=is_first))
            except UnicodeEncodeError as error:
                raise InvalidRequest(
                    f"the prompt holds {text[error.start]!r} at character {error.start}: half of "
                    "a surrogate pair, which no text can hold; send valid Unicode",
                    param="prompt",
                ) from None
            self._check_ids(ids)
            if is_first and ids[: len(self._prefix)] != self._prefix:
                ids = self._prefix + ids
            self._cache.put(text, is_first, ids)
        return list(ids)

    def encode_prompt(self, prompt: Prompt, *, is_first: bool = True) -> list[int]:
        """Token ids of a prompt: each text segment on its own, tokens as they are.

        `is_first=False` says that something stands before it: no BOS, no leading space.
        """
        ids: list[int] = []
        for segment in prompt:
            if isinstance(segment, TextSegment):
                if segment.text:
                    ids += self.encode(segment.text, is_first=is_first and not ids)
            else:
                self._check_ids(segment.token_ids)
                ids += segment.token_ids
        return ids

    def decode(self, token_ids: Iterable[int], *, skip_special_tokens: bool = True) -> str:
        """Text of tokens that follow other tokens (a leading space is kept).

        Bytes that are no UTF-8 become U+FFFD.
        """
        pieces = [self.bytes_of(i, skip_special_tokens=skip_special_tokens) for i in token_ids]
        return b"".join(pieces).decode("utf-8", errors="replace")

    def bytes_of(self, token_id: int, *, skip_special_tokens: bool) -> bytes:
        """Bytes of text that one token stands for."""
        if skip_special_tokens and token_id in self.special_ids:
            return b""
        return self.token_bytes[token_id] if 0 <= token_id < len(self.token_bytes) else b""

    def special_ids_of(self, names: Iterable[str]) -> dict[int, str]:
        """Those of `names` that are special tokens, by id."""
        special = self.special_names
        return {special[name]: name for name in names if name in special}

    def _check_ids(self, token_ids: Sequence[int]) -> None:
        if token_ids and not 0 <= min(token_ids) <= max(token_ids) < self.vocab_size:
            bad = next(i for i in token_ids if not 0 <= i < self.vocab_size)
            raise InvalidRequest(
                f"token id {bad}: must be between 0 and {self.vocab_size - 1}, the model's "
                "vocabulary",
                code="out_of_range",
                param="prompt",
            )

    def _named(self, name: str, otherwise: int | None) -> int | None:
        token = self.special_tokens.get(name)
        found = None if token is None else self._codec.token_id(token)
        return otherwise if found is None else found

    def _eos_token_ids(self, special: SpecialFiles, config: ModelConfig) -> tuple[int, ...]:
        """Union of what the model's files say: chat models often name <|im_end|> in one only."""
        named = self._named("eos_token", None)
        every = (
            *special.eos_token_ids,
            *config.eos_token_ids,
            *(() if named is None else (named,)),
        )
        return tuple(i for i in dict.fromkeys(every) if i < self.vocab_size)

    def _automatic_prefix(self, special: SpecialFiles) -> tuple[int, ...]:
        if special.adds_bos is None:
            return self._codec.prefix_ids
        if not special.adds_bos or self.bos_token_id is None:
            return ()
        return self._codec.prefix_ids or (self.bos_token_id,)


class _SegmentCache:
    """Least recently used segments, bounded by their characters and tokens together."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._size = 0
        self._entries: OrderedDict[tuple[str, bool], tuple[int, ...]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, text: str, is_first: bool) -> tuple[int, ...] | None:
        with self._lock:
            ids = self._entries.get((text, is_first))
            if ids is not None:
                self._entries.move_to_end((text, is_first))
            return ids

    def put(self, text: str, is_first: bool, ids: tuple[int, ...]) -> None:
        size = len(text) + len(ids)
        if size > self._capacity // 8:  # one huge prompt must not push everything else out
            return
        with self._lock:
            if (text, is_first) in self._entries:
                return
            self._entries[text, is_first] = ids
            self._size += size
            while self._size > self._capacity:
                (old, _), old_ids = self._entries.popitem(last=False)
                self._size -= len(old) + len(old_ids)


def load_tokenizer(directory: Path, config: ModelConfig) -> Tokenizer:
    """The tokenizer of a model directory: tokenizer.json, or a file in tiktoken's format.

    A vocabulary larger than the model's is a `LoadError`: its text would have no embedding. Special
    tokens beyond it are let pass (Gemma 3 has one), and refused where a prompt holds them.
    """
    special = read_special_files(directory)
    codec = _load_codec(directory, special)
    marks = set(codec.special_tokens.values())
    for index in range(config.vocab_size, len(codec.token_bytes)):
        if codec.token_bytes[index] and index not in marks:
            raise LoadError(
                f"{directory}: the tokenizer has {len(codec.token_bytes)} tokens, config.json says "
                f"vocab_size={config.vocab_size}: they belong to different models",
                param="vocab_size",
            )
    return Tokenizer(codec, special, config)


def _load_codec(directory: Path, special: SpecialFiles) -> Codec:
    path = directory / "tokenizer.json"
    if path.exists():
        return JsonCodec(path)
    for path in (*sorted(directory.glob("*.tiktoken")), directory / "tokenizer.model"):
        if path.exists() and is_tiktoken_file(path):
            return TiktokenCodec(path, special.added_tokens)
    if (directory / "tokenizer.model").exists():
        raise LoadError(
            f"{directory} has a SentencePiece tokenizer.model but no tokenizer.json; make one with "
            "transformers: AutoTokenizer.from_pretrained(path).save_pretrained(path)"
        )
    raise LoadError(
        f"{directory} has no tokenizer: no tokenizer.json, no *.tiktoken, no tokenizer.model; "
        "download the model again, its tokenizer files included"
    )
