"""The nouns that scheduler, cache and executor share: a request's progress, a step's plan.

A request moves: waiting -> prefilling -> decoding -> finished, and from any of these back to
waiting when it is retracted. Its K and V live in slots. Who owns the slot of each position:

    [0, tree_len) the radix tree, under `node`'s lock   [tree_len, num_computed) the request
    [num_computed, num_tokens) nobody yet
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from ramify.grammars.matcher import TokenGrammar
from ramify.lang.errors import ErrorInfo
from ramify.lang.protocol import FinishReason, LogprobOptions, Sampling, TokenLogprob

if TYPE_CHECKING:
    from ramify.runtime.cache.radix_tree import Match, RadixNode
    from ramify.runtime.guide import Guide


class TokenRequest(msgspec.Struct, frozen=True):
    """What the front sends the worker: one sequence to prefill and decode, already tokens."""

    rid: str
    index: int  # which of the request's n sequences
    token_ids: tuple[int, ...]
    sampling: Sampling  # seed is set; n is 1; text stops stay with the front
    logprobs: LogprobOptions
    eos_token_ids: tuple[int, ...]
    priority: int = 0
    deadline: float | None = None  # time.monotonic() at which it ends with deadline_exceeded
    namespace: str = ""
    group: str | None = None
    grammar: TokenGrammar | None = None  # what the worker compiled `sampling`'s constraint to


@dataclass(slots=True, eq=False)
class Request:
    """One sequence in the scheduler. Identity matters: two requests are never equal."""

    spec: TokenRequest
    arrival: float  # time.monotonic() of acceptance
    token_ids: list[int]  # prompt, then output: what is or will be computed
    num_prompt: int  # tokens the caller sent; token_ids[num_prompt:] is the output
    slots: np.ndarray  # [capacity] int32: slot of each position below num_computed
    num_computed: int = 0  # positions whose K and V are written, or planned to be
    num_pending: int = 0  # tokens after `token_ids` that steps under way are choosing
    num_sure: int = 0  # positions whose K and V were written by steps that are committed
    tree_len: int = 0  # positions whose slots the radix tree owns
    node: "RadixNode | None" = None  # deepest locked node; None while waiting
    num_cached: int | None = None  # prompt tokens not computed here; None until first admitted
    first_planned: float | None = None
    first_token: float | None = None
    # Tokens [num_scored, score_end) were not sampled here, and their log-probabilities are wanted:
    # those of the prompt, then of spans that the grammar forced.
    num_scored: int = 0
    score_end: int = 0
    num_sent: int = 0  # tokens that the caller knows: the prompt, and output so far
    prompt_logprobs: list[TokenLogprob] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)  # of output that is not sent yet
    ending: FinishReason | None = None  # why it ends once its rows are computed: all is chosen
    # Book-keeping of the scheduler alone.
    seq: int = 0  # order of acceptance; also its key in the scheduler's queues
    namespace: str | int = ""  # radix namespace; a number: its own, the radix cache is disabled
    prefill_ids: np.ndarray = field(  # [prefill_len] int32: prompt, output that its grammar forced
        default_factory=lambda: np.empty(0, dtype=np.int32)  # or that a retraction kept
    )
    next_row: int = 0  # first position of prefill_ids whose row is not planned yet
    is_resumed: bool = False  # has been retracted: what it finds cached may be its own work
    stop_ids: frozenset[int] = frozenset()  # tokens that end it
    guide: "Guide | None" = None  # its place in its grammar
    match: "Match | None" = None  # longest cached prefix of prefill_ids, when last looked up

    @property
    def num_tokens(self) -> int:
        """Prompt and output so far."""
        return len(self.token_ids)

    @property
    def output_len(self) -> int:
        """Tokens generated so far."""
        return len(self.token_ids) - self.num_prompt

    @property
    def num_rows(self) -> int:
        """Positions to compute: nothing follows the last token of a whole answer."""
        return len(self.token_ids) - (self.ending is not None and self.output_len > 0)

    @property
    def lacks_logprobs(self) -> bool:
        """Are there tokens whose log-probabilities are still to be found?"""
        return self.num_scored < self.score_end

    @property
    def num_ahead(self) -> int:
        """Tokens once the steps under way are committed, if none of them ends the request."""
        return len(self.token_ids) + self.num_pending

    @property
    def output_ahead(self) -> int:
        """Of those, the generated ones."""
        return len(self.token_ids) + self.num_pending - self.num_prompt


class PlannedRows(NamedTuple):
    """Rows [start, end) of one request in a step: a prefill chunk, or one decode token and those
    that its grammar forced after it.

    Rows below `write_from` have their K and V in the pool already (another request's prefill put
    them there); they are computed again only because their logits are needed, and written nowhere.
    """

    request: Request
    start: int
    end: int
    write_from: int  # start <= write_from <= end
    sample: bool  # the last row's logits choose the next token
    scored: range = range(0)  # positions whose next token is known and needs its log-probability


class BatchPlan(NamedTuple):
    """One step: who computes what. Slots are allocated and, for prompts, already in the tree."""

    rows: tuple[PlannedRows, ...]

    @property
    def num_tokens(self) -> int:
        """Rows of the forward pass."""
        return sum(entry.end - entry.start for entry in self.rows)


class RowResult(NamedTuple):
    """What a step found for one `PlannedRows`, in the plan's order."""

    next_token: int | None  # None where the plan did not sample
    logprob: TokenLogprob | None  # of next_token, when asked for
    scores: tuple[TokenLogprob, ...] = ()  # of the tokens after the positions of `scored`
    error: ErrorInfo | None = None  # this request's own fault, such as NaN logits


