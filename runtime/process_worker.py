"""The worker that is a process: commands go there, deltas come back; its deaths are survived.

A thread of the engine's starts the process, reads what it sends and sees it die. Then the requests
it held end with an error, new ones are refused while another is started, and after several quick
deaths in a row for good.
"""

import itertools
import logging
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import msgspec

from ramify.lang.errors import (
    EngineError,
    ErrorInfo,
    InvalidRequest,
    LoadError,
    RamifyError,
    Unavailable,
    error_from_info,
)
from ramify.lang.protocol import RelaxedKeyword
from ramify.runtime.child_process import Child, ending
from ramify.runtime.config import EngineConfig
from ramify.runtime.core import EngineStats, TokenRequest
from ramify.runtime.messages import (
    Abort,
    Beat,
    Close,
    Died,
    Flush,
    Ready,
    Reply,
    Started,
    Step,
    Submit,
    ToWorker,
)
from ramify.runtime.startup import Phase
from ramify.runtime.worker import Sink, engine_closed, pending

log = logging.getLogger(__name__)

POLL_S = 0.1  # how long a death may go unseen
CLOSE_S = 10.0  # after which a process that was told to close is killed
QUICK_S = 60.0  # a process that took requests for less died quickly
_UNFIT = (OverflowError, UnicodeEncodeError)
BACKOFF_S = (0.0, 1.0, 4.0)  # before each restart after a quick death; then it is given up


