"""The worker that is a thread: the one that owns scheduler, cache and model.

Commands come in through an inbox, deltas go out through the sink, one call per step. A fault of
a step ends the requests in that step and nothing else.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import msgspec

from ramify.grammars.matcher import TokenGrammar
from ramify.lang.errors import EngineError, ErrorInfo, RamifyError, Unavailable, error_from_info
from ramify.lang.protocol import RelaxedKeyword
from ramify.runtime.constraint import GrammarCache, granted
from ramify.runtime.core import EngineStats, TokenDelta, TokenRequest
from ramify.runtime.scheduler.scheduler import Scheduler
from ramify.runtime.step_loop import StepLoop
from ramify.runtime.worker import Sink, engine_closed, pending

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Submit:
    specs: tuple[TokenRequest, ...]
    grammar: "Future[TokenGrammar] | None"  # done
    reply: "Future[tuple[RelaxedKeyword, ...]]"


@dataclass(frozen=True, slots=True)
class _Abort:
    rid: str
    index: int | None
    reply: "Future[int]"


@dataclass(frozen=True, slots=True)
class _Flush:
    reply: "Future[int]"


_Command = _Submit | _Abort | _Flush


class ThreadWorker:
    """A `Worker`: runs steps on its own thread until closed."""

    def __init__(
        self, scheduler: Scheduler, loop: StepLoop, grammars: GrammarCache, sink: Sink
    ) -> None:
        self._scheduler = scheduler
        self._loop = loop
        self._grammars = grammars
        self._sink = sink
        self._stats = scheduler.stats()
        self._inbox: queue.SimpleQueue[_Command | None] = queue.SimpleQueue()
        self._lock = threading.Lock()  # orders `_post` and `close`: no command after the last None
        self._taken: list[_Command] = []  # from the inbox, and not answered
        self._end: ErrorInfo | None = None  # why it takes no more commands
        self._busy_since: float | None = None  # time.monotonic(); None: it waits for commands
        self._thread = threading.Thread(target=self._run, name="ramify-worker", daemon=True)
        self._thread.start()

    def submit(self, specs: tuple[TokenRequest, ...]) -> "Future[tuple[RelaxedKeyword, ...]]":
        """Queue the sequences of one request, once its grammar is compiled."""
        self.check()
        grammar = self._grammars.future_of(specs[0].sampling)
        reply: Future[tuple[RelaxedKeyword, ...]] = pending()
        command = _Submit(specs, grammar, reply)
        if grammar is None:
            self._post(command)
        else:
            grammar.add_done_callback(lambda _: self._post_late(command))
        return reply

    def abort(self, rid: str, index: int | None = None) -> "Future[int]":
        """End the request's sequences (or one of them)."""
        command = _Abort(rid, index, pending())
        self._post(command)
        return command.reply

    def flush_cache(self) -> "Future[int]":
        """Drop every cached prefix nobody uses."""
        command = _Flush(pending())
        self._post(command)
        return command.reply

    def check(self) -> None:
        """Raise `Unavailable` unless requests are taken."""
        if self._end is not None:
            raise error_from_info(self._end)

    def stats(self) -> EngineStats:
        """The scheduler's counters as of the last published delta, or later."""
        return msgspec.structs.replace(self._stats, grammars=self._grammars.stats())

    def busy_s(self) -> float:
        """Seconds that the thread has been at what it does, such as a step."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    def close(self) -> None:
        """Abort what runs, publish the last deltas and end the thread."""
        with self._lock:
            if self._end is None:
                self._end = engine_closed().info()
                self._inbox.put(None)
        self._thread.join()
        self._grammars.close()

    def _post(self, command: _Command) -> None:
        with self._lock:
            self.check()
            self._inbox.put(command)

    def _post_late(self, command: _Submit) -> None:
        try:
            self._post(command)
        except Unavailable as error:
            command.reply.set_exception(error)

    def _run(self) -> None:
        try:
            while self._take_commands():
                self._busy_since = time.monotonic()
                for deltas in self._loop.turn():
                    self._send(deltas)
            self._send(self._scheduler.abort_all())
        except Exception as error:
            log.exception("the worker died; every request it held ends with an error")
            self._die(EngineError(f"the worker died: {type(error).__name__}: {error}"))
        finally:
            self._loop.close()

    def _die(self, error: EngineError) -> None:
        with self._lock:
            end = Unavailable(f"{error.message}; start a new engine", code="engine_failed")
            self._end = end.info()
        self._sink.fail(error.info())
        while not self._inbox.empty():
            if (command := self._inbox.get()) is not None:
                self._taken.append(command)
        for command in self._taken:
            if not command.reply.done():
                command.reply.set_exception(error)

    def _take_commands(self) -> bool:
        """Handle the commands waiting; with no work, wait for one. False: time to end."""
        block = not (self._scheduler.has_work or self._loop.is_under_way)
        deltas: list[TokenDelta] = []
        replies: list[Callable[[], None]] = []
        is_open = True
        with suppress(queue.Empty):
            while is_open:
                if block:
                    self._busy_since = None
                command = self._inbox.get(block=block)
                self._busy_since = time.monotonic()
                block = False
                if command is None:
                    is_open = False
                else:
                    self._taken.append(command)
                    replies.append(self._handle(command, deltas))
        if replies:
            self._send(deltas, replies)
            self._taken.clear()
        return is_open

    def _handle(self, command: _Command, deltas: list[TokenDelta]) -> Callable[[], None]:
        """Do it; what gives the reply, to be called once the counters are published."""
        match command:
            case _Submit(specs, grammar, accepted):
                try:
                    relaxed = self._add(specs, grammar)
                except RamifyError as error:
                    return partial(accepted.set_exception, error)
                return partial(accepted.set_result, relaxed)
            case _Abort(rid, index, aborted):
                ended = self._scheduler.abort(rid, index)
                deltas += ended
                return partial(aborted.set_result, len(ended))
            case _Flush(freed):
                return partial(freed.set_result, self._scheduler.flush_cache())

    def _add(
        self, specs: tuple[TokenRequest, ...], compiled: "Future[TokenGrammar] | None"
    ) -> tuple[RelaxedKeyword, ...]:
        """Accept all or none; what of their grammar is not enforced."""
        grammar = None if compiled is None else granted(compiled, specs[0].sampling)
        for at, spec in enumerate(specs):
            try:
                self._scheduler.add(msgspec.structs.replace(spec, grammar=grammar))
            except RamifyError:
                for earlier in specs[:at]:
                    self._scheduler.abort(earlier.rid, earlier.index)
                raise
        return () if grammar is None else tuple(RelaxedKeyword(*it) for it in grammar.relaxed)

    def _send(self, deltas: list[TokenDelta], replies: Sequence[Callable[[], None]] = ()) -> None:
        """Counters, replies, deltas, in this order: who has read one sees what it cost."""
        if not deltas and not replies:
            return
        self._stats = self._scheduler.stats()
        for reply in replies:
            reply()
        self._sink.publish(deltas, self.stats())
