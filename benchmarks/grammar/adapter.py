"""Ramify behind grambench's `Adapter` interface: `--engine adapter:Ramify` with this folder and the
repository root on PYTHONPATH."""

import json

from adapters import Adapter

from ramify.grammars import (
    EbnfSpec,
    JsonSchemaSpec,
    Matcher,
    RegexSpec,
    Vocabulary,
    compile_grammar,
)
from ramify.grammars.warm import warm


class Ramify(Adapter):
    name = "ramify"
    has_regex = True
    has_ebnf = ("gbnf", "lark")
    order = "any"

    def __init__(self, tok):
        super().__init__(tok)
        texts = [text or None for text in tok.tokens]
        self.vocabulary = Vocabulary(texts, [tok.eos_id])
        warm(self.vocabulary)

    def version(self):
        return "0.1.0"

    def compile(self, schema):
        return compile_grammar(JsonSchemaSpec(json.dumps(schema), self.order), self.vocabulary)

    def compile_regex(self, pattern):
        return compile_grammar(RegexSpec(pattern), self.vocabulary)

    def compile_ebnf(self, text, dialect, start="root"):
        return compile_grammar(EbnfSpec(text, dialect), self.vocabulary)

    def start(self, grammar):
        return Matcher(grammar)

    def mask(self, matcher):
        return matcher.mask()

    def accept(self, matcher, token_id):
        return matcher.accept(token_id)

    def is_accepting(self, matcher):
        return matcher.is_complete
