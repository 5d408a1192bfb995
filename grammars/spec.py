"""What a grammar can be written as. Plain values: hashable, so that one spec is compiled once."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class RegexSpec:
    """The whole text matches a pattern in the syntax of Python's `re` (as `re.fullmatch`)."""

    pattern: str


@dataclass(frozen=True, slots=True)
class ChoicesSpec:
    """The text is one of these."""

    choices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JsonSchemaSpec:
    """JSON that satisfies a JSON Schema (draft 2020-12, or an older one by its `$schema`)."""

    schema: str  # as JSON text
    order: Literal["schema", "any"] = "schema"  # of members: others last; or any
    whitespace: Literal["flexible", "compact", "spaced"] = "flexible"  # bounded; none; json.dumps
    formats: bool = True  # is `format` a constraint?
    strict: bool = True  # refuse what cannot be enforced exactly? Else relax it, and say so


@dataclass(frozen=True, slots=True)
class AnyJsonSpec:
    """Any JSON value; `object_only`: any JSON object."""

    object_only: bool = False
    whitespace: Literal["flexible", "compact", "spaced"] = "flexible"


@dataclass(frozen=True, slots=True)
class EbnfSpec:
    """A text of a context-free grammar."""

    grammar: str
    syntax: Literal["auto", "gbnf", "lark"] = "auto"  # auto: gbnf where there is a "::="
    start: str | None = None  # the first rule: "root" in gbnf, "start" in lark


PartSpec = RegexSpec | ChoicesSpec | JsonSchemaSpec | AnyJsonSpec | EbnfSpec


@dataclass(frozen=True, slots=True)
class StructuralTagSpec:
    """Free text with sections that grammars hold, in the JSON of xgrammar's structural tags."""

    tag: str  # {"type": "structural_tag", "format": ...}, or with "structures" and "triggers"


GrammarSpec = PartSpec | StructuralTagSpec
