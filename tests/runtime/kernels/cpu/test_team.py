import threading

import numpy as np

from ramify.runtime.kernels.cpu import jit as jit_module
from ramify.runtime.kernels.cpu.intrinsics import atomic_add
from ramify.runtime.kernels.cpu.jit import kernel
from ramify.runtime.kernels.cpu.llama_step import step
from ramify.runtime.kernels.cpu.team import ThreadTeam, barrier


@kernel
def _count(thread, arrivals, num_threads, totals, seen, rounds):
    meeting = 1
    for i in range(rounds):
        atomic_add(totals, i, 1)
        meeting = barrier(arrivals, meeting, num_threads)
        if totals[i] == num_threads:  # nobody passes before everybody came
            atomic_add(seen, 0, 1)
    barrier(arrivals, meeting, num_threads)


def test_no_thread_passes_a_barrier_before_all_have_come():
    team = ThreadTeam(3)
    for _ in range(20):
        totals, seen = np.zeros(200, np.int64), np.zeros(1, np.int64)
        team.run(_count, totals, seen, 200)
        assert (totals == 3).all() and seen[0] == 600
    team.close()


def test_close_ends_the_threads():
    before = set(threading.enumerate())
    team = ThreadTeam(4)
    started = set(threading.enumerate()) - before
    assert len(started) == 3
    team.close()
    for thread in started:
        thread.join(timeout=10)
        assert not thread.is_alive()


def test_cached_code_is_stamped_with_every_source_file():
    names = {name for name, _, _ in jit_module._sources_stamp()}
    assert {"tiles.py", "attention.py", "linear.py", "llama_step.py", "numeric.py"} <= names
    assert step._cache._cache_file._source_stamp == jit_module._sources_stamp()
