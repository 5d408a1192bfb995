"""A JSON Schema document: subschemas with their pointers, and references between them."""

import json
import re
from collections.abc import Callable, Hashable
from decimal import Decimal
from typing import Any, NoReturn
from urllib.parse import unquote, urldefrag, urljoin

from ramify.grammars.errors import GrammarError
from ramify.grammars.json_schema.schema import (
    Json,
    Part,
    Place,
    Schema,
    Scope,
    escape,
    place_below,
    pointer_of_place,
    subschemas,
)
from ramify.grammars.json_schema.shape import check_shape
from ramify.grammars.limits import Limits

Dropped = frozenset[tuple[str, str]]  # (pointer of a schema, keyword)

MAX_EXPONENT = 400  # a double's is 308
_DRAFT = re.compile(r"json-schema\.org/(?:draft/(\d{4})|draft-0?(\d))")
_ID, _OLD_ID = re.compile(r'"\$id"\s*:\s*"'), re.compile(r'"id"\s*:\s*"')
_METASCHEMA = re.compile(r"^https?://json-schema\.org/")


_ANCHORS = frozenset(("$anchor", "$dynamicAnchor", "$recursiveAnchor"))
_ROOT: Place = (None, "", None)
MAX_ALIKE = 64  # nesting within which schemas are compared to see which mean the same

_Trail = tuple[Any, str, Part]  # the trail of what is above, or None; and where in it


