"""Replies of `POST /generate`: cumulative text and `meta_info`, by SGLang's names."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ramify.lang.protocol import (
    FinishReason,
    GenerateRequest,
    RelaxedKeyword,
    TokenLogprob,
    Usage,
)
from ramify.runtime.api.generation import Step
from ramify.runtime.api.state import ServedEngine


@dataclass(slots=True, eq=False)
class Progress:
    """One sequence so far."""

    index: int  # place in the reply: prompt * n + number of the sequence
    asked: GenerateRequest
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    prompt_logprobs: tuple[TokenLogprob, ...] = ()
    finish: FinishReason | None = None
    usage: Usage | None = None
    relaxed: tuple[RelaxedKeyword, ...] = ()


class Replies:
    """Every sequence of one HTTP request, as it grows."""

    def __init__(
        self, engine: ServedEngine, asked: Sequence[GenerateRequest], with_text: bool
    ) -> None:
        self._engine = engine
        self._with_text = with_text  # of tokens, in log-probability entries
        self._started = time.monotonic()
        self._by_prompt: list[list[Progress]] = []
        index = 0
        for one in asked:
            numbers = range(index, index + one.sampling.n)
            self._by_prompt.append([Progress(number, one) for number in numbers])
            index += one.sampling.n

    def add(self, step: Step) -> Progress:
        """Take in one delta; the sequence it belongs to."""
        delta = step.delta
        progress = self._by_prompt[step.prompt][delta.index]
        progress.text += delta.text
        progress.token_ids += delta.token_ids
        progress.logprobs += delta.logprobs
        if delta.prompt_logprobs is not None:
            progress.prompt_logprobs = delta.prompt_logprobs
        progress.finish, progress.usage = delta.finish, delta.usage
        progress.relaxed = delta.relaxed
        return progress

    def all(self) -> list[dict[str, Any]]:
        """The reply of every sequence, in the order of the prompts."""
        return [self.render(progress) for group in self._by_prompt for progress in group]

    def render(self, progress: Progress) -> dict[str, Any]:
        """The reply of one sequence so far."""
        meta: dict[str, Any] = {
            "id": progress.asked.rid,
            "finish_reason": _finish(progress),
            "completion_tokens": len(progress.token_ids),
            "e2e_latency": time.monotonic() - self._started,
        }
        if progress.usage is not None:
            meta["prompt_tokens"] = progress.usage.prompt_tokens
            meta["completion_tokens"] = progress.usage.completion_tokens
            meta["cached_tokens"] = progress.usage.cached_tokens
            meta["queue_time"] = progress.usage.queue_s
        if progress.relaxed:
            meta["relaxed"] = msgspec.to_builtins(progress.relaxed)
        if progress.asked.logprobs.output:
            meta |= self._logprobs(progress)
        return {"text": progress.text, "output_ids": progress.token_ids, "meta_info": meta}

    def _logprobs(self, progress: Progress) -> dict[str, Any]:
        # SGLang's first prompt entry is always null, wherever it starts; its clients rely on it.
        prompt = [self._entry(entry) for entry in progress.prompt_logprobs]
        if prompt:
            prompt[0][0] = None
        found: dict[str, Any] = {
            "input_token_logprobs": prompt,
            "output_token_logprobs": [self._entry(entry) for entry in progress.logprobs],
        }
        if progress.asked.logprobs.top:
            tops = [self._tops(entry) for entry in progress.prompt_logprobs]
            found["input_top_logprobs"] = [None, *tops[1:]] if tops else []
            found["output_top_logprobs"] = [self._tops(entry) for entry in progress.logprobs]
        return found

    def _entry(self, entry: TokenLogprob) -> list[Any]:
        return [entry.logprob, entry.token_id, self._text(entry.token_id)]

    def _tops(self, entry: TokenLogprob) -> list[list[Any]]:
        return [[logprob, token_id, self._text(token_id)] for logprob, token_id in entry.top]

    def _text(self, token_id: int) -> str | None:
        return self._engine.token_text(token_id) if self._with_text else None


def _finish(progress: Progress) -> dict[str, Any] | None:
    finish = progress.finish
    if finish is None:
        return None
    if finish.type == "length":
        return {"type": "length", "length": len(progress.token_ids)}
    if finish.type == "abort":
        return {"type": "abort", "message": "aborted by request"}
    return {"type": "stop", "matched": finish.matched}
