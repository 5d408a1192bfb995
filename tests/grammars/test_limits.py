import pytest

from ramify.grammars import GrammarError, JsonSchemaSpec, Limits, compile_grammar
from ramify.grammars.limits import DEFAULT_LIMITS, Budget, Remembered
from tests.grammars.vocabularies import byte_vocabulary

SCHEMA = JsonSchemaSpec('{"type": "string", "pattern": "^(a|b){1,200}c$", "maxLength": 100}')


def test_steps_past_the_limit_are_refused_by_name():
    for _ in range(2):  # what was made before does not change it
        with pytest.raises(GrammarError, match="compile_steps") as caught:
            compile_grammar(SCHEMA, byte_vocabulary(), Limits(compile_steps=500))
        assert caught.value.code == "grammar_too_complex"
    compile_grammar(SCHEMA, byte_vocabulary())


def test_what_is_remembered_costs_the_same_again():
    def make(key: str, budget: Budget) -> list[str]:
        budget.tick(len(key))
        return [key]

    remembered = Remembered(make, most=2, steps=100)
    first, second = Budget(DEFAULT_LIMITS), Budget(DEFAULT_LIMITS)
    assert remembered("abc", first) is remembered("abc", second)
    assert first.steps == second.steps == 3


def test_the_oldest_is_forgotten_first():
    made: list[str] = []

    def make(key: str, budget: Budget) -> str:
        made.append(key)
        return key

    remembered = Remembered(make, most=2, steps=100)
    for key in ("a", "b", "a", "c", "a", "b"):
        remembered(key, Budget(DEFAULT_LIMITS))
    assert made == ["a", "b", "c", "b"]


def test_refusals_are_not_remembered():
    is_slow = True

    def make(key: str, budget: Budget) -> str:
        if is_slow:
            raise GrammarError("grammar_too_complex", "slow")
        return key

    remembered = Remembered(make, most=2, steps=100)
    with pytest.raises(GrammarError):
        remembered("a", Budget(DEFAULT_LIMITS))
    is_slow = False
    assert remembered("a", Budget(DEFAULT_LIMITS)) == "a"
