import inspect
import types
import typing

import msgspec
import pytest

from ramify.lang.errors import InvalidRequest
from ramify.lang.options import (
    GEN_NAMES,
    RUN_NAMES,
    CallOptions,
    GenArguments,
    RunArguments,
    SharedArguments,
    parse_options,
)
from ramify.lang.protocol import CONSTRAINTS, LogprobOptions, Sampling

SGLANG_GEN = {
    *("max_tokens", "min_tokens", "n", "stop", "stop_token_ids", "stop_regex", "temperature"),
    *("top_p", "top_k", "min_p", "frequency_penalty", "presence_penalty", "ignore_eos"),
    *("return_logprob", "logprob_start_len", "top_logprobs_num", "regex", "json_schema"),
}
ALIASES = {"max_new_tokens": "max_tokens", "min_new_tokens": "min_tokens", "grammar": "ebnf"}
LOGPROBS = {
    "return_logprob": "output",
    "logprob_start_len": "prompt_start",
    "top_logprobs_num": "top",
}


def parsed(**given):
    return parse_options(given, GEN_NAMES, "gen()").apply(CallOptions())


def test_every_sampling_field_is_an_argument_and_nothing_else_is():
    fields = {field.name for field in msgspec.structs.fields(Sampling)} - {"choices"}
    spelled = {ALIASES.get(name, name) for name in GEN_NAMES}
    others = set(LOGPROBS) | {"priority", "timeout_s"}
    assert spelled - others == fields
    assert set(LOGPROBS.values()) == {
        field.name for field in msgspec.structs.fields(LogprobOptions)
    }
    assert GEN_NAMES - {"grammar", *CONSTRAINTS} == RUN_NAMES
    assert set(GenArguments.__annotations__) == GEN_NAMES - {"max_tokens"}


def test_argument_types_accept_what_the_fields_hold():
    fields = {field.name: field.type for field in msgspec.structs.fields(Sampling)}
    for name, hint in typing.get_type_hints(SharedArguments).items():
        target = ALIASES.get(name, name)
        if target not in fields:
            continue
        kinds = {kind for kind in typing.get_args(hint) if kind is not types.NoneType}
        plain = {typing.get_origin(kind) or kind for kind in kinds}
        field = fields[target]
        inner = typing.get_args(field) if isinstance(field, types.UnionType) else (field,)
        wanted = {typing.get_origin(kind) or kind for kind in inner} - {types.NoneType}
        for kind in wanted:
            assert any(issubclass(kind, accepted) for accepted in plain), name


def test_sglang_names_are_arguments():
    from ramify.lang.primitives import gen, select

    known = set(inspect.signature(gen).parameters) | GEN_NAMES
    assert SGLANG_GEN | {"name", "dtype", "choices", "choices_method"} <= known
    assert list(inspect.signature(gen).parameters)[:2] == ["name", "max_tokens"]
    assert list(inspect.signature(select).parameters) == [
        "name",
        "choices",
        "temperature",
        "choices_method",
    ]


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("temprature", "temperature"),
        ("max_token", "max_tokens"),
        ("stops", "stop"),
        ("topk", "top_k"),
    ],
)
def test_a_misspelt_name_is_a_type_error_with_the_right_one(wrong, right):
    with pytest.raises(TypeError, match=f"no argument '{wrong}'; did you mean '{right}'"):
        parsed(**{wrong: 1})


def test_none_means_not_given():
    assert parsed(temperature=None, stop=None, max_tokens=None) == CallOptions()


def test_both_spellings_of_one_option_are_an_error():
    with pytest.raises(TypeError, match="one option"):
        parsed(max_tokens=3, max_new_tokens=4)


def test_values_are_converted_to_the_field_type():
    sampling = parsed(
        max_new_tokens=3, temperature=0, stop="\n", stop_token_ids=[1, 2], logit_bias={5: 1}
    ).sampling
    assert sampling.max_tokens == 3
    assert isinstance(sampling.temperature, float)
    assert sampling.stop == ("\n",)
    assert sampling.stop_token_ids == (1, 2)
    assert sampling.logit_bias == {5: 1.0}
    assert parsed(stop=["a", "b"]).sampling.stop == ("a", "b")
    for name in ("json_schema", "structural_tag"):
        given = parsed(**{name: {"type": "object"}}).sampling
        assert getattr(given, name) == '{"type":"object"}'


@pytest.mark.parametrize(
    "given",
    [{"temperature": "hot"}, {"top_k": 1.5}, {"stop": [1]}, {"n": "2"}, {"return_logprob": 3}],
)
def test_a_wrong_type_names_the_argument_and_the_value(given):
    name, value = next(iter(given.items()))
    with pytest.raises(InvalidRequest, match=name) as error:
        parsed(**given)
    assert repr(value) in str(error.value)
    assert error.value.param == name


def test_logprob_options_by_their_sglang_names():
    logprobs = parsed(return_logprob=True, logprob_start_len=4, top_logprobs_num=2).logprobs
    assert logprobs == LogprobOptions(output=True, prompt_start=4, top=2)
    assert parsed(logprob_start_len=-1).logprobs.prompt_start is None


def test_a_call_overrides_the_run():
    base = parse_options({"temperature": 0.5, "n": 2}, RUN_NAMES, "run()").apply(CallOptions())
    both = parse_options({"temperature": 0.0}, GEN_NAMES, "gen()").apply(base)
    assert (both.sampling.temperature, both.sampling.n) == (0.0, 2)
    assert base.sampling.temperature == 0.5


def test_run_takes_no_constraint():
    with pytest.raises(TypeError, match="regex"):
        parse_options({"regex": "a"}, RUN_NAMES, "run()")
    assert set(RunArguments.__annotations__) == RUN_NAMES
