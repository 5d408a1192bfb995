"""Constrained answers of the bundled model: they fit, and they do not depend on what runs beside.

RAMIFY_NIGHTLY=1 generates 200 of them instead of 28. The real schemas come from the conformance
data (tests/grammars/conformance.py); where that folder is absent those answers are left out.
"""

import itertools
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import jsonschema
import lark
import pytest
from pydantic import BaseModel, Field

import ramify
from ramify.grammars import Matcher, RegexSpec, compile_grammar
from ramify.interpreter.backends.engine import EngineBackend
from ramify.lang.protocol import LogprobOptions, Sampling
from ramify.runtime.constraint import grammar_spec, vocabulary_of
from ramify.runtime.engine import Engine
from tests.grammars.conformance import MASKBENCH

pytestmark = pytest.mark.weights

NIGHTLY = os.environ.get("RAMIFY_NIGHTLY") == "1"
MAX_TOKENS = 500 if NIGHTLY else 160
TEMPERATURES = (0.0, 0.7, 1.0, 1.5)


class Address(BaseModel):
    street: str = Field(max_length=30)
    number: int = Field(ge=1, le=999)


class Person(BaseModel):
    name: str = Field(min_length=1, max_length=20)
    age: int = Field(ge=0, le=120)
    email: str | None = Field(default=None, pattern=r"^[a-z]{1,10}@[a-z]{2,10}\.(com|org)$")
    addresses: list[Address] = Field(max_length=2)


class Reply(BaseModel):
    verdict: Literal["yes", "no", "unsure"]
    score: float = Field(ge=0, le=1)
    reasons: list[Literal["price", "speed", "taste"]] = Field(min_length=1, max_length=3)


class Tree(BaseModel):
    label: Literal["leaf", "node"]
    children: list["Tree"] = Field(max_length=2)


MODELS = (Address, Person, Reply, Tree)
REGEXES = (
    r"(Mon|Tues|Wednes)day, [0-3][0-9] (May|June) (19|20)[0-9]{2}",
    r"[A-Z]{2}-\d{3,5}(/\d+)?\.",
    r"(?i:yes|no), (because|although) [a-z ,]{5,40}\.",
    r"\((\d{3})\) \d{3}-\d{4}",
    r"#[0-9a-f]{6}( #[0-9a-f]{6}){0,3}",
    r"(?=.*\d)[a-z0-9]{6,10}",
    "[^\\W\\d_]{3,12} (é|ü|ж)+",
    r"https?://[a-z]{2,12}\.(com|org)(/[a-z]{1,8}){0,3}",
)
SUM = """
start: product (("+" | "-") product)~0..3
product: factor (("*" | "/") factor)~0..2
factor: /[0-9]{1,3}/ | "(" start ")"
"""
LISP = """
start: "(" ATOM (" " item)~0..3 ")"
item: ATOM | start
ATOM: /[a-z]{1,6}/
"""


@dataclass(frozen=True)
class Case:
    name: str
    prompt: str
    constraint: dict[str, str]
    check: Callable[[str], object]  # raises, or is false, where the text does not fit


def schema_case(name: str, schema: object, prompt: str) -> Case:
    kind = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)

    def check(text: str) -> bool:
        kind(schema).validate(json.loads(text))
        return True

    return Case(name, prompt, {"json_schema": json.dumps(schema)}, check)


def model_case(model: type[BaseModel]) -> Case:
    schema = json.dumps(model.model_json_schema())
    prompt = f"An example of a {model.__name__} as JSON:\n"
    return Case(model.__name__, prompt, {"json_schema": schema}, model.model_validate_json)


def regex_case(regex: str) -> Case:
    return Case(
        regex, "Here it is: ", {"regex": regex}, lambda text: bool(re.fullmatch(regex, text))
    )


def grammar_case(name: str, grammar: str) -> Case:
    parser = lark.Lark(grammar, parser="earley", lexer="dynamic_complete")
    return Case(name, "For example: ", {"ebnf": grammar}, parser.parse)


