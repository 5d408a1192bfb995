"""Reading the text of a regular expression: its characters, escapes and sets."""

import unicodedata
from dataclasses import dataclass
from typing import NoReturn

from ramify.grammars import charsets
from ramify.grammars.charsets import ANY, CharSet
from ramify.grammars.errors import GrammarError, caret

NEWLINE: CharSet = ((10, 10),)
ECMA_NEWLINES = charsets.chars("\n\r\u2028\u2029")
ECMA_SPACES = charsets.union(
    charsets.chars("\t\n\v\f\r \xa0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff"), ((0x2000, 0x200A),)
)
_SIMPLE = {"n": 10, "t": 9, "r": 13, "f": 12, "v": 11}
_CATEGORY_NAMES = {
    "Letter": "L",
    "Lowercase_Letter": "Ll",
    "Uppercase_Letter": "Lu",
    "Mark": "M",
    "Number": "N",
    "Decimal_Number": "Nd",
    "digit": "Nd",
    "Punctuation": "P",
    "punct": "P",
    "Symbol": "S",
    "Separator": "Z",
    "Space_Separator": "Zs",
    "Other": "C",
    "Control": "Cc",
    "cntrl": "Cc",
}


@dataclass(frozen=True, slots=True)
class Flags:
    """What `(?aimsx)` switch."""

    ascii_only: bool = False
    ignore_case: bool = False
    multiline: bool = False
    dot_all: bool = False
    verbose: bool = False


