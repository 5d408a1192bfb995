"""The engines that `speed.py` measures, behind one interface.

xgrammar and llguidance are looked for in the environment; an engine that is not installed is left
out by name. A mask is an int32 row: bit i % 32 of word i // 32 set = token i is allowed.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tokenizers import Tokenizer

import ramify
from ramify.grammars import JsonSchemaSpec, Limits, Matcher, Vocabulary, compile_grammar, tidy
from ramify.grammars.warm import warm


class Tokens:
    """A tokenizer.json: its tokens as engines need them, and text to token ids."""

    def __init__(self, path: Path, eos_token: str) -> None:
        self.path = path
        self.eos_token = eos_token
        self._tokenizer = Tokenizer.from_file(str(path))
        self.num_tokens = self._tokenizer.get_vocab_size(with_added_tokens=True)
        eos = self._tokenizer.token_to_id(eos_token)
        if eos is None:
            raise SystemExit(f"--eos {eos_token!r}: not a token of {path}")
        self.eos_token_id: int = eos

    def encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def transformers(self) -> Any:
        """As transformers loads it: what xgrammar and llguidance read a vocabulary from."""
        from transformers import PreTrainedTokenizerFast

        return PreTrainedTokenizerFast(tokenizer_file=str(self.path), eos_token=self.eos_token)


class Engine(Protocol):
    name: str
    version: str

    def compile(self, schema: Any) -> Any:
        """A grammar; raises where the engine refuses the schema."""

    def start(self, grammar: Any) -> Any:
        """A matcher at the beginning."""

    def mask(self, matcher: Any) -> np.ndarray: ...

    def accept(self, matcher: Any, token_id: int) -> bool: ...

    def is_complete(self, matcher: Any) -> bool: ...

    def forget(self) -> None:
        """Drop what was cached of grammars, so that the next schema is compiled anew."""

    def num_bytes(self, grammar: Any) -> int | None:
        """Bytes that the grammar holds; None where the engine does not say."""


class Ramify:
    name = "ramify"

    def __init__(self, tokens: Tokens) -> None:
        self.version = ramify.__version__
        self._vocabulary = Vocabulary.from_tokenizer_json(tokens.path, [tokens.eos_token_id])
        warm(self._vocabulary)

    def compile(self, schema: Any) -> Any:
        spec = JsonSchemaSpec(json.dumps(schema), order="any")
        return compile_grammar(spec, self._vocabulary, Limits())

    def start(self, grammar: Any) -> Any:
        return Matcher(grammar)

    def mask(self, matcher: Any) -> np.ndarray:
        return matcher.mask()

    def accept(self, matcher: Any, token_id: int) -> bool:
        return matcher.accept(token_id)

    def is_complete(self, matcher: Any) -> bool:
        return matcher.is_complete

    def forget(self) -> None:
        tidy(self._vocabulary)  # as a server does when nobody waits; nothing else is kept

    def num_bytes(self, grammar: Any) -> int | None:
        return grammar.num_bytes


class XGrammar:
    """Any whitespace; `strict_mode=False`, which gives keywords their meaning in the standard."""

    name = "xgrammar"
    lazy: dict[str, bool] = {}  # noqa: RUF012

    def __init__(self, tokens: Tokens) -> None:
        import torch
        import xgrammar

        torch.set_num_threads(1)
        self.version = version("xgrammar")
        self._matcher = xgrammar.GrammarMatcher
        info = xgrammar.TokenizerInfo.from_huggingface(
            tokens.transformers(), vocab_size=tokens.num_tokens
        )
        self._compiler = xgrammar.GrammarCompiler(info, max_threads=1, **self.lazy)
        self._bitmask = xgrammar.allocate_token_bitmask(1, tokens.num_tokens)
        self._row = self._bitmask.numpy()[0]

    def compile(self, schema: Any) -> Any:
        return self._compiler.compile_json_schema(
            json.dumps(schema, ensure_ascii=False), any_whitespace=True, strict_mode=False
        )

    def start(self, grammar: Any) -> Any:
        return self._matcher(grammar)

    def mask(self, matcher: Any) -> np.ndarray:
        matcher.fill_next_token_bitmask(self._bitmask, 0)
        return self._row

    def accept(self, matcher: Any, token_id: int) -> bool:
        return matcher.accept_token(token_id)

    def is_complete(self, matcher: Any) -> bool:
        return matcher.is_completed()

    def forget(self) -> None:
        self._compiler.clear_cache()

    def num_bytes(self, grammar: Any) -> int | None:
        return grammar.memory_size_bytes


class LazyXGrammar(XGrammar):
    """A preview that makes masks on first use; `--xgrammar-preview` is where it is installed."""

    name = "xgrammar-preview"
    lazy = {"enable_dynamic_compilation": True}  # noqa: RUF012


class LLGuidance:
    name = "llguidance"

    def __init__(self, tokens: Tokens) -> None:
        import llguidance
        import llguidance.hf

        self.version = version("llguidance")
        self._matcher = llguidance.LLMatcher
        self._tokenizer = llguidance.hf.from_tokenizer(tokens.transformers())
        self._row = np.zeros((tokens.num_tokens + 31) // 32, np.int32)
        self._place = self._row.ctypes.data, self._row.nbytes

    def compile(self, schema: Any) -> Any:
        text = json.dumps(schema, ensure_ascii=False)
        grammar = self._matcher.grammar_from_json_schema(text)
        matcher = self._matcher(self._tokenizer, grammar, log_level=0)
        if matcher.is_error():
            raise ValueError(matcher.get_error())
        return matcher

    def start(self, grammar: Any) -> Any:
        return grammar.deep_copy()

    def mask(self, matcher: Any) -> np.ndarray:
        matcher.unsafe_compute_mask_ptr(*self._place)
        return self._row

    def accept(self, matcher: Any, token_id: int) -> bool:
        return matcher.try_consume_tokens([token_id]) == 1

    def is_complete(self, matcher: Any) -> bool:
        return matcher.is_accepting()

    def forget(self) -> None:
        pass  # it keeps nothing between compiles

    def num_bytes(self, grammar: Any) -> int | None:
        return None


ENGINES = {engine.name: engine for engine in (Ramify, LLGuidance, XGrammar, LazyXGrammar)}


def load(name: str, tokens: Tokens, preview: Path | None) -> Engine:
    """Import and start an engine; `ImportError` where it is not installed."""
    if name == LazyXGrammar.name:
        if preview is None:
            raise ImportError("no --xgrammar-preview")
        sys.path.insert(0, str(preview))
    return ENGINES[name](tokens)