class ProcessWorker:
    """A `Worker` in a process of its own, started again when it dies."""

    def __init__(self, config: EngineConfig, sink: Sink) -> None:
        self._config = config
        self._sink = sink
        self._encoder = msgspec.msgpack.Encoder()
        self._calls = itertools.count()
        self._ready: Future[tuple[Phase, ...]] = pending()  # of the first process
        self._phases: list[Phase] = []
        self._closing = threading.Event()
        self._kill_at = math.inf  # time.monotonic(), once it is closing
        self._lock = threading.Lock()  # of all below, and of sending
        self._child: Child | None = None  # that takes commands
        self._refusal = _error(Unavailable, "the worker is starting; try again", "loading")
        self._asked: dict[int, Future[Any]] = {}  # by call, not answered yet
        self._stats = EngineStats()
        self._num_deaths = 0
        self._thread = threading.Thread(
            target=self._supervise, name="ramify-worker-process", daemon=True
        )
        self._thread.start()

    def wait_ready(self) -> tuple[Phase, ...]:
        """Wait until the first process takes requests; its phases, or why it cannot start."""
        return self._ready.result()

    def submit(self, specs: tuple[TokenRequest, ...]) -> "Future[tuple[RelaxedKeyword, ...]]":
        """Queue the sequences of one request."""
        return self._ask(lambda call: Submit.of(call, specs))

    def abort(self, rid: str, index: int | None = None) -> "Future[int]":
        """End the request's sequences (or one of them)."""
        return self._ask(lambda call: Abort(call, rid, index))

    def flush_cache(self) -> "Future[int]":
        """Drop every cached prefix nobody uses."""
        return self._ask(Flush)

    def check(self) -> None:
        """Raise `Unavailable` unless requests are taken."""
        with self._lock:
            self._serving()

    def stats(self) -> EngineStats:
        """The counters as of the last published delta; those of a new process begin anew."""
        return msgspec.structs.replace(self._stats, num_restarts=self._num_deaths)

    def close(self) -> None:
        """Abort what runs, publish the last deltas and end the process."""
        with self._lock:
            if not self._closing.is_set():
                self._refusal = engine_closed().info()
                self._kill_at = time.monotonic() if self._child is None else self._say_close()
                self._closing.set()
        self._thread.join()

    def _say_close(self) -> float:
        assert self._child is not None
        self._child.send(self._encoder.encode(Close()))
        self._child = None
        return time.monotonic() + CLOSE_S

    def _ask(self, make: Callable[[int], ToWorker]) -> "Future[Any]":
        self.check()  # before the work of encoding
        call, future = next(self._calls), pending()
        try:
            message = self._encoder.encode(make(call))
        except _UNFIT as error:
            name = self._unfit_field(make(call))
            raise InvalidRequest(f"{name}: {error}", code="out_of_range", param=name) from error
        with self._lock:
            child = self._serving()
            self._asked[call] = future
            child.send(message)
        return future

    def _unfit_field(self, message: msgspec.Struct) -> str:
        """The field that cannot be sent: a number past 64 bits, half of a surrogate pair."""
        for name in message.__struct_fields__:
            value = getattr(message, name)
            try:
                self._encoder.encode(value)
            except _UNFIT:
                return self._unfit_field(value) if isinstance(value, msgspec.Struct) else name
        raise AssertionError(message)

    def _serving(self) -> Child:
        if self._child is None:
            raise error_from_info(self._refusal)
        return self._child

    # On the supervising thread --------------------------------------------------------------------

    def _supervise(self) -> None:
        try:
            self._run_all()
        except Exception as error:
            log.exception("the worker's supervisor died")
            bug = f"the worker's supervisor died: {type(error).__name__}: {error}"
            self._bury(_error(EngineError, bug), _error(Unavailable, bug, "engine_failed"))

    def _run_all(self) -> None:
        """Run one process after another, until closed or given up."""
        num_quick = 0
        while not self._closing.is_set():
            lived, why = self._run_one()
            if self._closing.is_set():
                break
            self._num_deaths += 1
            num_quick = num_quick + 1 if lived < QUICK_S else 0
            if not self._ready.done() or num_quick > len(BACKOFF_S):
                log.error("%s; it is not started again", why.message)
                text = f"{why.message}; after {num_quick} quick deaths it is not started again"
                self._bury(why, _error(Unavailable, text, "engine_failed"))
                return
            log.error("%s; another is started", why.message)
            text = f"{why.message}; another is being started, try again"
            self._bury(why, _error(Unavailable, text, "engine_restarting"))
            self._closing.wait(BACKOFF_S[num_quick - 1] if num_quick else 0.0)
        self._bury(engine_closed().info(), engine_closed().info())

    def _run_one(self) -> tuple[float, ErrorInfo]:
        """Run a process to its end: the seconds for which it took requests, and why it ended."""
        try:
            child = Child(self._config)
        except LoadError as error:
            return 0.0, error.info()
        run = _Run(child)
        try:
            while child.exit_code() is None:
                self._take(run, POLL_S)
                if time.monotonic() >= self._kill_at:
                    child.kill()
                elif time.monotonic() - run.moved_at > self._config.watchdog_timeout:
                    run.last_words = self._hung()
                    child.kill_hung()
            self._take(run, 0.0)  # what it sent before it died
        finally:
            with self._lock:
                self._child = None
                self._refusal = _error(Unavailable, "the worker process died", "engine_restarting")
            child.close()
        lived = 0.0 if run.ready_at is None else time.monotonic() - run.ready_at
        return lived, run.why()

    def _hung(self) -> ErrorInfo:
        limit = self._config.watchdog_timeout
        text = f"it was hung and was killed: no step ended in {limit:g} s (watchdog_timeout)"
        return EngineError(text).info()

    def _take(self, run: "_Run", timeout_s: float) -> None:
        """Do as the messages say that have come."""
        for message in run.child.receive(timeout_s):
            match message:
                case Step(stats, replies, deltas):
                    run.moved_at = time.monotonic()
                    self._stats = stats
                    for reply in replies:
                        self._resolve(reply)
                    self._sink.publish(deltas, stats)
                case Started(name, seconds, detail):
                    log.info("worker start-up: %s %.1f s %s", name, seconds, detail)
                    self._phases.append(Phase(name, seconds, detail))
                case Beat(busy_s):
                    run.moved_at = time.monotonic() - busy_s
                case Ready(stats):
                    run.ready_at = run.moved_at = time.monotonic()
                    self._serve(run.child, stats)
                case Died(error):
                    run.last_words = error

    def _serve(self, child: Child, stats: EngineStats) -> None:
        self._stats = stats
        with self._lock:
            if not self._closing.is_set():
                self._child = child
        if not self._ready.done():
            self._ready.set_result(tuple(self._phases))

    def _resolve(self, reply: Reply) -> None:
        with self._lock:
            future = self._asked.pop(reply.call)
        if reply.error is None:
            future.set_result(reply.value)
        else:
            future.set_exception(error_from_info(reply.error))

    def _bury(self, why: ErrorInfo, refusal: ErrorInfo) -> None:
        """Nothing runs: what was accepted ends with `why`, all else is refused with `refusal`."""
        with self._lock:
            self._child = None
            self._refusal = refusal
            asked, self._asked = self._asked, {}
        self._stats = EngineStats()
        self._sink.fail(why)
        for future in asked.values():
            future.set_exception(error_from_info(refusal))
        if not self._ready.done():
            self._ready.set_exception(error_from_info(why))


@dataclass(slots=True)
class _Run:
    """One process, and what is known of it."""

    child: Child
    ready_at: float | None = None  # time.monotonic()
    moved_at: float = math.inf  # time.monotonic() when it was last known not to be hung
    last_words: ErrorInfo | None = None

    def why(self) -> ErrorInfo:
        """The error of all that it leaves undone; of its start, its own if it said one."""
        code = self.child.exit_code()
        assert code is not None
        if self.last_words is not None and self.ready_at is None:
            return self.last_words
        said = ending(code) if self.last_words is None else self.last_words.message
        text = f"the worker process {self.child.pid} died: {said}"
        return _error(EngineError, text, "worker_died")


def _error(kind: type[RamifyError], message: str, code: str | None = None) -> ErrorInfo:
    return kind(message, code=code).info()
