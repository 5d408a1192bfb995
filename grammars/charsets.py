"""Sets of code points, the alphabet of classes that sets induce, and its spelling in bytes.

A `CharSet` is a sorted tuple of disjoint inclusive ranges. An `Alphabet` cuts the code points into
classes that no set of an automaton tells apart; automata step over classes. A `Spelling` is the
automaton of bytes that reads one character: UTF-8, or UTF-8 as written inside a JSON string.
"""

import re
import unicodedata
from collections.abc import Iterable
from functools import cache

CharSet = tuple[tuple[int, int], ...]

MAX_CHAR = 0x10FFFF
SURROGATES = (0xD800, 0xDFFF)  # not characters: UTF-8 cannot write them
ANY: CharSet = ((0, 0xD7FF), (0xE000, MAX_CHAR))


def union(*sets: CharSet) -> CharSet:
    """Code points in any of the sets."""
    out: list[tuple[int, int]] = []
    for low, high in sorted(item for charset in sets for item in charset):
        if out and low <= out[-1][1] + 1:
            out[-1] = (out[-1][0], max(out[-1][1], high))
        else:
            out.append((low, high))
    return tuple(out)


def complement(charset: CharSet) -> CharSet:
    """Characters (no surrogates) that are not in the set."""
    out: list[tuple[int, int]] = []
    at = 0
    for low, high in union(charset, (SURROGATES,)):
        if at < low:
            out.append((at, low - 1))
        at = high + 1
    if at <= MAX_CHAR:
        out.append((at, MAX_CHAR))
    return tuple(out)


def difference(left: CharSet, right: CharSet) -> CharSet:
    """Characters of `left` that are not in `right`."""
    return complement(union(complement(left), right))


def chars(text: str) -> CharSet:
    """The set of a text's characters."""
    return union(*(((ord(char), ord(char)),) for char in text))


def contains(charset: CharSet, code: int) -> bool:
    """Is this code point in the set?"""
    return any(low <= code <= high for low, high in charset)


@cache
def _every_char() -> str:
    return "".join(map(chr, (*range(SURROGATES[0]), *range(SURROGATES[1] + 1, MAX_CHAR + 1))))


@cache
def escape_class(letter: str, ascii_only: bool) -> CharSet:
    r"""What `\d \s \w` (and capitals) mean in `re`: asked of `re` itself, so always the same."""
    if letter.isupper():
        return complement(escape_class(letter.lower(), ascii_only))
    text = "".join(map(chr, range(128))) if ascii_only else _every_char()
    runs = re.findall(rf"\{letter}+", text, re.ASCII if ascii_only else 0)
    return union(*(((ord(run[0]), ord(run[-1])),) for run in runs))


@cache
def category(name: str) -> CharSet | None:
    r"""Characters of a general category, `\p{name}`: "L", "Lu", ...; None if there is none."""
    found = [char for char in _every_char() if unicodedata.category(char).startswith(name)]
    return chars_of_sorted(found) if found else None


def chars_of_sorted(found: Iterable[str]) -> CharSet:
    """As `chars`, for characters in rising order."""
    out: list[list[int]] = []
    for char in found:
        code = ord(char)
        if out and out[-1][1] == code - 1:
            out[-1][1] = code
        else:
            out.append([code, code])
    return tuple((low, high) for low, high in out)


@cache
def _cased_chars() -> str:
    return "".join(char for char in _every_char() if char.lower() != char or char.upper() != char)


@cache
def _same_letter(char: str, ascii_only: bool) -> CharSet:
    flags = re.IGNORECASE | (re.ASCII if ascii_only else 0)
    return chars("".join(re.findall(re.escape(char), _cased_chars(), flags)))


def ignore_case(charset: CharSet, ascii_only: bool) -> CharSet:
    """The set with all spellings in other case, as `re.IGNORECASE` pairs them."""
    inside = [char for char in _cased_chars() if contains(charset, ord(char))]
    return union(charset, *(_same_letter(char, ascii_only) for char in inside))


class Alphabet:
    """Classes 0..num_classes-1 of characters that no given set tells apart; together, ANY."""

    __slots__ = ("_class_of_signature", "intervals", "num_classes", "samples", "sets")

    def __init__(self, sets: Iterable[CharSet]) -> None:
        self.sets = tuple(dict.fromkeys(sets))
        edges = {low for charset in (ANY, *self.sets) for low, _ in charset}
        edges |= {high + 1 for charset in (ANY, *self.sets) for _, high in charset}
        events: dict[int, list[int]] = {}
        for index, charset in enumerate(self.sets):
            for low, high in charset:
                events.setdefault(low, []).append(index)
                events.setdefault(high + 1, []).append(index)
        self._class_of_signature: dict[int, int] = {}
        self.intervals: list[tuple[int, int, int]] = []  # (low, high, class), sorted
        signature = 0
        cuts = sorted(edges)
        for low, after in zip(cuts, [*cuts[1:], MAX_CHAR + 1], strict=True):
            for index in events.get(low, ()):
                signature ^= 1 << index
            if low > MAX_CHAR or low == SURROGATES[0]:
                continue
            found = self._class_of_signature.setdefault(signature, len(self._class_of_signature))
            last = self.intervals[-1] if self.intervals else None
            if last and last[2] == found and last[1] == low - 1:
                self.intervals[-1] = (last[0], after - 1, found)
            else:
                self.intervals.append((low, after - 1, found))
        self.num_classes = len(self._class_of_signature)
        self.samples = [0] * self.num_classes  # one code point of each class
        for low, _, found in reversed(self.intervals):
            self.samples[found] = low

    def classes(self, charset: CharSet) -> int:
        """Bit set of the classes inside one of the sets this alphabet was made from."""
        bit = self.sets.index(charset)
        return sum(1 << cls for sig, cls in self._class_of_signature.items() if sig >> bit & 1)

    def class_of(self, code: int) -> int:
        """The class of a character (binary search)."""
        low, high = 0, len(self.intervals) - 1
        while low < high:
            mid = (low + high + 1) // 2
            low, high = (mid, high) if self.intervals[mid][0] <= code else (low, mid - 1)
        return self.intervals[low][2]


