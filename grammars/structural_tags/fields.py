"""Reading the JSON of a structural tag, field by field; what is wrong is named by its pointer."""

import json
from decimal import Decimal
from typing import Any

from ramify.grammars.errors import GrammarError
from ramify.grammars.limits import Budget

_REQUIRED = object()


class Fields:
    """The fields of one object. `finish` refuses those that nobody took."""

    def __init__(self, value: Any, at: str) -> None:
        if not isinstance(value, dict):
            raise fault(at, f"{_shown(value)} is not an object")
        self.given: dict[str, Any] = value
        self.at = at
        self._taken = set[str]()

    def take(self, name: str, default: Any = _REQUIRED) -> Any:
        """A field's value; null is as good as none where there is a default."""
        self._taken.add(name)
        value = self.given.get(name, _REQUIRED)
        if value is _REQUIRED or (value is None and default is not _REQUIRED):
            value = default
        if value is _REQUIRED:
            raise fault(self.at, f"has no {name!r}")
        return value

    def text(self, name: str, default: Any = _REQUIRED) -> str:
        """A string."""
        value = self.take(name, default)
        if not isinstance(value, str):
            raise self._wrong(name, value, "a string")
        return value

    def flag(self, name: str, *, default: bool = False) -> bool:
        """A boolean."""
        value = self.take(name, default)
        if not isinstance(value, bool):
            raise self._wrong(name, value, "true or false")
        return value

    def number(self, name: str, default: Any = _REQUIRED) -> int | None:
        """An integer."""
        value = self.take(name, default)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise self._wrong(name, value, "an integer")
        return value

    def items(self, name: str, default: Any = _REQUIRED) -> list[tuple[Any, str]]:
        """The elements of a list, each with its pointer. Not empty unless by default."""
        value = self.take(name, default)
        if not isinstance(value, list):
            raise self._wrong(name, value, "a list")
        if not value and default is _REQUIRED:
            raise fault(f"{self.at}/{name}", "is empty")
        return [(item, f"{self.at}/{name}/{index}") for index, item in enumerate(value)]

    def texts(self, name: str, default: Any = _REQUIRED) -> list[tuple[str, str]]:
        """A list of strings, none empty, each with its pointer."""
        found = self.items(name, default)
        for item, at in found:
            if not isinstance(item, str) or not item:
                raise fault(at, f"{_shown(item)} is not a string of one character or more")
        return found

    def rules(self) -> list[tuple[Any, Any, str]]:
        """The pairs of `rules`, each with its pointer."""
        found = self.items("rules")
        for item, at in found:
            if not isinstance(item, list) or len(item) != 2:
                raise fault(at, f"{_shown(item)} is not a pair: [pattern, format]")
        return [(item[0], item[1], at) for item, at in found]

    def constant(self, name: str, value: str, default: Any = _REQUIRED) -> None:
        """A field that can have one value only."""
        if self.take(name, default) != value:
            raise self._wrong(name, self.given[name], repr(value))

    def unserved(self, name: str, default: Any) -> None:
        """A field that is known, but must be left as it is by default."""
        value = self.take(name, default)
        if value != default:
            raise unserved(f"{self.at}/{name}", f"{name} is not served; leave it out")

    def finish(self) -> None:
        """Every field was taken."""
        for name in self.given:
            if name not in self._taken:
                known = ", ".join(sorted(self._taken))
                raise unserved(f"{self.at}/{name}", f"there is no such field here, but {known}")

    def _wrong(self, name: str, value: Any, wanted: str) -> GrammarError:
        return fault(f"{self.at}/{name}", f"{_shown(value)} is not {wanted}")


def read_json(text: str, budget: Budget) -> Any:
    """The value of a JSON text, within the limits."""
    if len(text) > budget.limits.spec_bytes:
        raise GrammarError(
            "grammar_too_complex", f"structural tag longer than {budget.limits.spec_bytes} bytes"
        )
    try:
        return json.loads(text, parse_float=_double, parse_constant=_double)
    except RecursionError as error:
        raise GrammarError(
            "grammar_too_complex", "structural tag: nested too deep to be read", pointer=""
        ) from error
    except GrammarError:
        raise
    except ValueError as error:
        raise GrammarError(
            "invalid_structural_tag", f"structural tag is not JSON: {error}"
        ) from error


def fault(at: str, why: str) -> GrammarError:
    """What is wrong at a pointer."""
    return GrammarError("invalid_structural_tag", f"structural tag {at or '#'}: {why}", pointer=at)


def unserved(at: str, why: str) -> GrammarError:
    """What is right, but not supported."""
    return GrammarError("unsupported_keyword", f"structural tag {at or '#'}: {why}", pointer=at)


def _double(text: str) -> float:
    """A number that is written again as it was."""
    value = float(text)
    if text.lstrip("-")[:1] not in "0123456789" or Decimal(repr(value)) != Decimal(text):
        raise GrammarError(
            "invalid_structural_tag",
            f"structural tag: the number {text} does not fit a 64-bit float",
        )
    return value


def _shown(value: Any) -> str:
    return json.dumps(value)[:80]
