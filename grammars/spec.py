"""What a grammar can be written as. Plain values: hashable, so that one spec is compiled once."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RegexSpec:
    """The whole text matches a pattern in the syntax of Python's `re` (as `re.fullmatch`)."""

    pattern: str


@dataclass(frozen=True, slots=True)
class ChoicesSpec:
    """The text is one of these."""

    choices: tuple[str, ...]


GrammarSpec = RegexSpec | ChoicesSpec
