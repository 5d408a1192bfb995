"""Numbers: ranges, multiples and exclusions as a byte automaton over decimal digits.

A key is how far the digits have got. A prefix of the integer part with value P stands for
[P * 10^k, (P + 1) * 10^k) once k more digits follow. As soon as each of these intervals is wholly
inside or wholly outside the range, P itself no longer matters, and the key keeps only which k are
inside: so most prefixes share their keys.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Any

from ramify.grammars.terminals import Key, Terminal

INT_DIGITS = 30  # no longer numbers: a model that writes digits for ever has to stop
FRACTION_DIGITS = 30
EXPONENT_DIGITS = 3
_OUT, _PART, _IN = 0, 1, 2  # an interval against the range
Rational = Fraction | int  # whole numbers are reckoned with as such: ten times as fast


@dataclass(frozen=True, slots=True)
class NumberSet:
    """Which numbers. `step` None: not only multiples."""

    low: Rational | None = None
    low_open: bool = False
    high: Rational | None = None
    high_open: bool = False
    step: Rational | None = None
    no_steps: frozenset[Rational] = frozenset()  # and no multiple of these
    excluded: frozenset[Rational] = frozenset()
    plain: bool = False  # integers are not written with `.0`

    def contains(self, value: Rational) -> bool:
        """Is the number in the set?"""
        return (
            (self.low is None or value > self.low or (value == self.low and not self.low_open))
            and (
                self.high is None
                or value < self.high
                or (value == self.high and not self.high_open)
            )
            and (self.step is None or value % self.step == 0)
            and value not in self.excluded
            and all(value % step for step in self.no_steps)
        )

    @property
    def is_integral(self) -> bool:
        """Are all of them integers?"""
        return self.step is not None and self.step.denominator == 1

    def meets(
        self, low: Rational, high: Rational, *, high_open: bool, low_open: bool = False
    ) -> bool:
        """Is a number of the set in this interval?"""
        if self.low is not None and self.low >= low:
            low, low_open = self.low, self.low_open or (low_open and self.low == low)
        if self.high is not None and self.high <= high:
            high, high_open = self.high, self.high_open or (high_open and self.high == high)
        if low > high or (low == high and (low_open or high_open)):
            return False
        if self.step is None:
            return low < high or (
                low not in self.excluded and all(low % no for no in self.no_steps)
            )
        first = -((-low) // self.step) * self.step
        if low_open and first == low:
            first += self.step
        # one of every excluded number and of every few multiples may be out: look past them
        for _ in range(len(self.excluded) + 64):
            if first > high or (first == high and high_open):
                return False
            if first not in self.excluded and all(first % no for no in self.no_steps):
                return True
            first += self.step
        return False


class Number(Terminal):
    """The JSON numbers of a set, with at most INT_DIGITS and FRACTION_DIGITS digits.

    Integers may be written with the fraction `.0`. Exponents are allowed where the set is all
    numbers of a sign or of both.
    """

    def __init__(self, numbers: NumberSet) -> None:
        self._set = numbers = replace(
            numbers,
            low=None if numbers.low is None else _reckoned(numbers.low),
            high=None if numbers.high is None else _reckoned(numbers.high),
            step=None if numbers.step is None else _reckoned(numbers.step),
            no_steps=frozenset(map(_reckoned, numbers.no_steps)),
            excluded=frozenset(map(_reckoned, numbers.excluded)),
        )
        self.start: Key = "start"
        self._exponent = (
            numbers.step is None
            and not numbers.excluded
            and not numbers.no_steps
            and numbers.high in (None, 0)
            and numbers.low in (None, 0)
        )

    @cached_property
    def is_empty(self) -> bool:
        """Is there no number in the set, within the digits?"""
        low, high, step = self._set.low, self._set.high, self._set.step or 1
        likely = [0, step, -step]
        likely += [] if low is None else [low, low // step * step + step]
        likely += [] if high is None else [high, -(-high // step) * step - step]
        if any(_is_short(value) and self._set.contains(value) for value in likely):
            return False
        return not self.transitions(self.start)

    def is_surely_large(self, num: int) -> bool:
        """Are there more numbers than so many?"""
        if self._set.no_steps:
            return False
        most = 10**INT_DIGITS - 1
        low = -most if self._set.low is None else max(self._set.low, -most)
        high = most if self._set.high is None else min(self._set.high, most)
        step = self._set.step or Fraction(1, 10**9)
        return bool(high - low > step * (num + 2 + len(self._set.excluded)))

    def transitions(self, key: Key) -> dict[int, Key]:
        """Digits, sign, point and exponent that can lead to a number of the set."""
        out: dict[int, Key] = {}
        if key == "start":
            if any(self._digit(True, None, digit) is not None for digit in range(10)):
                out[0x2D] = "-"
            key = None
        kind = key[0] if isinstance(key, tuple) else None
        if kind is None:
            self._digits(out, key == "-", None)
        elif kind in ("int", "free"):
            if key[2] != 0:  # no digits after a leading zero
                self._digits(out, key[1], key)
            self._point(out, key)
        elif kind in ("frac", "any", "zero"):
            self._more_fraction(out, key)
        elif kind == "e":
            out.update(dict.fromkeys(b"+-", ("sign",)))
            out.update(dict.fromkeys(b"0123456789", ("exp", 1)))
        elif kind == "sign":
            out.update(dict.fromkeys(b"0123456789", ("exp", 1)))
        elif key[1] < EXPONENT_DIGITS:
            out.update(dict.fromkeys(b"0123456789", ("exp", key[1] + 1)))
        return out

    def label(self, key: Key) -> int | None:
        """Ends where the number so far is in the set."""
        if not isinstance(key, tuple):
            return None
        kind = key[0]
        if kind == "int":
            return 0 if self._set.contains(self._value(key[1], key[2])) else None
        if kind == "free":
            return 0 if key[3][0] == _IN and key[4] == 0 else None
        if kind == "frac":
            return 0 if key[3] and self._set.contains(self._value(key[1], key[2])) else None
        if kind == "any":
            return 0 if key[2] and key[3] == 0 else None
        if kind == "zero":
            return 0 if key[1] else None
        return 0 if kind == "exp" else None

    def distance(self, key: Key) -> int:
        """The digits that a whole number still needs."""
        if not isinstance(key, tuple) or not self._set.is_integral:
            return 0
        if key[0] == "free":
            return self._more_digits(key[3], key[4]) or 0
        if key[0] != "int" or self.label(key) is not None:
            return 0
        _, negative, value, count = key
        for k in range(1, INT_DIGITS - count + 1):
            if self._meets(negative, value * 10**k, 10**k):
                return k
        return 0

    def _value(self, negative: bool, value: Rational) -> Rational:
        return -value if negative else value

    # -- the integer part. Keys: ("int", negative, P, digits) and, where P does not matter,
    #    ("free", negative, None, status for each k, P modulo the step)

    def _digits(self, out: dict[int, Key], negative: bool, key: Any) -> None:
        for digit in range(10):
            following = self._digit(negative, key, digit)
            if following is not None:
                out[0x30 + digit] = following

    def _digit(self, negative: bool, key: Any, digit: int) -> Key | None:
        if key is not None and key[0] == "free":
            return self._free(negative, key[3][1:], self._residue(key[4] * 10 + digit))
        before, count = (0, 0) if key is None else (key[2], key[3])
        value = before * 10 + digit
        more = 0 if value == 0 else INT_DIGITS - count - 1
        if more < 0:
            return None
        statuses = self._statuses(negative, value, more)
        if value and _PART not in statuses and not self._set.no_steps:
            return self._free(negative, statuses, self._residue(value))
        alive = any(
            status != _OUT and self._meets(negative, value * 10**k, 10**k)
            for k, status in enumerate(statuses)
        )
        return ("int", negative, value, count + 1) if alive else None

    def _free(self, negative: bool, statuses: tuple[int, ...], residue: Rational) -> Key | None:
        if self._more_digits(statuses, residue) is None:
            return None
        return ("free", negative, None, statuses, residue)

    def _more_digits(self, statuses: tuple[int, ...], residue: Rational) -> int | None:
        """How many lead to a number of the set, at least; None if none do."""
        step = self._set.step
        for k, status in enumerate(statuses):
            if status == _IN and (step is None or (-residue * 10**k) % step < 10**k):
                return k
        return None

    def _residue(self, value: Rational) -> Rational:
        return 0 if self._set.step is None else value % self._set.step

    def _meets(self, negative: bool, low: Rational, size: Rational) -> bool:
        """Is a number of the set in [low, low + size), or mirrored below zero?"""
        if negative:
            return self._set.meets(-low - size, -low, low_open=True, high_open=False)
        return self._set.meets(low, low + size, high_open=True)

    def _statuses(self, negative: bool, value: int, more: int) -> tuple[int, ...]:
        """Of each number of further digits, 0 to `more`. Intervals only move away from zero: past
        the far bound, or on the other side of zero, they stay out, and once past the near one with
        no far one they stay in."""
        far = self._set.low if negative else self._set.high
        out: list[int] = []
        for k in range(more + 1):
            past = value * 10**k
            status = self._against(negative, past, 10**k)
            out.append(status)
            if value and (
                (status == _IN and not self._set.excluded)
                if far is None
                else (status == _OUT and (past > abs(far) or (far < 0) != negative))
            ):
                out += [status] * (more - k)
                break
        return tuple(out)

    def _against(self, negative: bool, low: Rational, size: Rational) -> int:
        """[low, low + size), or its mirror, against range and exclusions."""
        numbers = self._set
        first, last = (-low - size, -low) if negative else (low, low + size)
        if (numbers.high is not None and first > numbers.high) or (
            numbers.low is not None and last < numbers.low
        ):
            return _OUT
        inside = (
            numbers.low is None
            or first > numbers.low
            or (first == numbers.low and not numbers.low_open)
        ) and (
            numbers.high is None
            or last < numbers.high
            or (last == numbers.high and not numbers.high_open)
        )
        if inside and not any(first <= value <= last for value in numbers.excluded):
            return _IN
        return _PART

    # -- the fraction. Keys: ("frac", negative, value, digits); ("any", digits left, some read,
    #    residue) where all continuations are in range; ("zero", read) for the `.0` of integers

    def _point(self, out: dict[int, Key], key: Any) -> None:
        if self._set.is_integral:
            if self.label(key) is not None and not self._set.plain:
                out[0x2E] = ("zero", False)
            return
        if key[0] == "free":
            if key[3][0] == _IN and self._any(FRACTION_DIGITS, False, key[4], 1):
                out[0x2E] = ("any", FRACTION_DIGITS, False, key[4])
        elif self._meets(key[1], key[2], 1):
            out[0x2E] = ("frac", key[1], Fraction(key[2]), 0)
        if self._exponent and self.label(key) is not None:
            out.update(dict.fromkeys(b"eE", ("e",)))

    def _any(self, left: int, read: bool, residue: Rational, size: Rational) -> Key | None:
        step = self._set.step
        alive = step is None or (-residue) % step < size
        return ("any", left, read, residue) if alive else None

    def _more_fraction(self, out: dict[int, Key], key: Any) -> None:
        if key[0] == "zero":
            if not key[1]:
                out[0x30] = ("zero", True)
            return
        left = key[1] if key[0] == "any" else FRACTION_DIGITS - key[3]
        unit = Fraction(1, 10 ** (FRACTION_DIGITS - left + 1))
        for digit in range(10 if left else 0):
            if key[0] == "any":
                following = self._any(left - 1, True, self._residue(key[3] + digit * unit), unit)
            else:
                value = key[2] + digit * unit
                following = ("frac", key[1], value, key[3] + 1)
                if self._against(key[1], value, unit) == _IN and not self._set.no_steps:
                    following = self._any(left - 1, True, self._residue(value), unit)
                elif not self._meets(key[1], value, unit):
                    following = None
            if following is not None:
                out[0x30 + digit] = following
        if self._exponent and self.label(key) is not None:
            out.update(dict.fromkeys(b"eE", ("e",)))


def _reckoned(value: Rational) -> Rational:
    return value.numerator if value.denominator == 1 else value


def _is_short(value: Rational) -> bool:
    """Can it be written within the digits?"""
    digits = value * 10**FRACTION_DIGITS
    return bool(abs(value) < 10**INT_DIGITS) and digits.denominator == 1


class PlainNumber(Terminal):
    """The numbers of a `Number`, each written in one way: no exponent, no `-0`, no zeros at the end
    of a fraction. Key: (the number's, is its last digit a zero of the fraction?)."""

    def __init__(self, inner: Number) -> None:
        self._inner = inner
        self.start: Key = (inner.start, False)
        self._lives: dict[Key, bool] = {}

    def transitions(self, key: Key) -> dict[int, Key]:
        """Digits, sign and point."""
        return {byte: target for byte, target in self._moves(key) if self._is_live(target)}

    def _moves(self, key: Key) -> Iterator[tuple[int, Key]]:
        inner_key = key[0]
        is_fraction = isinstance(inner_key, tuple) and inner_key[0] in ("frac", "any", "zero")
        for byte, target in self._inner.transitions(inner_key).items():
            if byte not in b"eE":
                yield byte, (target, byte == 0x2E or (is_fraction and byte == 0x30))

    def _is_live(self, key: Key) -> bool:
        """Does a number end here or further on? At most all digits deep."""
        found = self._lives.get(key)
        if found is None:
            ends = self.label(key) is not None
            found = ends or any(self._is_live(target) for _, target in self._moves(key))
            self._lives[key] = found
        return found

    def distance(self, key: Key) -> int:
        """As the number."""
        return self._inner.distance(key[0])

    def label(self, key: Key) -> int | None:
        """As the number; not after a zero that says nothing."""
        inner_key, is_open = key
        is_minus_zero = isinstance(inner_key, tuple) and inner_key[:3] == ("int", True, 0)
        return None if is_open or is_minus_zero else self._inner.label(inner_key)


@lru_cache(maxsize=4096)
def plain_number(inner: Number) -> PlainNumber:
    """One terminal for each number."""
    return PlainNumber(inner)


@lru_cache(maxsize=4096)
def number(numbers: NumberSet) -> Number:
    """One terminal for each set, so that its lexer states are shared."""
    return Number(numbers)
