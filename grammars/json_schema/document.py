"""A JSON Schema document: subschemas with their pointers, and references between them."""

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NoReturn
from urllib.parse import unquote, urldefrag, urljoin

from ramify.grammars.errors import GrammarError
from ramify.grammars.limits import Limits

Dropped = frozenset[tuple[str, str]]  # (pointer of a schema, keyword)
Json = Any  # what json.loads gives, with Decimal for numbers that have a fraction or an exponent

MAX_EXPONENT = 400  # a double's is 308
_DRAFT = re.compile(r"json-schema\.org/(?:draft/(\d{4})|draft-0?(\d))")
_METASCHEMA = re.compile(r"^https?://json-schema\.org/")
_SCHEMA_KEYWORDS = frozenset(
    [
        "additionalItems",
        "additionalProperties",
        "contains",
        "contentSchema",
        "else",
        "if",
        "items",
        "not",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
    ]
)
_LIST_KEYWORDS = frozenset(("allOf", "anyOf", "oneOf", "prefixItems", "items"))
_MAP_KEYWORDS = frozenset(
    ["$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties", "properties"]
)


class Schema:
    """A subschema in its place. Compared by identity: the document makes each place once."""

    __slots__ = ("_children", "base", "document", "pointer", "value")

    def __init__(self, document: "Document", value: Json, pointer: str, base: str) -> None:
        self.document = document
        self.value = value  # a dict or a bool
        self.pointer = pointer
        self.base = base  # URI that its references are relative to
        self._children: dict[tuple[str | int, ...], Schema] = {}

    def __repr__(self) -> str:
        return f"Schema({self.pointer or '#'})"

    def get(self, keyword: str, default: Json = None) -> Json:
        """A keyword's value."""
        return self.value.get(keyword, default)

    def child(self, *path: str | int) -> "Schema":
        """The subschema under a keyword."""
        found = self._children.get(path)
        if found is None:
            value = self.value
            for part in path:
                value = value[part]
            pointer = self.pointer + _pointer(path)
            found = self._children[path] = self.document.schema(value, pointer, self.base)
        return found

    def is_relaxed(self, keyword: str) -> bool:
        """May a keyword of this schema be enforced less than exactly?"""
        return (self.pointer, keyword) in self.document.dropped

    def note_pattern(self, keyword: str, pattern: str) -> None:
        """Remember where a pattern stands, for its errors."""
        self.document.pattern_places.setdefault(pattern, f"{self.pointer}/{keyword}")

    def refuse(self, keyword: str, why: str) -> NoReturn:
        """Raise `unsupported_keyword` for one of this schema's keywords."""
        pointer = f"{self.pointer}/{escape(keyword)}"
        raise GrammarError(
            "unsupported_keyword", f"JSON Schema {pointer}: {keyword}: {why}", pointer=pointer
        )

    def invalid(self, keyword: str, why: str) -> NoReturn:
        """Raise `invalid_json_schema` for one of this schema's keywords."""
        pointer = f"{self.pointer}/{escape(keyword)}"
        raise GrammarError(
            "invalid_json_schema", f"JSON Schema {pointer}: {keyword}: {why}", pointer=pointer
        )


