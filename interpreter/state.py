"""`ProgramState`, the first argument of every program; `ProgramStateGroup`, what `fork` gives."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal, Self, TypeVar, overload

from ramify.interpreter.core import StateCore
from ramify.interpreter.graph import RequestGraph
from ramify.interpreter.reading import Reader
from ramify.interpreter.results import Gathered, Scope, Value
from ramify.interpreter.waiting import Steps, afinish, block, finish, pause
from ramify.lang.errors import InvalidRequest, ProgramError, UnknownResult
from ramify.lang.expr import Appendable, Expr, RoleBegin, RoleEnd, as_expr

T = TypeVar("T")
JoinMode = Literal["gather_variable", "concate_and_append"]


class ProgramState:
    """A text that grows by `+=`, with named results.

    Appending never waits: calls run as soon as what they depend on is known, those of forks beside
    each other. Reading waits, and raises `ProgramError` when what it needs has failed. Results are
    also attributes (`s.answer`) where no method has their name. A name used again means the latest
    result. In an async program, `await s.get(name)` or `await s.wait()` before plain reads.

    Dropping a state, or leaving `with` on it, cancels its calls that still run.
    """

    def __init__(self, core: StateCore, *, follows: bool = False) -> None:
        self._core = core
        self._follows = follows  # the program may still run on another thread
        self._reader = Reader(core, follows=follows)

    # -- appending

    def __iadd__(self, other: Appendable) -> Self:
        as_expr(other).accept(self._core)
        return self

    def __setitem__(self, name: str, value: object) -> None:
        self._core.set_result(name, Value(value))

    @overload
    def system(self) -> AbstractContextManager[None]: ...
    @overload
    def system(self, expr: Appendable) -> None: ...
    def system(self, expr: Appendable | None = None) -> AbstractContextManager[None] | None:
        """Append a message by the system; without argument, a context to append it in."""
        return self._role("system", expr)

    @overload
    def user(self) -> AbstractContextManager[None]: ...
    @overload
    def user(self, expr: Appendable) -> None: ...
    def user(self, expr: Appendable | None = None) -> AbstractContextManager[None] | None:
        """Append a message by the user; without argument, a context to append it in."""
        return self._role("user", expr)

    @overload
    def assistant(self) -> AbstractContextManager[None]: ...
    @overload
    def assistant(self, expr: Appendable) -> None: ...
    def assistant(self, expr: Appendable | None = None) -> AbstractContextManager[None] | None:
        """Append a message by the assistant; without argument, a context to append it in."""
        return self._role("assistant", expr)

    @contextmanager
    def var_scope(self, name: str) -> Iterator[None]:
        """Name the text that is appended inside."""
        core = self._core
        scope, start = Scope(name), len(core.pieces)
        core.set_result(name, scope)
        yield
        scope.close(tuple(core.pieces[start:]))

    def fork(self, size: int = 1) -> "ProgramStateGroup":
        """`size` states that go on from here, beside each other."""
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise InvalidRequest(f"size={size!r}: a fork needs an integer of at least 1")
        return ProgramStateGroup([ProgramState(core) for core in self._core.fork(size)], self)

    def copy(self) -> "ProgramState":
        """One state that goes on from here; `with s.copy() as t` cancels it at the end."""
        return self.fork(1)[0]

    # -- reading

    def __getitem__(self, name: str) -> Any:
        return self._read(self._reader.value(name))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self[name]
        except UnknownResult as error:
            raise AttributeError(error.message) from None

    def __contains__(self, name: str) -> bool:
        """Whether a result has this name, finished or not; raises if the program failed."""
        try:
            self._read(self._reader.name(name))
        except UnknownResult:
            return False
        return True

    async def get(self, name: str) -> Any:
        """`s[name]` for async programs."""
        return await afinish(self._reader.value(name))

    def text(self) -> str:
        """The whole text."""
        return self._read(self._reader.text())

    def messages(self) -> list[dict[str, str]]:
        """The chat messages, each a dict with `role` and `content`."""
        return self._read(self._reader.messages())

    def get_meta_info(self, name: str) -> Any:
        """What the backend told about a result: tokens, times, log-probabilities (a dict)."""
        return self._read(self._reader.meta_info(name))

    def sync(self) -> None:
        """Wait until everything is done."""
        self._read(self._reader.all())

    async def wait(self) -> None:
        """`sync` for async programs; after it, every read is immediate."""
        await afinish(self._reader.all())

    def error(self) -> ProgramError | None:
        """Wait until everything is done; the error that reading would raise, or None."""
        try:
            self.sync()
        except ProgramError as error:
            return error
        return None

    def text_iter(self, var_name: str | None = None) -> Iterator[str]:
        """The text, or that of one result, as it comes."""
        for item in self._reader.chunks(var_name):
            if isinstance(item, Future):
                block(item, is_async=self._is_async())
            else:
                yield item.text

    @overload
    def text_async_iter(self, var_name: str | None = None) -> AsyncIterator[str]: ...
    @overload
    def text_async_iter(
        self, var_name: str | None = None, *, return_meta_data: Literal[True]
    ) -> AsyncIterator[tuple[str, Any]]: ...
    async def text_async_iter(
        self, var_name: str | None = None, *, return_meta_data: bool = False
    ) -> AsyncIterator[Any]:
        """`text_iter` on an event loop; with `return_meta_data`, pairs of text and `meta_info`.

        `meta_info` is None for constant text; its log-probabilities are those of the new text.
        """
        for item in self._reader.chunks(var_name):
            if isinstance(item, Future):
                await pause(item)
            else:
                yield (item.text, item.meta_info) if return_meta_data else item.text

    @property
    def graph(self) -> RequestGraph:
        """What the whole run asked for so far, and what it cost."""
        return self._core.run.graph

    @property
    def ret_value(self) -> Any:
        """What the program's function returned."""
        self.sync()
        return self._core.return_value

    # -- ending

    def cancel(self) -> None:
        """Cancel what still runs, and later calls; reading them raises."""
        if self._follows:
            self._core.run.cancel()
        else:
            self._core.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()

    def __del__(self) -> None:
        if self._follows and not self._core.run.ended.done():
            self._core.run.cancel()  # nobody reads on: the program on its thread need not go on

    def __repr__(self) -> str:
        names = ", ".join(self._core.results)
        return f"<ProgramState of {self._core.run.program}(): results {names or 'none'}>"

    def _is_async(self) -> bool:
        return self._core.run.is_async and not self._core.run.ended.done()

    def _read(self, steps: Steps[T]) -> T:
        return finish(steps, is_async=self._is_async())

    def _role(self, role: str, expr: Appendable | None) -> AbstractContextManager[None] | None:
        if expr is None:
            return self._message(role)
        self._core.role_begin(RoleBegin(role))
        as_expr(expr).accept(self._core)
        self._core.role_end(RoleEnd(role))
        return None

    @contextmanager
    def _message(self, role: str) -> Iterator[None]:
        self._core.role_begin(RoleBegin(role))
        try:
            yield
        finally:
            self._core.role_end(RoleEnd(role))


