"""A vocabulary's trie comes back from the cache as it was made, or is made anew."""

import numpy as np
import pytest

from ramify.grammars.vocabulary import trie_of
from ramify.runtime.trie_store import stored_trie

TEXTS = [*(f"{number:x}".encode() for number in range(5000)), None, b"\xff\x00"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RAMIFY_CACHE_DIR", str(tmp_path))
    return tmp_path / "tries"


def assert_equal(one, other):
    assert one.longest == other.longest
    for name in one._fields[:-1]:
        ours, theirs = getattr(one, name), getattr(other, name)
        assert ours.dtype == theirs.dtype and np.array_equal(ours, theirs), name


def test_the_second_start_reads_it(cache, monkeypatch):
    assert_equal(stored_trie(TEXTS), trie_of(TEXTS))
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr("ramify.runtime.trie_store.trie_of", None)
    assert_equal(stored_trie(TEXTS), trie_of(TEXTS))


@pytest.mark.parametrize("keep", [0, 100, -100])
def test_a_damaged_file_is_made_anew(cache, keep):
    stored_trie(TEXTS)
    (path,) = cache.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:keep])
    assert_equal(stored_trie(TEXTS), trie_of(TEXTS))
    assert len(path.read_bytes()) == len(whole)


def test_a_changed_byte_is_noticed(cache):
    stored_trie(TEXTS)
    (path,) = cache.iterdir()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert_equal(stored_trie(TEXTS), trie_of(TEXTS))


def test_other_tokens_have_another_file(cache):
    stored_trie(TEXTS)
    stored_trie([*TEXTS, b"one more"])
    assert len(list(cache.iterdir())) == 2


def test_a_cache_that_cannot_be_written_is_done_without(cache):
    cache.write_text("a file where the folder should be")
    assert_equal(stored_trie(TEXTS), trie_of(TEXTS))
