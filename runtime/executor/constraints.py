"""The rows of a step's bitmask: which tokens each request's grammar allows next."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from ramify.grammars.errors import GrammarError
from ramify.lang.errors import ErrorInfo
from ramify.runtime.core import Request

_ALL = np.int32(-1)  # every bit set


class Constraints(NamedTuple):
    """What the sampler needs of the grammars of a step."""

    bitmask: torch.Tensor | None  # [R, ceil(V / 32)] int32 on the CPU; None: nobody is constrained
    errors: dict[int, ErrorInfo]  # by row: the grammar outgrew its limits


def fill_bitmask(requests: Sequence[Request], vocab_size: int) -> Constraints:
    """One row per request; all bits set where there is no grammar."""
    if all(request.guide is None for request in requests):
        return Constraints(None, {})
    errors: dict[int, ErrorInfo] = {}
    rows = np.full((len(requests), (vocab_size + 31) // 32), _ALL, dtype=np.int32)
    for row, request in enumerate(requests):
        if request.guide is None:
            continue
        try:
            request.guide.fill(rows[row])
        except GrammarError as error:
            rows[row] = _ALL
            errors[row] = ErrorInfo(message=error.message, type="InvalidRequest", code=error.code)
    return Constraints(torch.from_numpy(rows), errors)