class Cursor:
    """A place in a regex's text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def fail(self, why: str, offset: int | None = None) -> NoReturn:
        """Raise `invalid_regex` for this place."""
        where = self.at if offset is None else offset
        raise GrammarError(
            "invalid_regex",
            f"regex {self.text[:200]!r}, offset {where}: {why}\n{caret(self.text, where)}",
            offset=where,
        )

    def refuse(self, what: str, offset: int) -> NoReturn:
        """Raise `unsupported_regex` for a place."""
        raise GrammarError(
            "unsupported_regex",
            f"regex {self.text[:200]!r}, offset {offset}: {what}\n{caret(self.text, offset)}",
            offset=offset,
        )

    def peek(self, count: int = 1) -> str:
        """The next characters; fewer at the end."""
        return self.text[self.at : self.at + count]

    def take(self, expected: str) -> bool:
        """Go past a text, if it is what comes next."""
        if self.text.startswith(expected, self.at):
            self.at += len(expected)
            return True
        return False


class CharReader:
    """Reads what stands for one character: an escape, a set."""

    def __init__(self, cursor: Cursor, *, python: bool) -> None:
        self.cursor = cursor
        self.python = python

    def cased(self, charset: CharSet, offset: int, flags: Flags) -> CharSet:
        """The characters without surrogates, in both cases if they are to be."""
        if (
            charset
            and charset[-1][1] >= charsets.SURROGATES[0]
            and any(
                low <= charsets.SURROGATES[1] and high >= charsets.SURROGATES[0]
                for low, high in charset
            )
        ):
            charset = charsets.difference(charset, (charsets.SURROGATES,))
            if not charset:
                self.cursor.refuse("a lone surrogate cannot be written in UTF-8", offset)
        return charsets.ignore_case(charset, flags.ascii_only) if flags.ignore_case else charset

    def escaped(self, flags: Flags, *, in_set: bool) -> CharSet:
        """The characters of an escape; its class, or one character."""
        start = self.cursor.at
        letter = self.cursor.text[start + 1 : start + 2]
        self.cursor.at += 2
        if not letter:
            self.cursor.fail("a '\\' at the end escapes nothing", start)
        if letter in "dDsSwW":
            if not self.python and letter in "sS":
                return ECMA_SPACES if letter == "s" else charsets.complement(ECMA_SPACES)
            return charsets.escape_class(letter, flags.ascii_only)
        if letter in "pP" and not self.python:
            return self._property(start, negated=letter == "P")
        code = self._escaped_code(letter, start, in_set)
        return ((code, code),)

    def _escaped_code(self, letter: str, start: int, in_set: bool) -> int:
        if letter in _SIMPLE:
            return _SIMPLE[letter]
        if letter == "a" and self.python:
            return 7
        if letter == "b" and in_set:
            return 8
        if letter in "xuU" and (self.python or letter != "U"):
            return self._hexadecimal(letter, start)
        if letter == "N" and self.python:
            return self._named(start)
        if letter == "c" and not self.python:
            control = self.cursor.peek()
            if not (control.isascii() and control.isalpha()):
                self.cursor.fail("\\c takes a letter", start)
            self.cursor.at += 1
            return ord(control) % 32
        if letter in "01234567":
            digits = 1
            while (
                digits < 3
                and self.cursor.peek()
                and self.cursor.peek() in "01234567"
                and self.python
            ):
                self.cursor.at += 1
                digits += 1
            code = int(self.cursor.text[start + 1 : self.cursor.at], 8)
            return code if code <= 0o377 else self.cursor.fail("octal escape above 0o377", start)
        if letter.isascii() and letter.isalnum():
            self.cursor.fail(f"bad escape \\{letter}", start)
        return ord(letter)

    def _hexadecimal(self, letter: str, start: int) -> int:
        if letter == "u" and not self.python and self.cursor.take("{"):
            end = self.cursor.text.find("}", self.cursor.at)
            digits = self.cursor.text[self.cursor.at : end] if end >= 0 else ""
            self.cursor.at = end + 1
        else:
            size = {"x": 2, "u": 4, "U": 8}[letter]
            digits = self.cursor.peek(size)
            self.cursor.at += size
            if len(digits) < size:
                digits = ""
        if not digits or any(digit not in "0123456789abcdefABCDEF" for digit in digits):
            self.cursor.fail(f"incomplete escape \\{letter}", start)
        code = int(digits, 16)
        if 0xD800 <= code < 0xDC00 and not self.python and self.cursor.peek(2) == "\\u":
            mark = self.cursor.at
            self.cursor.at += 2
            low = self._hexadecimal("u", mark)
            if 0xDC00 <= low <= 0xDFFF:
                return 0x10000 + ((code - 0xD800) << 10) + low - 0xDC00
            self.cursor.at = mark
        return code if code <= charsets.MAX_CHAR else self.cursor.fail("above U+10FFFF", start)

    def _named(self, start: int) -> int:
        end = self.cursor.text.find("}", self.cursor.at)
        try:
            char = unicodedata.lookup(self.cursor.text[self.cursor.at + 1 : end])
        except KeyError:
            self.cursor.fail("\\N takes the name of a character in braces", start)
        self.cursor.at = end + 1
        return ord(char)

    def _property(self, start: int, *, negated: bool) -> CharSet:
        end = self.cursor.text.find("}", self.cursor.at)
        if self.cursor.peek() != "{" or end < 0:
            self.cursor.fail("\\p takes a property in braces", start)
        name = self.cursor.text[self.cursor.at + 1 : end]
        self.cursor.at = end + 1
        short = _CATEGORY_NAMES.get(
            name, name.removeprefix("gc=").removeprefix("General_Category=")
        )
        found = ANY if short == "Any" else charsets.category(short) if len(short) <= 2 else None
        if short == "ASCII":
            found = ((0, 127),)
        if found is None:
            self.cursor.refuse(f"\\p{{{name}}}: only general categories are supported", start)
        return charsets.complement(found) if negated else found

    def charset(self, flags: Flags) -> CharSet:
        """The characters of a set in brackets."""
        start = self.cursor.at
        self.cursor.at += 1
        negated = self.cursor.take("^")
        items: list[CharSet] = []
        first = self.python  # re: a ']' at once is a character
        while first or self.cursor.peek() != "]":
            if not self.cursor.peek():
                self.cursor.fail("missing ']': this set is never closed", start)
            first = False
            items.append(self._set_item(flags))
        self.cursor.at += 1
        found = self.cased(charsets.union(*items), start, flags) if items else ()
        return charsets.complement(found) if negated else found

    def _set_item(self, flags: Flags) -> CharSet:
        start = self.cursor.at
        low = self._set_member(flags)
        if self.cursor.peek() != "-" or self.cursor.text[
            self.cursor.at + 1 : self.cursor.at + 2
        ] in ("]", ""):
            return low
        mark = self.cursor.at
        self.cursor.at += 1
        high = self._set_member(flags)
        single = all(len(part) == 1 and part[0][0] == part[0][1] for part in (low, high))
        if not single:
            if self.python:
                self.cursor.fail(
                    f"bad character range {self.cursor.text[start : self.cursor.at]}", start
                )
            self.cursor.at = mark + 1  # ECMA: the '-' is a character
            return charsets.union(low, ((0x2D, 0x2D),))
        if low[0][0] > high[0][0]:
            self.cursor.fail(
                f"bad character range {self.cursor.text[start : self.cursor.at]}", start
            )
        return ((low[0][0], high[0][0]),)

    def _set_member(self, flags: Flags) -> CharSet:
        if self.cursor.peek() == "\\":
            return self.escaped(flags, in_set=True)
        self.cursor.at += 1
        return ((ord(self.cursor.text[self.cursor.at - 1]),) * 2,)
