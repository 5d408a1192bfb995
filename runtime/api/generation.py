"""From requests to deltas, for every dialect: measured, several at once, aborted when left."""

import asyncio
import re
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import NamedTuple

from aiohttp import web

from ramify.lang.errors import InvalidRequest, error_from_info
from ramify.lang.protocol import GenerateDelta, GenerateRequest
from ramify.runtime.answer import Answer, collect
from ramify.runtime.api.metrics import Metrics
from ramify.runtime.api.state import STATE, TRACE, ServerState

MAX_PROMPTS = 1024  # in one HTTP request
_RID = re.compile(r"[\x21-\x7e]{1,128}")


class Step(NamedTuple):
    """One delta of one of the prompts of an HTTP request."""

    prompt: int  # which prompt of the request
    delta: GenerateDelta


def new_rid() -> str:
    """An id for a request whose client brought none."""
    return uuid.uuid4().hex


def check_rid(rid: str) -> str:
    """`rid`, or `InvalidRequest`: ids go into log lines and error messages."""
    if not _RID.fullmatch(rid):
        raise InvalidRequest(
            f"rid={rid[:100]!a}: must be 1 to 128 printable ASCII characters without spaces",
            param="rid",
        )
    return rid


async def run(request: web.Request, asked: Sequence[GenerateRequest]) -> AsyncGenerator[Step, None]:
    """Deltas of all of `asked`, interleaved as they come; the first error ends it.

    Closing the iterator aborts whatever still runs.
    """
    async with aclosing(run_with_errors(request, asked)) as steps:
        async for step in steps:
            if step.delta.error is not None:
                raise error_from_info(step.delta.error)
            yield step


async def run_with_errors(
    request: web.Request, asked: Sequence[GenerateRequest]
) -> AsyncGenerator[Step, None]:
    """As `run`, but an error of one sequence stays a delta and the others go on."""
    state = request.app[STATE]
    request[TRACE].rids = [one.rid for one in asked[:4]]
    sources = [_measured(state, one) for one in asked]
    async with aclosing(_interleaved(sources)) as steps:
        async for step in steps:
            yield step


async def answers(request: web.Request, asked: Sequence[GenerateRequest]) -> list[Answer]:
    """The whole answer to each of `asked`."""
    deltas: list[list[GenerateDelta]] = [[] for _ in asked]
    async with aclosing(run(request, asked)) as steps:
        async for step in steps:
            deltas[step.prompt].append(step.delta)
    return [collect(one.rid, parts) for one, parts in zip(asked, deltas, strict=True)]


async def _measured(
    state: ServerState, asked: GenerateRequest
) -> AsyncGenerator[GenerateDelta, None]:
    """The engine's deltas, with the times of each sequence put in the metrics."""
    started = time.monotonic()
    first: dict[int, float] = {}
    deltas = state.loaded().engine.async_generate(asked)
    async with aclosing(deltas):  # type: ignore[type-var]
        async for delta in deltas:
            if delta.token_ids and delta.index not in first:
                first[delta.index] = time.monotonic()
                state.metrics.first_token.observe(first[delta.index] - started)
            if delta.finish is not None:
                _observe_end(state.metrics, delta, started, first.get(delta.index))
            yield delta


def _observe_end(
    metrics: Metrics, delta: GenerateDelta, started: float, first: float | None
) -> None:
    now = time.monotonic()
    assert delta.finish is not None
    metrics.success.labels(delta.finish.type).inc()
    metrics.end_to_end.observe(now - started)
    if delta.usage is not None:
        metrics.queue_time.observe(delta.usage.queue_s)
        later_tokens = delta.usage.completion_tokens - 1
        if first is not None and later_tokens > 0:
            metrics.inter_token.observe((now - first) / later_tokens)


async def _interleaved(
    sources: Sequence[AsyncGenerator[GenerateDelta, None]],
) -> AsyncGenerator[Step, None]:
    """All of `sources` at once; the first exception ends it and closes the others."""
    if len(sources) == 1:
        async with aclosing(sources[0]) as only:
            async for delta in only:
                yield Step(0, delta)
        return
    # Bounded: a client that does not read must hold back its own sources, not fill memory.
    queue: asyncio.Queue[Step | BaseException | None] = asyncio.Queue(maxsize=len(sources))

    async def pump(index: int, source: AsyncGenerator[GenerateDelta, None]) -> None:
        try:
            async with aclosing(source):
                async for delta in source:
                    await queue.put(Step(index, delta))
            await queue.put(None)
        except Exception as error:  # noqa: BLE001 - re-raised by the reader of the queue
            await queue.put(error)

    tasks = [asyncio.create_task(pump(index, source)) for index, source in enumerate(sources)]
    try:
        num_open = len(tasks)
        while num_open:
            item = await queue.get()
            if item is None:
                num_open -= 1
            elif isinstance(item, BaseException):
                raise item
            else:
                yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
