"""What the two completion routes share: fields, refusals, finish reasons, usage."""

import time
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from aiohttp import web

from ramify.lang.errors import Aborted, InvalidRequest, NotSupported
from ramify.lang.protocol import FinishReason, LogprobOptions, RelaxedKeyword, Sampling, Usage
from ramify.runtime.api.openai.constraints import ConstrainedFields, read_constraint
from ramify.runtime.api.sampling import check, make_sampling
from ramify.runtime.api.state import TRACE

OpenAIFinish = Literal["stop", "length"]


class StreamOptions(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`stream_options`."""

    include_usage: bool | None = None


class CommonBody(ConstrainedFields, kw_only=True, forbid_unknown_fields=True):
    """Fields of both routes: OpenAI's, then those that clients of other servers send."""

    model: str | None = None  # absent = the served model
    max_tokens: int | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    min_tokens: int | None = None
    priority: int | None = None
    cache_salt: str | None = None  # requests share cached prefixes only under the same salt
    # Accepted and without effect: they only label a request or tune what does not exist here.
    user: Any = None
    metadata: Any = None
    store: Any = None
    service_tier: Any = None
    prompt_cache_key: Any = None
    safety_identifier: Any = None
    # Refused unless null or empty: leaving them out of account would change the answer.
    best_of: Any = None
    lora_path: Any = None
    use_beam_search: Any = None
    prompt_embeds: Any = None
    bad_words: Any = None
    allowed_token_ids: Any = None
    logits_processors: Any = None


COMMON_UNSERVED = CommonBody.__struct_fields__[CommonBody.__struct_fields__.index("best_of") :]


def refuse_unserved(body: CommonBody, names: Sequence[str]) -> None:
    """Raise `NotSupported` for the first of `names` that `body` fills with something."""
    for name in names:
        if getattr(body, name) not in (None, False, "", [], {}):
            raise NotSupported(f"{name} is not served here; leave it out", param=name)


def read_common(
    request: web.Request,
    body: CommonBody,
    max_tokens: int | None,
    max_tokens_name: str = "max_tokens",
) -> Sampling:
    """The checked `Sampling` of a body whose token limit is already settled."""
    if body.stream_options is not None and not body.stream:
        raise InvalidRequest(
            "stream_options without stream=true: drop it or set stream", param="stream_options"
        )
    refuse_unserved(body, COMMON_UNSERVED)
    names = {"max_tokens": max_tokens_name}
    sampling = make_sampling(body, max_tokens, body.min_tokens, names=names)
    constraint = read_constraint(body)
    if constraint is None:
        return sampling
    request[TRACE].names[constraint.name] = constraint.path
    request[TRACE].names["max_tokens"] = max_tokens_name
    if not constraint.strict:
        sampling = msgspec.structs.replace(sampling, strict=False)
    return msgspec.structs.replace(sampling, **{constraint.name: constraint.value})


def checked_logprobs(options: LogprobOptions, name: str) -> LogprobOptions:
    """`options` if in range; an error names the field `name`."""
    check(options, path="", names={"top_logprobs": name})
    return options


def finish_fields(finish: FinishReason, relaxed: Sequence[RelaxedKeyword] = ()) -> dict[str, Any]:
    """`finish_reason`, what stopped it as SGLang's and vLLM's clients read it, and what of its
    schema the answer was not held to."""
    if finish.type == "abort":
        raise Aborted("the request was aborted")
    fields: dict[str, Any] = {"finish_reason": finish.type}
    if finish.matched is not None:
        fields |= {"matched_stop": finish.matched, "stop_reason": finish.matched}
    if relaxed:
        fields["relaxed"] = msgspec.to_builtins(relaxed)
    return fields


def wants_usage(body: CommonBody) -> bool:
    """Whether a stream ends with a usage chunk."""
    return body.stream_options is not None and body.stream_options.include_usage is True


class UsageSum:
    """`usage` of one HTTP request: each prompt counted once, every answer counted."""

    def __init__(self) -> None:
        self._prompts: dict[int, Usage] = {}
        self._num_completion = 0

    def add(self, prompt: int, usage: Usage | None) -> None:
        """Count one finished sequence of prompt number `prompt`."""
        if usage is not None:
            self._prompts.setdefault(prompt, usage)
            self._num_completion += usage.completion_tokens

    def render(self) -> dict[str, Any]:
        """OpenAI's `usage` object."""
        prompt = sum(usage.prompt_tokens for usage in self._prompts.values())
        cached = sum(usage.cached_tokens for usage in self._prompts.values())
        return {
            "prompt_tokens": prompt,
            "completion_tokens": self._num_completion,
            "total_tokens": prompt + self._num_completion,
            "prompt_tokens_details": {"cached_tokens": cached},
        }


def envelope(id: str, kind: str, model: str) -> dict[str, Any]:
    """The fields that open every reply and chunk."""
    return {"id": id, "object": kind, "created": int(time.time()), "model": model}
