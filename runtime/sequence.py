"""One sequence of a request on its way back to the caller: tokens become text, stop strings end it."""

from ramify.lang.protocol import FinishReason, GenerateDelta, GenerateRequest, Usage
from ramify.runtime.core import TokenDelta
from ramify.runtime.tokenizer.detokenizer import Detokenizer
from ramify.runtime.tokenizer.tokenizer import Tokenizer


class SequenceText:
    """Fed with the worker's deltas, gives the caller's."""

    def __init__(self, tokenizer: Tokenizer, request: GenerateRequest, num_prompt: int) -> None:
        self._request = request
        self._num_prompt = num_prompt
        self._num_tokens = 0
        self._detokenizer = Detokenizer(
            tokenizer, skip_special_tokens=request.sampling.skip_special_tokens
        )
        self.is_stopped = False

    def feed(self, delta: TokenDelta) -> GenerateDelta | None:
        """What the caller hears of `delta`; None if nothing."""
        text = self._detokenizer.feed(delta.token_ids)
        self._num_tokens += len(delta.token_ids)
        if delta.error is not None:
            return GenerateDelta(rid=delta.rid, index=delta.index, error=delta.error)
        if delta.finish is not None:
            text += self._detokenizer.flush()
        return GenerateDelta(
            rid=delta.rid,
            index=delta.index,
            text=text,
            token_ids=delta.token_ids,
            logprobs=delta.logprobs,
            prompt_logprobs=delta.prompt_logprobs,
            finish=delta.finish,
            usage=self._usage(delta, delta.finish) if delta.finish else None,
        )

    def _usage(self, delta: TokenDelta, finish: FinishReason) -> Usage:
        return Usage(
            prompt_tokens=self._num_prompt,
            cached_tokens=delta.num_cached,
            completion_tokens=self._num_tokens,
            queue_s=delta.queue_s,
            prefill_s=delta.prefill_s,
            decode_s=delta.decode_s,
        )
