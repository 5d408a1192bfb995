"""Constrained decoding in the worker: a request's constraint becomes a compiled grammar.

Compiling runs on a small pool, never on a caller's event loop nor on the worker's own thread, once
per distinct spec however many requests ask for it. What came of it is kept, a refusal too, and the
least recently used goes first when the bytes of all of them pass the limit.
"""

import contextlib
import threading
import time
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from ramify.grammars.compile import compile_grammar, is_overgrown, tidy
from ramify.grammars.errors import GrammarError
from ramify.grammars.matcher import TokenGrammar
from ramify.grammars.spec import (
    ChoicesSpec,
    EbnfSpec,
    GrammarSpec,
    JsonSchemaSpec,
    RegexSpec,
    StructuralTagSpec,
)
from ramify.grammars.vocabulary import Vocabulary
from ramify.grammars.warm import warm
from ramify.lang.errors import EngineError, InvalidRequest
from ramify.lang.protocol import CONSTRAINTS, Sampling
from ramify.runtime.core import COMPILE_BUCKETS_S, GrammarStats
from ramify.runtime.guide import refusal
from ramify.runtime.tokenizer.tokenizer import Tokenizer
from ramify.runtime.trie_store import stored_trie
from ramify.runtime.worker import engine_closed

MAX_BYTES = 64 << 20  # of all grammars kept
GRAMMAR_BYTES = 48 << 10  # of a small grammar that has been used: measured, 42 KiB
BYTES_PER_CHAR = 4  # of the spec's text: the text itself, and what is built of it
NUM_THREADS = 2


@dataclass(slots=True, eq=False)
class _Entry:
    """A spec's grammar, or its refusal, once the future is done."""

    future: "Future[TokenGrammar]"
    num_bytes: int  # as last counted


class GrammarCache:
    """Grammars of one vocabulary, by spec. Safe to use from several threads."""

    def __init__(
        self, make_vocabulary: Callable[[], Vocabulary], max_bytes: int = MAX_BYTES
    ) -> None:
        self._make_vocabulary = make_vocabulary
        self._vocabulary: Vocabulary | None = None  # made for the first grammar
        self._vocabulary_lock = threading.Lock()
        self._max_bytes = max_bytes
        self._pool = ThreadPoolExecutor(NUM_THREADS, thread_name_prefix="ramify-grammar")
        self._lock = threading.Lock()  # of everything below
        self._entries: OrderedDict[GrammarSpec, _Entry] = OrderedDict()
        self._num_bytes = 0
        self._num_hits = 0
        self._num_refused = 0
        self._seconds = 0.0
        self._buckets = [0] * (len(COMPILE_BUCKETS_S) + 1)

    def future_of(self, sampling: Sampling) -> "Future[TokenGrammar] | None":
        """The grammar that `sampling` asks for, once it is compiled; None if it asks for none.

        What the future gives is for `granted`.
        """
        spec = grammar_spec(sampling)
        return None if spec is None else self._future(spec)

    def stats(self) -> GrammarStats:
        """Gauges of this moment and counters since start."""
        with self._lock:
            return GrammarStats(
                num_cached=len(self._entries),
                cached_bytes=self._num_bytes,
                num_hits=self._num_hits,
                num_compiled=sum(self._buckets),
                num_refused=self._num_refused,
                compile_s=self._seconds,
                compile_buckets=tuple(self._buckets),
            )

    def close(self) -> None:
        """Stop the pool."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _future(self, spec: GrammarSpec) -> "Future[TokenGrammar]":
        with self._lock:
            entry = self._entries.get(spec)
            if entry is not None:
                self._num_hits += 1
                self._entries.move_to_end(spec)
            else:
                entry = _Entry(self._pool.submit(self._compile, spec), 0)
                self._entries[spec] = entry
            num_bytes = _num_bytes(spec, entry.future)  # grammars grow while they are asked for
            self._num_bytes += num_bytes - entry.num_bytes
            entry.num_bytes = num_bytes
            while self._num_bytes > self._max_bytes and len(self._entries) > 1:
                _, oldest = self._entries.popitem(last=False)
                self._num_bytes -= oldest.num_bytes
            return entry.future

    def _compile(self, spec: GrammarSpec) -> TokenGrammar:
        with self._vocabulary_lock:
            if self._vocabulary is None:
                vocabulary = self._make_vocabulary()
                warm(vocabulary)
                self._vocabulary = vocabulary
        started = time.perf_counter()
        try:
            grammar = compile_grammar(spec, self._vocabulary)
            _ = grammar.min_tokens  # found here, off the scheduler's thread
        except GrammarError:
            self._count(time.perf_counter() - started, is_refused=True)
            raise
        self._count(time.perf_counter() - started, is_refused=False)
        if is_overgrown(self._vocabulary):
            with contextlib.suppress(RuntimeError):  # the pool is being closed
                self._pool.submit(tidy, self._vocabulary)  # after this, which is waited for
        return grammar

    def _count(self, seconds: float, *, is_refused: bool) -> None:
        with self._lock:
            self._seconds += seconds
            self._num_refused += is_refused
            self._buckets[bisect_left(COMPILE_BUCKETS_S, seconds)] += 1


def _num_bytes(spec: GrammarSpec, future: "Future[TokenGrammar]") -> int:
    """What a spec's entry takes: what a used one of its size does, or what its tables hold now."""
    usual = GRAMMAR_BYTES + BYTES_PER_CHAR * _num_chars(spec)
    if future.done() and not future.cancelled() and future.exception() is None:
        return max(usual, future.result().num_bytes)
    return usual


