"""The request graph: what one run of a program asked for, in what order, and what it cost."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from ramify.lang.protocol import Usage

NodeKind = Literal["prefill", "generate", "select", "fork", "join"]
NodeStatus = Literal["waiting", "running", "done", "failed", "cancelled"]


@dataclass(slots=True, eq=False)
class GraphNode:
    """One step of a program."""

    id: int
    kind: NodeKind
    inputs: tuple[int, ...]  # ids of the nodes whose text this one continues
    state: str  # path of the state: "0", its second fork "0.1", ...
    label: str  # result name, or the beginning of the text
    where: str = ""  # file:line of the call
    rid: str | None = None  # of generate and select
    status: NodeStatus = "done"
    error: str | None = None
    usage: Usage | None = None  # of generate and select, when finished
    tokens: int | None = None  # of prefill, once the call after it has told them
    started: float | None = None  # seconds since the run began
    finished: float | None = None


@dataclass(slots=True, eq=False)
class RequestGraph:
    """Nodes in the order they were recorded; `inputs` are the edges."""

    program: str
    nodes: list[GraphNode] = field(default_factory=list)
    _origin: float = field(default_factory=time.perf_counter)

    def add(
        self, kind: NodeKind, inputs: tuple[int, ...], state: str, label: str, where: str = ""
    ) -> GraphNode:
        """Record a node."""
        node = GraphNode(len(self.nodes), kind, inputs, state, label, where)
        self.nodes.append(node)
        return node

    def clock(self) -> float:
        """Seconds since the run began."""
        return time.perf_counter() - self._origin

    def __iter__(self) -> Iterator[GraphNode]:
        return iter(tuple(self.nodes))

    def __len__(self) -> int:
        return len(self.nodes)

    def __str__(self) -> str:
        """One line per node, for people."""
        lines = [f"{self.program}()"]
        for node in self:
            edges = " ".join(f"%{i}" for i in node.inputs)
            lines.append(
                f"  %{node.id:<3} {node.kind:<8} {_quoted(node.label):<34} "
                f"<- {edges or 'start':<12} state {node.state:<6} {_cost(node)}".rstrip()
            )
        return "\n".join(lines)

    def to_mermaid(self) -> str:
        """The graph as a Mermaid flowchart."""
        lines = ["flowchart TD"]
        for node in self:
            cost = _cost(node)
            text = f"{node.kind} {_quoted(node.label)}" + (f"<br/>{cost}" if cost else "")
            opening, closing = _SHAPES[node.kind]
            escaped = text.replace('"', "#quot;").replace("\n", " ")
            lines.append(f'  n{node.id}{opening}"{escaped}"{closing}')
        lines += [f"  n{source} --> n{node.id}" for node in self for source in node.inputs]
        return "\n".join(lines)

    def without_costs(self) -> "RequestGraph":
        """The same steps with nothing measured: what a trace can know."""
        plan = RequestGraph(self.program)
        for node in self:
            plan.add(node.kind, node.inputs, node.state, node.label, node.where)
        return plan


_SHAPES = {
    "prefill": ("[", "]"),
    "generate": ("(", ")"),
    "select": ("{{", "}}"),
    "fork": ("[/", "\\]"),
    "join": ("[\\", "/]"),
}


def preview(text: str, *, width: int = 30) -> str:
    """The beginning of a text on one line."""
    flat = " ".join(text.split())
    return flat if len(flat) <= width else flat[: width - 3] + "..."


def _quoted(label: str) -> str:
    return f'"{label}"' if label else ""


def _cost(node: GraphNode) -> str:
    if node.error is not None:
        return f"{node.status}: {preview(node.error, width=80)}"
    if node.usage is not None:
        usage = node.usage
        return (
            f"in {usage.prompt_tokens} (cached {usage.cached_tokens}) "
            f"out {usage.completion_tokens}  queue {usage.queue_s * 1e3:.1f} "
            f"prefill {usage.prefill_s * 1e3:.1f} decode {usage.decode_s * 1e3:.1f} ms"
        )
    if node.tokens is not None:
        return f"{node.tokens} tokens"
    return "" if node.status == "done" else node.status
