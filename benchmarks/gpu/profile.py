"""Where the time of decode steps goes: the device's kernels, its idle time, the host's share."""

from collections import Counter
from typing import TYPE_CHECKING, Any

import torch
from torch.profiler import ProfilerActivity, profile

if TYPE_CHECKING:
    from benchmarks.gpu.serve import Core
    from benchmarks.gpu.workloads import Ask

STEPS = 20
WARM_UP = 20


def profile_steps(core: "Core", name: str, asks: "list[Ask]") -> dict[str, Any]:
    """Kernel time by name over STEPS steps, once all requests that fit decode."""
    scheduler = core.scheduler
    core.add(asks)
    loop = core.loop(scheduler, core.executor)
    trace = profile(activities=[ProfilerActivity.CUDA])
    found: dict[str, Any] = {"profile": name}
    turns = 0  # since prefill ended
    while scheduler.has_work:
        for _ in loop.turn():
            pass
        turns = 0 if scheduler._queues.prefilling else turns + 1
        if turns == WARM_UP:
            trace.start()
        if turns == WARM_UP + STEPS:
            trace.stop()
            found |= _read(trace, len(scheduler._queues.decoding))
            break
    scheduler.abort_all()
    while loop.is_under_way:
        for _ in loop.turn():
            pass
    print(found, flush=True)
    return found


def _read(trace: Any, batch: int) -> dict[str, Any]:
    kernels: Counter[str] = Counter()
    spans: list[tuple[float, float]] = []
    for event in trace.events():
        if event.device_type == torch.autograd.DeviceType.CUDA:
            kernels[event.name[:60]] += event.time_range.elapsed_us()
            spans.append((event.time_range.start, event.time_range.end))
    if not spans:
        return {"batch": batch}
    spans.sort()
    busy, end = 0.0, spans[0][0]
    for start, stop in spans:
        busy += max(0.0, stop - max(start, end))
        end = max(end, stop)
    wall = end - spans[0][0]
    return {
        "batch": batch,
        "step_us": round(wall / STEPS, 1),
        "idle": round(1 - busy / wall, 4),
        "kernels_us": {k: round(v / STEPS, 1) for k, v in kernels.most_common(12)},
    }