class Document:
    """The whole text. `root` is its schema."""

    def __init__(self, text: str, limits: Limits, dropped: Dropped = frozenset()) -> None:
        self._limits = limits
        self.dropped = dropped  # what is not enforced
        self.patterns: dict[str, tuple[Schema, str]] = {}  # pattern -> a keyword that has it
        self._schemas: dict[int | tuple[int, Scope], Schema] = {}  # by id of what they are
        # by base, scope, keyword and reference
        self._resolved: dict[tuple[str, Scope, str, str], Schema] = {}
        self._same: dict[Hashable, Schema] = {}  # by what they ask
        self._nested = 0  # schemas of which it is being found out which mean the same
        self._resources: dict[str, Schema] = {}  # by absolute URI, "" for the document itself
        self._dynamic: dict[str, set[str]] = {}  # dynamic anchor -> URIs of resources that have it
        self._ambiguous: list[str] = []  # dynamic anchors of several resources
        self._value = value = self._load(text)
        self.draft = self._find_draft(value)  # 4, 6, 7, 2019 or 2020
        num_ids = len((_OLD_ID if self.draft == 4 else _ID).findall(text))
        self._has_ids = num_ids > 0
        self.root = self.schema(value, _ROOT, 0, "")
        self._resources[""] = self.root
        if num_ids == 1 and self.root.base and "nchor" not in text:
            self._resources[self.root.base] = self.root
        elif num_ids or "nchor" in text:
            self._register()
            self._ambiguous = [name for name, uris in self._dynamic.items() if len(uris) > 1]
            if self._ambiguous:
                self._schemas.clear()  # they have no scope yet
                self.root = self.at("")

    def schema(
        self, value: Json, place: Place, depth: int, base: str, scope: Scope = frozenset()
    ) -> Schema:
        """The one `Schema` of a place and scope; the scope is that of what leads there."""
        if self._has_ids:
            base = self._base(value, base)
        if self._ambiguous:
            scope = self._entered(scope, base)
        key = (id(value), scope) if scope else id(value)  # each place has a dict of its own
        found = self._schemas.get(key)
        if found is None:
            if isinstance(value, bool):
                return Schema(self, value, place, depth, base, scope)
            if not isinstance(value, dict):
                pointer = pointer_of_place(place)
                raise GrammarError(
                    "invalid_json_schema",
                    f"JSON Schema {pointer or '#'}: {json.dumps(value, default=str)[:80]} is not a "
                    "schema: an object or a boolean is needed",
                    pointer=pointer,
                )
            if depth > 2 * self._limits.spec_depth:
                pointer = pointer_of_place(place)
                raise GrammarError(
                    "grammar_too_complex",
                    f"JSON Schema {pointer[:80]}...: more than {self._limits.spec_depth} deep",
                    pointer=pointer,
                )
            kept = self._kept(value, place) if self.dropped else value
            found = Schema(self, kept, place, depth, base, scope)
            check_shape(found)
            self._schemas[key] = found
        return found

    def first(self, asked: Hashable, scope: Scope, make: Callable[[], Schema]) -> Schema:
        """The first schema that asks this; made where it is the first."""
        found = self._same.get((asked, scope))
        if found is None:
            found = self._same[asked, scope] = make()
            found.known_same = found
        return found

    def same(self, schema: Schema) -> Schema:
        """See `Schema.same`."""
        if isinstance(schema.value, bool) or self._nested >= MAX_ALIKE:
            return schema
        schema.known_same = schema  # for references back to it
        self._nested += 1
        try:
            found = self._find_same(schema)
        except GrammarError:  # where it is used, if it is
            found = schema
        self._nested -= 1
        schema.known_same = found
        return found

    def _find_same(self, schema: Schema) -> Schema:
        if "$ref" in schema.value:
            is_mere = schema.is_mere_reference()
            return self.resolve(schema, "$ref").same if is_mere else schema
        if self.dropped and "oneOf" in schema.value:
            return schema  # what it means depends on where it stands
        asked = schema.asks()
        if asked is None:
            return schema
        if not asked:
            place = (None, schema.pointer, None)
            return Schema(self, True, place, schema.depth, schema.base, schema.scope)
        return self.first(asked, schema.scope, lambda: schema)

    def _entered(self, scope: Scope, uri: str) -> Scope:
        """The scope inside of a resource: what is there already comes first."""
        known = {name for name, _ in scope}
        return scope | {
            (name, uri)
            for name in self._ambiguous
            if name not in known and uri in self._dynamic[name]
        }

    def _kept(self, value: dict[str, Json], place: Place) -> dict[str, Json]:
        """A schema without what is dropped of it."""
        pointer = pointer_of_place(place)
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

    def _identifier(self, value: Json) -> str | None:
        """What a schema says that its own URI is."""
        if not isinstance(value, dict) or (self.draft <= 7 and "$ref" in value):
            return None  # no schema; or siblings of $ref mean nothing there
        found = value.get("id" if self.draft == 4 else "$id")
        return found if isinstance(found, str) and found[:1] != "#" else None

    def _base(self, value: Json, base: str) -> str:
        identifier = self._identifier(value)
        return base if identifier is None else urldefrag(urljoin(base, identifier))[0]

    def _register(self) -> None:
        """Find every `$id` and anchor. An explicit stack: depth is the user's."""
        id_keyword = "id" if self.draft == 4 else "$id"
        todo: list[tuple[Json, str, _Trail | None]] = [(self._value, "", None)]
        while todo:
            value, base, trail = todo.pop()
            if not isinstance(value, dict):
                continue
            if id_keyword in value or not _ANCHORS.isdisjoint(value):
                pointer = _pointer(trail)
                schema = self.schema(value, (None, pointer, None), pointer.count("/"), base)
                self._register_one(schema, value.get(id_keyword))
                base = schema.base
            for keyword, part, below in subschemas(value):
                todo.append((below, base, (trail, keyword, part)))

    def _register_one(self, schema: Schema, identifier: Json) -> None:
        value = schema.value
        if self._identifier(value) is not None:
            self._resources.setdefault(schema.base, schema)
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

    def at(self, pointer: str, scope: Scope = frozenset()) -> Schema:
        """The schema at a JSON pointer; `KeyError` and its like where there is none."""
        value, base, path = self._value, "", ""
        for part in pointer.split("/")[1:]:
            if isinstance(value, dict):
                base = self._base(value, base)
            part = part.replace("~1", "/").replace("~0", "~")
            value = value[_index(part)] if isinstance(value, list) else value[part]
            path += f"/{escape(part)}"
        return self.schema(value, (None, path, None), path.count("/"), base, scope)

    def _walk(self, schema: Schema, keyword: str, resource: Schema, fragment: str) -> Schema:
        try:
            return self.at(resource.pointer + fragment)
        except (KeyError, ValueError, IndexError, TypeError):
            schema.invalid(keyword, f"{schema.get(keyword)!r}: there is no such place")


def _pointer(trail: _Trail | None) -> str:
    out = ""
    while trail is not None:
        trail, keyword, part = trail
        out = f"{place_below(keyword, part)}{out}"
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