class ProgramStateGroup:
    """The states of a fork. Leaving `with` on it cancels those that still run."""

    def __init__(self, states: list[ProgramState], source: ProgramState) -> None:
        self._states = states
        self._source = source

    def __len__(self) -> int:
        return len(self._states)

    def __iter__(self) -> Iterator[ProgramState]:
        return iter(self._states)

    def __getitem__(self, index: int) -> ProgramState:
        return self._states[index]

    def __setitem__(self, index: int, value: ProgramState) -> None:
        if value is not self._states[index]:  # `forks[i] += x` ends here with the same state
            raise TypeError("a fork cannot be replaced; append to it with +=")

    def __iadd__(
        self, other: Appendable | Sequence[Appendable] | Callable[[int], Appendable]
    ) -> Self:
        """Append the same to all, one of a list to each, or what a function of the index gives."""
        for index, part in enumerate(self._parts(other)):
            self._states[index] += part
        return self

    def join(self, mode: JoinMode = "gather_variable") -> None:
        """Wait for all forks, then bring what they made into the state they were forked from.

        "gather_variable": each name that forks gave a result becomes a list of theirs.
        "concate_and_append": what they appended is appended, in their order, as the tokens it is.
        In an async program, `await forks.wait()` first.
        """
        if mode not in ("gather_variable", "concate_and_append"):
            raise InvalidRequest(
                f'mode={mode!r}: must be "gather_variable" or "concate_and_append"', param="mode"
            )
        for state in self._states:
            state.sync()
        source, cores = self._source._core, [state._core for state in self._states]
        source.join_node(cores, mode)
        if mode == "concate_and_append":
            source.concatenate(cores)
            return
        for name in dict.fromkeys(name for core in cores for name in core.set_here):
            theirs = [core.results[name] for core in cores if name in core.set_here]
            source.set_result(name, Gathered(theirs))

    async def wait(self) -> None:
        """Wait until all forks are done; for async programs."""
        for state in self._states:
            await state.wait()

    def cancel(self) -> None:
        """Cancel what still runs in any of them."""
        for state in self._states:
            state.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()

    def _parts(
        self, other: Appendable | Sequence[Appendable] | Callable[[int], Appendable]
    ) -> Sequence[Appendable]:
        if isinstance(other, str | Expr):
            return [other] * len(self._states)
        if callable(other):
            return [other(index) for index in range(len(self._states))]
        if isinstance(other, Sequence) and len(other) == len(self._states):
            return other
        raise TypeError(
            f"cannot append {other!r} ({type(other).__name__}) to {len(self._states)} forks: "
            "must be a str, an expression, a function of the index, or a list of one per fork"
        )
