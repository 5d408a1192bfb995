"""The words of the language: `gen`, `select` and the roles."""

from collections.abc import Sequence
from typing import Any, Unpack

from ramify.lang.choices import ChoicesMethod, token_length_normalized
from ramify.lang.errors import InvalidRequest
from ramify.lang.expr import (
    Appendable,
    Expr,
    Gen,
    RoleBegin,
    RoleEnd,
    Select,
    as_expr,
    call_site,
    check_name,
)
from ramify.lang.expr import Sequence as ExprSequence
from ramify.lang.options import (
    CONSTRAINT_NAMES,
    GEN_NAMES,
    GenArguments,
    parse_options,
)
from ramify.lang.results import PLAIN, ResultType, result_of_dtype, result_of_schema

_OWN_NAMES = frozenset({"name", "dtype", "schema", "choices", "choices_method"})


def gen(
    name: str | None = None,
    max_tokens: int | None = None,
    *,
    dtype: type | str | None = None,
    schema: object = None,
    choices: Sequence[str] | None = None,
    choices_method: ChoicesMethod | None = None,
    **options: Unpack[GenArguments],
) -> Expr:
    """Let the model continue the state; the answer is `s[name]`.

    `dtype` (int, float, bool, str) or `schema` (a pydantic model, dataclass, TypedDict, Enum,
    Literal or JSON Schema) makes the answer an instance of that type. `choices` makes it a
    `select`; `regex`, `json_schema` or `grammar` holds its text to one, and `structural_tag` what
    follows its triggers (tool calls). Sampling options that are not given are those of `run`;
    `n` > 1 makes `s[name]` a list, of which the first answer continues the state.
    """
    if choices is not None or choices_method is not None:
        return _gen_of_choices(name, max_tokens, dtype, schema, choices, choices_method, options)
    check_name(name)
    given = {"max_tokens": max_tokens, **options}
    overrides = parse_options(given, GEN_NAMES | _OWN_NAMES, "gen()")
    constraints = [name for key, name in CONSTRAINT_NAMES.items() if key in overrides.sampling]
    constraints += [key for key, value in (("dtype", dtype), ("schema", schema)) if value]
    if len(constraints) > 1:
        raise InvalidRequest(
            f"gen({name!r}): {' and '.join(constraints)} each constrain the answer; keep one",
            code="conflicting_constraints",
            param=constraints[1],
        )
    return Gen(name, overrides, _result_type(dtype, schema), call_site())


def gen_int(
    name: str | None = None, max_tokens: int | None = None, **options: Unpack[GenArguments]
) -> Expr:
    """`gen` with `dtype=int`."""
    return gen(name, max_tokens, dtype=int, **options)


def gen_string(
    name: str | None = None, max_tokens: int | None = None, **options: Unpack[GenArguments]
) -> Expr:
    """`gen` with `dtype=str`: a string in double quotes; `s[name]` is what they enclose."""
    return gen(name, max_tokens, dtype=str, **options)


def select(
    name: str | None = None,
    choices: Sequence[str] | None = None,
    temperature: float = 0.0,
    choices_method: ChoicesMethod = token_length_normalized,
) -> Select:
    """Continue the state with the likeliest of `choices`; it is `s[name]`.

    `s.get_meta_info(name)` holds the probability of every choice. The decision is deterministic:
    a `temperature` other than 0 is an error.
    """
    check_name(name)
    if choices is None or isinstance(choices, str) or not all(isinstance(c, str) for c in choices):
        raise InvalidRequest(
            f"choices={choices!r}: must be a list of strings", code="invalid_type", param="choices"
        )
    if not choices or not all(choices):
        raise InvalidRequest(
            f"choices={list(choices)!r}: must be one or more non-empty strings", param="choices"
        )
    if temperature != 0:
        raise InvalidRequest(
            f"temperature={temperature!r}: select takes the likeliest choice and draws nothing; "
            "leave temperature out, or draw from get_meta_info(name)['probabilities']",
            param="temperature",
        )
    if not isinstance(choices_method, ChoicesMethod):
        raise InvalidRequest(
            f"choices_method={choices_method!r}: must be one of token_length_normalized, "
            "greedy_token_selection, unconditional_likelihood_normalized",
            code="invalid_type",
            param="choices_method",
        )
    return Select(name, tuple(choices), choices_method, call_site())


def system(expr: Appendable | None = None) -> Expr:
    """A message by the system."""
    return _message("system", expr)


def user(expr: Appendable | None = None) -> Expr:
    """A message by the user."""
    return _message("user", expr)


def assistant(expr: Appendable | None = None) -> Expr:
    """A message by the assistant."""
    return _message("assistant", expr)


def system_begin() -> Expr:
    """The opening of a message by the system."""
    return RoleBegin("system")


def system_end() -> Expr:
    """The closing of a message by the system."""
    return RoleEnd("system")


def user_begin() -> Expr:
    """The opening of a message by the user."""
    return RoleBegin("user")


def user_end() -> Expr:
    """The closing of a message by the user."""
    return RoleEnd("user")


def assistant_begin() -> Expr:
    """The opening of a message by the assistant."""
    return RoleBegin("assistant")


def assistant_end() -> Expr:
    """The closing of a message by the assistant."""
    return RoleEnd("assistant")


def _message(role: str, expr: Appendable | None) -> Expr:
    inner = () if expr is None else (as_expr(expr),)
    return ExprSequence((RoleBegin(role, any(map(_asks, inner))), *inner, RoleEnd(role)))


def _asks(expr: Expr) -> bool:
    """Whether the model is asked for a part of it."""
    if isinstance(expr, ExprSequence):
        return any(map(_asks, expr.parts))
    return isinstance(expr, Gen | Select)


def _result_type(dtype: type | str | None, schema: object) -> ResultType:
    if dtype is not None:
        return result_of_dtype(dtype)
    return PLAIN if schema is None else result_of_schema(schema)


def _gen_of_choices(
    name: str | None,
    max_tokens: int | None,
    dtype: type | str | None,
    schema: object,
    choices: Sequence[str] | None,
    choices_method: ChoicesMethod | None,
    options: GenArguments,
) -> Select:
    if choices is None:
        raise InvalidRequest(
            "choices_method needs choices=[...]", code="missing_field", param="choices"
        )
    others: dict[str, Any] = {"max_tokens": max_tokens, "dtype": dtype, "schema": schema, **options}
    temperature = others.pop("temperature", None)
    clash = sorted(key for key, value in others.items() if value is not None)
    if clash:
        raise InvalidRequest(
            f"gen({name!r}): {', '.join(clash)} cannot go with choices, which only scores the "
            "given texts; drop one or the other",
            code="conflicting_constraints",
            param=clash[0],
        )
    method = token_length_normalized if choices_method is None else choices_method
    return select(name, choices, 0.0 if temperature is None else temperature, method)