class Document:
    """The whole text. `root` is its schema."""

    def __init__(self, text: str, limits: Limits, dropped: Dropped = frozenset()) -> None:
        self._limits = limits
        self.dropped = dropped  # what is not enforced
        self.pattern_places: dict[str, str] = {}  # pattern -> pointer of a keyword that has it
        self._schemas: dict[tuple[str, int], Schema] = {}
        self._resolved: dict[tuple[str, str, str], Schema] = {}  # by base, keyword and reference
        self._resources: dict[str, Schema] = {}  # by absolute URI, "" for the document itself
        self._dynamic: set[str] = set()  # URIs that are dynamic anchors
        self._value = value = self._load(text)
        self.draft = self._find_draft(value)  # 4, 6, 7, 2019 or 2020
        self.root = self.schema(value, "", "")
        self._resources[""] = self.root
        if "$id" in text or '"id"' in text or "nchor" in text:
            self._register(self.root)

    def schema(self, value: Json, pointer: str, base: str) -> Schema:
        """The one `Schema` of a place."""
        key = (pointer, id(value))
        found = self._schemas.get(key)
        if found is None:
            if not isinstance(value, (dict, bool)):
                raise GrammarError(
                    "invalid_json_schema",
                    f"JSON Schema {pointer or '#'}: {json.dumps(value, default=str)[:80]} is not a "
                    "schema: an object or a boolean is needed",
                    pointer=pointer,
                )
            if pointer.count("/") > 2 * self._limits.spec_depth:
                raise GrammarError(
                    "grammar_too_complex",
                    f"JSON Schema {pointer[:80]}...: more than {self._limits.spec_depth} deep",
                    pointer=pointer,
                )
            base = self._base(value, base)
            found = self._schemas[key] = Schema(self, self._kept(value, pointer), pointer, base)
        return found

    def _kept(self, value: Json, pointer: str) -> Json:
        """A schema without what is dropped of it."""
        if not self.dropped or isinstance(value, bool):
            return value
        if self.draft <= 7 and (pointer, "$ref") in self.dropped:
            return {}  # its siblings meant nothing
        return {
            keyword: part
            for keyword, part in value.items()
            if keyword == "oneOf" or (pointer, keyword) not in self.dropped
        }

    def resolve(self, schema: Schema, keyword: str) -> Schema:
        """What a `$ref` (or `$dynamicRef`) points to."""
        reference = schema.get(keyword)
        if not isinstance(reference, str):
            schema.invalid(keyword, f"{reference!r} is not a string")
        key = (schema.base, keyword, reference)
        found = self._resolved.get(key)
        if found is None:
            found = self._resolved[key] = self._resolve(schema, keyword, reference)
        return found

    def _resolve(self, schema: Schema, keyword: str, reference: str) -> Schema:
        uri, fragment = urldefrag(
            urljoin(schema.base, reference) if reference[:1] != "#" else reference
        )
        uri = uri if reference[:1] != "#" else urldefrag(schema.base)[0]
        absolute = f"{uri}#{fragment}" if fragment else uri
        if keyword != "$ref" and (absolute in self._dynamic or len(self._dynamic) > 1):
            self._check_static(schema, keyword, absolute)
        found = self._resources.get(absolute)
        if found is not None:
            return found
        resource = self._resources.get(uri)
        if resource is None:
            known = "a meta-schema" if _METASCHEMA.match(uri) else "not part of this document"
            schema.refuse(keyword, f"{reference!r} is {known}; put it in $defs")
        if fragment and not fragment.startswith("/"):
            schema.invalid(keyword, f"{reference!r}: there is no such anchor")
        return self._walk(schema, keyword, resource, unquote(fragment))

    def is_dynamic(self) -> bool:
        """Has it dynamic anchors?"""
        return bool(self._dynamic)

    def _check_static(self, schema: Schema, keyword: str, absolute: str) -> None:
        """A dynamic reference is decided by the text only if its anchor is in one resource."""
        name = absolute.partition("#")[2]
        if sum(uri.partition("#")[2] == name for uri in self._dynamic) > 1:
            schema.refuse(keyword, f"anchor {name!r} is dynamic in several resources")

    def _load(self, text: str) -> Json:
        if len(text) > self._limits.spec_bytes:
            raise GrammarError(
                "grammar_too_complex", f"JSON Schema longer than {self._limits.spec_bytes} bytes"
            )
        try:
            return json.loads(text, parse_float=_decimal, parse_constant=_no_constant)
        except RecursionError as error:
            raise GrammarError(
                "grammar_too_complex", "JSON Schema: nested too deep to be read", pointer=""
            ) from error
        except ValueError as error:
            raise GrammarError(
                "invalid_json_schema", f"JSON Schema is not JSON: {error}"
            ) from error

    def _find_draft(self, value: Json) -> int:
        uri = value.get("$schema") if isinstance(value, dict) else None
        found = _DRAFT.search(uri) if isinstance(uri, str) else None
        return int(found[1] or found[2]) if found else 2020

    def _base(self, value: Json, base: str) -> str:
        if isinstance(value, bool):
            return base
        if self.draft <= 7 and "$ref" in value:
            return base  # siblings of $ref mean nothing there
        identifier = value.get("id" if self.draft == 4 else "$id")
        if isinstance(identifier, str) and identifier[:1] != "#":
            return urldefrag(urljoin(base, identifier))[0]
        return base

    def _register(self, root: Schema) -> None:
        """Find every `$id` and anchor. An explicit stack: depth is the user's."""
        todo = [root]
        while todo:
            schema = todo.pop()
            if isinstance(schema.value, bool):
                continue
            value = schema.value
            if self._base(value, "\0") != "\0":
                self._resources.setdefault(schema.base, schema)
            identifier = value.get("id" if self.draft == 4 else "$id")
            anchors = [value.get("$anchor"), value.get("$dynamicAnchor")]
            if isinstance(identifier, str) and identifier[:1] == "#":
                anchors.append(identifier[1:])
            for anchor in anchors:
                if isinstance(anchor, str):
                    self._resources.setdefault(f"{schema.base}#{anchor}", schema)
            if isinstance(anchors[1], str):
                self._dynamic.add(f"{schema.base}#{anchors[1]}")
            todo += [child for _, child in children(schema)]

    def at(self, pointer: str) -> Schema:
        """The schema at a JSON pointer; `KeyError` and its like where there is none."""
        value, base, path = self._value, "", ""
        for part in pointer.split("/")[1:]:
            if isinstance(value, dict):
                base = self._base(value, base)
            part = part.replace("~1", "/").replace("~0", "~")
            value = value[_index(part)] if isinstance(value, list) else value[part]
            path += _pointer((part,))
        return self.schema(value, path, base)

    def _walk(self, schema: Schema, keyword: str, resource: Schema, fragment: str) -> Schema:
        try:
            return self.at(resource.pointer + fragment)
        except (KeyError, ValueError, IndexError, TypeError):
            schema.invalid(keyword, f"{schema.get(keyword)!r}: there is no such place")