def granted(compiled: "Future[TokenGrammar]", sampling: Sampling) -> TokenGrammar:
    """The grammar of a future that is done; `InvalidRequest` where `sampling` cannot be served."""
    if compiled.cancelled():
        raise engine_closed()
    error = compiled.exception()
    if isinstance(error, GrammarError):
        raise refusal(error, sampling) from error
    if error is not None:  # a bug, and of this request alone
        raise EngineError(f"compiling failed: {type(error).__name__}: {error}") from error
    grammar = compiled.result()
    check_max_tokens(grammar, sampling)
    return grammar


def check_max_tokens(grammar: TokenGrammar, sampling: Sampling) -> None:
    """Refuse a limit in which no answer may fit. 0 is none: nothing is generated then."""
    needed, limit = grammar.min_tokens, sampling.max_tokens
    if needed is not None and 0 < limit < needed:
        name = next(name for name in CONSTRAINTS if getattr(sampling, name) is not None)
        raise InvalidRequest(
            f"max_tokens: {limit} is too few for a whole answer of this {name}, which takes "
            f"{needed}; set it to {needed} or more",
            code="max_tokens_too_small",
            param="max_tokens",
        )


def vocabulary_of(tokenizer: Tokenizer) -> Vocabulary:
    """A tokenizer's tokens as grammars see them; special tokens have no text but a name."""
    pieces: list[bytes | None] = list(tokenizer.token_bytes[: tokenizer.vocab_size])
    pieces += [None] * (tokenizer.vocab_size - len(pieces))
    for token_id in tokenizer.special_ids:
        if token_id < len(pieces):
            pieces[token_id] = None
    special = {
        text: index for text, index in tokenizer.special_names.items() if index < len(pieces)
    }
    return Vocabulary(pieces, tokenizer.eos_token_ids, special, stored_trie)


def grammar_spec(sampling: Sampling) -> GrammarSpec | None:
    """The grammar that `sampling` asks for, not compiled; None if it asks for none."""
    if sampling.regex is not None:
        spec: GrammarSpec = RegexSpec(sampling.regex)
    elif sampling.choices is not None:
        spec = ChoicesSpec(sampling.choices)
    elif sampling.json_schema is not None:
        spec = JsonSchemaSpec(sampling.json_schema, strict=sampling.strict)
    elif sampling.ebnf is not None:
        spec = EbnfSpec(sampling.ebnf)
    elif sampling.structural_tag is not None:
        spec = StructuralTagSpec(sampling.structural_tag)
    else:
        return None
    if sampling.min_tokens:
        raise InvalidRequest(
            f"min_tokens={sampling.min_tokens} beside a constraint: the constraint alone says when "
            "the text may end; drop min_tokens",
            code="conflicting_constraints",
            param="min_tokens",
        )
    return spec


def _num_chars(spec: GrammarSpec) -> int:
    match spec:
        case RegexSpec(pattern):
            return len(pattern)
        case ChoicesSpec(choices):
            return sum(map(len, choices)) + 16 * len(choices)
        case JsonSchemaSpec(schema):
            return len(schema)
        case EbnfSpec(grammar):
            return len(grammar)
        case StructuralTagSpec(tag):
            return len(tag)
    return 0