def real_schemas() -> list[Case]:
    """The smallest schemas of the set that have a valid example, each with it in the prompt."""
    found = []
    for path in sorted(MASKBENCH.glob("*.json")):
        case = json.loads(path.read_text(encoding="utf-8"))
        valid = [test["data"] for test in case.get("tests", ()) if test["valid"]]
        example = json.dumps(valid[0]) if valid else ""
        if valid and len(example) < 400:
            size = len(json.dumps(case["schema"]))
            prompt = f"A JSON document:\n{example}\nAnother one:\n"
            found.append((size, path.stem, schema_case(path.stem, case["schema"], prompt)))
    return [case for _, _, case in sorted(found, key=lambda item: item[:2])]


def constrained(case: Case, **options) -> Sampling:
    return Sampling(**{"max_tokens": MAX_TOKENS, **case.constraint, **options})


@pytest.fixture(scope="module")
def stepwise_engine():
    """One token a step, forced or not."""
    with Engine(dtype="float32", max_total_tokens=16384, disable_jump_forward=True) as engine:
        yield engine


def cases() -> list[Case]:
    grammars = [grammar_case("sum", SUM), grammar_case("lisp", LISP)]
    own = [*map(model_case, MODELS), *map(regex_case, REGEXES), *grammars]
    return own + real_schemas()[: 60 if NIGHTLY else 14]


def test_every_answer_fits(exact_engine, capsys):
    every = list(itertools.islice(itertools.cycle(cases()), 200 if NIGHTLY else 28))
    samplings = [
        constrained(case, seed=at, temperature=TEMPERATURES[at % len(TEMPERATURES)])
        for at, case in enumerate(every)
    ]
    before = exact_engine.stats()
    answers = exact_engine.generate_batch([case.prompt for case in every], samplings)
    after = exact_engine.stats()
    for case, sampling, answer in zip(every, samplings, answers, strict=True):
        assert case.check(answer.text), (case.name, sampling.seed, answer.text)
    forced = after.num_forced - before.num_forced
    generated = after.generated_tokens - before.generated_tokens
    with capsys.disabled():
        print(f"\n{len(every)} answers fit; {forced} of {generated} tokens were forced")
    assert forced > 0


def test_jump_forward_changes_steps_and_not_tokens(exact_engine, stepwise_engine):
    every = cases()[::2]
    samplings = [constrained(case, seed=7, max_tokens=60) for case in every]
    prompts = [case.prompt for case in every]
    tokens, steps = {}, {}
    for engine in (exact_engine, stepwise_engine):
        before = engine.stats()
        answers = [engine.generate(*each) for each in zip(prompts, samplings, strict=True)]
        after = engine.stats()
        tokens[engine] = [answer.token_ids for answer in answers]
        steps[engine] = after.num_steps - before.num_steps
        forced = after.num_forced - before.num_forced
        assert bool(forced) == (engine is exact_engine)
        for case, answer in zip(every, answers, strict=True):
            if answer.completions[0].finish.type == "stop":
                assert case.check(answer.text)
    assert tokens[exact_engine] == tokens[stepwise_engine]
    assert steps[exact_engine] < steps[stepwise_engine]


@pytest.mark.parametrize(
    "text",
    [
        "The quick brown fox jumps over the lazy dog, 12,345 times.",
        '{"name": "Ada Lovelace", "born": 1815, "languages": ["English", "Français"]}',
        "def f(x):\n    return x ** 2\n",
    ],
)
def test_forced_tokens_are_those_of_the_tokenizer(exact_engine, text):
    before, steps = exact_engine.stats().num_forced, exact_engine.stats().num_steps
    answer = exact_engine.generate("Text:\n", Sampling(max_tokens=100, regex=re.escape(text)))
    assert answer.text == text
    assert list(answer.token_ids) == exact_engine.tokenize(text)
    assert exact_engine.stats().num_forced - before >= len(answer.token_ids) - 1
    assert exact_engine.stats().num_steps - steps <= 2  # with the prompt's prefill


# -- the same tokens, whatever runs beside them


def mixed() -> tuple[list[str], list[Sampling]]:
    every = [*map(model_case, MODELS), *map(regex_case, REGEXES), grammar_case("lisp", LISP)]
    samplings = [
        constrained(case, seed=at, temperature=0.8, max_tokens=48) for at, case in enumerate(every)
    ]
    free = [
        Sampling(max_tokens=24, seed=3, ignore_eos=True),
        Sampling(max_tokens=24, temperature=0),
    ]
    return [case.prompt for case in every] + ["Once", "Water"], samplings + free


