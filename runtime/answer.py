"""What the engine's own methods return: whole answers, collected from deltas."""

from collections.abc import Iterable

import msgspec

from ramify.lang.errors import error_from_info
from ramify.lang.protocol import FinishReason, GenerateDelta, RelaxedKeyword, TokenLogprob, Usage


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """One finished sequence."""

    text: str
    token_ids: tuple[int, ...]
    finish: FinishReason
    usage: Usage
    logprobs: tuple[TokenLogprob, ...] = ()
    prompt_logprobs: tuple[TokenLogprob, ...] = ()
    relaxed: tuple[RelaxedKeyword, ...] = ()  # what of its schema it was not held to


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A request's `n` completions; `text` and `token_ids` are those of the first."""

    rid: str
    completions: tuple[Completion, ...]

    @property
    def text(self) -> str:
        """Text of the first completion."""
        return self.completions[0].text

    @property
    def token_ids(self) -> tuple[int, ...]:
        """Tokens of the first completion."""
        return self.completions[0].token_ids


def collect(rid: str, deltas: Iterable[GenerateDelta]) -> Answer:
    """The answer that `deltas` add up to; raises the error of the first that carries one."""
    by_index: dict[int, list[GenerateDelta]] = {}
    for delta in deltas:
        if delta.error is not None:
            raise error_from_info(delta.error)
        by_index.setdefault(delta.index, []).append(delta)
    completions = tuple(_complete(by_index[index]) for index in sorted(by_index))
    return Answer(rid=rid, completions=completions)


def _complete(deltas: list[GenerateDelta]) -> Completion:
    last = deltas[-1]
    assert last.finish is not None and last.usage is not None, f"no final delta: {last}"
    return Completion(
        text="".join(delta.text for delta in deltas),
        token_ids=tuple(token for delta in deltas for token in delta.token_ids),
        finish=last.finish,
        usage=last.usage,
        relaxed=last.relaxed,
        logprobs=tuple(entry for delta in deltas for entry in delta.logprobs),
        prompt_logprobs=next(
            (delta.prompt_logprobs for delta in deltas if delta.prompt_logprobs is not None), ()
        ),
    )
