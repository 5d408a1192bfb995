"""The two ways to run steps: one after the other, or planning one ahead of the device.

`turn` is one round; it yields what is to be sent to callers, as soon as it is known. A fault of a
step ends the requests in the steps under way and nothing else.
"""

import logging
from collections.abc import Iterator
from typing import Protocol

from ramify.lang.errors import EngineError, RamifyError
from ramify.runtime.core import BatchPlan, RowResult, TokenDelta
from ramify.runtime.scheduler.scheduler import Scheduler

log = logging.getLogger(__name__)


class StepExecutor(Protocol):
    """What runs a planned step."""

    def execute(self, plan: BatchPlan) -> list[RowResult]:
        """Run the step; results in the order of `plan.rows`."""
        ...

    def close(self) -> None:
        """Release what it holds."""
        ...


class LaunchedStep(Protocol):
    """A step that the device may still be at."""

    def choose(self) -> None:
        """Start the choice of its tokens, if that had to wait until the step before was committed:
        only then is it known what a grammar allows next."""
        ...

    def results(self) -> list[RowResult]:
        """Wait for it; results in the order of `plan.rows`."""
        ...


class LaunchingExecutor(Protocol):
    """What can start a step while the one before it is under way."""

    def launch(self, plan: BatchPlan) -> LaunchedStep:
        """Start the step."""
        ...

    def close(self) -> None:
        """Release what it holds."""
        ...


class StepLoop(Protocol):
    """Runs a scheduler's steps."""

    @property
    def is_under_way(self) -> bool:
        """Is a step launched whose results were not taken?"""
        ...

    def turn(self) -> Iterator[list[TokenDelta]]:
        """One round, to be gone through to its end."""
        ...

    def close(self) -> None:
        """Release the executor."""
        ...


class PlainLoop:
    """Plan, run, commit: on a CPU the step keeps the thread anyway."""

    is_under_way = False

    def __init__(self, scheduler: Scheduler, executor: StepExecutor) -> None:
        self._scheduler = scheduler
        self._executor = executor

    def turn(self) -> Iterator[list[TokenDelta]]:
        """One step."""
        plan = self._scheduler.plan()
        yield self._scheduler.drain_expired()
        if plan is None:
            return
        try:
            results = self._executor.execute(plan)
        except Exception as error:  # noqa: BLE001 - the top loop of a step
            yield _failed(self._scheduler, [plan], error)
        else:
            yield self._scheduler.commit(plan, results)

    def close(self) -> None:
        """Release the executor."""
        self._executor.close()


class OverlapLoop:
    """Plan and launch step n + 1, then wait for step n: the device always has its next step.

    Where grammars hold answers, masks for n + 1 are filled once n is committed, while the device is
    at the forward pass of n + 1.
    """

    def __init__(self, scheduler: Scheduler, executor: LaunchingExecutor) -> None:
        self._scheduler = scheduler
        self._executor = executor
        self._launched: tuple[BatchPlan, LaunchedStep] | None = None

    @property
    def is_under_way(self) -> bool:
        """Is a step launched whose results were not taken?"""
        return self._launched is not None

    def turn(self) -> Iterator[list[TokenDelta]]:
        """Launch a step, take the results of the one before it; or do what there is of the two."""
        plan = self._scheduler.plan()
        yield self._scheduler.drain_expired()
        before, self._launched = self._launched, None
        try:
            if plan is not None:
                self._launched = plan, self._executor.launch(plan)
                self._scheduler.advance(plan)
            results = None if before is None else before[1].results()
        except Exception as error:  # noqa: BLE001 - the top loop of a step
            self._launched = None
            plans = [one for one in (before and before[0], plan) if one is not None]
            yield _failed(self._scheduler, plans, error)
            return
        deltas = []
        if before is not None and results is not None:
            deltas += self._scheduler.commit(before[0], results)
        yield deltas + self._choose()

    def _choose(self) -> list[TokenDelta]:
        """Have the step under way choose its tokens; what that ended."""
        if self._launched is None:
            return []
        plan, step = self._launched
        try:
            step.choose()
        except Exception as error:  # noqa: BLE001 - the top loop of a step
            self._launched = None
            return _failed(self._scheduler, [plan], error)
        return []

    def close(self) -> None:
        """Release the executor."""
        self._executor.close()


def _failed(scheduler: Scheduler, plans: list[BatchPlan], error: Exception) -> list[TokenDelta]:
    rids = sorted({entry.request.spec.rid for plan in plans for entry in plan.rows})
    log.error("step failed; its requests end with an error: rids=%s", rids, exc_info=error)
    if not isinstance(error, RamifyError):
        message = f"the step failed: {type(error).__name__}: {error}"
        error = EngineError(message, code="step_failed")
    return scheduler.fail(error.info())