def children(schema: Schema) -> Iterator[tuple[str, Schema]]:
    """The subschemas right below a schema, each with the keyword that it is of."""
    for keyword, value in schema.value.items():
        if keyword in _SCHEMA_KEYWORDS and isinstance(value, (dict, bool)):
            yield keyword, schema.child(keyword)
        elif keyword in _LIST_KEYWORDS and isinstance(value, list):
            for index, item in enumerate(value):
                if isinstance(item, (dict, bool)):
                    yield keyword, schema.child(keyword, index)
        elif keyword in _MAP_KEYWORDS and isinstance(value, dict):
            for name, item in value.items():
                if isinstance(item, (dict, bool)):
                    yield keyword, schema.child(keyword, name)


def escape(part: str) -> str:
    """A name as one part of a JSON pointer."""
    return part.replace("~", "~0").replace("/", "~1")


def _pointer(path: tuple[str | int, ...]) -> str:
    return "".join(f"/{part if isinstance(part, int) else escape(part)}" for part in path)


def _decimal(text: str) -> Decimal:
    value = Decimal(text)
    if value and abs(value.adjusted()) > MAX_EXPONENT:  # exact arithmetic would write it out
        raise ValueError(f"{text[:40]}: more than {MAX_EXPONENT} digits")
    return value


def _index(part: str) -> int:
    if not part.isdigit():
        raise ValueError(part)
    return int(part)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
