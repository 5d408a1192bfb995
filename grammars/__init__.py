"""Constrained decoding: a spec and a vocabulary make a grammar, a matcher makes token masks of it.

    vocabulary = Vocabulary.from_tokenizer_json("tokenizer.json", eos_token_ids=[2])
    grammar = compile_grammar(RegexSpec(r"[0-9]{3}-[0-9]{4}"), vocabulary)
    matcher = Matcher(grammar)
    matcher.fill(row)            # int32 words, bit i % 32 of word i // 32 = token i allowed
    matcher.accept(token_id)     # False where the token is not allowed
    matcher.forced()             # bytes that must come next whatever is chosen

A grammar is shared by all requests that use it; a matcher is one request's place in it.
"""

from ramify.grammars.compile import compile_grammar, is_overgrown, tidy
from ramify.grammars.errors import GrammarError, Relaxed
from ramify.grammars.limits import DEFAULT_LIMITS, Limits
from ramify.grammars.matcher import Matcher, TokenGrammar
from ramify.grammars.spec import (
    AnyJsonSpec,
    ChoicesSpec,
    EbnfSpec,
    GrammarSpec,
    JsonSchemaSpec,
    RegexSpec,
    StructuralTagSpec,
)
from ramify.grammars.vocabulary import Vocabulary

__all__ = [
    "DEFAULT_LIMITS",
    "AnyJsonSpec",
    "ChoicesSpec",
    "EbnfSpec",
    "GrammarError",
    "GrammarSpec",
    "JsonSchemaSpec",
    "Limits",
    "Matcher",
    "RegexSpec",
    "Relaxed",
    "StructuralTagSpec",
    "TokenGrammar",
    "Vocabulary",
    "compile_grammar",
    "is_overgrown",
    "tidy",
]
