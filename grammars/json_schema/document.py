"""A JSON Schema document: subschemas with their pointers, and references between them."""

import json
import re
from collections.abc import Hashable, Iterator
from decimal import Decimal
from typing import Any, NoReturn
from urllib.parse import unquote, urldefrag, urljoin

from ramify.grammars.errors import GrammarError
from ramify.grammars.limits import Limits

Scope = frozenset[tuple[str, str]]  # (anchor, URI of the resource that a dynamic one leads to)
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
NO_MEANING = frozenset(("$comment", "default", "deprecated", "description", "examples", "title"))
_ABOUT_SCALARS = frozenset(
    [
        *("type", "enum", "const", "format", "pattern", "minLength", "maxLength", "multipleOf"),
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    ]
)
_BESIDE_REFERENCE = NO_MEANING | {"$defs", "$schema", "definitions"}


class Schema:
    """A subschema in its place. Compared by identity: the document makes each place once."""

    __slots__ = ("_children", "_same", "base", "document", "pointer", "scope", "value")

    def __init__(
        self, document: "Document", value: Json, pointer: str, base: str, scope: Scope
    ) -> None:
        self.document = document
        self.value = value  # a dict or a bool
        self.pointer = pointer
        self.base = base  # URI that its references are relative to
        self.scope = scope  # of anchors that are dynamic in several resources
        self._children: dict[tuple[str | int, ...], Schema] = {}
        self._same: Schema | None = None

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
            found = self._children[path] = self.document.schema(
                value, pointer, self.base, self.scope
            )
        return found

    @property
    def same(self) -> "Schema":
        """One schema for many that mean the same: what a mere reference leads to; or the first
        that asks the same of scalars."""
        found = self._same
        if found is None:
            self._same = self  # for references back to it
            found = self._same = self.document.same(self)
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
        self._schemas: dict[tuple[str, int, Scope], Schema] = {}
        # by base, scope, keyword and reference
        self._resolved: dict[tuple[str, Scope, str, str], Schema] = {}
        self._same: dict[Hashable, Schema] = {}  # by what they ask
        self._resources: dict[str, Schema] = {}  # by absolute URI, "" for the document itself
        self._dynamic: dict[str, set[str]] = {}  # dynamic anchor -> URIs of resources that have it
        self._ambiguous: list[str] = []  # dynamic anchors of several resources
        self._value = value = self._load(text)
        self.draft = self._find_draft(value)  # 4, 6, 7, 2019 or 2020
        self.root = self.schema(value, "", "")
        self._resources[""] = self.root
        num_ids = text.count('"id"' if self.draft == 4 else '"$id"')
        if num_ids == 1 and self.root.base and "nchor" not in text:
            self._resources[self.root.base] = self.root
        elif num_ids or "nchor" in text:
            self._register(self.root)
            self._ambiguous = [name for name, uris in self._dynamic.items() if len(uris) > 1]
            if self._ambiguous:
                self._schemas.clear()  # they have no scope yet
                self.root = self.at("")

    def schema(self, value: Json, pointer: str, base: str, scope: Scope = frozenset()) -> Schema:
        """The one `Schema` of a place and scope; the scope is that of what leads there."""
        if self._ambiguous:
            scope = self._entered(scope, self._base(value, base))
        key = (pointer, id(value), scope)
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
            kept = self._kept(value, pointer)
            found = self._schemas[key] = Schema(self, kept, pointer, base, scope)
        return found

    def same(self, schema: Schema) -> Schema:
        """See `Schema.same`."""
        value = schema.value
        if isinstance(value, bool):
            return schema
        if "$ref" in value:
            if self.draft > 7 and not value.keys() - {"$ref"} <= _BESIDE_REFERENCE:
                return schema
            try:
                return self.resolve(schema, "$ref").same
            except GrammarError:  # where it is used, if it is
                return schema
        asked: list[Hashable] = []
        for keyword, part in value.items():
            if keyword in _ABOUT_SCALARS:
                asked += (keyword, repr(part))
            elif keyword not in NO_MEANING:
                return schema
        if not asked:
            return Schema(self, True, schema.pointer, schema.base, schema.scope)
        return self._same.setdefault(tuple(asked), schema)

    def _entered(self, scope: Scope, uri: str) -> Scope:
        """The scope inside of a resource: what is there already comes first."""
        known = {name for name, _ in scope}
        return scope | {
            (name, uri)
            for name in self._ambiguous
            if name not in known and uri in self._dynamic[name]
        }

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
        key = (schema.base, schema.scope, keyword, reference)
        found = self._resolved.get(key)
        if found is None:
            found = self._resolve(schema, keyword, reference)
            if self._ambiguous:
                found = self.at(found.pointer, schema.scope)
            self._resolved[key] = found
        return found

    def _resolve(self, schema: Schema, keyword: str, reference: str) -> Schema:
        if reference[:1] == "#":
            uri, fragment = schema.base, reference[1:]
        else:
            uri, fragment = urldefrag(urljoin(schema.base, reference))
        if keyword != "$ref" and uri in self._dynamic.get(fragment, ()):
            uri = dict(schema.scope).get(fragment, uri)
        absolute = f"{uri}#{fragment}" if fragment else uri
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
            # draft 2019-09: the one dynamic anchor of a resource, with no name
            dynamic = "" if value.get("$recursiveAnchor") is True else anchors[1]
            if isinstance(dynamic, str):
                self._dynamic.setdefault(dynamic, set()).add(schema.base)
            todo += [child for _, child in children(schema)]

    def at(self, pointer: str, scope: Scope = frozenset()) -> Schema:
        """The schema at a JSON pointer; `KeyError` and its like where there is none."""
        value, base, path = self._value, "", ""
        for part in pointer.split("/")[1:]:
            if isinstance(value, dict):
                base = self._base(value, base)
            part = part.replace("~1", "/").replace("~0", "~")
            value = value[_index(part)] if isinstance(value, list) else value[part]
            path += _pointer((part,))
        return self.schema(value, path, base, scope)

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
    return part.replace("~", "~0").replace("/", "~1") if "~" in part or "/" in part else part


def _pointer(path: tuple[str | int, ...]) -> str:
    out = ""
    for part in path:
        out += f"/{part if isinstance(part, int) else escape(part)}"
    return out


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
