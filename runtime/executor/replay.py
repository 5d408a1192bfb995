"""Launches of a step, replayed from CUDA graphs, and the work list that they read on the device."""

from collections.abc import Callable
from functools import cache

import torch

from ramify.runtime.executor.slot_table import SlotTable
from ramify.runtime.executor.work import Planner
from ramify.runtime.kernels.work_buffers import WorkBuffers
from ramify.runtime.kernels.work_list import WorkList


class Replay:
    """Launches by key, replayed once a key has come `patience` times before.

    A graph knows by their addresses the slot table and the buffers of the work list: where one of
    them moves, all graphs are captured anew.
    """

    def __init__(
        self, table: SlotTable, planner: Planner, *, max_rows: int, patience: int, graphs: bool
    ) -> None:
        """`max_rows`: of any step. `graphs=False`: nothing is captured."""
        self._table = table
        self._planner = planner
        self._max_rows = max_rows
        self._patience = patience
        self._graphs: Graphs | None = Graphs() if graphs else None
        self._slots = table.slots  # as the graphs know it
        self._work: WorkBuffers | None = None
        self._num_met: dict[object, int] = {}  # key -> times it came, up to the patience

    def load(self, work: WorkList) -> WorkBuffers:
        """The list on the device, until the next is loaded."""
        if self._work is None or not self._work.has_room(work):
            self._work = self._planner.buffers(work, self._max_rows)
            self._forget_graphs()
        self._work.load(work)
        return self._work

    def run(self, key: object, launch: Callable[[], None]) -> None:
        """Do what `launch` does, once."""
        if self._slots is not self._table.slots:
            self._slots = self._table.slots
            self._forget_graphs()
        num_met = self._num_met.get(key, 0)
        if self._graphs is None or num_met < self._patience:
            launch()
            self._num_met[key] = num_met + 1
        else:
            self._graphs.run(key, launch)

    def _forget_graphs(self) -> None:
        if self._graphs is not None:
            self._graphs = Graphs()


class Graphs:
    """Captured launches by key, in one memory pool."""

    def __init__(self) -> None:
        self._captured: dict[object, torch.cuda.CUDAGraph] = {}
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = _capture_stream()

    def run(self, key: object, launch: Callable[[], None]) -> None:
        """Do what `launch` does, once: from a graph, which is captured the first time."""
        graph = self._captured.get(key)
        if graph is not None:
            graph.replay()
            return
        launch()  # compiles what is new; capturing alone does nothing
        self._captured[key] = self._capture(launch)

    def _capture(self, launch: Callable[[], None]) -> torch.cuda.CUDAGraph:
        # Not by `torch.cuda.graph`, which waits for the device and gives all cached memory back:
        # steps would be held up whenever a size comes first.
        graph = torch.cuda.CUDAGraph()
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            graph.capture_begin(pool=self._pool)
            try:
                launch()
            finally:
                graph.capture_end()
        current.wait_stream(self._stream)
        return graph


@cache
def _capture_stream() -> torch.cuda.Stream:
    """For all graphs: the default stream cannot be captured, and cuBLAS keeps 32 MiB for each that
    it was used on."""
    return torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch has no types
