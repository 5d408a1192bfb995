"""Regular expressions read into a tree: Python's `re` syntax, and ECMA-262's for JSON Schema.

What no finite automaton can do (backreferences, conditions) is refused with its offset, as are
possessive repeats and atomic groups of more than one character. Lookahead is kept: the
automaton runs it beside the rest. Lookbehind is kept where it looks at one character.
"""

import unicodedata
from dataclasses import dataclass
from typing import Literal, NoReturn

from ramify.grammars import charsets
from ramify.grammars.charsets import ANY, CharSet
from ramify.grammars.errors import GrammarError, caret

Dialect = Literal["python", "ecma"]

NEWLINE: CharSet = ((10, 10),)
ECMA_NEWLINES = charsets.chars("\n\r\u2028\u2029")
ECMA_SPACES = charsets.union(
    charsets.chars("\t\n\v\f\r \xa0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff"), ((0x2000, 0x200A),)
)
MAX_DEPTH = 100  # of groups; the parser recurses


@dataclass(frozen=True, slots=True)
class Char:
    """One character of a set."""

    charset: CharSet


@dataclass(frozen=True, slots=True)
class Sequence:
    """Parts one after the other; no part is the empty text."""

    parts: "tuple[Tree, ...]"


@dataclass(frozen=True, slots=True)
class Choice:
    """Any one of the options."""

    options: "tuple[Tree, ...]"


@dataclass(frozen=True, slots=True)
class Repeat:
    """`low` to `high` times; no end if `high` is None."""

    body: "Tree"
    low: int
    high: int | None


@dataclass(frozen=True, slots=True)
class Edge:
    """The start or the end of the whole text."""

    where: Literal["start", "end"]


@dataclass(frozen=True, slots=True)
class Previous:
    """The character before this point is (not) one of the set; the start has none before it."""

    charset: CharSet
    negated: bool


@dataclass(frozen=True, slots=True)
class Look:
    """From here on the text begins (does not begin) with the body."""

    body: "Tree"
    negated: bool


Tree = Char | Sequence | Choice | Repeat | Edge | Previous | Look
EMPTY = Sequence(())


@dataclass(frozen=True, slots=True)
class Flags:
    """What `(?aimsx)` switch."""

    ascii_only: bool = False
    ignore_case: bool = False
    multiline: bool = False
    dot_all: bool = False
    verbose: bool = False


_FLAG_FIELDS = {
    "a": "ascii_only",
    "i": "ignore_case",
    "m": "multiline",
    "s": "dot_all",
    "x": "verbose",
}
_REPEATS = ("*", "+", "?", "{")
_SIMPLE = {"n": 10, "t": 9, "r": 13, "f": 12, "v": 11}


def parse(pattern: str, dialect: Dialect = "python") -> Tree:
    """The tree of a pattern; `GrammarError` invalid_regex or unsupported_regex with its offset."""
    return _Parser(pattern, dialect).parse()


def parse_flags(letters: str) -> Flags:
    """Flags by their letters, as lark writes them after a regex."""
    return Flags(**{_FLAG_FIELDS[letter]: True for letter in letters if letter in _FLAG_FIELDS})


def parse_with_flags(pattern: str, flags: Flags) -> Tree:
    """As `parse`, in Python's syntax, with flags already on."""
    return _Parser(pattern, "python", flags).parse()


