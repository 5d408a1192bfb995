"""Each kernel and its twin in plain Python find the same, whatever the trie, states and rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramify.grammars import kernels
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
    unknown = () if is_known else (-1, -2, UNKNOWN)
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
