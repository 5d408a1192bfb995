"""One sequence on its way back to the caller: tokens become text, stop strings end it."""

from collections import deque

from ramify.lang.protocol import FinishReason, GenerateDelta, Sampling, TokenLogprob, Usage
from ramify.runtime.core import TokenDelta
from ramify.runtime.tokenizer.stop import Kept, StopMatcher
from ramify.runtime.tokenizer.tokenizer import Tokenizer


class SequenceText:
    """Fed with the worker's deltas of one sequence, gives the caller's."""

    def __init__(self, tokenizer: Tokenizer, sampling: Sampling, num_prompt: int) -> None:
        self._stops = StopMatcher(tokenizer, sampling)
        self._num_prompt = num_prompt
        self._num_generated = 0
        self._logprobs: deque[TokenLogprob] = deque()  # of tokens held back
        self._stop: Kept | None = None  # where a stop string ended the answer

    @property
    def is_stopped(self) -> bool:
        """Whether a stop string was found: further tokens are not wanted."""
        return self._stop is not None

    def feed(self, delta: TokenDelta) -> GenerateDelta | None:
        """What the caller hears of `delta`; None if nothing."""
        is_final = delta.finish is not None or delta.error is not None
        if delta.error is not None and not self.is_stopped:
            return GenerateDelta(rid=delta.rid, index=delta.index, error=delta.error)
        kept = self._keep(delta)
        if not is_final and not (kept.text or kept.token_ids or delta.prompt_logprobs):
            return None
        return GenerateDelta(
            rid=delta.rid,
            index=delta.index,
            text=kept.text,
            token_ids=kept.token_ids,
            tail=self._stop.tail if is_final and self._stop else "",
            logprobs=tuple(self._logprobs.popleft() for _ in kept.token_ids[: len(self._logprobs)]),
            prompt_logprobs=delta.prompt_logprobs,
            finish=self._finish(delta) if is_final else None,
            usage=self._usage(delta) if is_final else None,
        )

    def _keep(self, delta: TokenDelta) -> Kept:
        if self.is_stopped:
            return Kept("", ())
        self._num_generated += len(delta.token_ids)
        self._logprobs += delta.logprobs
        kept = self._stops.feed(delta.token_ids)
        if delta.finish is not None and not self._stops.is_stopped:
            rest = self._stops.flush()
            kept = rest._replace(
                text=kept.text + rest.text, token_ids=kept.token_ids + rest.token_ids
            )
        if self._stops.is_stopped:
            self._stop = kept
        return kept

    def _finish(self, delta: TokenDelta) -> FinishReason | None:
        if self._stop is not None:
            return FinishReason(type="stop", matched=self._stop.matched)
        return delta.finish

    def _usage(self, delta: TokenDelta) -> Usage:
        return Usage(
            prompt_tokens=self._num_prompt,
            cached_tokens=delta.num_cached,
            completion_tokens=self._num_generated,
            queue_s=delta.queue_s,
            prefill_s=delta.prefill_s,
            decode_s=delta.decode_s,
        )