class TokenDelta(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the worker sends back for one sequence after a step."""

    rid: str
    index: int
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] = ()
    prompt_logprobs: tuple[TokenLogprob, ...] | None = None  # once, when prefill is done
    finish: FinishReason | None = None  # set on the last delta
    error: ErrorInfo | None = None  # or this
    num_cached: int = 0  # with finish: what Usage reports
    queue_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0


# Upper bounds of the histogram of compile times, in seconds.
COMPILE_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class GrammarStats(msgspec.Struct, frozen=True, kw_only=True):
    """Constrained decoding: gauges of this moment and counters since start."""

    num_cached: int = 0  # grammars and refusals kept
    cached_bytes: int = 0  # estimate of what they take
    num_hits: int = 0  # requests that found theirs compiled, or being compiled
    num_compiled: int = 0  # refused ones included
    num_refused: int = 0
    compile_s: float = 0.0  # seconds of all compiles
    compile_buckets: tuple[int, ...] = ()  # compiles up to each of COMPILE_BUCKETS_S, and above


class EngineStats(msgspec.Struct, frozen=True, kw_only=True):
    """Gauges of this moment and counters since start. Token counts unless the name says else."""

    num_running: int = 0  # requests
    num_waiting: int = 0  # requests
    num_slots: int = 0  # size of the KV pool
    num_free_slots: int = 0
    num_cached_slots: int = 0  # owned by the radix tree, locked or not
    num_evictable_slots: int = 0  # of those, locked by nobody
    num_leaked_slots: int = 0  # owned by nobody and not free; anything but 0 is a bug
    prompt_tokens: int = 0  # of admitted requests
    cached_tokens: int = 0  # of those, taken from the cache
    computed_tokens: int = 0  # rows of all forward passes
    generated_tokens: int = 0
    num_steps: int = 0
    num_retracted: int = 0  # times a request was sent back to waiting
    num_finished: int = 0  # sequences that ended by stop or length
    num_aborted: int = 0  # sequences
    num_failed: int = 0  # sequences that ended in an error
    num_restarts: int = 0  # times the worker process died; the other counters then begin anew
    num_forced: int = 0  # tokens that a grammar forced, appended without a step of their own
    grammars: GrammarStats = GrammarStats()
