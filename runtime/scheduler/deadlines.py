"""Which live requests have run out of time."""

import heapq
from collections.abc import Callable, Iterator

from ramify.lang.errors import DeadlineExceeded, ErrorInfo
from ramify.runtime.core import Request

_SLACK = 64  # entries of ended requests that are kept before they are swept out


class Deadlines:
    """A heap by time. Ended requests linger in it until they come up or are swept out."""

    def __init__(self, is_live: Callable[[Request], bool]) -> None:
        self._is_live = is_live
        self._heap: list[tuple[float, int, Request]] = []

    def __len__(self) -> int:
        return len(self._heap)

    def watch(self, deadline: float, request: Request, num_live: int) -> None:
        """End `request` at `deadline`, of the scheduler's clock; `num_live` requests are live."""
        if len(self._heap) > _SLACK + 2 * num_live:
            self._heap = [entry for entry in self._heap if self._is_live(entry[2])]
            heapq.heapify(self._heap)
        heapq.heappush(self._heap, (deadline, request.seq, request))

    def expired(self, now: float) -> Iterator[Request]:
        """Live requests whose time is over, each once."""
        while self._heap and self._heap[0][0] <= now:
            request = heapq.heappop(self._heap)[2]
            if self._is_live(request):
                yield request


def deadline_error(request: Request, now: float) -> ErrorInfo:
    """What its caller is told."""
    return DeadlineExceeded(
        f"{now - request.arrival:.3g} s after it was accepted the request's deadline passed with "
        f"{request.output_len} of {request.spec.sampling.max_tokens} tokens generated; give it a "
        "longer timeout_s, or fewer max_tokens"
    ).info()
