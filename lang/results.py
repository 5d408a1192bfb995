"""What an answer must look like, and what it becomes: `dtype=` and `schema=` of `gen`.

A `ResultType` is a constraint for the sampler (a regex or a JSON Schema) with the function that
turns the constrained text into a value.
"""

import enum
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from ramify.lang.errors import InvalidRequest

# A number ends where the text goes on: with one blank, at which generation stops.
REGEX_INT = r"[-+]?[0-9]+[ \n]?"
REGEX_FLOAT = r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)[ \n]?"
REGEX_BOOL = r"(True|False)"
REGEX_STR = r'"([^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*"'


@dataclass(frozen=True, slots=True)
class ResultType:
    """A constraint on the answer's text and what the text becomes."""

    label: str = "str"  # for messages and the request graph
    regex: str | None = None
    json_schema: str | None = None
    stop: tuple[str, ...] = ()  # added to the call's own stops
    parse: Callable[[str], Any] | None = None  # None: the text itself


PLAIN = ResultType()

_DTYPES: dict[str, ResultType] = {
    "int": ResultType("int", REGEX_INT, stop=(" ", "\n"), parse=int),
    "float": ResultType("float", REGEX_FLOAT, stop=(" ", "\n"), parse=float),
    "bool": ResultType("bool", REGEX_BOOL, parse=lambda text: {"True": True, "False": False}[text]),
    "str": ResultType('"str"', REGEX_STR, parse=json.loads),
}


def result_of_dtype(dtype: type | str) -> ResultType:
    """The `ResultType` of int, float, bool or str (a quoted string), or of their names."""
    name = dtype if isinstance(dtype, str) else getattr(dtype, "__name__", repr(dtype))
    found = _DTYPES.get(name)
    if found is None or (isinstance(dtype, type) and dtype not in (int, float, bool, str)):
        raise InvalidRequest(
            f"dtype={dtype!r}: must be int, float, bool or str; for any other type use schema=",
            param="dtype",
        )
    return found


def result_of_schema(schema: object) -> ResultType:
    """The `ResultType` of a pydantic model, dataclass, TypedDict, Enum, Literal or JSON Schema.

    The value is an instance of that type; of a JSON Schema it is what `json.loads` gives. A string
    Enum or Literal is answered as a JSON string, quotes included.
    """
    if isinstance(schema, Mapping):
        return ResultType("json", json_schema=json.dumps(schema), parse=json.loads)
    label = getattr(schema, "__name__", str(schema))
    kind: Any = schema
    if _is_pydantic(schema):
        text = json.dumps(kind.model_json_schema())
        return ResultType(label, json_schema=text, parse=kind.model_validate_json)
    try:
        text = msgspec.json.encode(_inlined(msgspec.json.schema(kind))).decode()
        decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(kind)
    except (TypeError, RuntimeError) as error:
        raise InvalidRequest(
            f"schema={schema!r}: must be a pydantic model, a dataclass, a TypedDict, an Enum, "
            f"a Literal or a JSON Schema as a dict ({error})",
            param="schema",
        ) from error
    return ResultType(label, json_schema=text, parse=decoder.decode)


def parse_answer(result: ResultType, text: str) -> Any:
    """The value of an answer's text; raises `InvalidRequest` when the text is not of that type."""
    if result.parse is None:
        return text
    try:
        return result.parse(text)
    except (ValueError, KeyError) as error:  # pydantic's and msgspec's errors are ValueErrors
        raise InvalidRequest(
            f"the answer {text!r} is not a {result.label}: {error}; was it cut by max_tokens?",
            code="invalid_answer",
        ) from error


def _is_pydantic(schema: object) -> bool:
    pydantic = sys.modules.get("pydantic")  # whoever hands in a model has imported it
    return (
        pydantic is not None
        and isinstance(schema, type)
        and issubclass(schema, pydantic.BaseModel)
        and not issubclass(schema, enum.Enum)
    )


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema that is nothing but a reference to its only definition, as that definition."""
    defs = schema.get("$defs", {})
    if set(schema) == {"$ref", "$defs"} and len(defs) == 1 and "$ref" not in str(defs):
        return dict(next(iter(defs.values())))
    return schema
