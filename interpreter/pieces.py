"""What a state is made of, and its three readings: prompt, text and messages.

A piece is constant text, a mark where a chat message begins or ends, or a call that the model
answers. An answer enters the prompt as the tokens it was generated as: nothing is encoded twice.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Union

from ramify.lang.chat import ChatTemplate
from ramify.lang.protocol import Prompt, Segment, TextSegment, TokenSegment

if TYPE_CHECKING:
    from ramify.interpreter.call import Call


class RoleMark(NamedTuple):
    """Where a message begins or ends; `roles` are those of all messages up to this one."""

    roles: tuple[str, ...]
    begins: bool
    is_generated: bool = True  # where one begins: may the model speak in it?

    def text(self, template: ChatTemplate) -> str:
        """What the model's chat template writes here."""
        if self.begins:
            return template.opening(self.roles, is_generated=self.is_generated)
        return template.closing(self.roles)


Piece = Union[str, RoleMark, "Call"]


def needs_template(pieces: Iterable[Piece]) -> bool:
    """Whether the pieces can only be read with the model's chat template."""
    return any(isinstance(piece, RoleMark) for piece in pieces)


def piece_text(piece: Piece, template: ChatTemplate | None) -> str:
    """The text of one piece; a call must be finished, a mark needs the template."""
    if isinstance(piece, str):
        return piece
    if isinstance(piece, RoleMark):
        assert template is not None, "role marks are read with the template"
        return piece.text(template)
    return piece.text


def text_of(pieces: Iterable[Piece], template: ChatTemplate | None) -> str:
    """The pieces as one text."""
    return "".join(piece_text(piece, template) for piece in pieces)


def prompt_of(pieces: Sequence[Piece], template: ChatTemplate | None) -> Prompt:
    """The pieces as a prompt: all text between two answers is one segment."""
    segments: list[Segment] = []
    text: list[str] = []
    for piece in pieces:
        if isinstance(piece, str | RoleMark):
            text.append(piece_text(piece, template))
            continue
        if not piece.token_ids:
            text.append(piece.tail)
            continue
        _flush(text, segments)
        segments.append(TokenSegment(piece.token_ids))
        text.append(piece.tail)
    _flush(text, segments)
    return tuple(segments)


def messages_of(pieces: Iterable[Piece]) -> list[dict[str, str]]:
    """The chat messages; the open one, if any, is the last. Text outside messages is not in it."""
    messages: list[dict[str, str]] = []
    is_open = False
    for piece in pieces:
        if isinstance(piece, RoleMark):
            is_open = piece.begins
            if is_open:
                messages.append({"role": piece.roles[-1], "content": ""})
        elif is_open:
            messages[-1]["content"] += piece_text(piece, None)
    return messages


def _flush(text: list[str], segments: list[Segment]) -> None:
    joined = "".join(text)
    text.clear()
    if joined:
        segments.append(TextSegment(joined))
