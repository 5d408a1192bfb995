"""What an engine and its worker process tell each other, as msgpack over two one-way sockets.

One message a step carries all that the step gave; what belongs to the sequences of one request
together is sent once. `Start` alone is JSON, the first line of the process' standard input.
"""

from collections.abc import Sequence

import msgspec

from ramify.lang.errors import ErrorInfo
from ramify.lang.protocol import LogprobOptions, RelaxedKeyword
from ramify.runtime.config import EngineConfig
from ramify.runtime.core import EngineStats, TokenDelta, TokenRequest


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker process is told before anything else."""

    config: EngineConfig
    commands: str  # ZeroMQ address to read `ToWorker` from
    answers: str  # ZeroMQ address to write `FromWorker` to
    parent: int  # process id of the engine
    spawned: float  # time.monotonic() when the process was asked for
    log_level: int


class Sibling(msgspec.Struct, frozen=True, array_like=True):
    """How another sequence of a request differs from its first."""

    index: int
    token_ids: tuple[int, ...] | None  # None: the same
    logprobs: LogprobOptions


class Submit(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """Take the sequences of one request, all or none."""

    call: int
    first: TokenRequest
    others: tuple[Sibling, ...]

    @classmethod
    def of(cls, call: int, specs: Sequence[TokenRequest]) -> "Submit":
        """The message that carries `specs`."""
        first, *others = specs
        siblings = [
            Sibling(
                spec.index,
                None if spec.token_ids is first.token_ids else spec.token_ids,
                spec.logprobs,
            )
            for spec in others
        ]
        return cls(call, first, tuple(siblings))

    def specs(self) -> tuple[TokenRequest, ...]:
        """All sequences."""
        others = (
            msgspec.structs.replace(
                self.first,
                index=other.index,
                token_ids=self.first.token_ids if other.token_ids is None else other.token_ids,
                logprobs=other.logprobs,
            )
            for other in self.others
        )
        return self.first, *others


class Abort(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """End a request's sequences, or one of them."""

    call: int
    rid: str
    index: int | None


class Flush(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Drop every cached prefix nobody uses."""

    call: int


class Close(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Abort what runs, send the last deltas and end."""


ToWorker = Submit | Abort | Flush | Close


class Started(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """A phase of the start-up is over."""

    name: str
    seconds: float
    detail: str


class Ready(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Commands are taken from here on."""

    stats: EngineStats


class Reply(msgspec.Struct, frozen=True, array_like=True):
    """The answer to the command of that number: a count, keywords that are relaxed, or an error."""

    call: int
    value: int | tuple[RelaxedKeyword, ...] | None = None
    error: ErrorInfo | None = None


class Step(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """What a step gave, or commands between two steps."""

    stats: EngineStats
    replies: list[Reply]
    deltas: list[TokenDelta]


class Beat(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Sent about once a second: the process lives, whether or not it has anything to tell."""

    busy_s: float  # how long its steps' thread has been at what it does; 0: it waits for commands


class Died(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """The process ends: it could not start, or a fault outside any step."""

    error: ErrorInfo


FromWorker = Started | Ready | Step | Beat | Died
