"""`@ramify.function`: a Python function as a program, and the ways to run it."""

import asyncio
import contextlib
import inspect
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import update_wrapper
from typing import Any, Literal, Unpack, overload

from ramify.interpreter.backends.mock import MockBackend
from ramify.interpreter.batch import (
    Invocation,
    finished_in_order,
    show_progress,
    start_tasks,
    start_threads,
)
from ramify.interpreter.core import StateCore
from ramify.interpreter.default import BackendLike, backend_or_default
from ramify.interpreter.graph import RequestGraph
from ramify.interpreter.loop import io_loop
from ramify.interpreter.run import Run
from ramify.interpreter.state import ProgramState
from ramify.interpreter.waiting import would_block
from ramify.lang.errors import unknown_argument
from ramify.lang.options import (
    RUN_NAMES,
    CallOptions,
    RunArguments,
    parse_options,
)

_NO_STATE = inspect.Parameter("none", inspect.Parameter.KEYWORD_ONLY)
_RESERVED = ("backend", "stream")  # keyword arguments of `run` itself


class Program:
    """A function whose first argument is a `ProgramState`.

    Keyword arguments of `run` that the function names are the function's; the others must be
    sampling options, and are the defaults of every `gen` in it. Calling the program is `run`.
    """

    def __init__(self, func: Callable[..., Any], bound: Mapping[str, Any] | None = None) -> None:
        update_wrapper(self, func)
        self._func = func
        self._bound = dict(bound or {})
        self._name = getattr(func, "__name__", type(func).__name__)
        self._is_async = inspect.iscoroutinefunction(func)
        self._signature = _signature(func, self._name)

    def run(
        self,
        *args: Any,
        backend: BackendLike | None = None,
        stream: bool = False,
        **kwargs: Any,
    ) -> ProgramState:
        """Run to the end and return the state; with `stream`, return at once and read as it goes.

        Raises what the function raises, and `ProgramError` for a call that failed. Within an event
        loop use `await async_run(...)`.
        """
        call = self._invocation(args, kwargs, backend)
        if stream:
            return self._started(call)
        if io_loop().is_current():
            raise would_block(f"await {self._name}.async_run(...)")
        if self._is_async:
            self._run_to_end(call)
        else:
            self._run_sync(call)
        return ProgramState(call.core)

    __call__ = run

    def stream(self, *args: Any, backend: BackendLike | None = None, **kwargs: Any) -> ProgramState:
        """`run(..., stream=True)`. Leaving `with` on the state, or dropping it, cancels the run."""
        return self.run(*args, backend=backend, stream=True, **kwargs)

    async def async_run(
        self, *args: Any, backend: BackendLike | None = None, **kwargs: Any
    ) -> ProgramState:
        """`run` for event loops: an async program as part of this one, another on a thread."""
        call = self._invocation(args, kwargs, backend)
        try:
            if self._is_async:
                await self._run_async(call)
            else:
                await asyncio.to_thread(self._run_sync, call)
        except asyncio.CancelledError:
            call.core.run.cancel()
            raise
        return ProgramState(call.core)

    @overload
    def run_batch(
        self,
        batch_kwargs: Sequence[Mapping[str, Any] | Sequence[Any]],
        *,
        backend: BackendLike | None = None,
        num_threads: int | Literal["auto"] = "auto",
        progress_bar: bool = False,
        generator_style: Literal[False] = False,
        **options: Unpack[RunArguments],
    ) -> list[ProgramState]: ...
    @overload
    def run_batch(
        self,
        batch_kwargs: Sequence[Mapping[str, Any] | Sequence[Any]],
        *,
        backend: BackendLike | None = None,
        num_threads: int | Literal["auto"] = "auto",
        progress_bar: bool = False,
        generator_style: Literal[True],
        **options: Unpack[RunArguments],
    ) -> Iterator[ProgramState]: ...
    def run_batch(
        self,
        batch_kwargs: Sequence[Mapping[str, Any] | Sequence[Any]],
        *,
        backend: BackendLike | None = None,
        num_threads: int | Literal["auto"] = "auto",
        progress_bar: bool = False,
        generator_style: bool = False,
        **options: Any,
    ) -> list[ProgramState] | Iterator[ProgramState]:
        """Run once per element: a dict of arguments, or a sequence of positional ones.

        At most `num_threads` programs run at once, on that many threads ("auto": 128; an async
        program needs no threads, and "auto" runs all at once). One state per element, in order. A
        program that failed does not disturb the others: reading its state raises its error, and
        `state.error()` is it. With `generator_style`, states are yielded as they are finished, in
        order; closing the generator cancels the rest.
        """
        if io_loop().is_current():
            raise would_block("asyncio.gather over async_run(...)")
        chosen = backend_or_default(backend)
        calls = []
        for element in batch_kwargs:
            is_dict = isinstance(element, Mapping)
            args: tuple[Any, ...] = () if is_dict else tuple(element)
            named: Mapping[str, Any] = element if isinstance(element, Mapping) else {}
            self._check_options(named, options)
            calls.append(self._invocation(args, {**named, **options}, chosen))
        if self._is_async:
            futures = start_tasks(self._run_async, calls, num_threads)
        else:
            futures = start_threads(self._run_sync, calls, num_threads)
        if progress_bar:
            show_progress(futures)
        states = (ProgramState(core) for core in finished_in_order(calls, futures))
        return states if generator_style else list(states)

    def bind(self, **kwargs: Any) -> "Program":
        """This program with some of its arguments given; a call's own arguments win."""
        for name in kwargs:
            if name not in self._signature.parameters:
                raise unknown_argument(name, frozenset(self._signature.parameters), self._label())
        return Program(self._func, {**self._bound, **kwargs})

    def trace(self, *args: Any, backend: BackendLike | None = None, **kwargs: Any) -> RequestGraph:
        """The request graph of a run without a model.

        The function runs as it is, and reads placeholders for answers: "mock" for text, 0, "" or
        False for a `dtype`, the first of `choices`. Where the flow depends on answers, or a
        `schema` needs one, pass a `MockBackend` with the answers to assume.
        """
        chosen = MockBackend() if backend is None else backend
        return self.run(*args, backend=chosen, **kwargs).graph.without_costs()

    def __repr__(self) -> str:
        return f"<Program {self._name}{self._signature}>"

    def _label(self) -> str:
        return f"{self._name}()"

    def _check_options(self, named: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        """In a batch, options of the run and arguments of the elements must not be mixed up."""
        for name in named:
            if name not in self._signature.parameters:
                raise unknown_argument(name, frozenset(self._signature.parameters), self._label())
        for name in options:
            if name in self._signature.parameters:
                raise TypeError(
                    f"{name!r} is an argument of {self._label()}: give it in each element of the "
                    f"batch, or with bind({name}=...)"
                )

    def _invocation(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], backend: BackendLike | None
    ) -> Invocation:
        """Sort keyword arguments into the function's and the run's, and check them all."""
        own = {name: value for name, value in kwargs.items() if name in self._signature.parameters}
        options = {name: value for name, value in kwargs.items() if name not in own}
        known = RUN_NAMES | frozenset(self._signature.parameters)
        for name in options:
            if name not in RUN_NAMES:
                raise unknown_argument(name, known, self._label())
        overrides = parse_options(options, RUN_NAMES, self._label())
        given = self._signature.bind_partial(*args).arguments
        bound = {name: value for name, value in self._bound.items() if name not in given}
        self._signature.bind(*args, **{**bound, **own})  # a TypeError names what is missing
        run = Run(
            self._name,
            backend_or_default(backend),
            overrides.apply(CallOptions()),
            is_async=self._is_async,
        )
        return Invocation(StateCore(run), args, {**bound, **own})

    def _started(self, call: Invocation) -> ProgramState:
        """The run on a thread of its own, or as a task; the state follows it."""
        if self._is_async:
            io_loop().submit(self._run_async(call))  # what it raises is in the state
        else:
            name = f"ramify-{self._name}"
            threading.Thread(target=self._run_apart, args=(call,), name=name, daemon=True).start()
        return ProgramState(call.core, follows=True)

    def _run_apart(self, call: Invocation) -> None:
        with contextlib.suppress(BaseException):  # what it raises is in the state
            self._run_sync(call)

    def _run_to_end(self, call: Invocation) -> None:
        """An async program on the I/O loop, waited for on this thread."""
        future = io_loop().submit(self._run_async(call))
        try:
            future.result()
        finally:
            future.cancel()  # does nothing unless this thread was interrupted

    def _run_sync(self, call: Invocation) -> None:
        core, error = call.core, None
        try:
            core.return_value = self._func(ProgramState(core), *call.args, **call.kwargs)
            core.settle()
        except BaseException as raised:
            error = raised
            raise
        finally:
            core.end(error)

    async def _run_async(self, call: Invocation) -> None:
        core, error = call.core, None
        try:
            core.return_value = await self._func(ProgramState(core), *call.args, **call.kwargs)
            await core.async_settle()
        except BaseException as raised:
            error = raised
            raise
        finally:
            core.end(error)


def function(func: Callable[..., Any]) -> Program:
    """Make a program of a function (`def` or `async def`) whose first argument is the state."""
    return Program(func)


def _signature(func: Callable[..., Any], name: str) -> inspect.Signature:
    """The signature without the state; refuses what `run` could not tell apart."""
    signature = inspect.signature(func)
    state, *others = signature.parameters.values() or [_NO_STATE]
    if state.kind not in (state.POSITIONAL_ONLY, state.POSITIONAL_OR_KEYWORD):
        raise TypeError(f"{name}() must take the program's state as its first argument")
    for parameter in others:
        if parameter.kind is parameter.VAR_KEYWORD:
            raise TypeError(
                f"{name}() takes **{parameter.name}: a program must name its keyword arguments, "
                "or they could not be told from sampling options"
            )
        if parameter.name in _RESERVED:
            raise TypeError(
                f"{name}() has an argument named {parameter.name!r}, which is an argument of "
                "run() itself; rename it"
            )
    return signature.replace(parameters=others)
