"""The JSON of structural tags, as clients of SGLang, vLLM and xgrammar send it, as nodes.

Every format is checked by name: a field that is not known, or that asks for what is not served,
is an error with its JSON pointer.
"""

import json
from collections.abc import Callable
from typing import Any

from ramify.grammars.ebnf.nodes import EmptyOr
from ramify.grammars.errors import GrammarError
from ramify.grammars.json_schema.layout import Whitespace
from ramify.grammars.json_schema.objects import Order
from ramify.grammars.limits import Budget
from ramify.grammars.machine import Node
from ramify.grammars.spec import EbnfSpec, JsonSchemaSpec, PartSpec, RegexSpec
from ramify.grammars.structural_tags.built import (
    NOTHING,
    Built,
    Tag,
    closed,
    opening,
    read,
    sections_of,
    text_part,
)
from ramify.grammars.structural_tags.fields import Fields, fault, read_json, unserved
from ramify.grammars.structural_tags.marks import Marks
from ramify.grammars.structural_tags.nodes import InOrder, Loop, OneOf
from ramify.grammars.structural_tags.text_tables import prepare
from ramify.grammars.structural_tags.texts import Around, MarkReader, Section, free_text
from ramify.grammars.terminals import Terminal
from ramify.grammars.vocabulary import Vocabulary

MAX_DEPTH = 64
MAX_RUN = 32
Leaf = Callable[[PartSpec], Node | Terminal]  # a regex's terminal, or another grammar's node


Make = Callable[[Fields, Around], Built]


def build(text: str, vocabulary: Vocabulary, budget: Budget, leaf: Leaf) -> Node:
    """The node of a structural tag."""
    whole = Fields(read_json(text, budget), "")
    whole.constant("type", "structural_tag")
    builder = _Builder(vocabulary, budget, leaf)
    if "structures" in whole.given:
        node = builder.legacy(whole)
    else:
        node = builder.format(whole.take("format"), "/format", Around()).node
    whole.finish()
    prepare(vocabulary)
    return node


