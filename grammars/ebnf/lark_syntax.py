"""Grammars in Lark's syntax: lark itself reads them; its parsers are not used.

Priorities only order lark's trees, not its language, and are left out. What `%ignore` names may
stand before every terminal and at the end. A lookaround sees the text of its own terminal only.
"""

import re
from typing import Any

from ramify.grammars import regex_syntax
from ramify.grammars.ebnf.items import Alt, Item, Leaf, Many, Ref, Seq, text_leaf
from ramify.grammars.errors import GrammarError
from ramify.grammars.limits import Budget

_WHOLE = "(whole)"
_IMPORT = re.compile(r"^\s*%import\s+(\.*\w*)", re.MULTILINE)
_LIBRARIES = ("common", "lark", "python", "unicode")


def parse(text: str, start: str, budget: Budget) -> tuple[dict[str, Item], str]:
    """Rules by name, and the name of the one to start with: `start`, or one made of it."""
    try:
        import lark
    except ImportError as error:
        raise GrammarError(
            "invalid_grammar", "grammars in Lark's syntax need the package 'lark': pip install lark"
        ) from error
    for found in _IMPORT.finditer(text):
        if found[1] not in _LIBRARIES:  # lark would look for a file
            raise GrammarError(
                "invalid_grammar",
                f"grammar: cannot import from {found[1]!r}; lark's own {', '.join(_LIBRARIES)} can "
                "be imported from",
                offset=found.start(1),
            )
    try:
        grammar = lark.Lark(
            text, start=start, parser="earley", lexer="dynamic", maybe_placeholders=False
        )
    except lark.exceptions.UnexpectedInput as error:
        raise GrammarError(
            "invalid_grammar", f"grammar: {error}", offset=error.pos_in_stream
        ) from error
    except (lark.exceptions.LarkError, OSError) as error:
        raise GrammarError("invalid_grammar", f"grammar: {error}") from error
    defined = {terminal.name for terminal in grammar.terminals}
    for rule in grammar.rules:
        for symbol in rule.expansion:
            if symbol.is_term and symbol.name not in defined:
                raise GrammarError(
                    "invalid_grammar",
                    f"grammar: terminal {symbol.name!r} is declared, not defined: there is no text",
                )
    terminals = {terminal.name: _terminal(terminal.pattern) for terminal in grammar.terminals}
    ignored = tuple(terminals[name] for name in grammar.ignore_tokens)
    blank: Item | None = Many(Alt(ignored), 0, None) if ignored else None
    options: dict[str, list[Item]] = {}
    for rule in grammar.rules:
        budget.tick()
        parts: list[Item] = []
        for symbol in rule.expansion:
            if symbol.is_term:
                parts += (
                    [terminals[symbol.name]] if blank is None else [blank, terminals[symbol.name]]
                )
            else:
                parts.append(Ref(str(symbol.name)))
        options.setdefault(str(rule.origin.name), []).append(Seq(tuple(parts)))
    rules: dict[str, Item] = {
        name: ways[0] if len(ways) == 1 else Alt(tuple(ways)) for name, ways in options.items()
    }
    if blank is None:
        return rules, start
    rules[_WHOLE] = Seq((Ref(start), blank))
    return rules, _WHOLE


def _terminal(pattern: Any) -> Item:  # lark's PatternStr or PatternRE: lark is imported late
    value = str(pattern.value)
    letters = "".join(pattern.flags)
    if pattern.type == "str" and not letters:
        return text_leaf(value)
    flags = regex_syntax.parse_flags(letters)
    if pattern.type == "str":
        tree = regex_syntax.parse_with_flags(_escaped(value), flags)
    else:
        tree = regex_syntax.parse_with_flags(value, flags)
    return Leaf(tree)


def _escaped(text: str) -> str:
    return "".join(char if char.isalnum() else f"\\{char}" for char in text)