class _Parser:
    def __init__(
        self,
        pattern: str,
        dialect: Dialect,
        flags: Flags = Flags(),
    ) -> None:
        self.text = pattern
        self.python = dialect == "python"
        self.flags = flags if self.python else Flags(ascii_only=True)
        self.at = 0
        self.depth = 0
        self.look_depth = 0  # group depth of the lookahead being read; 0 = none
        self.names: set[str] = set()

    def fail(self, why: str, offset: int | None = None) -> NoReturn:
        where = self.at if offset is None else offset
        raise GrammarError(
            "invalid_regex",
            f"regex {self.text[:200]!r}, offset {where}: {why}\n{caret(self.text, where)}",
            offset=where,
        )

    def refuse(self, what: str, offset: int) -> NoReturn:
        raise GrammarError(
            "unsupported_regex",
            f"regex {self.text[:200]!r}, offset {offset}: {what}\n{caret(self.text, offset)}",
            offset=offset,
        )

    def peek(self, count: int = 1) -> str:
        return self.text[self.at : self.at + count]

    def take(self, expected: str) -> bool:
        if self.text.startswith(expected, self.at):
            self.at += len(expected)
            return True
        return False

    def parse(self) -> Tree:
        tree = self.choice()
        if self.at < len(self.text):
            self.fail("unbalanced ')'; write '\\)' for the character")
        return tree

    def choice(self) -> Tree:
        options = [self.sequence()]
        while self.take("|"):
            options.append(self.sequence())
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def sequence(self) -> Tree:
        parts: list[Tree] = []
        while True:
            if self.flags.verbose:
                self.skip_blank()
            if self.peek() in ("", "|", ")"):
                break
            start = self.at
            part = self.atom()
            parts.append(self.repeated(part, start))
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def skip_blank(self) -> None:
        while self.peek() and (self.peek() in " \t\n\r\f\v" or self.peek() == "#"):
            if self.peek() == "#":
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end
            else:
                self.at += 1

    def repeated(self, body: Tree, start: int) -> Tree:
        """The atom with the repeat written after it, if any."""
        if self.flags.verbose:
            self.skip_blank()
        where = self.at
        bounds = self.bounds() if self.peek() in _REPEATS else None
        if bounds is None:
            return body
        is_bare = self.text[start] != "(" and isinstance(body, (Edge, Previous))
        if is_bare or (isinstance(body, Look) and not self.python):
            self.fail(f"nothing to repeat before {self.text[where]!r}", where)
        low, high = bounds
        if high is not None and high < low:
            self.fail(f"repeat {{{low},{high}}}: the least is above the most", where)
        whole: Tree = Repeat(body, low, high)
        if not self.take("?") and self.python and self.take("+"):
            charset = single_char(body)
            if charset is None:
                why = "a possessive repeat is supported for one character or set; drop the '+'"
                self.refuse(why, self.at - 1)
            whole = _possessive(charset, low, high)
        mark = self.at
        if self.flags.verbose:
            self.skip_blank()
        second = self.at
        if self.peek() in _REPEATS and self.bounds() is not None:
            self.fail(f"multiple repeat {self.text[second]!r}", second)
        self.at = mark
        return whole

    def bounds(self) -> tuple[int, int | None] | None:
        """A repeat read off the text; None (nothing read) where there is none."""
        if self.take("*"):
            return 0, None
        if self.take("+"):
            return 1, None
        if self.take("?"):
            return 0, 1
        if self.peek() != "{":
            return None
        end = self.text.find("}", self.at)
        low, comma, high = self.text[self.at + 1 : end].partition(",") if end > 0 else ("", "", "")
        if not all(part == "" or (part.isascii() and part.isdigit()) for part in (low, high)):
            return None
        if not low and not (comma and self.python):  # "{}" and ECMA's "{,n}" are plain text
            return None
        if not low and not high and not comma:
            return None
        self.at = end + 1
        least = int(low or 0)
        return least, (least if not comma else int(high) if high else None)

    def atom(self) -> Tree:
        char = self.peek()
        if char == "(":
            return self.group()
        if char == "[":
            return Char(self.charset())
        if char == "\\":
            return self.escape()
        if char in "*+?" or (char == "{" and self.bounds() is not None):
            self.fail("nothing to repeat; put '\\' before it for the character")
        self.at += 1
        if char == ".":
            newlines = NEWLINE if self.python else ECMA_NEWLINES
            return Char(ANY if self.flags.dot_all else charsets.complement(newlines))
        if char == "^":
            start: Tree = Edge("start")
            return Choice((start, Previous(NEWLINE, False))) if self.flags.multiline else start
        if char == "$":
            return self.dollar()
        return Char(self.cased(((ord(char),) * 2,), self.at - 1))

    def dollar(self) -> Tree:
        if self.flags.multiline:
            return Choice((Edge("end"), Look(Char(NEWLINE), False)))
        if not self.python or self.at == len(self.text):
            return Edge("end")
        # re: the end, or before a newline that is the end
        if self.look_depth == self.depth and self.depth and self.peek() in (")", "|"):
            return Choice((Edge("end"), Sequence((Char(NEWLINE), Edge("end")))))
        return Choice((Edge("end"), Look(Sequence((Char(NEWLINE), Edge("end"))), False)))

    def cased(self, charset: CharSet, offset: int) -> CharSet:
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
                self.refuse("a lone surrogate cannot be written in UTF-8", offset)
        return (
            charsets.ignore_case(charset, self.flags.ascii_only)
            if self.flags.ignore_case
            else charset
        )

    def group(self) -> Tree:
        start = self.at
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise GrammarError(
                "grammar_too_complex",
                f"regex: groups nested more than {MAX_DEPTH} deep at offset {start}",
                offset=start,
            )
        self.at += 1
        saved = self.flags
        tree = self.extended_group(start) if self.take("?") else self.choice()
        if tree is None:  # a comment, or flags for all that follows
            self.depth -= 1
            return EMPTY
        if not self.take(")"):
            self.fail("missing ')': this group is never closed", start)
        self.flags = saved
        self.depth -= 1
        return tree

    def extended_group(self, start: int) -> Tree | None:
        """After `(?`. None where it was complete in itself."""
        if self.take(":"):
            return self.choice()
        if (
            self.take("P<")
            if self.python
            else (self.peek(2) not in ("<=", "<!") and self.take("<"))
        ):
            self.name(">")
            return self.choice()
        for mark, negated in (("=", False), ("!", True)):
            if self.take(mark):
                return self.lookahead(start, negated)
            if self.take("<" + mark):
                return self.lookbehind(start, negated)
        if self.python and self.take("P="):
            self.refuse(
                "backreferences are not regular: repeat the group's text or use a grammar", start
            )
        if self.python and self.take("#"):
            end = self.text.find(")", self.at)
            if end < 0:
                self.fail("missing ')': this comment is never closed", start)
            self.at = end + 1
            return None
        if self.python and self.peek() == "(":
            self.refuse("conditional groups are not supported; write both cases with '|'", start)
        if self.python and self.take(">"):
            return self.atomic(start)
        return self.flag_group(start)

    def atomic(self, start: int) -> Tree:
        """A group that gives nothing back: one that repeats a character, or has no choice."""
        inner = self.at
        body = self.choice()
        last = self.text[max(inner, self.at - 2) : self.at]
        if isinstance(body, Char) or (
            isinstance(body, Sequence) and all(isinstance(part, Char) for part in body.parts)
        ):
            return body
        charset = single_char(body.body) if isinstance(body, Repeat) else None
        if charset is None or last[-1] not in "*+?}" or last in ("*?", "+?", "??", "}?"):
            why = "an atomic group is supported around one repeated character; write (?:...)"
            self.refuse(why, start)
        assert isinstance(body, Repeat)
        return _possessive(charset, body.low, body.high)

    def name(self, end: str) -> None:
        stop = self.text.find(end, self.at)
        name = self.text[self.at : stop] if stop >= 0 else ""
        if not name.replace("$", "_").isidentifier():
            self.fail(f"bad group name {name!r}")
        if name in self.names:
            self.fail(f"group name {name!r} is used twice")
        self.names.add(name)
        self.at = stop + 1

    def lookahead(self, start: int, negated: bool) -> Tree:
        outer, self.look_depth = self.look_depth, self.depth
        body = self.choice()
        self.look_depth = outer
        if _looks_far(body):
            self.refuse("a lookahead inside a lookahead may see one character only", start)
        return Look(body, negated)

    def lookbehind(self, start: int, negated: bool) -> Tree:
        body = self.choice()
        charset = single_char(body)
        if charset is None:
            self.refuse("lookbehind is supported for one character only", start)
        return Previous(charset, negated)

    def flag_group(self, start: int) -> Tree | None:
        on, off, sign = set[str](), set[str](), False
        while (letter := self.peek()) not in (")", ":"):
            if letter == "-" and not sign:
                sign = True
            elif letter and letter in "aiLmsux":
                if letter == "L":
                    self.refuse("flag L (locale) is for bytes patterns", self.at)
                (off if sign else on).add(letter)
            else:
                self.fail(f"unknown extension ?{self.text[start + 2 : self.at + 1]}", start)
            self.at += 1
        changed = {
            name: letter in on for letter, name in _FLAG_FIELDS.items() if letter in on | off
        }
        current = {name: getattr(self.flags, name) for name in Flags.__slots__}
        if "u" in on and self.python:
            changed["ascii_only"] = False
        flags = Flags(**{**current, **changed})
        if self.take(":"):
            self.flags = flags
            return self.choice()
        if start != 0 and self.text[:start].strip(" \n\t") and not self.text.startswith("(?"):
            self.fail("flags for the whole pattern must stand at its start", start)
        self.at += 1
        self.flags = flags
        return None

    def escape(self) -> Tree:
        start = self.at
        letter = self.text[start + 1 : start + 2]
        if letter in ("b", "B"):
            self.at += 2
            return self.boundary(negated=letter == "B")
        if self.python and letter in ("A", "Z"):
            self.at += 2
            return Edge("start" if letter == "A" else "end")
        if letter.isdigit() and letter != "0":
            octal = self.text[start + 1 : start + 4]
            if not (
                self.python and len(octal) == 3 and all(digit in "01234567" for digit in octal)
            ):
                self.refuse(
                    "backreferences are not regular: repeat the group's text or use a grammar",
                    start,
                )
        if not self.python and letter == "k":
            self.refuse("backreferences are not regular: repeat the group's text", start)
        return Char(self.cased(self.escaped_chars(in_set=False), start))

    def boundary(self, *, negated: bool) -> Tree:
        word = charsets.escape_class("w", self.flags.ascii_only)
        before, after = Previous(word, False), Look(Char(word), False)
        no_before, no_after = Previous(word, True), Look(Char(word), True)
        pairs = (
            ((before, after), (no_before, no_after))
            if negated
            else ((before, no_after), (no_before, after))
        )
        return Choice(tuple(Sequence(pair) for pair in pairs))

    def escaped_chars(self, *, in_set: bool) -> CharSet:
        """The characters of an escape; its class, or one character."""
        start = self.at
        letter = self.text[start + 1 : start + 2]
        self.at += 2
        if not letter:
            self.fail("a '\\' at the end escapes nothing", start)
        if letter in "dDsSwW":
            if not self.python and letter in "sS":
                return ECMA_SPACES if letter == "s" else charsets.complement(ECMA_SPACES)
            return charsets.escape_class(letter, self.flags.ascii_only)
        if letter in "pP" and not self.python:
            return self.property(start, negated=letter == "P")
        code = self.escaped_code(letter, start, in_set)
        return ((code, code),)

    def escaped_code(self, letter: str, start: int, in_set: bool) -> int:
        if letter in _SIMPLE:
            return _SIMPLE[letter]
        if letter == "a" and self.python:
            return 7
        if letter == "b" and in_set:
            return 8
        if letter in "xuU" and (self.python or letter != "U"):
            return self.hexadecimal(letter, start)
        if letter == "N" and self.python:
            return self.named(start)
        if letter == "c" and not self.python:
            control = self.peek()
            if not (control.isascii() and control.isalpha()):
                self.fail("\\c takes a letter", start)
            self.at += 1
            return ord(control) % 32
        if letter in "01234567":
            digits = 1
            while digits < 3 and self.peek() and self.peek() in "01234567" and self.python:
                self.at += 1
                digits += 1
            code = int(self.text[start + 1 : self.at], 8)
            return code if code <= 0o377 else self.fail("octal escape above 0o377", start)
        if letter.isascii() and letter.isalnum():
            self.fail(f"bad escape \\{letter}", start)
        return ord(letter)

    def hexadecimal(self, letter: str, start: int) -> int:
        if letter == "u" and not self.python and self.take("{"):
            end = self.text.find("}", self.at)
            digits = self.text[self.at : end] if end >= 0 else ""
            self.at = end + 1
        else:
            size = {"x": 2, "u": 4, "U": 8}[letter]
            digits = self.peek(size)
            self.at += size
            if len(digits) < size:
                digits = ""
        if not digits or any(digit not in "0123456789abcdefABCDEF" for digit in digits):
            self.fail(f"incomplete escape \\{letter}", start)
        code = int(digits, 16)
        if 0xD800 <= code < 0xDC00 and not self.python and self.peek(2) == "\\u":
            mark = self.at
            self.at += 2
            low = self.hexadecimal("u", mark)
            if 0xDC00 <= low <= 0xDFFF:
                return 0x10000 + ((code - 0xD800) << 10) + low - 0xDC00
            self.at = mark
        return code if code <= charsets.MAX_CHAR else self.fail("above U+10FFFF", start)

    def named(self, start: int) -> int:
        end = self.text.find("}", self.at)
        try:
            char = unicodedata.lookup(self.text[self.at + 1 : end])
        except KeyError:
            self.fail("\\N takes the name of a character in braces", start)
        self.at = end + 1
        return ord(char)

    def property(self, start: int, *, negated: bool) -> CharSet:
        end = self.text.find("}", self.at)
        if self.peek() != "{" or end < 0:
            self.fail("\\p takes a property in braces", start)
        name = self.text[self.at + 1 : end]
        self.at = end + 1
        short = _CATEGORY_NAMES.get(
            name, name.removeprefix("gc=").removeprefix("General_Category=")
        )
        found = ANY if short == "Any" else charsets.category(short) if len(short) <= 2 else None
        if short == "ASCII":
            found = ((0, 127),)
        if found is None:
            self.refuse(f"\\p{{{name}}}: only general categories are supported", start)
        return charsets.complement(found) if negated else found

    def charset(self) -> CharSet:
        start = self.at
        self.at += 1
        negated = self.take("^")
        items: list[CharSet] = []
        first = self.python  # re: a ']' at once is a character
        while first or self.peek() != "]":
            if not self.peek():
                self.fail("missing ']': this set is never closed", start)
            first = False
            items.append(self.set_item())
        self.at += 1
        found = self.cased(charsets.union(*items), start) if items else ()
        return charsets.complement(found) if negated else found

    def set_item(self) -> CharSet:
        start = self.at
        low = self.set_member()
        if self.peek() != "-" or self.text[self.at + 1 : self.at + 2] in ("]", ""):
            return low
        mark = self.at
        self.at += 1
        high = self.set_member()
        single = all(len(part) == 1 and part[0][0] == part[0][1] for part in (low, high))
        if not single:
            if self.python:
                self.fail(f"bad character range {self.text[start : self.at]}", start)
            self.at = mark + 1  # ECMA: the '-' is a character
            return charsets.union(low, ((0x2D, 0x2D),))
        if low[0][0] > high[0][0]:
            self.fail(f"bad character range {self.text[start : self.at]}", start)
        return ((low[0][0], high[0][0]),)

    def set_member(self) -> CharSet:
        if self.peek() == "\\":
            return self.escaped_chars(in_set=True)
        self.at += 1
        return ((ord(self.text[self.at - 1]),) * 2,)


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


