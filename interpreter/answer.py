"""What came back for one call: deltas gathered, and read as `meta_info` by SGLang's names."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from ramify.lang.choices import distribution
from ramify.lang.protocol import (
    ContinuationScore,
    FinishReason,
    GenerateDelta,
    RelaxedKeyword,
    TokenLogprob,
    Usage,
)


class Answer:
    """One sequence of a `GenerateRequest`, growing delta by delta."""

    __slots__ = (
        "finish",
        "logprobs",
        "prompt_logprobs",
        "relaxed",
        "tail",
        "text",
        "token_ids",
        "usage",
    )

    def __init__(self) -> None:
        self.text = ""
        self.token_ids: list[int] = []
        self.tail = ""
        self.logprobs: list[TokenLogprob] = []
        self.prompt_logprobs: tuple[TokenLogprob, ...] | None = None
        self.finish: FinishReason | None = None
        self.usage: Usage | None = None
        self.relaxed: tuple[RelaxedKeyword, ...] = ()

    def add(self, delta: GenerateDelta) -> None:
        """Take in what a delta brings."""
        self.text += delta.text
        self.token_ids.extend(delta.token_ids)
        self.tail += delta.tail
        self.logprobs.extend(delta.logprobs)
        if delta.prompt_logprobs is not None:
            self.prompt_logprobs = delta.prompt_logprobs
        self.finish = delta.finish or self.finish
        self.usage = delta.usage or self.usage
        self.relaxed = delta.relaxed or self.relaxed

    def meta_info(self, rid: str, *, since: int = 0) -> dict[str, Any]:
        """What is known so far; log-probabilities of the answer's tokens from `since` on."""
        num_tokens = len(self.token_ids)
        meta: dict[str, Any] = {"id": rid, "completion_tokens": num_tokens}
        if self.finish is not None:
            meta["finish_reason"] = msgspec.to_builtins(self.finish)
        if self.usage is not None:
            meta |= usage_info(self.usage)
        if self.relaxed:
            meta["relaxed"] = msgspec.to_builtins(self.relaxed)
        if self.prompt_logprobs is not None:
            meta["input_token_logprobs"] = _pairs(self.prompt_logprobs)
            meta["input_top_logprobs"] = [entry.top for entry in self.prompt_logprobs]
        if self.logprobs:
            new = self.logprobs[since:num_tokens]
            meta["output_token_logprobs"] = _pairs(new)
            meta["output_top_logprobs"] = [entry.top for entry in new]
            meta["output_token_logprobs_length"] = len(self.logprobs)
        return meta


def usage_info(usage: Usage) -> dict[str, Any]:
    """`Usage` under the names of `meta_info`; times in seconds."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "cached_tokens": usage.cached_tokens,
        "completion_tokens": usage.completion_tokens,
        "queue_time": usage.queue_s,
        "prefill_time": usage.prefill_s,
        "decode_time": usage.decode_s,
        "e2e_latency": usage.queue_s + usage.prefill_s + usage.decode_s,
    }


def select_info(
    rid: str,
    choices: Sequence[str],
    scores: Sequence[ContinuationScore],
    ranks: Sequence[float],
    usage: Usage,
) -> dict[str, Any]:
    """`meta_info` of a select: the whole distribution and what it was computed from."""
    return {
        "id": rid,
        "choices": list(choices),
        "probabilities": distribution(ranks),
        "ranks": list(ranks),
        "normalized_prompt_logprobs": [
            sum(score.logprobs) / len(score.logprobs) for score in scores
        ],
        "input_token_logprobs": [
            list(zip(score.logprobs, score.token_ids, strict=True)) for score in scores
        ],
        "unconditional_token_logprobs": [
            None
            if score.unconditional_logprobs is None
            else list(zip(score.unconditional_logprobs, score.token_ids, strict=True))
            for score in scores
        ],
        **usage_info(usage),
    }


def _pairs(entries: Iterable[TokenLogprob]) -> list[tuple[float | None, int]]:
    return [(entry.logprob, entry.token_id) for entry in entries]
