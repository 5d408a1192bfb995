"""One worker process, from the engine's side: its start, its sockets, its end.

The sockets lie in a private directory that is there only until the process has opened them. The
process is told to start by the first line of a pipe that stays open as long as it may live.
"""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress

import msgspec
import zmq

from ramify.lang.errors import LoadError
from ramify.runtime.config import EngineConfig
from ramify.runtime.messages import FromWorker, Start

# A fresh interpreter, never a fork (CUDA), and never the user's main module again.
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from ramify.runtime.worker_main import main; main()"
)

LAST_WORDS_S = 1.0


class Child:
    """A worker process. One thread may `send` at a time; one thread has all the rest.

    That thread must live as long as the process: Linux kills it when its parent's thread ends.
    """

    def __init__(self, config: EngineConfig) -> None:
        self._decoder = msgspec.msgpack.Decoder(FromWorker)
        self._context = zmq.Context()
        self._folder: str | None = None
        try:
            self._folder = tempfile.mkdtemp(prefix="ramify-")  # mode 0700
            commands, answers = (f"ipc://{self._folder}/{name}" for name in ("commands", "answers"))
            self._commands = self._bind(zmq.PUSH, commands)
            self._answers = self._bind(zmq.PULL, answers)
            self._process = subprocess.Popen(
                [sys.executable, "-c", _BOOT, json.dumps(sys.path)], stdin=subprocess.PIPE
            )
        except (OSError, zmq.ZMQError) as error:
            self._clean()
            raise LoadError(
                f"cannot start a worker process: {error}. Its sockets are made in "
                f"{tempfile.gettempdir()}, the directory for temporary files: another can be set "
                "as TMPDIR, or the model run in this process with worker='thread'"
            ) from error
        start = Start(
            config=config,
            commands=commands,
            answers=answers,
            parent=os.getpid(),
            spawned=time.monotonic(),
            log_level=logging.getLogger().getEffectiveLevel(),
        )
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it died already: `exit_code` will tell
            self._process.stdin.write(msgspec.json.encode(start) + b"\n")
            self._process.stdin.flush()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def send(self, message: bytes) -> None:
        """Send an encoded `ToWorker`; one to a process that died is lost."""
        with suppress(zmq.Again):
            self._commands.send(message, zmq.NOBLOCK)

    def receive(self, timeout_s: float) -> Iterator[FromWorker]:
        """What has come; waits for the first of it."""
        if self._answers.poll(round(timeout_s * 1000)):
            with suppress(zmq.Again):
                while True:
                    message = self._decoder.decode(self._answers.recv(zmq.NOBLOCK))
                    self._remove_folder()  # both sockets are connected before anything is sent
                    yield message

    def exit_code(self) -> int | None:
        """None while it lives."""
        return self._process.poll()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def kill_hung(self) -> None:
        """End it; if it still can, it says on its standard error where each of its threads is."""
        self._process.send_signal(signal.SIGUSR1)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(LAST_WORDS_S)
        self._process.kill()

    def close(self) -> None:
        """Kill it if it lives, and leave nothing of it."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # of what could not be written
            self._process.stdin.close()
        self._clean()

    def _bind(self, kind: int, address: str) -> "zmq.Socket[bytes]":
        socket: zmq.Socket[bytes] = self._context.socket(kind)
        socket.set_hwm(0)  # what is waiting is bounded by the requests that are accepted
        socket.bind(address)
        return socket

    def _clean(self) -> None:
        self._context.destroy(linger=0)
        self._remove_folder()

    def _remove_folder(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


def ending(code: int) -> str:
    """How a process of this exit code ended, in words."""
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name
    return f"{name}, which the kernel sends when memory runs out" if code == -9 else name
