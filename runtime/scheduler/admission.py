"""How the scheduler accepts a request, and what it refuses at once: what could never end."""

import numpy as np

from ramify.lang.errors import ContextLengthExceeded, InvalidRequest
from ramify.lang.protocol import Sampling, TokenLogprob
from ramify.runtime.core import Request, TokenRequest


def check_token_ids(sampling: Sampling, vocab_size: int) -> None:
    """Raise `InvalidRequest` for a logit_bias or stop token id that is not in the vocabulary."""
    for name, ids in (
        ("logit_bias", sampling.logit_bias),
        ("stop_token_ids", sampling.stop_token_ids),
    ):
        for token_id in ids:
            if not 0 <= token_id < vocab_size:
                raise InvalidRequest(
                    f"{name} names token {token_id}: must be between 0 and {vocab_size - 1}, the "
                    "model's vocabulary",
                    code="out_of_range",
                    param=name,
                )


def check_fits(spec: TokenRequest, *, context_length: int, num_slots: int) -> None:
    """Raise `InvalidRequest` or `ContextLengthExceeded` if `spec` cannot be served here."""
    num_prompt, max_tokens = len(spec.token_ids), spec.sampling.max_tokens
    if num_prompt == 0:
        raise InvalidRequest(
            "the prompt has no tokens: at least one is needed, such as the model's bos token",
            code="empty_prompt",
            param="prompt",
        )
    if num_prompt + max_tokens > context_length:
        raise ContextLengthExceeded(
            f"prompt of {num_prompt} tokens and max_tokens={max_tokens} make "
            f"{num_prompt + max_tokens}, the context length is {context_length}: "
            + _fix(num_prompt, context_length, max_tokens),
            param="max_tokens" if num_prompt < context_length else "prompt",
        )
    needed = slots_needed(num_prompt, max_tokens)
    if needed > num_slots:
        raise ContextLengthExceeded(
            f"prompt of {num_prompt} tokens and max_tokens={max_tokens} need {needed} slots, the "
            f"KV pool has {num_slots}: start the engine with --max-total-tokens {needed} or more, "
            "or " + _fix(num_prompt, num_slots + 1 if max_tokens else num_slots, max_tokens),
            code="pool_too_small",
            param="max_tokens" if num_prompt <= num_slots else "prompt",
        )
    start = spec.logprobs.prompt_start
    if start is not None and start > num_prompt:
        raise InvalidRequest(
            f"logprob_start_len={start}: must be at most {num_prompt}, the prompt's length",
            code="out_of_range",
            param="logprob_start_len",
        )


def new_request(spec: TokenRequest, seq: int, arrival: float, namespace: str | int) -> Request:
    """A request that nothing was done for yet; its answer and `prefill_ids` are not begun."""
    num_prompt = len(spec.token_ids)
    start = spec.logprobs.prompt_start
    eos = () if spec.sampling.ignore_eos else spec.eos_token_ids
    request = Request(
        spec,
        arrival,
        token_ids=list(spec.token_ids),
        num_prompt=num_prompt,
        slots=np.empty(0, dtype=np.int32),
        num_scored=num_prompt if start is None else max(start, 1),  # nothing is before the first
        score_end=num_prompt,
        num_sent=num_prompt,
        seq=seq,
        namespace=namespace,
        stop_ids=frozenset(spec.sampling.stop_token_ids + eos),
    )
    if start == 0:
        request.prompt_logprobs.append(TokenLogprob(None, spec.token_ids[0]))
    return request


def slots_needed(num_prompt: int, max_tokens: int) -> int:
    """Slots of a whole request: the last token it generates has no K and V."""
    return num_prompt + max(max_tokens - 1, 0)


def _fix(num_prompt: int, limit: int, max_tokens: int) -> str:
    if num_prompt < limit:
        return f"set max_tokens to {limit - num_prompt} or less"
    return f"shorten the prompt by {num_prompt + min(max_tokens, 1) - limit} tokens or more"
