"""Constrained decoding at the front: a request's constraint becomes a compiled grammar.

Compiling runs on a small pool, never on the caller's event loop, once per distinct spec however
many requests ask for it; the most recently used grammars are kept.
"""

import asyncio
import threading
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor

from ramify.grammars.compile import compile_grammar
from ramify.grammars.errors import GrammarError
from ramify.grammars.matcher import TokenGrammar
from ramify.grammars.spec import ChoicesSpec, GrammarSpec, JsonSchemaSpec, RegexSpec
from ramify.grammars.vocabulary import Vocabulary
from ramify.lang.errors import InvalidRequest, NotSupported
from ramify.lang.protocol import CONSTRAINTS, Sampling
from ramify.runtime.tokenizer.tokenizer import Tokenizer

MAX_GRAMMARS = 256
NUM_THREADS = 2


class GrammarCache:
    """Grammars of one tokenizer's vocabulary, by spec. Used from any event loop."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._pool = ThreadPoolExecutor(NUM_THREADS, thread_name_prefix="ramify-grammar")
        self._lock = threading.Lock()
        self._vocabulary: Vocabulary | None = None  # made for the first grammar: 0.2 s
        self._grammars: OrderedDict[GrammarSpec, Future[TokenGrammar]] = OrderedDict()

    async def grammar_of(self, sampling: Sampling) -> TokenGrammar | None:
        """The grammar that `sampling` asks for; `InvalidRequest` if it cannot be compiled."""
        spec = grammar_spec(sampling)
        if spec is None:
            return None
        name = next(name for name in CONSTRAINTS if getattr(sampling, name) is not None)
        future = self._grammars.get(spec)
        if future is None:
            future = self._grammars[spec] = self._pool.submit(self._compile, spec)
            while len(self._grammars) > MAX_GRAMMARS:
                self._grammars.popitem(last=False)
        self._grammars.move_to_end(spec)
        try:
            return await asyncio.shield(asyncio.wrap_future(future))
        except GrammarError as error:
            where = error.pointer if error.pointer is not None else error.offset
            at = "" if where is None else f" (at {where!r})"
            raise InvalidRequest(
                f"{name}: {error.message}{at}", code=error.code, param=name
            ) from error

    def close(self) -> None:
        """Stop the pool."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _compile(self, spec: GrammarSpec) -> TokenGrammar:
        with self._lock:
            if self._vocabulary is None:
                self._vocabulary = self._make_vocabulary()
        return compile_grammar(spec, self._vocabulary)

    def _make_vocabulary(self) -> Vocabulary:
        tokenizer = self._tokenizer
        pieces: list[bytes | None] = list(tokenizer.token_bytes[: tokenizer.vocab_size])
        pieces += [None] * (tokenizer.vocab_size - len(pieces))
        for token_id in tokenizer.special_ids:
            pieces[token_id] = None
        return Vocabulary(pieces, tokenizer.eos_token_ids)


def grammar_spec(sampling: Sampling) -> GrammarSpec | None:
    """The grammar that `sampling` asks for, not compiled; None if it asks for none."""
    if sampling.regex is not None:
        spec: GrammarSpec = RegexSpec(sampling.regex)
    elif sampling.choices is not None:
        spec = ChoicesSpec(sampling.choices)
    elif sampling.json_schema is not None:
        spec = JsonSchemaSpec(sampling.json_schema)
    elif sampling.ebnf is not None:
        raise NotSupported(
            "ebnf: this version constrains by regex, choices and json_schema; use one of these",
            param="ebnf",
        )
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
