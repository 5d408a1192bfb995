"""What an answer must look like, in all the ways that OpenAI's, vLLM's and SGLang's clients ask."""

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from ramify.lang.errors import InvalidRequest
from ramify.runtime.api.sampling import SamplingFields

_NONE = msgspec.Raw()  # a schema that is not given
_ANY_OBJECT = '{"type": "object"}'


class TextFormat(msgspec.Struct, tag="text"):
    """Any text."""


class JsonObjectFormat(msgspec.Struct, tag="json_object"):
    """A JSON object; older clients put its schema here."""

    schema: msgspec.Raw = _NONE


class NamedSchema(msgspec.Struct, kw_only=True):
    """A schema with a label. `strict: false`: what cannot be enforced exactly is relaxed, and the
    answer says so; else it is refused."""

    name: str
    schema: msgspec.Raw
    strict: bool | None = None
    description: str | None = None


class JsonSchemaFormat(msgspec.Struct, tag="json_schema"):
    """JSON that satisfies a schema."""

    json_schema: NamedSchema


class StructuralTagFormat(msgspec.Struct, tag="structural_tag", forbid_unknown_fields=True):
    """Free text with triggers: in xgrammar's formats, or as before there were formats."""

    format: msgspec.Raw = _NONE
    structures: msgspec.Raw = _NONE
    triggers: msgspec.Raw = _NONE

    def text(self) -> str:
        """The structural tag alone, as JSON."""
        given = {name: getattr(self, name) for name in self.__struct_fields__}
        fields = {name: raw for name, raw in given.items() if _is_given(raw)}
        return msgspec.json.encode({"type": "structural_tag", **fields}).decode()


class StructuredOutputs(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`structured_outputs` of vLLM: exactly one of these."""

    json: msgspec.Raw = _NONE
    json_object: bool | None = None
    regex: str | None = None
    choice: tuple[str, ...] | None = None
    grammar: str | None = None
    structural_tag: msgspec.Raw = _NONE


class ConstrainedFields(SamplingFields, kw_only=True):
    """Fields of both completion routes that constrain the answer: at most one of them."""

    response_format: (
        TextFormat | JsonObjectFormat | JsonSchemaFormat | StructuralTagFormat | None
    ) = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: msgspec.Raw = _NONE
    guided_regex: str | None = None
    guided_choice: tuple[str, ...] | None = None
    guided_grammar: str | None = None


class Constraint(NamedTuple):
    """A field of `Sampling`, its value, and what the client calls it."""

    name: str
    value: str | tuple[str, ...]
    path: str
    strict: bool = True


def read_constraint(body: ConstrainedFields) -> Constraint | None:
    """The one constraint of a body, if any; `InvalidRequest` where there are several."""
    found = list(_given(body))
    if len(found) > 1:
        raise InvalidRequest(
            f"{' and '.join(entry.path for entry in found)} are given: at most one constraint; "
            "drop all but one",
            code="conflicting_constraints",
            param=found[1].path,
        )
    if not found and body.structured_outputs is not None:
        raise InvalidRequest(
            "structured_outputs is empty: give one of "
            f"{', '.join(StructuredOutputs.__struct_fields__)}, or leave it out",
            code="conflicting_constraints",
            param="structured_outputs",
        )
    return found[0] if found else None


def _given(body: ConstrainedFields) -> Iterator[Constraint]:
    for name in ("regex", "json_schema", "ebnf", "structural_tag"):
        value = getattr(body, name)
        if value is not None:
            yield Constraint(name, value, name)
    match body.response_format:
        case JsonObjectFormat(schema=raw) if _is_given(raw):
            yield Constraint("json_schema", _text(raw), "response_format.schema")
        case JsonObjectFormat():
            yield Constraint("json_schema", _ANY_OBJECT, "response_format")
        case JsonSchemaFormat(json_schema=named):
            path = "response_format.json_schema.schema"
            yield Constraint("json_schema", _text(named.schema), path, named.strict is not False)
        case StructuralTagFormat() as tag:
            yield Constraint("structural_tag", tag.text(), "response_format")
    if _is_given(body.guided_json):
        yield Constraint("json_schema", _text(body.guided_json), "guided_json")
    if body.structured_outputs is not None:
        yield from _structured(body.structured_outputs)
    for name, path in (
        ("regex", "guided_regex"),
        ("choices", "guided_choice"),
        ("ebnf", "guided_grammar"),
    ):
        value = getattr(body, path)
        if value is not None:
            yield Constraint(name, value, path)


def _structured(asked: StructuredOutputs) -> Iterator[Constraint]:
    at = "structured_outputs."
    if _is_given(asked.json):
        yield Constraint("json_schema", _text(asked.json), at + "json")
    if asked.json_object:
        yield Constraint("json_schema", _ANY_OBJECT, at + "json_object")
    if asked.regex is not None:
        yield Constraint("regex", asked.regex, at + "regex")
    if asked.choice is not None:
        yield Constraint("choices", asked.choice, at + "choice")
    if asked.grammar is not None:
        yield Constraint("ebnf", asked.grammar, at + "grammar")
    if _is_given(asked.structural_tag):
        yield Constraint("structural_tag", _text(asked.structural_tag), at + "structural_tag")


def _is_given(raw: msgspec.Raw) -> bool:
    return bytes(raw) not in (b"", b"null")


def _text(raw: msgspec.Raw) -> str:
    """A schema as JSON text; clients send it as JSON, or as a string that holds JSON."""
    text = bytes(raw)
    return msgspec.json.decode(text, type=str) if text.startswith(b'"') else text.decode()
