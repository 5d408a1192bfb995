"""Expressions: what `s += ...` accepts besides text.

    Expr
    |-- Text             constant text
    |-- RoleBegin        opening of a chat message
    |-- RoleEnd          its closing
    |-- Gen              the model continues the text
    |-- Select           the model's likeliest of some given texts
    `-- Sequence         several of these, in order; made by `+`

Expressions are immutable: one may be appended to many states. Each names its visitor method, so
whoever runs them implements `Visitor` and no ladder of isinstance.
"""

import os
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Union

from ramify.lang.errors import InvalidRequest

if TYPE_CHECKING:
    from ramify.lang.choices import ChoicesMethod
    from ramify.lang.options import Overrides
    from ramify.lang.results import ResultType

Appendable = Union[str, "Expr"]


class CallSite(NamedTuple):
    """Where in the user's code a call was written."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{os.path.basename(self.file)}:{self.line}"


def call_site() -> CallSite:
    """The nearest frame outside the language and the interpreter."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(_OURS):
        frame = frame.f_back
    return CallSite(frame.f_code.co_filename, frame.f_lineno)


_OURS = ("ramify.lang.", "ramify.interpreter.")


class Visitor(ABC):
    """Whoever runs expressions."""

    @abstractmethod
    def text(self, expr: "Text") -> None:
        """Append constant text."""

    @abstractmethod
    def role_begin(self, expr: "RoleBegin") -> None:
        """Open a message."""

    @abstractmethod
    def role_end(self, expr: "RoleEnd") -> None:
        """Close the open message."""

    @abstractmethod
    def gen(self, expr: "Gen") -> None:
        """Let the model continue."""

    @abstractmethod
    def select(self, expr: "Select") -> None:
        """Let the model choose."""


class Expr(ABC):
    """Something that can be appended to a state."""

    __slots__ = ()

    @abstractmethod
    def accept(self, visitor: Visitor) -> None:
        """Call the visitor's method for this kind of expression."""

    def __add__(self, other: Appendable) -> "Sequence":
        return Sequence((*_parts(self), *_parts(as_expr(other))))

    def __radd__(self, other: str) -> "Sequence":
        return Sequence((*_parts(as_expr(other)), *_parts(self)))


@dataclass(frozen=True, slots=True)
class Text(Expr):
    """Constant text."""

    text: str

    def accept(self, visitor: Visitor) -> None:
        """Call `visitor.text`."""
        visitor.text(self)


@dataclass(frozen=True, slots=True)
class RoleBegin(Expr):
    """The opening of a message by `role`."""

    role: str
    is_generated: bool = True  # may the model speak in it? False: its text is given as a whole

    def accept(self, visitor: Visitor) -> None:
        """Call `visitor.role_begin`."""
        visitor.role_begin(self)


@dataclass(frozen=True, slots=True)
class RoleEnd(Expr):
    """The closing of a message by `role`."""

    role: str

    def accept(self, visitor: Visitor) -> None:
        """Call `visitor.role_end`."""
        visitor.role_end(self)


@dataclass(frozen=True, slots=True, eq=False)
class Gen(Expr):
    """The model continues the state; the answer is read as `s[name]`."""

    name: str | None
    overrides: "Overrides"  # what the call says of sampling; the rest is the run's
    result: "ResultType"  # what the answer's text must look like and becomes
    where: CallSite

    def accept(self, visitor: Visitor) -> None:
        """Call `visitor.gen`."""
        visitor.gen(self)

    def __str__(self) -> str:
        return f'gen("{self.name}")' if self.name is not None else "gen()"


@dataclass(frozen=True, slots=True, eq=False)
class Select(Expr):
    """The likeliest of `choices` continues the state; it is read as `s[name]`."""

    name: str | None
    choices: tuple[str, ...]
    method: "ChoicesMethod"
    where: CallSite

    def accept(self, visitor: Visitor) -> None:
        """Call `visitor.select`."""
        visitor.select(self)

    def __str__(self) -> str:
        return f'select("{self.name}")' if self.name is not None else "select()"


@dataclass(frozen=True, slots=True)
class Sequence(Expr):
    """Several expressions, appended in order."""

    parts: tuple[Expr, ...]

    def accept(self, visitor: Visitor) -> None:
        """Let each part call its own method."""
        for part in self.parts:
            part.accept(visitor)


def as_expr(value: object) -> Expr:
    """`value` if it is an expression, `Text` if it is a string, else a `TypeError`."""
    if isinstance(value, str):
        return Text(value)
    if isinstance(value, Expr):
        return value
    raise TypeError(
        f"cannot append {value!r} ({type(value).__name__}) to a program's text: only str and "
        "expressions (gen, select, roles) can be appended; convert it with str(...)"
    )


def check_name(name: object) -> None:
    """Refuse a result name that is not a non-empty string."""
    if name is not None and (not isinstance(name, str) or not name):
        raise InvalidRequest(
            f"name={name!r}: the name of a result must be a non-empty string", param="name"
        )


def _parts(expr: Expr) -> tuple[Expr, ...]:
    return expr.parts if isinstance(expr, Sequence) else (expr,)
