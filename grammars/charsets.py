"""Sets of code points, the alphabet of classes that sets induce, and its spelling in bytes.

A `CharSet` is a sorted tuple of disjoint inclusive ranges. An `Alphabet` cuts the code points into
classes that no set of an automaton tells apart; automata step over classes. A `Spelling` is the
automaton of bytes that reads one character: UTF-8, or UTF-8 as written inside a JSON string.
"""

import re
import sys
import unicodedata
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from functools import cache, cached_property, lru_cache

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
    codes = array("I", range(SURROGATES[0]))
    codes.extend(range(SURROGATES[1] + 1, MAX_CHAR + 1))
    return codes.tobytes().decode("utf-32-le" if sys.byteorder == "little" else "utf-32-be")


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
    """Classes 0..num_classes-1 of characters that no given set tells apart; together, ANY.

    They are numbered as they first occur by code point.
    """

    def __init__(self, sets: Iterable[CharSet] = ()) -> None:
        index_of = {charset: index for index, charset in enumerate(dict.fromkeys(sets))}
        events: dict[int, int] = {0: 0, SURROGATES[0]: 0, SURROGATES[1] + 1: 0}
        for charset, index in index_of.items():
            bit = 1 << index
            for low, high in charset:
                events[low] = events.get(low, 0) ^ bit
                events[high + 1] = events.get(high + 1, 0) ^ bit
        events.pop(MAX_CHAR + 1, None)
        signatures: dict[int, int] = {}
        intervals: list[tuple[int, int, int]] = []
        signature = 0
        cuts = sorted(events)
        for low, after in zip(cuts, [*cuts[1:], MAX_CHAR + 1], strict=True):
            signature ^= events[low]
            if SURROGATES[0] <= low <= SURROGATES[1]:
                continue
            found = signatures.setdefault(signature, len(signatures))
            if intervals and intervals[-1][2] == found and intervals[-1][1] == low - 1:
                intervals[-1] = (intervals[-1][0], after - 1, found)
            else:
                intervals.append((low, after - 1, found))
        self._bits = {
            charset: sum(1 << cls for sig, cls in signatures.items() if sig >> index & 1)
            for charset, index in index_of.items()
        }
        self.intervals = intervals  # (low, high, class), sorted
        self.num_classes = len(signatures)
        self.samples = [0] * self.num_classes  # one code point of each class
        for low, _, found in reversed(intervals):
            self.samples[found] = low

    def classes(self, charset: CharSet) -> int:
        """Bit set of the classes inside one of the sets this alphabet was made from."""
        return self._bits[charset]

    def class_sets(self) -> list[CharSet]:
        """The characters of each class."""
        sets: list[list[tuple[int, int]]] = [[] for _ in range(self.num_classes)]
        for low, high, cls in self.intervals:
            sets[cls].append((low, high))
        return [tuple(charset) for charset in sets]

    def class_of(self, code: int) -> int:
        """The class of a character."""
        if code < 128:
            return self.ascii[code]
        return self.intervals[bisect_right(self.intervals, code, key=_low) - 1][2]

    @cached_property
    def ascii(self) -> list[int]:
        """[128] the class of each ASCII character."""
        out: list[int] = []
        for low, high, found in self.intervals:
            out += [found] * (min(high, 127) + 1 - low)
        return out


def _low(interval: tuple[int, int, int]) -> int:
    return interval[0]


@lru_cache(maxsize=1024)
def alphabet_of(sets: frozenset[CharSet]) -> Alphabet:
    """The alphabet of these sets: one object for each, so that its spellings are shared."""
    return Alphabet(sets)


@lru_cache(maxsize=1024)
def common_alphabet(
    *alphabets: Alphabet,
) -> tuple[Alphabet, tuple[tuple[int, ...], ...]]:
    """What tells apart all that one of these does; and for each of them its class by the common
    one's."""
    common = Alphabet(charset for alphabet in {*alphabets} for charset in alphabet.class_sets())
    classes = tuple(
        tuple(alphabet.class_of(code) for code in common.samples) for alphabet in alphabets
    )
    return common, classes


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
        self.groups = tuple((target, tuple(group)) for target, group in groups.items())
        for target in groups:
            self.classes |= target.classes if isinstance(target, SpellingNode) else 1 << target