# A node of a spelling: byte -> class (an int), or -> a node below (a SpellingNode).
class SpellingNode:
    """Part-way through a character: where bytes lead, and which classes are still possible."""

    __slots__ = ("classes", "groups", "next")

    def __init__(self, following: "dict[int, int | SpellingNode]") -> None:
        self.next = following
        self.classes = 0
        groups: dict[int | SpellingNode, list[int]] = {}
        for byte, target in following.items():
            groups.setdefault(target, []).append(byte)
        self.groups = [(target, tuple(group)) for target, group in groups.items()]
        for target in groups:
            self.classes |= target.classes if isinstance(target, SpellingNode) else 1 << target


_SHORT_ESCAPES = {
    '"': '"',
    "\\": "\\",
    "/": "/",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
}


def spelling(alphabet: Alphabet, *, json: bool) -> SpellingNode:
    r"""The root of the bytes of one character.

    In JSON: no raw quote, backslash or control character; the eight short escapes; `\u00XX` for
    control characters only. That is one spelling for every other character, the one that
    `json.dumps(ensure_ascii=False)` writes (and `\/`).
    """
    memo: dict[tuple[int, tuple[tuple[int, int, int], ...]], SpellingNode] = {}
    root: dict[int, int | SpellingNode] = {}
    spans = (
        (0, 0x7F, 0, 0),
        (0x80, 0x7FF, 1, 0xC0),
        (0x800, 0xFFFF, 2, 0xE0),
        (0x10000, MAX_CHAR, 3, 0xF0),
    )
    for low, high, tail, lead in spans:
        intervals = [item for item in alphabet.intervals if item[0] <= high and item[1] >= low]
        for first in range(low >> 6 * tail, (high >> 6 * tail) + 1):
            base = first << 6 * tail
            inside = _clip(intervals, max(base, low), base + (1 << 6 * tail) - 1, base)
            if inside:
                root[lead | first] = _below(tail, inside, memo)
    if json:
        controls = {code: root.pop(code) for code in range(0x20)}
        del root[0x22], root[0x5C]
        root[0x5C] = _escapes(alphabet, controls)
    return SpellingNode(root)


def _clip(
    intervals: Iterable[tuple[int, int, int]], low: int, high: int, base: int
) -> tuple[tuple[int, int, int], ...]:
    return tuple(
        (max(start, low) - base, min(end, high) - base, cls)
        for start, end, cls in intervals
        if start <= high and end >= low
    )


def _below(
    tail: int,
    inside: tuple[tuple[int, int, int], ...],
    memo: dict[tuple[int, tuple[tuple[int, int, int], ...]], SpellingNode],
) -> int | SpellingNode:
    """What follows while `tail` bytes of the character are left; intervals start at 0 here."""
    if tail == 0:
        return inside[0][2]
    found = memo.get((tail, inside))
    if found is None:
        width = 1 << 6 * (tail - 1)
        following: dict[int, int | SpellingNode] = {}
        if len(inside) == 1 and inside[0][:2] == (0, 64 * width - 1):
            only = _below(tail - 1, ((0, width - 1, inside[0][2]),), memo)
            following = dict.fromkeys(range(0x80, 0xC0), only)
        else:
            for index in range(64):
                part = _clip(inside, index * width, (index + 1) * width - 1, index * width)
                if part:
                    following[0x80 | index] = _below(tail - 1, part, memo)
        found = memo[tail, inside] = SpellingNode(following)
    return found


def _escapes(alphabet: Alphabet, controls: "dict[int, int | SpellingNode]") -> SpellingNode:
    following: dict[int, int | SpellingNode] = {
        ord(letter): alphabet.class_of(ord(char)) for letter, char in _SHORT_ESCAPES.items()
    }
    by_first_digit: dict[int, int | SpellingNode] = {}
    for digit in (0, 1):
        last: dict[int, int | SpellingNode] = {}
        for low in range(16):
            for letter in {f"{low:x}", f"{low:X}"}:
                last[ord(letter)] = controls[digit * 16 + low]
        by_first_digit[0x30 + digit] = SpellingNode(last)
    zeros = SpellingNode({0x30: SpellingNode({0x30: SpellingNode(by_first_digit)})})
    following[ord("u")] = zeros
    return SpellingNode(following)
