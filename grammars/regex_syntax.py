"""Regular expressions read into a tree: Python's `re` syntax, and ECMA-262's for JSON Schema.

What no finite automaton can do (backreferences, conditions) is refused with its offset, as are
possessive repeats and atomic groups of more than one character. Lookahead is kept: the
automaton runs it beside the rest. Lookbehind is kept where it looks at one character.
"""

from typing import Literal

from ramify.grammars import charsets
from ramify.grammars.charsets import ANY
from ramify.grammars.errors import GrammarError
from ramify.grammars.regex_chars import ECMA_NEWLINES, NEWLINE, CharReader, Cursor, Flags
from ramify.grammars.regex_tree import (
    EMPTY,
    Char,
    Choice,
    Edge,
    Look,
    Previous,
    Repeat,
    Sequence,
    Tree,
    looks_far,
    possessive,
    single_char,
)

Dialect = Literal["python", "ecma"]

MAX_DEPTH = 100  # of groups; the parser recurses


_FLAG_FIELDS = {
    "a": "ascii_only",
    "i": "ignore_case",
    "m": "multiline",
    "s": "dot_all",
    "x": "verbose",
}
_REPEATS = ("*", "+", "?", "{")


def parse(pattern: str, dialect: Dialect = "python") -> Tree:
    """The tree of a pattern; `GrammarError` invalid_regex or unsupported_regex with its offset."""
    flags = Flags() if dialect == "python" else Flags(ascii_only=True)
    return _Parser(pattern, dialect, flags).parse()


def parse_flags(letters: str) -> Flags:
    """Flags by their letters, as lark writes them after a regex."""
    return Flags(**{_FLAG_FIELDS[letter]: True for letter in letters if letter in _FLAG_FIELDS})


def parse_with_flags(pattern: str, flags: Flags) -> Tree:
    """As `parse`, in Python's syntax, with flags already on."""
    return _Parser(pattern, "python", flags).parse()


class _Parser(Cursor):
    def __init__(
        self,
        pattern: str,
        dialect: Dialect,
        flags: Flags,
    ) -> None:
        super().__init__(pattern)
        self.python = dialect == "python"
        self.flags = flags
        self.chars = CharReader(self, python=self.python)
        self.depth = 0
        self.look_depth = 0  # group depth of the lookahead being read; 0 = none
        self.names: set[str] = set()

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
            whole = possessive(charset, low, high)
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
            return Char(self.chars.charset(self.flags))
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
        return Char(self.chars.cased(((ord(char),) * 2,), self.at - 1, self.flags))

    def dollar(self) -> Tree:
        if self.flags.multiline:
            return Choice((Edge("end"), Look(Char(NEWLINE), False)))
        if not self.python or self.at == len(self.text):
            return Edge("end")
        # re: the end, or before a newline that is the end
        if self.look_depth == self.depth and self.depth and self.peek() in (")", "|"):
            return Choice((Edge("end"), Sequence((Char(NEWLINE), Edge("end")))))
        return Choice((Edge("end"), Look(Sequence((Char(NEWLINE), Edge("end"))), False)))

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
        return possessive(charset, body.low, body.high)

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
        if looks_far(body):
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
        found = self.chars.escaped(self.flags, in_set=False)
        return Char(self.chars.cased(found, start, self.flags))

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
