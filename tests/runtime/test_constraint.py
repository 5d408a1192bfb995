"""The service that compiles grammars: once each, bounded, off the loop."""

import asyncio
import threading

import pytest

from ramify.grammars.vocabulary import Vocabulary
from ramify.lang.errors import InvalidRequest
from ramify.lang.protocol import Sampling
from ramify.runtime import constraint
from ramify.runtime.constraint import GrammarCache, granted


async def grammar_of(cache, sampling):
    """As the worker does: the future, and once it is done what it grants."""
    future = cache.future_of(sampling)
    if future is None:
        return None
    await asyncio.wait([asyncio.wrap_future(future)])
    return granted(future, sampling)


VOCABULARY = Vocabulary([*(bytes([byte]) for byte in range(256)), None], [256])


@pytest.fixture
def cache():
    cache = GrammarCache(lambda: VOCABULARY)
    yield cache
    cache.close()


def test_many_requests_for_one_grammar_compile_it_once(cache):
    async def ask():
        return await asyncio.gather(*(grammar_of(cache, Sampling(regex="a+b")) for _ in range(50)))

    grammars = asyncio.run(ask())
    assert all(grammar is grammars[0] for grammar in grammars)
    assert cache.stats().num_compiled == 1
    assert cache.stats().num_hits == 49


def test_several_loops_share_the_cache(cache):
    found = []

    def ask():
        found.append(asyncio.run(grammar_of(cache, Sampling(regex="[0-9]+"))))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(map(id, found))) == 1


def test_a_refusal_is_kept_too_and_names_its_place(cache):
    for _ in range(3):
        with pytest.raises(InvalidRequest) as error:
            asyncio.run(grammar_of(cache, Sampling(regex="ab(c")))
        assert error.value.code == "invalid_regex"
        assert error.value.param == "regex"
        assert error.value.offset is not None
        assert error.value.info().offset == error.value.offset
    assert cache.stats().num_compiled == cache.stats().num_refused == 1
    schema = '{"type": "object", "properties": {"a": {"$ref": "#/nowhere"}}}'
    with pytest.raises(InvalidRequest) as error:
        asyncio.run(grammar_of(cache, Sampling(json_schema=schema)))
    assert error.value.pointer == "/properties/a/$ref"
    assert "/properties/a" in error.value.message


def test_distinct_grammars_never_pass_the_byte_limit():
    cache = GrammarCache(lambda: VOCABULARY, max_bytes=10 * constraint.GRAMMAR_BYTES)

    async def ask():
        for number in range(100):
            await grammar_of(cache, Sampling(regex=f"x{number}"))

    try:
        asyncio.run(ask())
        assert cache.stats().num_compiled == 100
        assert cache.stats().num_cached < 10
        assert cache.stats().cached_bytes <= 10 * constraint.GRAMMAR_BYTES
        asyncio.run(grammar_of(cache, Sampling(regex="x99")))
        assert cache.stats().num_hits == 1  # the latest was kept
        asyncio.run(grammar_of(cache, Sampling(regex="x0")))
        assert cache.stats().num_compiled == 101  # the oldest was not
    finally:
        cache.close()


def test_a_caller_that_gives_up_does_not_cancel_it_for_others(cache, monkeypatch):
    gate = threading.Event()
    compile_grammar = constraint.compile_grammar

    def slow(spec, vocabulary):
        gate.wait(10)
        return compile_grammar(spec, vocabulary)

    monkeypatch.setattr(constraint, "compile_grammar", slow)

    async def ask():
        first = asyncio.create_task(grammar_of(cache, Sampling(regex="q")))
        second = asyncio.create_task(grammar_of(cache, Sampling(regex="q")))
        await asyncio.sleep(0)
        first.cancel()
        gate.set()
        assert await second is not None
        assert first.cancelled()

    asyncio.run(ask())


def test_compile_times_fill_the_histogram(cache):
    asyncio.run(grammar_of(cache, Sampling(regex="a")))
    stats = cache.stats()
    assert sum(stats.compile_buckets) == 1 and stats.compile_s > 0


def test_min_tokens_beside_a_constraint_is_refused(cache):
    with pytest.raises(InvalidRequest) as error:
        asyncio.run(grammar_of(cache, Sampling(regex="a", min_tokens=2)))
    assert error.value.code == "conflicting_constraints"


def test_a_grammar_is_compiled_and_refused_like_the_others(cache):
    assert asyncio.run(grammar_of(cache, Sampling(ebnf='root ::= "a" root | "b"'))) is not None
    with pytest.raises(InvalidRequest, match="root") as error:
        asyncio.run(grammar_of(cache, Sampling(ebnf='root ::= "a" root')))
    assert error.value.param == "ebnf"
    assert error.value.code in ("invalid_grammar", "unsatisfiable_grammar")


def test_a_limit_no_answer_fits_in_is_refused_with_the_minimum(cache):
    schema = '{"type": "object", "properties": {"a": {"type": "null"}}, "required": ["a"]}'
    text = '{"a":null}'  # a token a byte
    with pytest.raises(InvalidRequest, match=f"{len(text)} or more") as error:
        asyncio.run(grammar_of(cache, Sampling(json_schema=schema, max_tokens=len(text) - 1)))
    assert error.value.code == "max_tokens_too_small"
    assert error.value.param == "max_tokens"
    for enough in (len(text), 0):  # 0 generates nothing at all
        sampling = Sampling(json_schema=schema, max_tokens=enough)
        assert asyncio.run(grammar_of(cache, sampling)) is not None


def test_an_answer_of_any_length_has_no_minimum(cache):
    assert asyncio.run(grammar_of(cache, Sampling(regex=".*", max_tokens=1))) is not None
