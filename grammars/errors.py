"""Errors of the grammar engine.

    GrammarError (ValueError)    the spec cannot be compiled, or a machine outgrew its limits

`code` says which kind, `offset` (regex, EBNF) or `pointer` (JSON Schema, structural tags) where.
"""

from typing import Literal, NamedTuple, get_args

Code = Literal[
    "invalid_regex",
    "unsupported_regex",
    "invalid_json_schema",
    "unsupported_keyword",
    "unsatisfiable_schema",
    "invalid_grammar",
    "invalid_structural_tag",
    "grammar_too_complex",
]
CODES: tuple[Code, ...] = get_args(Code)


class GrammarError(ValueError):
    """A spec that cannot be served exactly; the message says what, where and what to do."""

    def __init__(
        self,
        code: Code,
        message: str,
        *,
        offset: int | None = None,
        pointer: str | None = None,
        beside: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.code: Code = code
        self.message = message
        self.offset = offset  # character of the pattern or grammar text, from 0
        self.pointer = pointer  # JSON pointer into the schema: "/properties/a/not"
        self.beside = beside  # pointers of other schemas that the same value has to satisfy


class Relaxed(NamedTuple):
    """A keyword of a schema that is not enforced, where the spec allows that (`strict=False`)."""

    pointer: str  # JSON pointer of the schema: "/properties/a"
    keyword: str
    why: str


def caret(text: str, offset: int, width: int = 60) -> str:
    """Two lines: the text around `offset`, and a caret under that character."""
    start = text.rfind("\n", 0, offset) + 1
    end = text.find("\n", offset)
    line = text[start : end if end >= 0 else len(text)]
    column = offset - start
    cut = max(0, column - width // 2)
    return f"{line[cut : cut + width]}\n{' ' * (column - cut)}^"
