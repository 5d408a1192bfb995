"""A subschema in its place, and when two of them mean the same."""

from collections.abc import Hashable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

from ramify.grammars.errors import GrammarError

if TYPE_CHECKING:  # a schema and its document know each other
    from ramify.grammars.json_schema.document import Document

Json = Any  # what json.loads gives, with Decimal for numbers that have a fraction or an exponent
Scope = frozenset[tuple[str, str]]  # (anchor, URI of the resource that a dynamic one leads to)
Part = str | int | None  # name or index of a subschema under a keyword; None: right under it
Place = tuple["Schema | None", str, Part]  # the schema above and where in it; None: a pointer

_ONE, _LIST, _MAP = "one", "list", "map"  # what subschemas may stand in
_SUBSCHEMAS = {
    "additionalItems": (_ONE,),
    "additionalProperties": (_ONE,),
    "contains": (_ONE,),
    "contentSchema": (_ONE,),
    "else": (_ONE,),
    "if": (_ONE,),
    "items": (_ONE, _LIST),
    "not": (_ONE,),
    "propertyNames": (_ONE,),
    "then": (_ONE,),
    "unevaluatedItems": (_ONE,),
    "unevaluatedProperties": (_ONE,),
    "allOf": (_LIST,),
    "anyOf": (_LIST,),
    "oneOf": (_LIST,),
    "prefixItems": (_LIST,),
    "$defs": (_MAP,),
    "definitions": (_MAP,),
    "dependencies": (_MAP,),
    "dependentSchemas": (_MAP,),
    "patternProperties": (_MAP,),
    "properties": (_MAP,),
}
NO_MEANING = frozenset(("$comment", "default", "deprecated", "description", "examples", "title"))
_NO_MEANING_HERE = NO_MEANING | {"$defs", "$schema", "definitions"}  # where they stand
_PLAIN = frozenset(  # keywords that have no subschemas
    [
        *("type", "enum", "const", "format", "pattern", "minLength", "maxLength", "multipleOf"),
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minItems", "maxItems"),
        *("uniqueItems", "minContains", "maxContains", "minProperties", "maxProperties"),
        *("required", "dependentRequired"),
    ]
)


