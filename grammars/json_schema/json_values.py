"""JSON values: their types, and one text for each."""

import json
from decimal import Decimal
from typing import Any as Json

TYPES = ("null", "boolean", "number", "string", "array", "object")
_text = json.JSONEncoder(ensure_ascii=False).encode


def canonical_json(value: Json) -> str:
    """One text for each JSON value: equal values have equal texts, 1.0 and 1 among them."""
    if isinstance(value, dict):
        members = (f"{_text(name)}:{canonical_json(value[name])}" for name in sorted(value))
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonical_json, value)) + "]"
    if isinstance(value, Decimal):
        whole = value == value.to_integral_value()
        return str(int(value)) if whole else format(value.normalize(), "f")
    return _text(value)


def type_of(value: Json) -> str:
    """The JSON type: integers are numbers."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float, Decimal)):
        return "number"
    return "string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"
