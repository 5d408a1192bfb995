"""The tries of vocabularies, kept in the user's cache: made once per tokenizer, not per start."""

import hashlib
import os
import tempfile
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from ramify.grammars.vocabulary import Trie, trie_of
from ramify.runtime.loader.cache_dir import user_cache_dir

_FORMAT = b"1"  # of the file; a new one when `Trie` changes
_WORTH_KEEPING = 4096  # tokens: a smaller trie is made faster than it is read


def stored_trie(texts: Sequence[bytes | None]) -> Trie:
    """`trie_of(texts)`, read from the cache if it is there and whole, else made and kept."""
    if len(texts) < _WORTH_KEEPING:
        return trie_of(texts)
    path = user_cache_dir() / "tries" / f"{_digest(texts)}.npz"
    try:
        return _read(path)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):  # none yet, or damaged
        trie = trie_of(texts)
    with suppress(OSError):  # a cache that cannot be written only costs the time
        _write(path, trie)
    return trie


def _digest(texts: Sequence[bytes | None]) -> str:
    digest = hashlib.blake2b(_FORMAT, digest_size=20)
    lengths = np.array([-1 if text is None else len(text) for text in texts], np.int32)
    digest.update(lengths.tobytes())
    digest.update(b"".join(text for text in texts if text))
    return digest.hexdigest()


def _read(path: Path) -> Trie:
    with np.load(path, allow_pickle=False) as arrays:  # the archive's CRCs are checked here
        byte, depth, skip, first, token_ids, longest = (arrays[name] for name in Trie._fields)
        return Trie(byte, depth, skip, first, token_ids, int(longest))


def _write(path: Path, trie: Trie) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(suffix=".npz", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            arrays = dict(zip(Trie._fields, map(np.asarray, trie), strict=True))
            np.savez(file, allow_pickle=False, **arrays)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)