def single_char(tree: Tree) -> CharSet | None:
    """The set of the tree's texts, if all of them are one character long."""
    found = next_chars(tree)
    return None if found is None or found[1] else found[0]


def next_chars(tree: Tree) -> tuple[CharSet, bool] | None:
    """What the tree asks of what follows, if that is one character at most: those it may be, and
    whether it may be the end."""
    if isinstance(tree, Char):
        return tree.charset, False
    if tree == Edge("end"):
        return (), True
    if isinstance(tree, Choice):
        options = [next_chars(option) for option in tree.options]
        known = [option for option in options if option is not None]
        if len(known) == len(options):
            return charsets.union(*(chars for chars, _ in known)), any(end for _, end in known)
    return None


def _possessive(charset: CharSet, low: int, high: int | None) -> Tree:
    """As many characters of the set as there are, up to `high`."""
    body, stop = Char(charset), Look(Char(charset), True)
    if high is None:
        return Sequence((Repeat(body, low, None), stop))
    all_of_them = Repeat(body, high, high)
    if high == low:
        return all_of_them
    return Choice((all_of_them, Sequence((Repeat(body, low, high - 1), stop))))


def _looks_far(tree: Tree) -> bool:
    """Has it a lookahead of more than one character?"""
    if isinstance(tree, Look):
        return next_chars(tree.body) is None
    if isinstance(tree, Repeat):
        return _looks_far(tree.body)
    parts = (
        tree.parts
        if isinstance(tree, Sequence)
        else tree.options
        if isinstance(tree, Choice)
        else ()
    )
    return any(map(_looks_far, parts))
