"""The worker: the one thread that owns scheduler, cache and model.

Commands come in through an inbox, deltas go out through `publish`, one call per step. A fault of
a step ends the requests in that step and nothing else.
"""

import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from ramify.lang.errors import EngineError, ErrorInfo, RamifyError, Unavailable
from ramify.runtime.core import EngineStats, TokenDelta, TokenRequest
from ramify.runtime.scheduler.scheduler import Scheduler
from ramify.runtime.step_loop import StepLoop

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Submit:
    specs: tuple[TokenRequest, ...]
    reply: "Future[None]"


@dataclass(frozen=True, slots=True)
class _Abort:
    rid: str
    index: int | None
    reply: "Future[int]"


@dataclass(frozen=True, slots=True)
class _Flush:
    reply: "Future[int]"


_Command = _Submit | _Abort | _Flush


class Worker:
    """Runs steps on its own thread until closed. All methods may be called from any thread."""

    def __init__(
        self,
        scheduler: Scheduler,
        loop: StepLoop,
        publish: Callable[[list[TokenDelta]], None],
        on_death: Callable[[ErrorInfo], None],
    ) -> None:
        self._scheduler = scheduler
        self._loop = loop
        self._publish = publish
        self._on_death = on_death  # a bug outside any step: no delta will come any more
        self._stats = scheduler.stats()
        self._inbox: queue.SimpleQueue[_Command | None] = queue.SimpleQueue()
        self._lock = threading.Lock()  # orders `_post` and `close`: no command after the last None
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="ramify-worker", daemon=True)
        self._thread.start()

    def submit(self, specs: tuple[TokenRequest, ...]) -> "Future[None]":
        """Queue all of `specs` before the next step, or none; the future raises the refusal."""
        command = _Submit(specs, Future())
        self._post(command)
        return command.reply

    def abort(self, rid: str, index: int | None = None) -> "Future[int]":
        """End the request's sequences (or one of them); the future says how many were live."""
        command = _Abort(rid, index, Future())
        self._post(command)
        return command.reply

    def flush_cache(self) -> "Future[int]":
        """Drop every cached prefix nobody uses; the future says how many slots that freed."""
        command = _Flush(Future())
        self._post(command)
        return command.reply

    def stats(self) -> EngineStats:
        """The scheduler's counters as of the last published delta, or later."""
        return self._stats

    def close(self) -> None:
        """Abort what runs, publish the last deltas and end the thread."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._inbox.put(None)
        self._thread.join()

    def _post(self, command: _Command) -> None:
        with self._lock:
            if self._closed:
                raise Unavailable("the engine is closed: start a new one", code="engine_closed")
            self._inbox.put(command)

    def _run(self) -> None:
        try:
            while self._take_commands():
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
            self._closed = True
        self._on_death(error.info())
        while not self._inbox.empty():
            command = self._inbox.get()
            if command is not None:
                command.reply.set_exception(error)

    def _take_commands(self) -> bool:
        """Handle the commands waiting; with no work, wait for one. False: time to end."""
        block = not (self._scheduler.has_work or self._loop.is_under_way)
        while True:
            try:
                command = self._inbox.get(block=block)
            except queue.Empty:
                return True
            if command is None:
                return False
            self._handle(command)
            block = False

    def _handle(self, command: _Command) -> None:
        match command:
            case _Submit(specs, accepted):
                if not accepted.set_running_or_notify_cancel():
                    return
                try:
                    self._add(specs)
                except RamifyError as error:
                    accepted.set_exception(error)
                else:
                    accepted.set_result(None)
            case _Abort(rid, index, aborted):
                deltas = self._scheduler.abort(rid, index)
                self._send(deltas)
                if aborted.set_running_or_notify_cancel():
                    aborted.set_result(len(deltas))
            case _Flush(freed):
                num_freed = self._scheduler.flush_cache()
                self._send([])
                if freed.set_running_or_notify_cancel():
                    freed.set_result(num_freed)

    def _add(self, specs: tuple[TokenRequest, ...]) -> None:
        """Accept all or none."""
        for index, spec in enumerate(specs):
            try:
                self._scheduler.add(spec)
            except RamifyError:
                for earlier in specs[:index]:
                    self._scheduler.abort(earlier.rid, earlier.index)
                raise

    def _send(self, deltas: list[TokenDelta]) -> None:
        self._stats = self._scheduler.stats()  # before the deltas: who has read one sees its cost
        if deltas:
            self._publish(deltas)
