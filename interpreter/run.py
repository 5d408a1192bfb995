"""One run of a program: what all of its states share."""

import threading
import uuid
from functools import lru_cache
from typing import TYPE_CHECKING

from ramify.interpreter.backends.base import Backend
from ramify.interpreter.failure import Failure
from ramify.interpreter.graph import RequestGraph
from ramify.interpreter.loop import new_future
from ramify.lang.chat import ChatTemplate
from ramify.lang.errors import InvalidRequest
from ramify.lang.options import CallOptions

if TYPE_CHECKING:
    from ramify.interpreter.call import Work


class Run:
    """Identity, backend, default options, request graph and live calls of one run."""

    def __init__(
        self, program: str, backend: Backend, options: CallOptions, *, is_async: bool
    ) -> None:
        self.id = uuid.uuid4().hex[:12]
        self.program = program
        self.backend = backend
        self.options = options
        self.is_async = is_async
        self.graph = RequestGraph(program)
        self.cancelled = False
        self.ended = new_future()  # the program's function is over
        self.failures: list[Failure] = []  # of calls that were not cancelled
        self._live: set[Work] = set()
        self._lock = threading.RLock()  # a garbage collection within may cancel this very run

    def add(self, work: "Work") -> None:
        """A call begins."""
        with self._lock:
            self._live.add(work)

    def remove(self, work: "Work") -> None:
        """A call is over."""
        with self._lock:
            self._live.discard(work)

    def cancel(self) -> None:
        """Cancel every call that is not over, and every later one."""
        self.cancelled = True
        with self._lock:
            live = list(self._live)
        for work in live:
            work.cancel()

    async def template(self) -> ChatTemplate:
        """The model's chat template; runs on the I/O loop. Raises when the model has none."""
        info = await self.backend.model_info()
        if info.chat_template is None:
            raise InvalidRequest(
                f"model {info.model!r} has no chat template, so it has no roles: append plain "
                "text instead of system(), user() and assistant(), or serve a chat model",
                code="no_chat_template",
            )
        return _template(info.chat_template, tuple(info.special_tokens.items()))


@lru_cache(maxsize=16)
def _template(source: str, special_tokens: tuple[tuple[str, str], ...]) -> ChatTemplate:
    return ChatTemplate(source, dict(special_tokens))
