"""The rows of a step's bitmask: which tokens each request's grammar allows next."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch

from ramify.grammars.errors import GrammarError
from ramify.lang.errors import ErrorInfo
from ramify.runtime.core import Request
from ramify.runtime.guide import refusal

_ALL = np.int32(-1)  # every bit set


class Constraints(NamedTuple):
    """What the sampler needs of the grammars of a step."""

    bitmask: torch.Tensor | None  # [R, ceil(V / 32)] int32 on the CPU; None: nobody is constrained
    errors: dict[int, ErrorInfo]  # by row: the grammar outgrew its limits


NONE = Constraints(None, {})


class MaskFiller:
    """Fills the bitmask of a step while its forward pass runs.

    On a GPU the pass is only launched by this thread, which then has time. On a CPU it keeps this
    thread, so another fills: it has the guides to itself from `begin` until the result is taken.
    """

    def __init__(self, vocab_size: int, *, has_own_thread: bool) -> None:
        self._vocab_size = vocab_size
        self._thread = ThreadPoolExecutor(1, "ramify-masks") if has_own_thread else None

    def begin(self, requests: Sequence[Request]) -> Callable[[], Constraints]:
        """Start on one row per request; call the result once the forward pass is under way."""
        if all(request.guide is None for request in requests):
            return lambda: NONE
        if self._thread is None:
            return lambda: fill_bitmask(requests, self._vocab_size)
        return self._thread.submit(fill_bitmask, requests, self._vocab_size).result

    def close(self) -> None:
        """End the thread."""
        if self._thread is not None:
            self._thread.shutdown()


def fill_bitmask(requests: Sequence[Request], vocab_size: int) -> Constraints:
    """One row per request; all bits set where there is no grammar."""
    errors: dict[int, ErrorInfo] = {}
    rows = np.full((len(requests), (vocab_size + 31) // 32), _ALL, dtype=np.int32)
    for row, request in enumerate(requests):
        if request.guide is None:
            continue
        try:
            request.guide.fill(rows[row])
        except GrammarError as error:
            rows[row] = _ALL
            errors[row] = refusal(error, request.spec.sampling).info()
    return Constraints(torch.from_numpy(rows), errors)
