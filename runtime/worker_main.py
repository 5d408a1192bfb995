"""The worker process: a thread worker whose commands come and whose deltas go by ZeroMQ.

It lives as long as the engine that started it: its standard input is a pipe that the engine holds
open, and Linux is asked to kill it when the engine's thread is gone. Signals that a terminal or a
service manager sends to the whole group are the engine's to act on.
"""

import ctypes
import faulthandler
import logging
import os
import signal
import sys
import threading
import time
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec
import zmq

from ramify.lang.errors import EngineError, ErrorInfo, RamifyError
from ramify.runtime import garbage
from ramify.runtime.core import EngineStats, TokenDelta
from ramify.runtime.messages import (
    Abort,
    Beat,
    Close,
    Died,
    Flush,
    FromWorker,
    Ready,
    Reply,
    Start,
    Started,
    Step,
    Submit,
    ToWorker,
)
from ramify.runtime.startup import Clock, load_front

if TYPE_CHECKING:
    from ramify.runtime.thread_worker import ThreadWorker

log = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>
BEAT_S = 1.0
SWITCH_S = 0.0005  # the steps' thread waits so long for one that compiles, not Python's 5 ms


class Outlet:
    """The sink of the thread worker: everything goes to the engine, in order."""

    def __init__(self, socket: "zmq.Socket[bytes]") -> None:
        self._socket = socket
        self._lock = threading.Lock()  # of all below; ZeroMQ's sockets are not thread-safe
        self._encoder = msgspec.msgpack.Encoder()
        self._replies: list[Reply] = []

    def publish(self, deltas: list[TokenDelta], stats: EngineStats, /) -> None:
        """Send what a step gave, and the replies since."""
        with self._lock:
            replies, self._replies = self._replies, []
            self._send(Step(stats, replies, deltas))

    def fail(self, error: ErrorInfo) -> NoReturn:
        """End the process: the engine starts another."""
        self.end(error)

    def reply(self, call: int, future: "Future[Any]") -> None:
        """The answer to a command, sent with what is published next."""
        error = future.exception()
        if error is None:
            reply = Reply(call, future.result())
        else:
            assert isinstance(error, RamifyError), error
            reply = Reply(call, error=error.info())
        with self._lock:
            self._replies.append(reply)

    def send(self, message: FromWorker) -> None:
        """Send one message."""
        with self._lock:
            self._send(message)

    def end(self, error: ErrorInfo) -> NoReturn:
        """Send why, wait until it has left, and end the process."""
        self.send(Died(error))
        self.close()
        sys.stderr.flush()
        os._exit(1)  # other threads may be in the midst of anything

    def close(self) -> None:
        """Wait until everything has left."""
        with self._lock:
            self._socket.close(linger=2000)  # ms
            self._socket.context.term()

    def _send(self, message: FromWorker) -> None:
        self._socket.send(self._encoder.encode(message))


def main() -> NoReturn:
    """Run until told to close, or until the engine is gone."""
    line = sys.stdin.buffer.readline()
    if not line:  # it is gone already
        os._exit(1)
    start = msgspec.json.decode(line, type=Start)
    faulthandler.enable()  # a crash tells where each thread is,
    faulthandler.register(signal.SIGUSR1)  # and so does a process that is about to be killed
    _live_with(start.parent)
    sys.setswitchinterval(SWITCH_S)
    logging.basicConfig(
        level=start.log_level,
        format="%(asctime)s %(levelname)s worker %(process)d %(name)s %(message)s",
    )
    outlet = Outlet(_connect(zmq.PUSH, start.answers))
    commands = _connect(zmq.PULL, start.commands)
    try:
        worker = _start(start, outlet)
    except RamifyError as error:
        outlet.end(error.info())
    except Exception as error:
        log.exception("the worker cannot start")
        outlet.end(EngineError(f"the worker: {type(error).__name__}: {error}").info())
    _serve(commands, worker, outlet)
    outlet.close()
    sys.stderr.flush()
    os._exit(0)  # all is sent; torch takes a second to tidy up


def _live_with(parent: int) -> None:
    """End when the engine does, however it does; leave signals to the group to the engine."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it went before it could be watched
        os._exit(1)
    threading.Thread(target=_exit_at_end_of_input, name="ramify-parent", daemon=True).start()


def _exit_at_end_of_input() -> None:
    os.read(sys.stdin.fileno(), 1)  # nothing follows the first line
    os._exit(1)


def _connect(kind: int, address: str) -> "zmq.Socket[bytes]":
    """A socket with a context of its own, so that each can be closed from its own thread."""
    socket: zmq.Socket[bytes] = zmq.Context().socket(kind)
    socket.set_hwm(0)  # what is waiting is bounded by the requests that are accepted
    # Connecting goes on beside this thread, and with the first message the address is gone.
    connected = socket.get_monitor_socket(zmq.EVENT_CONNECTED)
    socket.connect(address)
    connected.recv_multipart()
    socket.disable_monitor()
    connected.close()
    return socket


def _start(start: Start, outlet: Outlet) -> "ThreadWorker":
    """Load everything; each phase is told when it is over."""
    took = time.monotonic() - start.spawned
    outlet.send(Started("worker process", took, f"pid {os.getpid()}"))
    clock = Clock(lambda phase: outlet.send(Started(*phase)))
    with clock.phase("worker's imports"):
        from ramify.runtime.build import build_worker  # torch: most of the time that a start takes
    with clock.phase("worker's tokenizer"):
        front = load_front(start.config, Clock())
    worker = build_worker(start.config, front, outlet, clock)
    garbage.settle(worker.stats)
    outlet.send(Ready(worker.stats()))
    return worker


def _serve(commands: "zmq.Socket[bytes]", worker: "ThreadWorker", outlet: Outlet) -> None:
    decoder = msgspec.msgpack.Decoder(ToWorker)
    beat_at = time.monotonic()
    while True:
        if time.monotonic() >= beat_at:
            outlet.send(Beat(worker.busy_s()))
            beat_at = time.monotonic() + BEAT_S
        if not commands.poll(round(1000 * BEAT_S)):
            continue
        match decoder.decode(commands.recv()):
            case Submit() as asked:
                _submit(asked, worker, outlet)
            case Abort(call, rid, index):
                worker.abort(rid, index).add_done_callback(partial(outlet.reply, call))
            case Flush(call):
                worker.flush_cache().add_done_callback(partial(outlet.reply, call))
            case Close():
                worker.close()
                return


def _submit(asked: Submit, worker: "ThreadWorker", outlet: Outlet) -> None:
    try:
        accepted = worker.submit(asked.specs())
    except RamifyError as error:
        outlet.send(Step(worker.stats(), [Reply(asked.call, error=error.info())], []))
    else:
        accepted.add_done_callback(partial(outlet.reply, asked.call))
