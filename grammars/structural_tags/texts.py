"""From what a structural tag says of texts and tokens to marks and free text."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from ramify.grammars.errors import GrammarError
from ramify.grammars.machine import Node
from ramify.grammars.structural_tags.fields import Fields, fault, unserved
from ramify.grammars.structural_tags.free_text import ENDED, FreeText, Jump, Stop
from ramify.grammars.structural_tags.marks import Mark, find_shortcuts
from ramify.grammars.structural_tags.nodes import OneOf, TextNode
from ramify.grammars.vocabulary import Vocabulary

MAX_STOPS = 1024  # triggers, ends and excluded texts of one free text
MAX_STOP_BYTES = 32_768  # of all of them
MAX_WIDE_EXCLUDES = 63  # fewer than the characters that differ in their last byte alone


class Around(NamedTuple):
    """What is around a format: the ends of the tag that it is in, and what follows it."""

    ends: tuple[Mark, ...] = ()  # none: it is in no tag
    is_last: bool = True  # nothing follows but one of the ends, which the format then reads itself

    @property
    def closes(self) -> bool:
        """Does the format read the tag's end?"""
        return self.is_last and bool(self.ends)

    @property
    def inner(self) -> "Around":
        """Of a part that others follow."""
        return self._replace(is_last=False)


class Section(NamedTuple):
    """What must follow a trigger in free text."""

    trigger: Mark
    node: Node
    at: str


class MarkReader:
    """Texts and tokens of one vocabulary, as marks."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._special = vocabulary.special_tokens

    def text(self, text: str, at: str) -> Mark:
        """A text, in which special tokens may stand for themselves."""
        encoded = _encoded(text, at)
        shortcuts = find_shortcuts(text, self._special)
        for token_id, start, end in shortcuts:
            if token_id in self._vocabulary.eos_token_ids:
                raise fault(
                    at,
                    f"{encoded[start:end].decode()!r} is the model's end-of-sequence token: leave "
                    "it out; the answer may end wherever the structure is complete",
                )
        return Mark(encoded, shortcuts)

    def token(self, token: Any, at: str) -> Mark:
        """One token by its number or its text; ordinary text where it is no special token."""
        vocabulary = self._vocabulary
        if isinstance(token, int) and not isinstance(token, bool):
            if not 0 <= token < len(vocabulary):
                raise fault(at, f"token {token}: there are {len(vocabulary)}")
            if token in vocabulary.eos_token_ids:
                raise fault(at, f"token {token} is the model's end-of-sequence token")
            text = vocabulary.text_tokens[token]
            if text is None:
                return Mark(b"", token_id=token)
            try:
                return self.text(text.decode(), at)
            except UnicodeDecodeError:
                raise unserved(at, f"token {token} is a part of a character: {text!r}") from None
        if not isinstance(token, str) or not token:
            raise fault(at, f"{token!r} is not a token: its number or its text is needed")
        mark = self.text(token, at)
        if token in self._special:
            return Mark(b"", token_id=self._special[token])
        return mark

    def either(self, value: Any, at: str) -> Mark:
        """A text, or a format of one token."""
        if isinstance(value, dict):
            fields = Fields(value, at)
            fields.constant("type", "token")
            mark = self.token(fields.take("token"), f"{at}/token")
            fields.finish()
            return mark
        if not isinstance(value, str):
            raise fault(at, f"{value!r} is not a string or a token")
        return self.text(value, at)

    def ends(self, value: Any, at: str) -> tuple[Mark, ...]:
        """A tag's ends; none for the empty text."""
        if not isinstance(value, list):
            return () if value == "" else (self.either(value, at),)
        if not value:
            raise fault(at, "is empty")
        for index, text in enumerate(value):
            if not isinstance(text, str) or (not text and len(value) > 1):
                raise fault(f"{at}/{index}", f"{text!r} is not a string of one character or more")
        return tuple(self.text(text, f"{at}/{index}") for index, text in enumerate(value) if text)


def free_text(
    around: Around,
    excluded: Sequence[tuple[str, str]],
    sections: Sequence[Section],
    at: str,
    *,
    loops: bool,
) -> Node:
    """Free text without the excluded texts (each with its pointer), and what interrupts it."""
    labels: dict[Mark, int] = {}
    nodes: list[list[Node]] = []
    for section in sections:
        if not section.trigger.text and section.trigger.token_id is None:
            raise fault(section.at, "is empty")
        if section.trigger not in labels:
            nodes.append([])
            labels[section.trigger] = len(nodes)
        nodes[labels[section.trigger] - 1].append(section.node)
    stops = [Stop(_encoded(text, pointer), None) for text, pointer in excluded]
    jumps: list[Jump] = []
    ends = dict.fromkeys(around.ends, ENDED if around.is_last else None)
    for mark, label in (*ends.items(), *labels.items()):
        if mark.token_id is None:
            stops.append(Stop(mark.text, label, mark.shortcuts))
        elif label is not None:
            jumps.append(Jump(mark.text, mark.token_id, label))
    _check_stops(stops, at)
    text = FreeText(stops, jumps, may_end=not around.closes, is_last=around.is_last)
    hidden = text.hidden_stop()
    if hidden is not None:
        never, before = (stop.text.decode() for stop in hidden)
        raise fault(at, f"{never!r} can never be met in free text: {before!r} always is before it")
    return TextNode(
        text,
        [options[0] if len(options) == 1 else OneOf(options) for options in nodes],
        loops=loops,
    )


def _check_stops(stops: list[Stop], at: str) -> None:
    wide = sum(stop.label is None and stop.text[-1] >= 0x80 for stop in stops)
    num_bytes = sum(len(stop.text) for stop in stops)
    if len(stops) > MAX_STOPS or num_bytes > MAX_STOP_BYTES or wide > MAX_WIDE_EXCLUDES:
        raise GrammarError(
            "grammar_too_complex",
            f"structural tag {at or '#'}: free text with {len(stops)} triggers, ends and excluded "
            f"texts of {num_bytes} bytes, {wide} of them excluded and ending beyond ASCII; at most "
            f"{MAX_STOPS}, {MAX_STOP_BYTES} and {MAX_WIDE_EXCLUDES} are served",
            pointer=at,
        )


def _encoded(text: str, at: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise fault(at, f"{text!r} holds half of a surrogate pair: no text can") from error
