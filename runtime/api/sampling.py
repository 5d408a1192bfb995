"""`Sampling` as HTTP bodies spell it: every field may be null, one stop may be a bare string."""

from typing import Any

import msgspec

from ramify.lang.errors import InvalidRequest
from ramify.lang.protocol import LogprobOptions, Sampling

# What `Sampling` says in place of what the body said, where the names differ.
Names = dict[str, str]


class SamplingFields(msgspec.Struct, kw_only=True):
    """Fields that all dialects share with `Sampling`; None = its default (a test compares)."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: dict[int, float] | None = None
    seed: int | None = None
    n: int | None = None
    stop: str | tuple[str, ...] | None = None
    stop_token_ids: tuple[int, ...] | None = None
    stop_regex: str | tuple[str, ...] | None = None
    ignore_eos: bool | None = None
    skip_special_tokens: bool | None = None
    regex: str | None = None
    json_schema: str | None = None
    ebnf: str | None = None
    structural_tag: str | None = None
    strict: bool | None = None


def make_sampling(
    body: SamplingFields,
    max_tokens: int | None,
    min_tokens: int | None,
    *,
    path: str = "",
    names: Names | None = None,
) -> Sampling:
    """The checked `Sampling` of `body`; an error names the field as the client spelled it."""
    values: dict[str, Any] = {"max_tokens": max_tokens, "min_tokens": min_tokens}
    values |= {name: getattr(body, name) for name in SamplingFields.__struct_fields__}
    for name in ("stop", "stop_regex"):
        if isinstance(values[name], str):
            values[name] = (values[name],)
    sampling = Sampling(**{name: value for name, value in values.items() if value is not None})
    check(sampling, path=path, names=names or {})
    return sampling


def check(options: Sampling | LogprobOptions, *, path: str, names: Names) -> None:
    """`options.check()`, its error in the client's own names."""
    try:
        options.check()
    except InvalidRequest as error:
        own = error.param or ""
        theirs = names.get(own, own)
        message = error.message
        if message.startswith(own):
            message = theirs + message[len(own) :]
        raise type(error)(message, code=error.code, param=path + theirs) from None
