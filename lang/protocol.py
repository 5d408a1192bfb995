"""What is asked of a backend and what it answers: each parameter defined once.

The in-process engine, the native HTTP API, `RuntimeEndpoint` and the interpreter all use these
types. They are msgspec structs: frozen, validated where bytes come in, cheap to encode.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec

from ramify.lang.errors import ErrorInfo, InvalidRequest


class TextSegment(msgspec.Struct, frozen=True, tag="text"):
    """A piece of prompt that is tokenized once, on its own."""

    text: str


class TokenSegment(msgspec.Struct, frozen=True, tag="tokens"):
    """A piece of prompt that is already tokens: what a model generated stays what it was."""

    token_ids: tuple[int, ...]


Segment = TextSegment | TokenSegment
Prompt = tuple[Segment, ...]


class Sampling(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How tokens are chosen and when generation stops. Checked by `check()`."""

    max_tokens: int = 128  # tokens to generate at most; 0 = only prefill the prompt
    min_tokens: int = 0  # no stop of any kind before this many tokens
    temperature: float = 1.0  # 0 = greedy
    top_p: float = 1.0  # keep the smallest set of tokens with this much probability
    top_k: int = -1  # keep the k likeliest tokens; -1 = all
    min_p: float = 0.0  # drop tokens below min_p times the likeliest one's probability
    frequency_penalty: float = 0.0  # subtracted per occurrence in the output
    presence_penalty: float = 0.0  # subtracted once if in the output
    repetition_penalty: float = (
        1.0  # divides (multiplies if < 0) logits of prompt and output tokens
    )
    logit_bias: dict[int, float] = {}  # added to the logits of these token ids
    seed: int | None = None  # same seed, prompt and sampling -> same tokens, whatever the batch
    n: int = 1  # independent answers to the same prompt
    stop: tuple[str, ...] = ()  # text that ends generation; not part of the answer
    stop_token_ids: tuple[int, ...] = ()  # as are these tokens
    stop_regex: tuple[str, ...] = ()  # and text that matches one of these
    ignore_eos: bool = False  # do not stop at the model's end-of-sequence tokens
    skip_special_tokens: bool = True  # leave special tokens out of the text
    regex: str | None = None  # at most one of these five constrains the output
    json_schema: str | None = None
    ebnf: str | None = None
    structural_tag: str | None = None  # JSON: free text, triggers, and what must follow them
    choices: tuple[str, ...] | None = None
    strict: bool = True  # refuse a JSON schema that cannot be enforced exactly; else relax it

    def check(self) -> None:
        """Raise `InvalidRequest` naming the first field out of range."""
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if not low <= value <= high:  # also catches NaN
                raise InvalidRequest(
                    f"{name}={value!r}: must be between {low} and {high}",
                    code="out_of_range",
                    param=name,
                )
        if self.top_k == 0:
            raise _out_of_range("top_k", self.top_k, "-1 (all) or at least 1")
        if self.seed is not None and not -(2**63) <= self.seed < 2**63:
            raise _out_of_range("seed", self.seed, "a signed 64-bit integer")
        if self.min_tokens > self.max_tokens:
            raise _out_of_range("min_tokens", self.min_tokens, f"<= max_tokens={self.max_tokens}")
        for name in ("stop", "stop_regex"):
            texts: tuple[str, ...] = getattr(self, name)
            if len(texts) > MAX_STOPS or any(not 0 < len(text) <= MAX_STOP_LEN for text in texts):
                raise _out_of_range(
                    name,
                    texts,
                    f"at most {MAX_STOPS} non-empty strings of {MAX_STOP_LEN} characters",
                )
        if len(self.logit_bias) > MAX_LOGIT_BIAS:
            raise _out_of_range("logit_bias", len(self.logit_bias), f"<= {MAX_LOGIT_BIAS} entries")
        for token_id, bias in self.logit_bias.items():
            if not -100 <= bias <= 100:
                raise _out_of_range(f"logit_bias[{token_id}]", bias, "between -100 and 100")
        given = [name for name in CONSTRAINTS if getattr(self, name) is not None]
        if len(given) > 1:
            raise InvalidRequest(
                f"{' and '.join(given)} are both given: at most one constraint; drop all but one",
                code="conflicting_constraints",
                param=given[1],
            )


CONSTRAINTS = ("regex", "json_schema", "ebnf", "structural_tag", "choices")
MAX_STOPS = 32
MAX_STOP_LEN = 256
MAX_LOGIT_BIAS = 1024
_RANGES: tuple[tuple[str, float, float], ...] = (
    ("max_tokens", 0, 2**31 - 1),
    ("min_tokens", 0, 2**31 - 1),
    ("temperature", 0.0, 100.0),
    ("top_p", 1e-9, 1.0),
    ("top_k", -1, 2**31 - 1),
    ("min_p", 0.0, 1.0),
    ("frequency_penalty", -2.0, 2.0),
    ("presence_penalty", -2.0, 2.0),
    ("repetition_penalty", 1e-3, 1e3),
    ("n", 1, 128),
)


