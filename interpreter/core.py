"""The data of one program state: its pieces, its named results, and how expressions extend it."""

import hashlib
from collections.abc import Iterator
from typing import Any

import msgspec

from ramify.interpreter.call import Call, Prefill, Work
from ramify.interpreter.failure import Failure
from ramify.interpreter.graph import GraphNode, NodeKind, preview
from ramify.interpreter.loop import Watch
from ramify.interpreter.pieces import Piece, RoleMark
from ramify.interpreter.requests import Generation, Selection
from ramify.interpreter.results import Answered, Result, Scope
from ramify.interpreter.run import Run
from ramify.interpreter.waiting import block, pause
from ramify.lang.errors import InvalidRequest, ProgramError
from ramify.lang.expr import Gen, RoleBegin, RoleEnd, Select, Text, Visitor
from ramify.lang.options import CallOptions


class StateCore(Visitor):
    """What `ProgramState` is a handle to. Appended to by one thread; read by any."""

    def __init__(self, run: Run, path: str = "0") -> None:
        self.run = run
        self.path = path
        self.pieces: list[Piece] = []
        self.results: dict[str, Result] = {}
        self.roles: tuple[str, ...] = ()  # of all messages so far, the open one included
        self.open_role: str | None = None
        self.own: list[Work] = []  # calls appended here, not in the state it was forked from
        self.set_here: set[str] = set()  # names given here, likewise
        self.num_inherited = 0  # pieces it was forked with
        self.group: str | None = None  # fork group
        self.tip: tuple[int, ...] = ()  # graph nodes that the next one continues
        self.flushed = 0  # pieces that the graph has
        self.num_forks = 0
        self.is_cancelled = False
        self.failure: Failure | None = None  # the program itself raised
        self.watch = Watch()  # fires when pieces or results are added, and at the end
        self.return_value: Any = None

    # -- appending

    def text(self, expr: Text) -> None:
        """Append constant text."""
        if expr.text:
            self._append(expr.text)

    def role_begin(self, expr: RoleBegin) -> None:
        """Open a message."""
        if self.open_role is not None:
            raise InvalidRequest(
                f"{expr.role} begins inside an open {self.open_role} message: messages do not "
                f"nest; end it first with {self.open_role}_end()",
                code="nested_roles",
            )
        self.open_role = expr.role
        self.roles = (*self.roles, expr.role)
        self._append(RoleMark(self.roles, begins=True, is_generated=expr.is_generated))

    def role_end(self, expr: RoleEnd) -> None:
        """Close the open message."""
        if self.open_role != expr.role:
            is_open = (
                f"the open message is {self.open_role}'s"
                if self.open_role
                else "no message is open"
            )
            raise InvalidRequest(
                f"{expr.role}_end() without its beginning: {is_open}", code="nested_roles"
            )
        self.open_role = None
        self._append(RoleMark(self.roles, begins=False))

    def gen(self, expr: Gen) -> None:
        """Submit a generation."""
        options = self._options(expr)
        prefill, node = self._nodes("generate", expr)
        work = Generation(self.run, expr, tuple(self.pieces), node, options, self.group)
        self._submit(expr, work, prefill)

    def select(self, expr: Select) -> None:
        """Submit a choice."""
        prefill, node = self._nodes("select", expr)
        work = Selection(self.run, expr, tuple(self.pieces), node)
        self._submit(expr, work, prefill)

    def set_result(self, name: str, result: Result) -> None:
        """Give a name to a result; an earlier one of that name is forgotten."""
        self.results[name] = result
        self.set_here.add(name)
        self.watch.fire()

    def _options(self, expr: Gen) -> CallOptions:
        options = expr.overrides.apply(self.run.options)
        sampling, result = options.sampling, expr.result
        changes: dict[str, Any] = {}
        if result.regex is not None or result.json_schema is not None:
            changes = {"regex": result.regex, "json_schema": result.json_schema}
            changes["stop"] = tuple(dict.fromkeys((*sampling.stop, *result.stop)))
        if sampling.seed is not None and "seed" not in expr.overrides.sampling:
            changes["seed"] = _derived_seed(sampling.seed, f"{self.path}:{len(self.own)}")
        if changes:
            options = options._replace(sampling=msgspec.structs.replace(sampling, **changes))
        options.check()
        return options

    def _append(self, piece: Piece) -> None:
        self.pieces.append(piece)
        self.watch.fire()

    def _submit(self, expr: Gen | Select, work: Work, prefill: Prefill | None) -> None:
        work.prefill = prefill
        call = Call(work)
        self.own.append(work)
        self._append(call)
        self.flushed = len(self.pieces)
        if expr.name is not None:
            self.set_result(expr.name, Answered(call))
        if self.is_cancelled:
            work.cancel()
        work.submit()

    # -- the graph

    def _nodes(self, kind: NodeKind, expr: Gen | Select) -> tuple[Prefill | None, GraphNode]:
        prefill = self.flush()
        node = self.run.graph.add(kind, self.tip, self.path, expr.name or "", str(expr.where))
        self.tip = (node.id,)
        return prefill, node

    def flush(self) -> Prefill | None:
        """Give the graph a node for the text that it does not have yet, if there is some."""
        start, self.flushed = self.flushed, len(self.pieces)
        if start == len(self.pieces):
            return None
        label = " ".join(_label(piece) for piece in self.pieces[start:])
        node = self.run.graph.add("prefill", self.tip, self.path, preview(label))
        self.tip = (node.id,)
        return Prefill(node, start)

    # -- forks, ends

    def fork(self, size: int) -> list["StateCore"]:
        """`size` states that go on from here."""
        self.flush()
        node = self.run.graph.add("fork", self.tip, self.path, f"{size}")
        self.tip = (node.id,)
        first = self.num_forks
        self.num_forks += size
        return [
            self._child(f"{self.path}.{first + i}", f"{self.run.id}-{node.id}") for i in range(size)
        ]

    def _child(self, path: str, group: str) -> "StateCore":
        child = StateCore(self.run, path)
        child.pieces = list(self.pieces)
        child.results = dict(self.results)
        child.roles, child.open_role = self.roles, self.open_role
        child.num_inherited = child.flushed = len(self.pieces)
        child.group = group
        child.tip = self.tip
        return child

    def concatenate(self, children: list["StateCore"]) -> None:
        """Append what the forks appended, in their order."""
        for child in children:
            if child.open_role != self.open_role:
                raise InvalidRequest(
                    f"fork {child.path} cannot be appended: it leaves a message open or closes "
                    "one that it did not begin",
                    code="nested_roles",
                )
        for child in children:
            self.pieces.extend(child.pieces[child.num_inherited :])
            self.roles = (*self.roles, *child.roles[len(self.roles) :])
        self.watch.fire()

    def join_node(self, children: list["StateCore"], mode: str) -> None:
        """Record a join in the graph."""
        if mode == "concate_and_append":
            for child in children:
                child.flush()
        self.flush()
        inputs = dict.fromkeys((*self.tip, *(tip for child in children for tip in child.tip)))
        node = self.run.graph.add("join", tuple(inputs), self.path, mode)
        self.tip = (node.id,)

    def cancel(self) -> None:
        """Cancel this state's calls that are not over, and later ones."""
        self.is_cancelled = True
        for work in self.own:
            work.cancel()

    def settle(self) -> None:
        """Wait on this thread until all calls of this state are over; raise what failed."""
        for call in self.calls():
            block(call.work.done, is_async=False)
        self._raise_failed()

    async def async_settle(self) -> None:
        """`settle` on the running event loop."""
        for call in self.calls():
            if not call.work.done.done():
                await pause(call.work.done)
        self._raise_failed()

    def _raise_failed(self) -> None:
        """Raise the first failure of this state, else the first in a fork that nobody has read."""
        own = (call.work.failure for call in self.calls())
        unread = (failure for failure in tuple(self.run.failures) if not failure.is_seen)
        for failure in (*own, *unread):
            if failure is not None:
                raise failure.error()

    def end(self, error: BaseException | None) -> None:
        """The program's function is over; `error` is what it raised."""
        if error is not None:
            if isinstance(error, ProgramError):
                self.failure = Failure(error.message, error.__cause__ or error)
            else:
                message = f"{self.run.program}() raised {type(error).__name__}: {error}"
                self.failure = Failure(message, error)
            self.run.cancel()  # after the failure is there: it is why these calls end
        self.run.ended.set_result(None)
        self.watch.fire()

    # -- reading

    def calls(self) -> Iterator[Call]:
        """All calls of the text and of the results."""
        for piece in tuple(self.pieces):
            if isinstance(piece, Call):
                yield piece
        for result in tuple(self.results.values()):
            if not isinstance(result, Scope):  # a scope's calls are in the text
                yield from result.calls()


def _label(piece: Piece) -> str:
    if isinstance(piece, str):
        return piece
    if isinstance(piece, RoleMark):
        return f"[{piece.roles[-1]}]" if piece.begins else f"[/{piece.roles[-1]}]"
    return "..."  # an answer that a join appended


def _derived_seed(seed: int, place: str) -> int:
    """A seed of its own for each call of a run, the same in every run of the program."""
    digest = hashlib.blake2b(f"{seed}/{place}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1
