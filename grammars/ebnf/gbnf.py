"""GBNF, and the forms of EBNF that W3C and xgrammar write: `name ::= ...`.

Strings in either quotes, character classes, `#x41`, `.`, groups, `| * + ? {m,n}`, comments from `#`
or in `/* */`. A rule goes on until the next `name ::=`, whatever the lines.
"""

import re
from typing import NoReturn

from ramify.grammars import charsets
from ramify.grammars.charsets import ANY, CharSet
from ramify.grammars.ebnf.items import Alt, Item, Leaf, Many, Ref, Seq, text_leaf
from ramify.grammars.errors import GrammarError, caret
from ramify.grammars.regex_syntax import MAX_DEPTH
from ramify.grammars.regex_tree import Char

_BLANK = re.compile(r"(?:[ \t\r\n]+|#(?!x[0-9A-Fa-f]+\b)[^\n]*|/\*(?s:.*?)\*/)*")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_HEAD = re.compile(rf"(?:{_NAME.pattern}|<{_NAME.pattern}>)[ \t\r\n]*::=")
_BOUNDS = re.compile(r"\{[ ]*(\d+)[ ]*(?:(,)[ ]*(\d*)[ ]*)?\}")
_HEX = re.compile(r"#x([0-9A-Fa-f]+)")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "b": "\b", "a": "\a", "0": "\0"}
_HEX_ESCAPES = {"x": 2, "u": 4, "U": 8}


def parse(text: str) -> dict[str, Item]:
    """Rules by name. `GrammarError` invalid_grammar with its offset."""
    return _Parser(text).parse()


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.depth = 0

    def fail(self, why: str, offset: int | None = None) -> NoReturn:
        where = self.at if offset is None else offset
        raise GrammarError(
            "invalid_grammar",
            f"grammar, offset {where}: {why}\n{caret(self.text, where)}",
            offset=where,
        )

    def skip(self) -> None:
        found = _BLANK.match(self.text, self.at)
        assert found is not None
        self.at = found.end()

    def take(self, expected: str) -> bool:
        if self.text.startswith(expected, self.at):
            self.at += len(expected)
            return True
        return False

    def parse(self) -> dict[str, Item]:
        rules: dict[str, Item] = {}
        self.skip()
        while self.at < len(self.text):
            start = self.at
            name = self.name()
            self.skip()
            if not self.take("::="):
                self.fail("'::=' is needed after a rule's name")
            if name in rules:
                self.fail(f"rule {name!r} is defined twice", start)
            rules[name] = self.choice()
        if not rules:
            self.fail("there is no rule")
        return rules

    def name(self) -> str:
        in_angles = self.take("<")
        found = _NAME.match(self.text, self.at)
        if found is None:
            self.fail("a rule's name is needed")
        self.at = found.end()
        if in_angles and not self.take(">"):
            self.fail("'>' is needed")
        return found[0]

    def choice(self) -> Item:
        options = [self.sequence()]
        while self.take("|"):
            options.append(self.sequence())
        return options[0] if len(options) == 1 else Alt(tuple(options))

    def sequence(self) -> Item:
        parts: list[Item] = []
        while True:
            self.skip()
            if self.at >= len(self.text) or self.text[self.at] in "|)":
                break
            if _HEAD.match(self.text, self.at):
                break
            parts.append(self.repeated(self.part()))
        return parts[0] if len(parts) == 1 else Seq(tuple(parts))

    def repeated(self, body: Item) -> Item:
        while True:
            self.skip()
            if self.take("*"):
                body = Many(body, 0, None)
            elif self.take("+"):
                body = Many(body, 1, None)
            elif self.take("?"):
                body = Many(body, 0, 1)
            elif found := _BOUNDS.match(self.text, self.at):
                low = int(found[1])
                high = low if not found[2] else int(found[3]) if found[3] else None
                if high is not None and high < low:
                    self.fail("the least is above the most")
                self.at = found.end()
                body = Many(body, low, high)
            else:
                return body

    def part(self) -> Item:
        char = self.text[self.at]
        if char in "\"'":
            return self.string(char)
        if char == "[":
            return Leaf(Char(self.charset()))
        if char == "(":
            return self.group()
        if char == ".":
            self.at += 1
            return Leaf(Char(ANY))
        if found := _HEX.match(self.text, self.at):
            self.at = found.end()
            return text_leaf(chr(self.code(found[1], found.start())))
        return Ref(self.name())

    def group(self) -> Item:
        start = self.at
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise GrammarError(
                "grammar_too_complex",
                f"grammar: groups nested more than {MAX_DEPTH} deep",
                offset=start,
            )
        self.at += 1
        found = self.choice()
        if not self.take(")"):
            self.fail("missing ')': this group is never closed", start)
        self.depth -= 1
        return found

    def string(self, quote: str) -> Item:
        start = self.at
        self.at += 1
        out = ""
        while not self.take(quote):
            if self.at >= len(self.text) or self.text[self.at] == "\n":
                self.fail("this string is never closed", start)
            out += self.char()
        return text_leaf(out)

    def char(self) -> str:
        """A character of a string or class, or an escape."""
        start = self.at
        char = self.text[start]
        self.at += 1
        if char != "\\":
            return char
        letter = self.text[self.at : self.at + 1]
        self.at += 1
        if not letter:
            self.fail("a '\\' at the end escapes nothing", start)
        if letter in _HEX_ESCAPES:
            digits = self.text[self.at : self.at + _HEX_ESCAPES[letter]]
            self.at += len(digits)
            return chr(self.code(digits, start))
        if letter in _ESCAPES:
            return _ESCAPES[letter]
        if letter.isalnum():
            self.fail(f"bad escape \\{letter}", start)
        return letter

    def code(self, digits: str, start: int) -> int:
        try:
            code = int(digits, 16)
        except ValueError:
            self.fail("hexadecimal digits are needed", start)
        if code > charsets.MAX_CHAR or charsets.SURROGATES[0] <= code <= charsets.SURROGATES[1]:
            self.fail(f"U+{code:X} is not a character", start)
        return code

    def charset(self) -> CharSet:
        start = self.at
        self.at += 1
        negated = self.take("^")
        found: list[tuple[int, int]] = []
        while not self.take("]"):
            if self.at >= len(self.text):
                self.fail("missing ']': this class is never closed", start)
            low = self.class_char()
            high = low
            if (
                self.text[self.at : self.at + 1] == "-"
                and self.text[self.at + 1 : self.at + 2] != "]"
            ):
                self.at += 1
                high = self.class_char()
            if high < low:
                self.fail("bad character range", start)
            found.append((low, high))
        charset = charsets.union(tuple(found))
        return charsets.complement(charset) if negated else charset

    def class_char(self) -> int:
        if found := _HEX.match(self.text, self.at):
            self.at = found.end()
            return self.code(found[1], found.start())
        if self.at >= len(self.text):
            self.fail("this class is never closed")
        return ord(self.char())