def _out_of_range(name: str, value: object, allowed: str) -> InvalidRequest:
    return InvalidRequest(f"{name}={value!r}: must be {allowed}", code="out_of_range", param=name)


class LogprobOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which log-probabilities to return."""

    output: bool = False  # of every generated token
    prompt_start: int | None = None  # of prompt tokens from this position on; None = none
    top: int = 0  # and of the `top` likeliest tokens at each of those positions (0..20)

    def check(self) -> None:
        """Raise `InvalidRequest` naming the first field out of range."""
        if not 0 <= self.top <= 20:
            raise _out_of_range("top_logprobs", self.top, "between 0 and 20")
        if self.prompt_start is not None and self.prompt_start < 0:
            raise _out_of_range("logprob_start_len", self.prompt_start, ">= 0")


class GenerateRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One prompt to continue `sampling.n` times."""

    rid: str  # unique among live requests; every log line and answer carries it
    prompt: Prompt
    sampling: Sampling = Sampling()
    logprobs: LogprobOptions = LogprobOptions()
    priority: int = 0  # higher first, under the `priority` policy
    timeout_s: float | None = None  # from acceptance to the last token
    namespace: str = ""  # requests share cached prefixes only within a namespace
    group: str | None = None  # fork group: siblings sent to the runtime together


class TokenLogprob(msgspec.Struct, frozen=True, array_like=True):
    """Log-probability (natural log) of one token at its position, after temperature 1."""

    logprob: float | None  # None for the very first token of a prompt: nothing precedes it
    token_id: int
    top: tuple[tuple[float, int], ...] = ()  # (logprob, token id), likeliest first


FinishType = Literal["stop", "length", "abort"]


class FinishReason(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a generation ended."""

    type: FinishType
    matched: str | int | None = None  # the stop text or token id that ended it


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What one finished sequence cost. Times in seconds."""

    prompt_tokens: int
    cached_tokens: int  # of the prompt: taken from the cache instead of computed
    completion_tokens: int
    queue_s: float = 0.0  # accepted -> first planned
    prefill_s: float = 0.0  # first planned -> first token
    decode_s: float = 0.0  # first token -> last token


class RelaxedKeyword(msgspec.Struct, frozen=True):
    """A keyword of the JSON schema that an answer was not held to (only with `strict=False`)."""

    pointer: str  # JSON pointer of its schema
    keyword: str
    why: str


class GenerateDelta(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one sequence of a request gained since its last delta.

    The last delta of a sequence carries `finish` and `usage`, or `error`; exactly one such delta is
    sent per sequence. Concatenated, the `text` of all deltas is the answer's text. Concatenated,
    the `token_ids` are the whole tokens of that text: where a stop string cut a token in two, what
    is left of that token is `tail`, text after the last whole token (already part of `text`).
    """

    rid: str
    index: int = 0  # which of the request's n sequences
    text: str = ""
    token_ids: tuple[int, ...] = ()
    tail: str = ""
    logprobs: tuple[TokenLogprob, ...] = ()  # of token_ids, when asked for
    prompt_logprobs: tuple[TokenLogprob, ...] | None = None  # once, when asked for
    finish: FinishReason | None = None
    usage: Usage | None = None
    relaxed: tuple[RelaxedKeyword, ...] = ()  # with `finish`: what the answer was not held to
    error: ErrorInfo | None = None


class ScoreRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Log-probabilities of given continuations of one prompt.

    An empty prompt stands for the model's start token: BOS, or EOS where the model has no BOS.
    """

    rid: str
    prompt: Prompt
    continuations: tuple[Prompt, ...]
    unconditional: bool = False  # also score each continuation after the start token alone
    timeout_s: float | None = None
    namespace: str = ""


class ContinuationScore(msgspec.Struct, frozen=True, kw_only=True):
    """One continuation's tokens and the log-probability of each, given all before it."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    top_token_ids: tuple[int, ...]  # the likeliest token at each of these positions
    unconditional_logprobs: tuple[float, ...] | None = None  # after the start token alone


class ScoreResult(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to a `ScoreRequest`, continuations in the order they were given."""

    rid: str
    scores: tuple[ContinuationScore, ...]
    usage: Usage  # prompt_tokens counts the prompt once plus all continuations


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a backend says of the model it serves."""

    model: str  # name as served
    context_length: int  # tokens of prompt and answer together
    vocab_size: int
    eos_token_ids: tuple[int, ...]
    chat_template: str | None  # Jinja source; None = the model has none
    special_tokens: dict[str, str]  # names the template may use: bos_token, eos_token, ...


def text_prompt(text: str) -> Prompt:
    """A prompt of one text segment."""
    return (TextSegment(text),)


def token_prompt(token_ids: Sequence[int]) -> Prompt:
    """A prompt of one token segment."""
    return (TokenSegment(tuple(token_ids)),)