class Schema:
    """A subschema in its place. Compared by identity: the document makes each place once."""

    __slots__ = (
        "_below",
        "_pointer",
        "asked",
        "base",
        "depth",
        "document",
        "known_same",
        "place",
        "scope",
        "value",
    )

    def __init__(
        self, document: "Document", value: Json, place: Place, depth: int, base: str, scope: Scope
    ) -> None:
        self.document = document
        self.value = value  # a dict or a bool
        self.place = place
        self._pointer: str | None = None
        self.depth = depth  # parts of its pointer
        self.base = base  # URI that its references are relative to
        self.scope = scope  # of anchors that are dynamic in several resources
        self._below: dict[tuple[str, Part], Schema] = {}
        self.known_same: Schema | None = None
        self.asked: Any = None  # by a value that satisfies it; kept by `facts.satisfying`

    def __repr__(self) -> str:
        return f"Schema({self.pointer or '#'})"

    @property
    def pointer(self) -> str:
        """The JSON pointer of its place: mostly for errors, so it is made when asked for."""
        if self._pointer is None:
            self._pointer = pointer_of_place(self.place)
        return self._pointer

    def get(self, keyword: str, default: Json = None) -> Json:
        """A keyword's value."""
        return self.value.get(keyword, default)

    def child(self, keyword: str, part: Part = None) -> "Schema":
        """The subschema under a keyword."""
        value = self.value[keyword]
        depth = self.depth + 1
        if part is not None:
            value = value[part]
            depth += 1
        return self.document.schema(value, (self, keyword, part), depth, self.base, self.scope)

    def children(self) -> "Iterator[tuple[str, Schema]]":
        """The subschemas right below, each with the keyword that it is of."""
        for keyword, part, _ in subschemas(self.value):
            yield keyword, self.child(keyword, part)

    def below(self, keyword: str, part: Part = None) -> "Schema":
        """The one schema of those that mean the same as what is under a keyword."""
        found = self._below.get((keyword, part))
        if found is None:
            value = self.value[keyword] if part is None else self.value[keyword][part]
            asked = None
            if isinstance(value, dict) and not self.document.dropped:
                asked = _plainly_asked(value)
            if asked:  # then there is no need of a Schema for each place
                found = self.document.first(asked, self.scope, lambda: self.child(keyword, part))
            else:
                found = self.child(keyword, part).same
            self._below[keyword, part] = found
        return found

    @property
    def same(self) -> "Schema":
        """One schema for many that mean the same: what a mere reference leads to; or the first
        that asks the same."""
        found = self.known_same
        return self.document.same(self) if found is None else found

    def is_mere_reference(self) -> bool:
        """Is nothing that means anything beside its `$ref`?"""
        return self.document.draft <= 7 or self.value.keys() - {"$ref"} <= _NO_MEANING_HERE

    def asks(self) -> Hashable | None:
        """Equal for schemas that mean the same; () if it asks nothing, None if there is no
        telling."""
        out: list[Hashable] = []
        for keyword, part in self.value.items():
            if keyword in _PLAIN:
                out += (keyword, part if isinstance(part, str) else (repr(part),))
            elif keyword not in _NO_MEANING_HERE:
                below = self._asked_below(keyword, part)
                if below is None:
                    return None
                out += (keyword, below)
        return tuple(out)

    def _asked_below(self, keyword: str, value: Json) -> Hashable | None:
        shapes = _SUBSCHEMAS.get(keyword, ())
        if isinstance(value, bool) and _ONE in shapes:
            return value
        if isinstance(value, dict) and _ONE in shapes:
            return self.below(keyword)
        if isinstance(value, list) and _LIST in shapes:
            parts = [(at, item) for at, item in enumerate(value)]
        elif isinstance(value, dict) and _MAP in shapes:
            parts = list(value.items())
        else:
            return None
        out: list[Hashable] = [keyword]
        for part, item in parts:
            if isinstance(item, dict):
                out += (part, self.below(keyword, part))
            elif isinstance(item, bool):
                out += (part, item)
            else:
                return None
        return tuple(out)

    def note_pattern(self, keyword: str, pattern: str) -> None:
        """Remember where a pattern stands, for its errors."""
        self.document.patterns.setdefault(pattern, (self, keyword))

    def is_relaxed(self, keyword: str) -> bool:
        """May a keyword of this schema be enforced less than exactly?"""
        dropped = self.document.dropped
        return bool(dropped) and (self.pointer, keyword) in dropped

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


def _plainly_asked(value: dict[str, Json]) -> Hashable | None:
    """As `Schema.asks`, where it has no subschemas."""
    out: list[Hashable] = []
    for keyword, part in value.items():
        if keyword in _PLAIN:
            out += (keyword, part if isinstance(part, str) else (repr(part),))
        elif keyword not in NO_MEANING:
            return None
    return tuple(out)


def subschemas(value: Json) -> Iterator[tuple[str, Part, Json]]:
    """What stands right below a schema as a schema: keyword, part, the dict or boolean."""
    for keyword, below in value.items():
        shapes = _SUBSCHEMAS.get(keyword)
        if shapes is None:
            continue
        if _ONE in shapes and isinstance(below, (dict, bool)):
            yield keyword, None, below
        elif _LIST in shapes and isinstance(below, list):
            for index, item in enumerate(below):
                if isinstance(item, (dict, bool)):
                    yield keyword, index, item
        elif _MAP in shapes and isinstance(below, dict):
            for name, item in below.items():
                if isinstance(item, (dict, bool)):
                    yield keyword, name, item


def pointer_of_place(place: Place) -> str:
    """A place as a JSON pointer."""
    out = ""
    above, keyword, part = place
    while above is not None:
        out = place_below(keyword, part) + out
        above, keyword, part = above.place
    return keyword + out


def place_below(keyword: str, part: Part) -> str:
    """As the end of a JSON pointer."""
    if part is None:
        return f"/{escape(keyword)}"
    return f"/{escape(keyword)}/{escape(part) if isinstance(part, str) else part}"


def escape(part: str) -> str:
    """A name as one part of a JSON pointer."""
    return part.replace("~", "~0").replace("/", "~1") if "~" in part or "/" in part else part
