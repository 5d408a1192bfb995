"""The scripted backend behaves like a backend."""

import pytest

import ramify
from ramify import MockBackend, ProgramError, function, gen, select


def answer(replies, expr=None, **options):
    @function
    def body(s):
        s += "p" + (expr or gen("x"))

    return body.run(backend=MockBackend(replies), **options)


def test_replies_by_list_by_function_and_by_default():
    assert answer(["a"])["x"] == "a"
    assert answer(lambda prompt: prompt * 2)["x"] == "pp"
    assert answer(None)["x"] == "mock"


@pytest.mark.parametrize(
    ("options", "text", "finish"),
    [
        ({"stop": ["lo", "l"]}, "he", {"type": "stop", "matched": "l"}),
        ({"stop_regex": "l+"}, "he", {"type": "stop", "matched": "ll"}),
        ({"max_tokens": 3}, "hel", {"type": "length"}),
        ({"max_tokens": 2, "stop": "o"}, "he", {"type": "length"}),
        ({"max_tokens": 0}, "", {"type": "length"}),
        ({}, "hello", {"type": "stop", "matched": 256}),
    ],
)
def test_replies_are_cut_as_an_engine_would(options, text, finish):
    state = answer(["hello"], **options)
    assert state["x"] == text
    assert state.get_meta_info("x")["finish_reason"] == finish


def test_a_cut_never_splits_a_character():
    assert answer(["aé"], max_tokens=2)["x"] == "a"


def test_too_few_replies_and_wrong_choices_are_errors():
    with pytest.raises(ProgramError, match="0 replies"):
        answer([])
    with pytest.raises(ProgramError, match="none of the choices"):
        answer(["c"], select("x", ["a", "b"]))
    with pytest.raises(ProgramError, match="script it"):
        answer(None, gen("x", regex="a+"))


async def test_a_closed_mock_refuses():
    backend = MockBackend()
    await backend.close()

    @function
    def body(s):
        s += gen("x")

    with pytest.raises(ProgramError, match="closed") as error:
        await body.async_run(backend=backend)
    assert isinstance(error.value.__cause__, ramify.Aborted)


def test_typed_results_through_the_backend():
    import dataclasses

    @dataclasses.dataclass
    class City:
        name: str
        population: int

    backend = MockBackend(['{"name": "Rome", "population": 3}'])

    @function
    def body(s):
        s += gen("city", schema=City)

    assert body.run(backend=backend)["city"] == City("Rome", 3)
    assert "population" in backend.requests[0].sampling.json_schema
