"""A tokenizer's vocabulary as bytes, and the trie of them that masks are read from."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ramify.grammars.masks import MaskCache


class Trie(NamedTuple):
    """Byte strings in depth-first order. Node 0 is the root; n nodes.

    A node's descendants lie in (node, skip[node]), its tokens in first[node] : first[node + 1].
    """

    byte: np.ndarray  # [n] uint8: the byte that leads to the node; 0 for the root
    depth: np.ndarray  # [n] int32: 0 for the root
    skip: np.ndarray  # [n] int32: the next node that is not below this one
    first: np.ndarray  # [n + 1] int32
    token_ids: np.ndarray  # [num_tokens] int32
    longest: int  # bytes of the longest text

    @property
    def num_nodes(self) -> int:
        """Nodes, the root among them."""
        return len(self.byte)


class Vocabulary:
    """What a grammar needs of a tokenizer.

    `token_bytes[i]` is the text of token i, or None where it has none: special and added control
    tokens, which are never allowed inside a constraint unless it names them: `special_tokens`
    are those that it can name.
    """

    def __init__(
        self,
        token_bytes: Sequence[bytes | None],
        eos_token_ids: Iterable[int] = (),
        special_tokens: Mapping[str, int] | None = None,
        make_trie: Callable[[Sequence[bytes | None]], Trie] | None = None,
    ) -> None:
        """`make_trie` does what `trie_of` does, from a cache for example."""
        self.token_bytes = tuple(token_bytes)
        self.special_tokens = dict(special_tokens or {})
        self.eos_token_ids = tuple(sorted(set(eos_token_ids)))
        for token_id in self.eos_token_ids:
            if not 0 <= token_id < len(self.token_bytes):
                raise ValueError(
                    f"eos_token_ids: {token_id} is not a token: there are {len(self.token_bytes)}"
                )
        ends = set(self.eos_token_ids)
        self.text_tokens = tuple(  # as token_bytes, None also for end-of-sequence tokens
            text if text and index not in ends else None
            for index, text in enumerate(self.token_bytes)
        )
        self.num_words = (len(self.token_bytes) + 31) // 32  # int32 words of a mask row
        self.trie = (make_trie or trie_of)(self.text_tokens)
        # the trie's arrays as views that give plain ints, several times faster than numpy's
        self.skips, self.bytes = self.trie.skip.data, self.trie.byte.data
        self._firsts, self._token_ids = self.trie.first.data, self.trie.token_ids.data
        self.masks = MaskCache()  # of all grammars
        self.tables: dict[str, Any] = {}  # made from this vocabulary by others, and as long-lived
        self._children: dict[int, dict[int, int]] = {}
        self._tokens: dict[int, list[int]] = {}
        self._by_depth: dict[int, list[int]] = {}

    def __len__(self) -> int:
        return len(self.token_bytes)

    @classmethod
    def from_tokenizer_json(
        cls, source: "Path | str | dict[str, Any]", eos_token_ids: Iterable[int] = ()
    ) -> "Vocabulary":
        """From a `tokenizer.json` (a path, or its parsed content): byte-level BPE, or
        SentencePiece with byte fallback."""
        if not isinstance(source, dict):
            source = dict(json.loads(Path(source).read_text(encoding="utf-8")))
        token_bytes = _token_bytes(source)
        special_tokens = {
            token["content"]: token["id"]
            for token in source.get("added_tokens", ())
            if token_bytes[token["id"]] is None
        }
        return cls(token_bytes, eos_token_ids, special_tokens)

    def children(self, node: int) -> dict[int, int]:
        """Byte -> child of a trie node."""
        found = self._children.get(node)
        if found is None:
            skips, byte = self.skips, self.bytes
            found = {}
            at, end = node + 1, skips[node]
            while at < end:
                found[byte[at]] = at
                at = skips[at]
            self._children[node] = found
        return found

    def is_inner(self, node: int) -> bool:
        """Has a trie node children?"""
        return self.skips[node] > node + 1

    @cached_property
    def parents(self) -> np.ndarray:
        """[num_nodes] int32: the node above each trie node; 0 for the root."""
        depth = self.trie.depth
        order = np.argsort(depth, kind="stable").astype(np.int32)
        edges = np.searchsorted(depth[order], np.arange(self.trie.longest + 2))
        levels = [order[low:high] for low, high in pairwise(edges)]
        out = np.zeros(len(depth), np.int32)
        for above, level in pairwise(levels):  # the last node above it that comes before
            out[level] = above[np.searchsorted(above, level) - 1]
        return out

    @cached_property
    def _by_byte(self) -> list[np.ndarray]:
        order = np.argsort(self.trie.byte[1:], kind="stable") + 1
        edges = np.searchsorted(self.trie.byte[order], np.arange(257))
        return [order[edges[byte] : edges[byte + 1]] for byte in range(256)]

    def nodes_by_byte(self, byte: int) -> np.ndarray:
        """[num] int64: every trie node that this byte leads to."""
        return self._by_byte[byte]

    def nodes_at(self, depth: int) -> list[int]:
        """Every trie node of a depth."""
        found = self._by_depth.get(depth)
        if found is None:
            found = self._by_depth[depth] = np.flatnonzero(self.trie.depth == depth).tolist()
        return found

    def path(self, node: int) -> bytes:
        """What leads to a trie node."""
        out = bytearray()
        while node:
            out.append(self.bytes[node])
            node = int(self.parents[node])
        return bytes(reversed(out))

    def tokens_at(self, node: int) -> list[int]:
        """Tokens whose text ends at this node."""
        found = self._tokens.get(node)
        if found is None:
            found = self._tokens[node] = self.tokens_in(node, node + 1)
        return found

    def tokens_in(self, start: int, end: int) -> list[int]:
        """Tokens whose text ends at a node in [start, end)."""
        return self._token_ids[self._firsts[start] : self._firsts[end]].tolist()

    def new_row(self) -> np.ndarray:
        """[num_words] int32: a mask with no token allowed."""
        return np.zeros(self.num_words, np.int32)


def trie_of(texts: Sequence[bytes | None]) -> Trie:
    """The trie of tokens, by their texts; None for a token that has none."""
    return build_trie((text, index) for index, text in enumerate(texts) if text is not None)


def build_trie(items: Iterable[tuple[bytes, int]]) -> Trie:
    """The trie of (text, token id) pairs; texts may repeat."""
    byte, depth, skip, first, token_ids = [0], [0], [0], [0], list[int]()
    path = [0]  # nodes from the root to the last text's end
    previous = b""
    for text, token_id in sorted(items):
        if text != previous or not token_ids:
            shared = 0
            limit = min(len(previous), len(text))
            while shared < limit and previous[shared] == text[shared]:
                shared += 1
            for node in path[shared + 1 :]:
                skip[node] = len(byte)
            del path[shared + 1 :]
            for at in range(shared, len(text)):
                path.append(len(byte))
                byte.append(text[at])
                depth.append(at + 1)
                skip.append(0)
                first.append(len(token_ids))
            previous = text
        token_ids.append(token_id)
    for node in path:
        skip[node] = len(byte)
    first.append(len(token_ids))
    int32 = np.int32
    return Trie(
        np.array(byte, np.uint8),
        np.array(depth, int32),
        np.array(skip, int32),
        np.array(first, int32),
        np.array(token_ids, int32),
        max(depth),
    )


def _token_bytes(spec: dict[str, Any]) -> list[bytes | None]:
    model = spec["model"]
    vocab = model["vocab"]
    pieces: dict[str, int] = (
        vocab
        if isinstance(vocab, dict)
        else {piece: index for index, (piece, _) in enumerate(vocab)}
    )
    added = spec.get("added_tokens", ())
    size = max([*pieces.values(), *(token["id"] for token in added)], default=-1) + 1
    out: list[bytes | None] = [None] * size
    decode = _piece_decoder(spec)
    for piece, index in pieces.items():
        out[index] = decode(piece)
    for token in added:  # control tokens; runs of spaces and newlines are text that was added
        is_text = not token.get("special", False) and token["content"].strip() == ""
        out[token["id"]] = token["content"].encode() if is_text else None
    return out


def _piece_decoder(spec: dict[str, Any]) -> Any:
    decoder = spec.get("decoder") or {}
    kinds = {decoder.get("type"), *(part.get("type") for part in decoder.get("decoders", ()))}
    if "ByteLevel" in kinds:
        return _decode_byte_level
    if kinds & {"ByteFallback", "Metaspace"} or spec["model"].get("byte_fallback"):
        return _decode_sentencepiece
    raise ValueError(
        f"tokenizer.json: decoder {decoder.get('type')!r}, model {spec['model'].get('type')!r}: "
        "not supported for constrained decoding; byte-level BPE and SentencePiece with byte "
        "fallback are. Build the Vocabulary from a list of the tokens' bytes instead"
    )


def _byte_level_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-ins for the 256 bytes."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(plain)]
    return {chr(byte): byte for byte in plain} | {
        chr(256 + index): byte for index, byte in enumerate(others)
    }


_BYTE_LEVEL = _byte_level_alphabet()


def _decode_byte_level(piece: str) -> bytes:
    try:
        return bytes([_BYTE_LEVEL[char] for char in piece])
    except KeyError:
        return piece.encode()  # an added token listed in the vocabulary too


def _decode_sentencepiece(piece: str) -> bytes:
    if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
        return bytes([int(piece[3:5], 16)])
    return piece.replace("\u2581", " ").encode()
