import json
import random
import weakref
from itertools import pairwise

import numpy as np
import pytest

from ramify.grammars import AnyJsonSpec, JsonSchemaSpec, Limits, Matcher, compile_grammar
from ramify.grammars.errors import GrammarError
from ramify.grammars.lexer import Lexer
from ramify.grammars.masks import ENTRY_BYTES, MaskCache
from ramify.grammars.remainder import Remainder
from ramify.grammars.spec import EbnfSpec
from ramify.grammars.terminals import Literals
from tests.grammars.vocabularies import allowed, brute_force, byte_vocabulary

LIKELY = {*b'abc", []'}


def test_masks_stay_within_their_bytes_and_the_used_ones_are_kept():
    row = np.zeros(4, np.int32)
    cache = MaskCache(8 * (row.nbytes + ENTRY_BYTES))
    for state in range(1000):
        cache.put((1, state), row if state == 0 else row.copy())
        assert cache.get((1, 0)) is row
    kept = [state for state in range(1000) if cache.get((1, state)) is not None]
    assert 0 in kept
    assert len(kept) <= 10
    assert cache.get((2, 0)) is None


def test_a_row_of_many_masks_counts_once():
    row = np.zeros(1000, np.int32)
    cache = MaskCache(2 * (row.nbytes + 100 * ENTRY_BYTES))
    for state in range(100):
        cache.put((1, state), row)
    assert all(cache.get((1, state)) is row for state in range(100))


def test_old_masks_go_a_few_at_a_time_and_none_stays():
    size = np.zeros(4, np.int32).nbytes + ENTRY_BYTES
    cache = MaskCache(2000 * size)  # a half is a thousand
    held = list[weakref.ref[np.ndarray]]()
    alive = []
    for state in range(5000):
        row = np.zeros(4, np.int32)
        cache.put(state, row)
        held.append(weakref.ref(row))
        del row
        alive.append(sum(ref() is not None for ref in held[-3000:]))
    assert max(alive) <= 2001
    assert max(before - after for before, after in pairwise(alive)) <= 2


def test_states_that_allow_the_same_share_a_row():
    schema = {"properties": {name: {"type": "string"} for name in "abcd"}}
    spec = JsonSchemaSpec(json.dumps(schema), order="any")
    matcher = Matcher(compile_grammar(spec, byte_vocabulary(b'", "', b'"}', b"ab", b'a"')))
    assert matcher.accept_text(b'{"a": "x')
    first = matcher.mask()
    assert matcher.accept_text(b'", "b": "x')
    assert matcher.mask() is first


@pytest.mark.parametrize("pattern", ["^[a-c]*$", "^(ab|c)*b?$", "a", "^[^b]{2,}$", "^a*b{1,4}$"])
def test_tokens_longer_than_what_is_left_are_told_apart(pattern):
    rng = random.Random(pattern)
    letters = ("a", "b", "c", "é", "ab", '",', '"}', "\\n")
    extra = {"".join(rng.choices(letters, k=rng.randint(2, 9))).encode() for _ in range(300)}
    spec = {"type": "array", "items": {"type": "string", "pattern": pattern, "maxLength": 9}}
    vocabulary = byte_vocabulary(*sorted(extra))
    matcher = Matcher(compile_grammar(JsonSchemaSpec(json.dumps(spec)), vocabulary))
    for _ in range(80):
        tokens = allowed(matcher)
        assert tokens == brute_force(matcher)
        texts = {token: vocabulary.token_bytes[token] or b"?" for token in tokens}
        likely = [token for token, text in texts.items() if LIKELY.issuperset(text)]
        if not likely or not matcher.accept(rng.choice(sorted(likely))):
            matcher = Matcher(matcher.grammar)


def test_a_mask_that_was_dropped_is_made_again():
    vocabulary = byte_vocabulary(b'{"', b'":')
    vocabulary.masks = MaskCache(1)
    matcher = Matcher(compile_grammar(AnyJsonSpec(), vocabulary))
    first = allowed(matcher)
    assert matcher.accept_text(b'{"a": [')
    allowed(matcher)
    matcher.rollback(1)
    assert allowed(matcher) == first


def test_a_grammar_knows_the_bytes_its_tables_hold():
    grammar = compile_grammar(AnyJsonSpec(), byte_vocabulary())
    matcher = Matcher(grammar)
    before = grammar.num_bytes
    for _ in range(50):
        assert matcher.accept_text(b"[")
        matcher.mask()
    assert grammar.num_bytes > before


def test_a_mask_of_too_many_steps_is_refused():
    spec = EbnfSpec('root ::= ("a" | "b" | [a-z]+ "c")+')
    grammar = compile_grammar(spec, byte_vocabulary(b"abcabcabc", b"abc"), Limits(walk_steps=5))
    with pytest.raises(GrammarError, match="too many steps") as refused:
        Matcher(grammar).mask()
    assert refused.value.code == "grammar_too_complex"


@pytest.mark.parametrize("seed", range(20))
def test_lists_of_texts_are_read_as_their_states_are(seed):
    rng = random.Random(seed)
    texts = ["".join(rng.choices("ab\xff", k=rng.randrange(1, 6))) for _ in range(12)]
    tokens = {"".join(rng.choices("ab\xff", k=rng.randrange(2, 5))).encode() for _ in range(30)}
    vocabulary = byte_vocabulary(*sorted(tokens))
    literals = Literals(text.encode() for text in texts)
    lexer = Lexer(vocabulary)
    lexer.begin_mask(10**6)
    todo = [literals.start]
    while todo:
        key = todo.pop()
        todo += literals.transitions(key).values()
        found = literals.inside(lexer, key)
        allowed_ids, ends = set[int](), set[int]()
        below = [(0, lexer.state(literals, key))]
        while below:
            node, state = below.pop()
            for byte, child in vocabulary.children(node).items():
                target = lexer.next(state, byte)
                if target:
                    allowed_ids |= set(vocabulary.tokens_at(child))
                    if lexer.labels[target] is not None and vocabulary.is_inner(child):
                        ends.add(child)
                    below.append((child, target))
        assert set(found.token_ids) == allowed_ids
        assert {node for _, rest in found.exits for node in rest.nodes} == ends


def test_states_read_together_are_read_as_each_is():
    rng = random.Random(3)
    vocabulary = byte_vocabulary(*{bytes(rng.choices(b"abc", k=3)) for _ in range(20)})
    lexer = Lexer(vocabulary)
    lexer.begin_mask(10**6)
    terminals = [Literals([bytes(rng.choices(b"abc", k=4))]) for _ in range(12)]
    states = tuple(lexer.start(terminal) for terminal in terminals)
    for node in vocabulary.children(0).values():
        if not vocabulary.is_inner(node):
            continue
        rest = Remainder(vocabulary, (node,))
        together = lexer.read(states, rest)
        each = [lexer.inside(state, rest) for state in states]
        found = [*together.token_ids, *([] if together.many is None else together.many.tolist())]
        assert sorted(found) == sorted(at for inside in each for at in inside.token_ids)
        ends = [(index, end) for index, inside in enumerate(each) for end in inside.exits]
        assert [(index, (label, left)) for index, label, left in together.exits] == ends
