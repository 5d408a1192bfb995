"""`strict=False`: what cannot be enforced exactly is left out, so that nothing valid is refused.

Leaving out a keyword widens its schema, and so every schema above it, unless there is a `not`,
`oneOf`, `if` or `maxContains` in between: there that keyword is left out instead (of oneOf, that
only one branch may hold). What is evaluated shrinks with it, so `unevaluated*` goes first.
"""

from collections.abc import Callable, Iterable, Iterator

from ramify.grammars.errors import GrammarError, Relaxed
from ramify.grammars.json_schema.context import ValueNode
from ramify.grammars.json_schema.document import Document
from ramify.grammars.json_schema.schema import Schema
from ramify.grammars.limits import Limits

MAX_RELAXED = 256  # keywords of one schema
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_IN_PLACE = frozenset(("allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas"))
_UNEVALUATED = ("unevaluatedProperties", "unevaluatedItems")
_NO_PLACE = frozenset(("$defs", "definitions", "contentSchema"))  # schemas that are not applied
_BESIDE = {"patternProperties": ("additionalProperties",)}  # says which members these are about
_EVALUATES_NOTHING = frozenset(
    [
        *("format", "pattern", "minLength", "maxLength", "uniqueItems", "minItems", "maxItems"),
        *("multipleOf", "not", "oneOf", "propertyNames", "minProperties", "maxProperties"),
        *("dependentRequired", *_UNEVALUATED),
    ]
)
# of a schema that is too complex as a whole, what to leave out first
_COSTLY = (
    *("not", "oneOf", "if", *_UNEVALUATED, "dependentSchemas", "dependencies", "dependentRequired"),
    *("uniqueItems", "contains", "propertyNames", "patternProperties", "multipleOf", "pattern"),
    *("format", "minLength", "maxLength", "minItems", "maxItems", "minProperties"),
    *("maxProperties", "anyOf", "allOf", *_REFERENCES),
)


def relaxed_root(
    text: str, limits: Limits, build: Callable[[Document], ValueNode]
) -> tuple[ValueNode, tuple[Relaxed, ...]]:
    """The root's node, and what is left out so that it can be made."""
    relaxed: dict[tuple[str, str], str] = {}
    while True:
        document = Document(text, limits, frozenset(relaxed))
        try:
            root = build(document)
        except GrammarError as error:
            found = _Relaxation(document).of_error(error)
            if not found or len(relaxed) >= MAX_RELAXED:
                raise
            relaxed |= dict.fromkeys(found, error.message)
            continue
        return root, tuple(Relaxed(*place, why) for place, why in relaxed.items())


class _Relaxation:
    """What to leave out of a document that was refused."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._above: dict[Schema, list[tuple[Schema, str]]] = {document.root: []}
        self._widening: dict[Schema, None] = {}  # schemas that widen the document as they widen
        self._scan()

    def of_error(self, error: GrammarError) -> dict[tuple[str, str], None]:
        """(Pointer, keyword) pairs to leave out; none where that cannot help."""
        if error.pointer is None or error.code not in (
            *("unsupported_keyword", "unsupported_regex", "grammar_too_complex"),
        ):
            return {}
        parent, _, keyword = error.pointer.rpartition("/")
        named = self._at(parent) if error.pointer else None
        if named is not None and keyword in _COSTLY and keyword in named.value:
            return self._drop(named, keyword)
        starts = filter(None, map(self._at, (error.pointer, *error.beside)))
        same_value = list(self._in_place(starts))
        for keyword in _COSTLY:
            for schema in same_value:
                if keyword in schema.value and not schema.is_relaxed(keyword):
                    return self._drop(schema, keyword)
        return {}

    def _at(self, pointer: str) -> Schema | None:
        try:
            found = self._document.at(pointer)
        except (KeyError, ValueError, IndexError, TypeError, GrammarError):
            return None
        return None if isinstance(found.value, bool) else found

    def _below(self, schema: Schema) -> Iterator[tuple[str, Schema]]:
        """Schemas that this one applies, by keyword."""
        if isinstance(schema.value, bool):
            return
        for keyword, child in schema.children():
            if keyword not in _NO_PLACE:
                yield keyword, child
        for keyword in _REFERENCES:
            if keyword in schema.value:
                try:
                    yield keyword, self._document.resolve(schema, keyword)
                except GrammarError:
                    continue  # refused where it is used

    def _scan(self) -> None:
        todo = [self._document.root]
        while todo:
            schema = todo.pop()
            for keyword, child in self._below(schema):
                if child not in self._above:
                    self._above[child] = []
                    todo.append(child)
                self._above[child].append((schema, keyword))
        todo = [self._document.root]
        while todo:
            schema = todo.pop()
            if schema not in self._widening:
                self._widening[schema] = None
                todo += [
                    child
                    for keyword, child in self._below(schema)
                    if not _may_narrow(schema, keyword)
                ]

    def _drop(self, schema: Schema, keyword: str) -> dict[tuple[str, str], None]:
        """Leave out a keyword, or what keeps that from widening the whole."""
        if keyword not in _EVALUATES_NOTHING:
            unevaluated = [
                (other, name) for other in self._above for name in _UNEVALUATED if _has(other, name)
            ]
            if unevaluated:
                return self._widened(unevaluated)
        dropped = [(schema, name) for name in (keyword, *_BESIDE.get(keyword, ()))]
        return self._widened([(schema, name) for schema, name in dropped if _has(schema, name)])

    def _widened(self, places: Iterable[tuple[Schema, str]]) -> dict[tuple[str, str], None]:
        out: dict[tuple[str, str], None] = {}
        for schema, keyword in places:
            narrowing = self._narrowing_above(schema)
            for above, name in narrowing or [(schema, keyword)]:
                out[above.pointer, name] = None
        return out

    def _narrowing_above(self, schema: Schema) -> list[tuple[Schema, str]]:
        """The outermost keywords under which a wider schema makes the document narrower."""
        found: list[tuple[Schema, str]] = []
        seen = {each for each in self._above if each.pointer == schema.pointer}
        todo = list(seen)
        while todo:
            for above, keyword in self._above.get(todo.pop(), ()):
                if _may_narrow(above, keyword) and above in self._widening:
                    found.append((above, keyword))
                if above not in seen:
                    seen.add(above)
                    todo.append(above)
        return found

    def _in_place(self, starts: Iterable[Schema]) -> Iterator[Schema]:
        """Schemas about the same value, those named first."""
        seen = dict.fromkeys(starts)
        todo = list(seen)
        while todo:
            schema = todo.pop(0)
            yield schema
            for keyword, child in self._below(schema):
                is_in_place = keyword in _IN_PLACE or keyword in _REFERENCES
                if is_in_place and child not in seen and not isinstance(child.value, bool):
                    seen[child] = None
                    todo.append(child)


def _has(schema: Schema, keyword: str) -> bool:
    return not isinstance(schema.value, bool) and keyword in schema.value


def _may_narrow(schema: Schema, keyword: str) -> bool:
    """May a wider subschema under this keyword make the schema narrower?"""
    if keyword == "contains":
        return "maxContains" in schema.value
    return keyword in ("not", "if") or (keyword == "oneOf" and not schema.is_relaxed("oneOf"))