class _Builder:
    def __init__(self, vocabulary: Vocabulary, budget: Budget, leaf: Leaf) -> None:
        self._marks = MarkReader(vocabulary)
        self._budget = budget
        self._leaf = leaf
        self._closing: dict[str, Make] = {  # these read the end of the tag around themselves
            "any_text": self._any_text,
            "any_tokens": self._any_tokens,
            "sequence": self._sequence,
            "or": self._or,
            "optional": self._optional,
            "tag": self._tag,
            "triggered_tags": self._triggered_tags,
            "token_triggered_tags": self._token_triggered_tags,
            "dispatch": self._dispatch,
            "token_dispatch": self._token_dispatch,
        }
        self._others: dict[str, Make] = {
            "const_string": self._const_string,
            "json_schema": self._json_schema,
            "regex": self._regex,
            "grammar": self._grammar,
            "token": self._token,
            "tags_with_separator": self._tags_with_separator,
            "plus": self._plus,
            "star": self._star,
            "repeat": self._repeat,
        }

    def legacy(self, whole: Fields) -> Node:
        """`structures` and `triggers`, as before there were formats."""
        tags: list[Tag] = []
        for entry, at in whole.items("structures"):
            fields = Fields(entry, at)
            begin = self._marks.text(fields.text("begin"), f"{at}/begin")
            schema = self._schema(fields, "schema")
            ends = self._marks.ends(fields.text("end"), f"{at}/end")
            fields.finish()
            tags.append(Tag(begin, closed(schema, Around(ends)), at))
        return self._triggered(whole, tags, Around(), loops=True)

    def format(self, value: Any, at: str, around: Around) -> Built:
        """Any format."""
        self._budget.tick()
        if at.count("/") > 2 * MAX_DEPTH:
            raise GrammarError(
                "grammar_too_complex",
                f"structural tag {at[:80]}...: more than {MAX_DEPTH} formats deep",
                pointer=at,
            )
        fields = Fields(value, at)
        kind = fields.text("type")
        if kind in self._closing:
            built = self._closing[kind](fields, around)
        elif kind in self._others:
            built = closed(self._others[kind](fields, around.inner), around)
        else:
            allowed = ", ".join(sorted((*self._closing, *self._others)))
            raise unserved(f"{at}/type", f"{kind!r} is not served; these are: {allowed}")
        fields.finish()
        if built.run > MAX_RUN:
            raise GrammarError(
                "grammar_too_complex",
                f"structural tag {at or '#'}: too many parts in a row that may be empty",
                pointer=at,
            )
        return built

    # -- formats of one piece

    def _const_string(self, fields: Fields, around: Around) -> Built:
        mark = self._marks.text(fields.text("value"), f"{fields.at}/value")
        return Built(read(Marks([(mark,)])), not mark.text)

    def _token(self, fields: Fields, around: Around) -> Built:
        mark = self._marks.token(fields.take("token"), f"{fields.at}/token")
        return Built(read(Marks([(mark,)])), False)

    def _json_schema(self, fields: Fields, around: Around) -> Built:
        style = fields.text("style", "json")
        if style != "json":
            raise unserved(f"{fields.at}/style", f"{style!r} is not served; 'json' is")
        is_any_order = fields.flag("any_order")
        blanks = fields.number("max_whitespace_cnt", None)
        fields.unserved("excludes", [])
        whitespace: Whitespace = "flexible"
        if blanks is not None:
            whitespace = "spaced" if blanks else "compact"
        order: Order = "any" if is_any_order else "schema"
        return self._schema(fields, "json_schema", order, whitespace)

    def _schema(
        self,
        fields: Fields,
        name: str,
        order: Order = "schema",
        whitespace: Whitespace = "flexible",
    ) -> Built:
        value = fields.take(name)
        text = value if isinstance(value, str) else json.dumps(value)
        node = self._made(JsonSchemaSpec(text, order, whitespace), f"{fields.at}/{name}")
        assert not isinstance(node, Terminal)
        return Built(node, False)

    def _regex(self, fields: Fields, around: Around) -> Built:
        terminal = self._made(RegexSpec(fields.text("pattern")), f"{fields.at}/pattern")
        assert isinstance(terminal, Terminal)
        return Built(read(terminal), terminal.label(terminal.start) is not None)

    def _grammar(self, fields: Fields, around: Around) -> Built:
        node = self._made(EbnfSpec(fields.text("grammar")), f"{fields.at}/grammar")
        assert not isinstance(node, Terminal)
        return Built(node, isinstance(node, EmptyOr))

    def _made(self, spec: PartSpec, at: str) -> Node | Terminal:
        """A grammar of another kind; its errors say where in the structural tag it is."""
        try:
            return self._leaf(spec)
        except GrammarError as error:
            raise GrammarError(
                error.code,
                f"{at}: {error.message}",
                offset=error.offset,
                pointer=at + (error.pointer or ""),
            ) from error

    # -- free text

    def _any_text(self, fields: Fields, around: Around) -> Built:
        fields.unserved("max_tokens", None)
        fields.unserved("max_chars", None)
        excluded = fields.texts("excludes", [])
        return text_part(free_text(around, excluded, (), fields.at, loops=False), around)

    def _any_tokens(self, fields: Fields, around: Around) -> Built:
        fields.unserved("max_tokens", None)
        self._exclude_tokens(fields)
        return text_part(free_text(around, (), (), fields.at, loops=False), around)

    def _triggered_tags(self, fields: Fields, around: Around) -> Built:
        loops = not fields.flag("stop_after_first")
        is_needed = fields.flag("at_least_one")
        tags = self._tags(fields, around.inner if loops else around)
        if is_needed and not loops:
            self._triggered(fields, tags, around.inner, loops=False)  # for its checks
            return Built(opening(tags), False)
        text = self._triggered(fields, tags, around, loops=loops)
        return (
            Built(InOrder([opening(tags), text]), False) if is_needed else text_part(text, around)
        )

    def _triggered(self, fields: Fields, tags: list[Tag], around: Around, *, loops: bool) -> Node:
        """Free text with tags that triggers begin."""
        triggers = [self._marks.text(text, at) for text, at in fields.texts("triggers")]
        for tag in tags:
            met = [trigger for trigger in triggers if tag.begin.text.startswith(trigger.text)]
            if tag.begin.token_id is not None or len(met) != 1:
                raise fault(
                    f"{tag.at}/begin",
                    f"begins with {len(met)} of the triggers; a tag's begin is a text that begins "
                    "with exactly one of them",
                )
        sections: list[Section] = []
        for index, trigger in enumerate(triggers):
            at = f"{fields.at}/triggers/{index}"
            begun = [tag for tag in tags if tag.begin.text.startswith(trigger.text)]
            if not begun:
                raise fault(at, f"no tag begins with the trigger {trigger.text.decode()!r}")
            sections += sections_of(trigger, begun, at)
        excluded = fields.texts("excludes", []) if "structures" not in fields.given else []
        return free_text(around, excluded, sections, fields.at, loops=loops)

    def _token_triggered_tags(self, fields: Fields, around: Around) -> Built:
        loops = not fields.flag("stop_after_first")
        is_needed = fields.flag("at_least_one")
        tags = self._tags(fields, around.inner if loops else around)
        triggers = [self._marks.token(token, at) for token, at in fields.items("trigger_tokens")]
        self._exclude_tokens(fields)
        for tag in tags:
            if tag.begin not in triggers:
                raise fault(f"{tag.at}/begin", "is not one of the trigger_tokens")
        sections: list[Section] = []
        for index, trigger in enumerate(triggers):
            at = f"{fields.at}/trigger_tokens/{index}"
            begun = [tag.rest.node for tag in tags if tag.begin == trigger]
            if not begun:
                raise fault(at, "no tag begins with this trigger")
            sections.append(Section(trigger, OneOf(begun), at))
        if is_needed and not loops:
            return Built(opening(tags), False)
        text = free_text(around, (), sections, fields.at, loops=loops)
        return (
            Built(InOrder([opening(tags), text]), False) if is_needed else text_part(text, around)
        )

    def _dispatch(self, fields: Fields, around: Around) -> Built:
        loops = fields.flag("loop", default=True)
        sections: list[Section] = []
        for pattern, value, at in fields.rules():
            if not isinstance(pattern, str):
                raise fault(f"{at}/0", f"{pattern!r} is not a string")
            content = self.format(value, f"{at}/1", around.inner if loops else around)
            sections.append(Section(self._marks.text(pattern, f"{at}/0"), content.node, f"{at}/0"))
        excluded = fields.texts("excludes", [])
        return text_part(free_text(around, excluded, sections, fields.at, loops=loops), around)

    def _token_dispatch(self, fields: Fields, around: Around) -> Built:
        loops = fields.flag("loop", default=True)
        self._exclude_tokens(fields)
        sections: list[Section] = []
        for token, value, at in fields.rules():
            content = self.format(value, f"{at}/1", around.inner if loops else around)
            sections.append(Section(self._marks.token(token, f"{at}/0"), content.node, f"{at}/0"))
        return text_part(free_text(around, (), sections, fields.at, loops=loops), around)

    def _exclude_tokens(self, fields: Fields) -> None:
        """Special tokens are never in free text; the others cannot be left out one by one."""
        for token, at in fields.items("exclude_tokens", default=[]):
            if self._marks.token(token, at).token_id is None:
                raise unserved(at, f"token {token!r} is ordinary text; exclude texts by any_text")

    # -- tags

    def _tag(self, fields: Fields, around: Around) -> Built:
        tag = self._tag_of(fields, around)
        is_empty = not tag.begin.text and tag.begin.token_id is None
        return tag.rest if is_empty else Built(opening([tag]), False, tag.rest.run)

    def _tags(self, fields: Fields, around: Around) -> list[Tag]:
        tags: list[Tag] = []
        for value, at in fields.items("tags"):
            inner = Fields(value, at)
            inner.constant("type", "tag", default="tag")
            tags.append(self._tag_of(inner, around))
            inner.finish()
        return tags

    def _tag_of(self, fields: Fields, around: Around) -> Tag:
        begin = self._marks.either(fields.take("begin"), f"{fields.at}/begin")
        ends = self._marks.ends(fields.take("end"), f"{fields.at}/end")
        inside = Around(ends) if ends else around
        content = self.format(fields.take("content"), f"{fields.at}/content", inside)
        rest = closed(Built(content.node, False, content.run), around) if ends else content
        return Tag(begin, rest, fields.at)

    def _tags_with_separator(self, fields: Fields, around: Around) -> Built:
        is_needed = fields.flag("at_least_one")
        high = 1 if fields.flag("stop_after_first") else None
        separator = self._marks.text(fields.text("separator"), f"{fields.at}/separator")
        tags = self._tags(fields, around.inner)
        for tag in tags:
            if not tag.begin.text and tag.begin.token_id is None and tag.rest.may_be_empty:
                raise fault(tag.at, "may be empty: give it a begin or an end")
        between = Marks([(separator,)]) if separator.text else None
        loop = Loop(opening(tags), int(is_needed), high, between)
        return Built(loop, not is_needed)

    # -- formats of several pieces

    def _sequence(self, fields: Fields, around: Around) -> Built:
        values = fields.items("elements")
        parts = [self.format(value, at, around.inner) for value, at in values[:-1]]
        parts.append(self.format(*values[-1], around))
        return Built(
            InOrder([part.node for part in parts]),
            all(part.may_be_empty for part in parts),
            sum(part.weight for part in parts),
        )

    def _or(self, fields: Fields, around: Around) -> Built:
        options = [self.format(value, at, around) for value, at in fields.items("elements")]
        return Built(
            OneOf([option.node for option in options]),
            any(option.may_be_empty for option in options),
            max(option.weight for option in options),
        )

    def _optional(self, fields: Fields, around: Around) -> Built:
        content = self.format(fields.take("content"), f"{fields.at}/content", around)
        nothing = closed(Built(NOTHING, True), around)
        return Built(OneOf([content.node, nothing.node]), True, content.weight + 1)

    def _plus(self, fields: Fields, around: Around) -> Built:
        return self._loop(fields, around, 1, None)

    def _star(self, fields: Fields, around: Around) -> Built:
        return self._loop(fields, around, 0, None)

    def _repeat(self, fields: Fields, around: Around) -> Built:
        low, high = fields.number("min"), fields.number("max")
        if low is None or high is None or low < 0 or high < -1 or 0 <= high < low:
            raise fault(
                f"{fields.at}/max",
                f"min={low}, max={high}: 0 <= min <= max is needed; max=-1 means no end",
            )
        return self._loop(fields, around, low, None if high == -1 else high)

    def _loop(self, fields: Fields, around: Around, low: int, high: int | None) -> Built:
        body = self.format(fields.take("content"), f"{fields.at}/content", around.inner)
        if body.may_be_empty:
            raise unserved(
                f"{fields.at}/content",
                "what is repeated may be empty; let it match one character at least",
            )
        return Built(Loop(body.node, low, high, None), low == 0, body.weight + 1)