@pytest.fixture(scope="module")
def alone(exact_engine):
    return [exact_engine.generate(*each).token_ids for each in zip(*mixed(), strict=True)]


def tokens_of(engine):
    return [answer.token_ids for answer in engine.generate_batch(*mixed())]


def test_batched(exact_engine, alone):
    assert tokens_of(exact_engine) == alone


def test_chunked(alone):
    with Engine(dtype="float32", max_total_tokens=8192, chunked_prefill_size=16) as engine:
        assert tokens_of(engine) == alone


def test_retracted(alone, retract_often):
    with Engine(dtype="float32", max_total_tokens=8192) as engine:
        retract_often(engine, 9)
        assert tokens_of(engine) == alone
        assert engine.stats().num_retracted >= len(alone)
        assert engine.stats().num_leaked_slots == 0


def test_several_answers_to_one_prompt(exact_engine):
    case = regex_case(REGEXES[0])
    sampling = constrained(case, seed=5, n=4, max_tokens=30)
    first, second = exact_engine.generate_batch([case.prompt] * 2, sampling)
    texts = [completion.text for completion in first.completions]
    assert all(map(case.check, texts)) and len(set(texts)) > 1
    assert texts == [completion.text for completion in second.completions]


def test_logprobs_of_a_constrained_answer(exact_engine):
    case = regex_case(REGEXES[1])
    sampling = constrained(case, seed=2, max_tokens=30)
    plain = exact_engine.generate(case.prompt, sampling)
    answer = exact_engine.generate(
        case.prompt, sampling, logprobs=LogprobOptions(output=True, top=5)
    )
    assert answer.token_ids == plain.token_ids
    entries = answer.completions[0].logprobs
    assert [entry.token_id for entry in entries] == list(answer.token_ids)
    scored = exact_engine.score(case.prompt, [answer.token_ids]).scores[0]
    found = [entry.logprob for entry in entries]
    assert found == pytest.approx(list(scored.logprobs), abs=1e-3)  # of the model, not of the mask
    matcher = Matcher(
        compile_grammar(grammar_spec(sampling), vocabulary_of(exact_engine._tokenizer))
    )
    assert all(matcher.accept(entry.token_id) for entry in entries)


def test_logprobs_of_forced_tokens_are_those_of_single_steps(exact_engine, stepwise_engine):
    every = [model_case(Reply), model_case(Person), regex_case("What is forced, word by word[.!]")]
    asked = LogprobOptions(output=True, top=3, prompt_start=2)
    for case in every:
        found, steps = [], []
        for engine in (exact_engine, stepwise_engine):
            before = engine.stats().num_steps
            answer = engine.generate(
                case.prompt, constrained(case, seed=4, max_tokens=60), logprobs=asked
            )
            steps.append(engine.stats().num_steps - before)
            found.append(answer.completions[0])
        jumped, single = found
        assert jumped.token_ids == single.token_ids
        for name in ("logprobs", "prompt_logprobs"):
            pairs = list(zip(getattr(jumped, name), getattr(single, name), strict=True))
            assert [one.token_id for one, _ in pairs] == [other.token_id for _, other in pairs]
            for one, other in pairs:
                assert one.logprob == pytest.approx(other.logprob, abs=1e-3)
                tops = [value for value, _ in one.top], [value for value, _ in other.top]
                assert tops[0] == pytest.approx(tops[1], abs=1e-3)
        assert len(jumped.logprobs) == len(jumped.token_ids)
        assert steps[0] < steps[1], case.name


@ramify.function
def tickets(s):
    s += "The best of all days is "
    forks = s.fork(4)
    for index, fork in enumerate(forks):
        fork += ramify.gen("day", regex=REGEXES[0], max_tokens=30, temperature=1.0, seed=index)
        fork += ", and the number is " + ramify.gen("number", dtype=int, max_tokens=8)
    forks.join()


def test_forks_are_constrained_on_their_own(exact_engine):
    state = tickets.run(backend=EngineBackend(exact_engine))
    assert len(state["day"]) == 4
    assert all(re.fullmatch(REGEXES[0], day) for day in state["day"])
    assert all(isinstance(number, int) for number in state["number"])
    assert RegexSpec(REGEXES[0]) in exact_engine._worker._grammars._entries
    assert exact_engine.generate("x", Sampling(regex="[ab]{3}", seed=1)).text.strip("ab") == ""
