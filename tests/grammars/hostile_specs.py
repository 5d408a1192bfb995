"""Specs made to cost much: by name, with the bytes of a text to walk along."""

import json
from typing import Any

from ramify.grammars import ChoicesSpec, EbnfSpec, GrammarSpec, JsonSchemaSpec, RegexSpec


def schema(value: Any) -> JsonSchemaSpec:
    return JsonSchemaSpec(json.dumps(value))


def record(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False, **more}


def nested_unions(depth: int, keyword: str) -> dict[str, Any]:
    value: dict[str, Any] = {"type": "string"}
    for level in range(depth):
        members = record({"a": value, f"b{level}": {"type": "integer"}}, required=["a"])
        value = {keyword: [members, {"type": "array", "items": value, "minItems": level + 1}]}
    return value


def laughing_references(depth: int) -> dict[str, Any]:
    defs: dict[str, Any] = {"n0": {"type": "string"}}
    for level in range(1, depth + 1):
        defs[f"n{level}"] = record({name: {"$ref": f"#/$defs/n{level - 1}"} for name in "abcdefgh"})
    return {"$defs": defs, "$ref": f"#/$defs/n{depth}"}


def deep_arrays(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        value = {"type": "array", "items": value}
    return value


def in_x(value: Any) -> JsonSchemaSpec:
    return schema(record({"x": value}, required=["x"]))


OVERLAPPING = {
    "anyOf": [
        record({"kind": {"type": "string"}, f"v{at}": {"type": "integer"}}, required=["kind"])
        for at in range(300)
    ]
}
WORDS = [f"value-{at * 7919 % 100_003}-x" for at in range(20_000)]
MEMBERS = {f"prop_{at}": {"type": "string"} for at in range(1000)}

RULES = range(40)
DOUBLING = "".join(f"r{at + 1} r{at + 1}\nr{at + 1} ::= " for at in RULES)
NUMBERED = {f"p{at}": {"type": "integer"} for at in range(30_000)}

HOSTILE: dict[str, tuple[GrammarSpec, bytes]] = {
    "nested plus": (RegexSpec("(a+)+b"), b"a" * 200),
    "many a's back": (RegexSpec("(.*a){30}"), b"xaxa" * 20),
    "a million times": (RegexSpec("a{1000000}"), b"a" * 100),
    "a thousand thousand times": (RegexSpec("(a{1,1000}){1,1000}"), b"a" * 50),
    "long bounded class": (RegexSpec("[a-z]{0,100000}"), b"hello" * 20),
    "remember 18 back": (RegexSpec("(a|b)*a(a|b){18}"), b"abbabaababbaabab" * 5),
    "remember 20 back": (RegexSpec(".*a.{20}"), b"xxaxxaxx" * 8),
    "bounded in bounded": (RegexSpec("((a|b){1,50}c){1,50}"), b"abcabc"),
    "many lookaheads": (RegexSpec("".join(f"(?=.*{char})" for char in "abcdefgh") + ".*"), b"ab"),
    "unicode classes": (RegexSpec(r"(\w\s\w[^\W\d]){200}"), b"a bc"),
    "nested groups": (RegexSpec("(" * 3000 + "a" + ")" * 3000), b"a"),
    "alternatives": (RegexSpec("|".join(f"x{at}y*" for at in range(20_000))), b"x77yyy"),
    "pattern, remember 13 back": (
        in_x({"type": "string", "pattern": "^[ab]*a[ab]{13}$"}),
        b'{"x": "abababababababababab"}',
    ),
    "pattern, nested plus": (in_x({"type": "string", "pattern": "^(a+)+$"}), b'{"x": "aaaaaa"}'),
    "maxLength 10^9": (in_x({"type": "string", "maxLength": 10**9}), b'{"x": "hello world"}'),
    "minLength 5000": (in_x({"type": "string", "minLength": 5000}), b'{"x": "' + b"hello " * 60),
    "maxItems 30000": (
        in_x({"type": "array", "items": {"type": "integer"}, "maxItems": 30_000}),
        b'{"x": [1, 2, 3]}',
    ),
    "1000 optional members": (schema(record(MEMBERS)), b'{"prop_5": "a", "prop_77": "b"}'),
    "1000 required members": (schema(record(MEMBERS, required=[*MEMBERS])), b'{"prop_0": "a", "'),
    "enum of 20000": (in_x({"enum": WORDS}), b'{"x": "value-7919-x"}'),
    "20000 choices": (ChoicesSpec(tuple(WORDS)), b"value-7919-x"),
    "enum of a million": (in_x({"enum": [str(at) for at in range(1_000_000)]}), b'{"x": "7"}'),
    "anyOf 12 deep": (schema(nested_unions(12, "anyOf")), b'{"a": ' * 12 + b'"x"'),
    "oneOf 8 deep": (schema(nested_unions(8, "oneOf")), b'{"a": ' * 8 + b'"x"'),
    "references 12 deep": (schema(laughing_references(12)), b'{"a": {"b": {}}}'),
    "arrays 200 deep": (schema(deep_arrays(200)), b"[" * 60),
    "arrays 5000 deep": (
        JsonSchemaSpec('{"type": "array", "items": ' * 5000 + "true" + "}" * 5000),
        b"[",
    ),
    "300 overlapping objects": (schema(OVERLAPPING), b'{"kind": "hello world", "v7": 3}'),
    "allOf of anyOfs": (
        schema({"allOf": [{"anyOf": [{"multipleOf": n}, {"minimum": n}]} for n in range(1, 30)]}),
        b"17",
    ),
    "multiples": (
        schema({"type": "integer", "allOf": [{"multipleOf": n} for n in (997, 991, 983, 977)]}),
        b"1",
    ),
    "unique items": (
        in_x({"type": "array", "items": {"enum": WORDS[:2000]}, "uniqueItems": True}),
        b'{"x": ["value-7919-x", "value-0-x"]}',
    ),
    "cubic grammar": (EbnfSpec('root ::= root root | "a"'), b"a" * 30),
    "nullable grammar": (
        EbnfSpec('root ::= x x x x x x x x x x\nx ::= "a"? y? y?\ny ::= "a"? "b"?'),
        b"abababab",
    ),
    "60000 nested groups": (EbnfSpec("root ::= " + "(" * 60_000 + '"a"' + ")" * 60_000), b"a"),
    "repeats of repeats": (EbnfSpec('root ::= (("a"{1,900}){1,900}){1,900}'), b"aaaa"),
    "left recursion below repeats": (
        EbnfSpec('root ::= y\ny ::= ("b" | "ab" | [^a] | root){2,3}'),
        b"bbab",
    ),
    "rules twice each": (EbnfSpec(f'root ::= {DOUBLING}"a"'), b"aaaa"),
    "empty rules twice each": (EbnfSpec(f'root ::= {DOUBLING}""'), b""),
    "rules 5000 deep": (
        EbnfSpec("root ::= " + "".join(f"r{at}\nr{at} ::= " for at in range(5000)) + '"a"'),
        b"a",
    ),
    "empty repeats of repeats": (RegexSpec("((((){1000}){1000}){1000}){9}"), b""),
    "a million members": (schema({"minProperties": 10**6}), b'{"a": 1, "b": 2'),
    "a million members of a pattern": (
        in_x({"type": "object", "minProperties": 10**6, "propertyNames": {"pattern": "^[a-z]+$"}}),
        b'{"x": {"ab": 1, "cd": [], ',
    ),
    "a million items": (in_x({"type": "array", "minItems": 10**6}), b'{"x": [1, 2, {}, '),
    "a million distinct items": (
        in_x({"type": "array", "minItems": 10**6, "uniqueItems": True}),
        b'{"x": [1, 2, 12, ',
    ),
    "a million characters": (in_x({"type": "string", "minLength": 10**6}), b'{"x": "hello'),
    "a million contained": (
        schema({"type": "array", "contains": {"type": "integer"}, "minContains": 10**6}),
        b"[1, 2",
    ),
    "5000 first items": (
        schema({"type": "array", "prefixItems": [{"type": "integer"}] * 5000, "minItems": 5000}),
        b"[1, 2, 3",
    ),
    "half of 30000 members": (schema(record(NUMBERED, minProperties=15_000)), b'{"p0": 1, "p1": '),
    "100000 required names": (schema({"required": [f"p{at}" for at in range(100_000)]}), b"{"),
    "1000 dependent names": (
        schema(
            {"type": "object", "dependentRequired": {f"p{at}": [f"q{at}"] for at in range(1000)}}
        ),
        b'{"p1": 1, "q1": 1, ',
    ),
}
