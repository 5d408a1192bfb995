"""Rules in a form that a machine can enter without going round in circles: each can end, none is
empty, and none begins with itself (Paull's elimination)."""

from ramify.grammars.ebnf.items import Alternative, Ref, distinct
from ramify.grammars.errors import GrammarError
from ramify.grammars.limits import Budget

MAX_EXPANSION = 20_000  # symbols of all alternatives, once written out


class NormalForm:
    """The alternatives of each rule, brought into form step by step."""

    def __init__(self, budget: Budget) -> None:
        self.flat: dict[str, list[Alternative]] = {}
        self._budget = budget
        self._size = 0

    def new_rule(self) -> Ref:
        """A rule of our own."""
        return Ref(f"({len(self.flat)})")  # no grammar can write such a name

    def count(self, symbols: int) -> None:
        """Count symbols that are written out."""
        self._budget.tick()
        self._size += symbols
        if self._size > MAX_EXPANSION:
            raise GrammarError(
                "grammar_too_complex",
                f"grammar: more than {MAX_EXPANSION} symbols once written out; use smaller repeats",
            )

    def check_productive(self, start: str) -> None:
        """Drop alternatives that never end; `GrammarError` if the start is left with none."""
        productive = set[str]()
        changed = True
        while changed:
            changed = False
            for name, ways in self.flat.items():
                if name not in productive and any(_all_in(way, productive) for way in ways):
                    productive.add(name)
                    changed = True
        if start not in productive:
            raise GrammarError(
                "invalid_grammar", f"grammar: rule {start!r} can never end: no text is finite"
            )
        for name, ways in self.flat.items():
            self.flat[name] = [way for way in ways if _all_in(way, productive)]

    def remove_empty(self, start: str) -> bool:
        """Write out alternatives without their empty symbols; may the start be empty?"""
        empty = set[str]()
        changed = True
        while changed:
            changed = False
            for name, ways in self.flat.items():
                if name not in empty and any(
                    all(isinstance(symbol, Ref) and symbol.name in empty for symbol in way)
                    for way in ways
                ):
                    empty.add(name)
                    changed = True
        for name, ways in self.flat.items():
            out: list[Alternative] = []
            for way in ways:
                variants: list[Alternative] = [()]
                for symbol in way:
                    without = variants if isinstance(symbol, Ref) and symbol.name in empty else []
                    variants = [(*before, symbol) for before in variants] + without
                    self.count(len(variants))
                out += variants
            self.flat[name] = distinct(way for way in out if way and way != (Ref(name),))
        self._drop_hollow()
        return start in empty

    def _drop_hollow(self) -> None:
        """Rules that could only be empty have no alternatives left: take their users out."""
        changed = True
        while changed:
            hollow = {name for name, ways in self.flat.items() if not ways}
            changed = False
            for name, ways in self.flat.items():
                kept = [
                    way
                    for way in ways
                    if not any(isinstance(symbol, Ref) and symbol.name in hollow for symbol in way)
                ]
                if len(kept) < len(ways):
                    self.flat[name] = kept
                    changed = True

    def remove_left_recursion(self) -> None:
        """Paull: with the rules in order, none begins with an earlier one of its own circle."""
        for circle in self._left_circles():
            for at, name in enumerate(circle):
                for earlier in circle[:at]:
                    self._substitute(name, earlier)
                self._remove_direct(name)

    def _left_circles(self) -> list[list[str]]:
        """Groups of rules that reach one another through first symbols."""
        first = {
            name: {way[0].name for way in ways if isinstance(way[0], Ref)}
            for name, ways in self.flat.items()
        }
        reach: dict[str, set[str]] = {}
        for name in first:
            seen = set[str]()
            todo = list(first[name])
            while todo:
                self._budget.tick()
                other = todo.pop()
                if other not in seen:
                    seen.add(other)
                    todo += first[other]
            reach[name] = seen
        circles: list[list[str]] = []
        done = set[str]()
        for name in first:
            if name in reach[name] and name not in done:
                circle = [other for other in first if other in reach[name] and name in reach[other]]
                done.update(circle)
                circles.append(circle)
        return circles

    def _substitute(self, name: str, earlier: str) -> None:
        out: list[Alternative] = []
        for way in self.flat[name]:
            if way[0] == Ref(earlier):
                out += [start + way[1:] for start in self.flat[earlier]]
            else:
                out.append(way)
            self.count(len(out))
        self.flat[name] = distinct(way for way in out if way != (Ref(name),))

    def _remove_direct(self, name: str) -> None:
        """A -> A x | y  becomes  A -> y | y R,  R -> x | x R."""
        again = [way[1:] for way in self.flat[name] if way[0] == Ref(name)]
        if not again:
            return
        others = [way for way in self.flat[name] if way[0] != Ref(name)]
        rest = self.new_rule()
        self.flat[rest.name] = distinct([*again, *((*way, rest) for way in again)])
        self.flat[name] = distinct([*others, *((*way, rest) for way in others)])


def _all_in(way: Alternative, names: set[str]) -> bool:
    return all(not isinstance(symbol, Ref) or symbol.name in names for symbol in way)