_SHORT_ESCAPES = {
    '"': '"',
    "\\": "\\",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
}


@lru_cache(maxsize=256)
def spelling(alphabet: Alphabet, *, json: bool) -> SpellingNode:
    r"""The root of the bytes of one character.

    In JSON: one spelling for each character, the one that `json.dumps(ensure_ascii=False)` writes:
    so equal strings are equal texts.
    """
    intervals = alphabet.intervals
    root: dict[int, int | SpellingNode] = dict(enumerate(alphabet.ascii))
    for low, high, tail, lead in (
        (0x80, 0x7FF, 1, 0xC0),
        (0x800, 0xFFFF, 2, 0xE0),
        (0x10000, MAX_CHAR, 3, 0xF0),
    ):
        at = 0
        for first in range(low >> 6 * tail, (high >> 6 * tail) + 1):
            base = first << 6 * tail
            start, end = max(base, low), base + (1 << 6 * tail) - 1
            while intervals[at][1] < start:
                at += 1
            inside = _clip(intervals, at, start, end, base)
            root[lead | first] = _below(tail, inside)
    if json:
        controls = {code: root.pop(code) for code in range(0x20)}
        del root[0x22], root[0x5C]
        root[0x5C] = _escapes(alphabet, controls)
    return SpellingNode(root)


Intervals = tuple[tuple[int, int, int], ...]


def _clip(
    intervals: Sequence[tuple[int, int, int]], at: int, low: int, high: int, base: int
) -> Intervals:
    """The intervals inside [low, high], counted from base. `at`: the first that ends there or
    later."""
    start, end, cls = intervals[at]
    if start <= low and high <= end:  # mostly
        return ((low - base, high - base, cls),)
    out: list[tuple[int, int, int]] = []
    while start <= high:
        out.append((max(start, low) - base, min(end, high) - base, cls))
        at += 1
        if at == len(intervals):
            break
        start, end, cls = intervals[at]
    return tuple(out)


@lru_cache(maxsize=4096)
def _below(tail: int, inside: Intervals) -> int | SpellingNode:
    """What follows while `tail` bytes of the character are left; intervals start at 0 here."""
    if tail == 0:
        return inside[0][2]
    width = 1 << 6 * (tail - 1)
    if len(inside) == 1 and inside[0][:2] == (0, 64 * width - 1):
        only = _below(tail - 1, ((0, width - 1, inside[0][2]),))
        return SpellingNode(dict.fromkeys(range(0x80, 0xC0), only))
    following: dict[int, int | SpellingNode] = {}
    at = 0
    for index in range(64):
        base = index * width
        while at < len(inside) and inside[at][1] < base:
            at += 1
        if at == len(inside):
            break
        part = _clip(inside, at, base, base + width - 1, base)
        if part:
            following[0x80 | index] = _below(tail - 1, part)
    return SpellingNode(following)


def _escapes(alphabet: Alphabet, controls: "dict[int, int | SpellingNode]") -> SpellingNode:
    following: dict[int, int | SpellingNode] = {
        ord(letter): alphabet.class_of(ord(char)) for letter, char in _SHORT_ESCAPES.items()
    }
    short = {*map(ord, _SHORT_ESCAPES.values())}
    by_first_digit: dict[int, int | SpellingNode] = {
        0x30 + digit: SpellingNode(
            {
                ord(f"{low:x}"): controls[digit * 16 + low]
                for low in range(16)
                if digit * 16 + low not in short
            }
        )
        for digit in (0, 1)
    }
    zeros = SpellingNode({0x30: SpellingNode({0x30: SpellingNode(by_first_digit)})})
    following[ord("u")] = zeros
    return SpellingNode(following)
