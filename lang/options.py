"""The keyword arguments of `gen` and `run`: `Sampling` and its neighbours, as a user spells them.

`Sampling` in `protocol.py` defines each parameter; the TypedDicts here repeat names and types for
editors and type checkers only, and a test compares them with the records.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypedDict

import msgspec

from ramify.lang.errors import InvalidRequest, unknown_argument
from ramify.lang.protocol import LogprobOptions, Sampling


class SharedArguments(TypedDict, total=False):
    """What `run` may say for every `gen` of a program, and each `gen` for itself.

    `None` means: not given.
    """

    max_new_tokens: int | None  # SGLang's other name of max_tokens
    min_new_tokens: int | None  # and of min_tokens
    min_tokens: int | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    min_p: float | None
    frequency_penalty: float | None
    presence_penalty: float | None
    repetition_penalty: float | None
    logit_bias: Mapping[int, float] | None
    seed: int | None
    n: int | None
    stop: str | Sequence[str] | None
    stop_token_ids: Sequence[int] | None
    stop_regex: str | Sequence[str] | None
    ignore_eos: bool | None
    skip_special_tokens: bool | None
    strict: bool | None  # False: what of a JSON schema cannot be enforced is relaxed, not refused
    return_logprob: bool | None  # log-probabilities of the answer's tokens
    logprob_start_len: int | None  # and of prompt tokens from here on; -1 = none
    top_logprobs_num: int | None  # and of this many likeliest tokens at each position
    priority: int | None
    timeout_s: float | None  # seconds from acceptance to the last token


class RunArguments(SharedArguments, total=False):
    """What `run` may say."""

    max_tokens: int | None


class GenArguments(SharedArguments, total=False):
    """What one `gen` may say besides its name, `max_tokens` and the type of its result."""

    regex: str | None
    json_schema: str | Mapping[str, Any] | None
    grammar: str | None  # GBNF, or the syntax of Lark; `ebnf` in the protocol
    structural_tag: str | Mapping[str, Any] | None


class CallOptions(NamedTuple):
    """Everything a `GenerateRequest` says besides its prompt."""

    sampling: Sampling = Sampling()
    logprobs: LogprobOptions = LogprobOptions()
    priority: int = 0
    timeout_s: float | None = None

    def check(self) -> None:
        """Raise `InvalidRequest` for the first option out of range or in conflict."""
        self.sampling.check()
        self.logprobs.check()


@dataclass(frozen=True, slots=True)
class Overrides:
    """The options that were given, by field name, converted to the field's type."""

    sampling: dict[str, Any] = field(default_factory=dict)
    logprobs: dict[str, Any] = field(default_factory=dict)
    call: dict[str, Any] = field(default_factory=dict)

    def apply(self, base: CallOptions) -> CallOptions:
        """`base` with what was given in its place."""
        sampling = msgspec.structs.replace(base.sampling, **self.sampling)
        logprobs = msgspec.structs.replace(base.logprobs, **self.logprobs)
        return CallOptions(
            sampling,
            logprobs,
            self.call.get("priority", base.priority),
            self.call.get("timeout_s", base.timeout_s),
        )


_ALIASES = {"max_new_tokens": "max_tokens", "min_new_tokens": "min_tokens", "grammar": "ebnf"}
_LOGPROBS = {
    "return_logprob": "output",
    "logprob_start_len": "prompt_start",
    "top_logprobs_num": "top",
}
_CALL = {"priority": int, "timeout_s": float}
_SAMPLING = {f.name: f.type for f in msgspec.structs.fields(Sampling) if f.name != "choices"}
_TEXTS = ("stop", "stop_regex")  # a single string means a list of one
_JSON = ("json_schema", "structural_tag")  # text, or what it stands for

RUN_NAMES = frozenset(RunArguments.__annotations__)
GEN_NAMES = frozenset(GenArguments.__annotations__) | {"max_tokens"}


def parse_options(given: Mapping[str, object], allowed: frozenset[str], caller: str) -> Overrides:
    """Check names and types of keyword arguments; `None` values count as not given.

    An unknown name is a `TypeError` with the closest right one; a wrong type is `InvalidRequest`.
    """
    overrides = Overrides()
    for name, value in given.items():
        if name not in allowed:
            raise unknown_argument(name, allowed, caller)
        if value is None:
            continue
        if name in _LOGPROBS:
            _put_logprob(overrides.logprobs, name, value)
        elif name in _CALL:
            overrides.call[name] = _converted(name, value, _CALL[name])
        else:
            target = _ALIASES.get(name, name)
            if target in overrides.sampling:
                raise TypeError(f"{caller}: {name} and {target} are one option; give it once")
            overrides.sampling[target] = _sampling_value(name, target, value)
    return overrides


def _put_logprob(logprobs: dict[str, Any], name: str, value: object) -> None:
    if name == "logprob_start_len" and value == -1:
        logprobs["prompt_start"] = None
        return
    logprobs[_LOGPROBS[name]] = _converted(name, value, bool if name == "return_logprob" else int)


def _sampling_value(name: str, target: str, value: object) -> Any:
    if target in _TEXTS and isinstance(value, str):
        return (value,)
    if target in _JSON and isinstance(value, Mapping):
        return msgspec.json.encode(value).decode()
    return _converted(name, value, _SAMPLING[target])


def _converted(name: str, value: object, kind: Any) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise InvalidRequest(
            f"{name}={value!r}: {str(error)[0].lower()}{str(error)[1:]}",
            code="invalid_type",
            param=name,
        ) from error


CONSTRAINT_NAMES = {  # field of `Sampling` -> what `gen` calls it
    _ALIASES.get(name, name): name for name in GenArguments.__annotations__ if name not in RUN_NAMES
}
