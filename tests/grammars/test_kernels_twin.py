"""Each kernel and its twin in plain Python find the same, whatever the trie, states and rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramify.grammars import kernels
from ramify.grammars.char_kernels import NO_PART, CharStates, char_walk_ref
from ramify.grammars.kernels import DEAD, UNKNOWN, DenseStates
from ramify.grammars.vocabulary import Trie, trie_of
from tests.grammars.test_properties import draws

ALPHABET = b'ab"\x80\xc3'
MOST_STATES = 5

texts = st.lists(st.sampled_from(ALPHABET), max_size=6).map(bytes)
tries = st.lists(st.one_of(st.none(), texts), max_size=40).map(trie_of)


@st.composite
def dense_states(draw, *, is_known: bool) -> DenseStates:
    """States 1 to `MOST_STATES`, some bytes of which lead somewhere, or nobody knows where."""
    unknown = () if is_known else (UNKNOWN,)
    target = st.sampled_from((DEAD, *range(1, MOST_STATES + 1), *unknown))
    following = np.full((MOST_STATES + 1, 256), DEAD, np.int32)
    for state in range(1, MOST_STATES + 1):
        following[state, list(ALPHABET)] = draw(
            st.lists(target, min_size=len(ALPHABET), max_size=len(ALPHABET))
        )
    accepting = draw(st.lists(st.booleans(), min_size=MOST_STATES, max_size=MOST_STATES))
    return DenseStates(following, np.array([False, *accepting], np.uint8))


@st.composite
def starts(draw, trie: Trie, *, is_above: bool) -> tuple[np.ndarray, np.ndarray]:
    """Some nodes, perhaps one below another, and a state for each."""
    place = st.tuples(st.integers(is_above, trie.num_nodes - 1), st.integers(1, MOST_STATES))
    found = draw(st.lists(place, max_size=6)) if trie.num_nodes > is_above else []
    columns = [[node for node, _ in found], [state for _, state in found]]
    return np.array(columns[0], np.int32), np.array(columns[1], np.int32)


@st.composite
def char_states(draw) -> CharStates:
    """States 1 to `MOST_STATES` over three classes, parts 0 to 2, some of them not known."""

    def table(values, num_rows: int, num_columns: int) -> np.ndarray:
        row = st.lists(values, min_size=num_columns, max_size=num_columns)
        return np.array(draw(st.lists(row, min_size=num_rows, max_size=num_rows)))

    bits = st.integers(0, 1)
    following = table(st.integers(0, MOST_STATES), MOST_STATES + 1, 3).astype(np.int32)
    following[DEAD] = DEAD
    spelled = np.full((3, 256), NO_PART, np.int32)
    spelled[:, list(ALPHABET)] = table(st.integers(-4, 2).filter((-2).__ne__), 3, len(ALPHABET))
    spelled[0, 0x22] = draw(st.integers(0, 3))  # 3: it closes the text
    is_known, accepting = table(bits, 2, MOST_STATES + 1).astype(np.uint8)
    is_spelled = table(bits, 1, 3).astype(np.uint8)[0]
    classes = table(bits, 3, 3).astype(np.uint8)
    return CharStates(following, is_known, accepting, spelled, is_spelled, classes)


@pytest.fixture(scope="module", autouse=True)
def with_numba():
    """Else twins would be compared with themselves."""
    pytest.importorskip("numba")


def check(found, expected) -> None:
    for left, right in zip(found, expected, strict=True):
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)


@draws(10_000, 300)
@given(st.data(), tries, dense_states(is_known=False), st.booleans())
def test_walks_inside_a_terminal(data, trie, states, is_above):
    nodes, at = data.draw(starts(trie, is_above=is_above))
    arguments = (trie, states, nodes, at, is_above)
    check(kernels.inside_walk(*arguments), kernels.inside_walk_ref(*arguments))


@draws(10_000, 300)
@given(st.data(), tries, char_states(), st.booleans())
def test_walks_by_characters(data, trie, states, ends_anywhere):
    nodes, at = data.draw(starts(trie, is_above=False))
    parts = data.draw(st.lists(st.integers(0, 2), min_size=len(nodes), max_size=len(nodes)))
    places = np.stack([nodes, at, np.array(parts, np.int32)], axis=1)
    check(
        kernels.char_walk(trie, states, places, ends_anywhere=ends_anywhere),
        char_walk_ref(trie, states, places, ends_anywhere=ends_anywhere),
    )


@draws(5_000, 200)
@given(tries, dense_states(is_known=True), st.integers(1, MOST_STATES), st.integers(1, MOST_STATES))
def test_walks_that_count_characters(trie, states, start, body):
    arguments = (trie, states, start, body, 40)
    check(kernels.length_walk(*arguments), kernels.length_walk_ref(*arguments))


@draws(3_000, 100)
@given(st.lists(st.integers(0, 2**32 - 1), min_size=3, max_size=3), st.lists(st.integers(0, 95)))
def test_bits_of_rows(words, token_ids):
    ids = np.array(token_ids, np.int32)
    for kernel, twin in (
        (kernels.set_bits, kernels.set_bits_ref),
        (kernels.clear_bits, kernels.clear_bits_ref),
    ):
        rows = np.array([words, words], np.uint32)
        kernel(rows[0], ids)
        twin(rows[1], ids)
        np.testing.assert_array_equal(*rows)
