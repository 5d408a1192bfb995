"""From a spec to a grammar over a vocabulary."""

from ramify.grammars import regex_syntax
from ramify.grammars.automata import CharAutomaton
from ramify.grammars.charsets import spelling
from ramify.grammars.ebnf import gbnf, lark_syntax, rules
from ramify.grammars.errors import GrammarError, Relaxed
from ramify.grammars.json_schema.context import ValueNode
from ramify.grammars.json_schema.document import Document
from ramify.grammars.json_schema.keywords import Options
from ramify.grammars.json_schema.relaxing import relaxed_root
from ramify.grammars.json_schema.values import Builder
from ramify.grammars.lexer import Lexer
from ramify.grammars.limits import DEFAULT_LIMITS, Budget, Limits
from ramify.grammars.machine import Machine, Node, Place
from ramify.grammars.matcher import TokenGrammar
from ramify.grammars.regex import regex_automaton
from ramify.grammars.spec import (
    AnyJsonSpec,
    ChoicesSpec,
    EbnfSpec,
    GrammarSpec,
    JsonSchemaSpec,
    PartSpec,
    RegexSpec,
    StructuralTagSpec,
)
from ramify.grammars.structural_tags import formats
from ramify.grammars.terminals import Literals, Terminal, Text
from ramify.grammars.vocabulary import Vocabulary

# What most grammars use, and a text that reads all of it.
_COMMON = """{"properties": {"text": {"type": "string", "maxLength": 1000}, "rest": true},
 "additionalProperties": false}"""
_COMMON_TEXT = """{
  "text": "a \\n\\\\ \\u001f é 漢 😀", "rest": {"a": [0, -1.5e+3, 12, "b é 漢 😀 \\u0000", true,
   false, null], "c": {}, "é漢😀 \\u0000 \\n": []}}"""

ARENA_STATES = 50_000  # a lexer larger than this is left to the grammars that use it
ARENA_BYTES = 64 << 20  # as is one that keeps more bytes of rows


def compile_grammar(
    spec: GrammarSpec, vocabulary: Vocabulary, limits: Limits = DEFAULT_LIMITS
) -> TokenGrammar:
    """The grammar of a spec. `GrammarError` where it is wrong, unsupported or too large.

    Safe on any thread: tables that grammars share are touched by matchers only, and all matchers
    of one vocabulary belong to one thread.
    """
    budget = Budget(limits)
    root: Node
    relaxed: tuple[Relaxed, ...] = ()
    if isinstance(spec, JsonSchemaSpec) and not spec.strict:
        root, relaxed = relaxed_root(spec.schema, limits, lambda read: _built(read, spec, budget))
    else:
        root = _root(spec, vocabulary, budget)
    if is_overgrown(vocabulary, 2):
        tidy(vocabulary)
    return TokenGrammar(vocabulary, root, limits, relaxed)


def is_overgrown(vocabulary: Vocabulary, times: int = 1) -> bool:
    """Have the tables that grammars share become larger than they should be, or so many times?"""
    lexer: Lexer | None = vocabulary.tables.get("lexer")
    return lexer is None or (
        len(lexer) > times * ARENA_STATES or lexer.num_bytes > times * ARENA_BYTES
    )


def tidy(vocabulary: Vocabulary) -> None:
    """Let new matchers share new tables where the old ones have grown large.

    Takes some 0.1 s: best called where nobody waits. Else a grammar that finds them twice as large
    as they should be does it.
    """
    if is_overgrown(vocabulary):
        is_first = "lexer" not in vocabulary.tables
        new = Lexer(vocabulary) if is_first else warm_lexer(vocabulary)
        vocabulary.tables["lexer"] = new  # used by nobody before it is warm


def warm_lexer(vocabulary: Vocabulary) -> Lexer:
    """A lexer with the tables of strings, names, numbers and punctuation made."""
    lexer = Lexer(vocabulary)
    root = _root(JsonSchemaSpec(_COMMON, "any"), vocabulary, Budget(DEFAULT_LIMITS))
    machine = Machine(lexer, root, DEFAULT_LIMITS)
    state = machine.start
    for byte in _COMMON_TEXT.encode():
        machine.mask(state)
        state = machine.step(state, byte)
    assert machine.is_complete(state), _COMMON_TEXT
    return lexer


class TerminalNode:
    """A grammar that is one terminal."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal

    def enter(self, machine: Machine, parent: int, out: set[Place]) -> None:
        """At its start."""
        machine.begin(self._terminal, parent, out)

    def resume(
        self, machine: Machine, position: object, parent: int, label: int, out: set[Place]
    ) -> None:
        """It has no parts."""
        raise AssertionError("a terminal has no parts")

    close = resume


def _root(spec: GrammarSpec, vocabulary: Vocabulary, budget: Budget) -> Node:
    if isinstance(spec, StructuralTagSpec):
        return formats.build(spec.tag, vocabulary, budget, lambda part: _part(part, budget))
    found = _part(spec, budget)
    return TerminalNode(found) if isinstance(found, Terminal) else found


def _part(spec: PartSpec, budget: Budget) -> Node | Terminal:
    """A grammar that knows nothing of the vocabulary."""
    match spec:
        case RegexSpec(pattern):
            return _regex(pattern, budget)
        case ChoicesSpec(choices):
            return _choices(choices, budget)
        case JsonSchemaSpec():
            return _json_schema(spec, budget)
        case EbnfSpec():
            return _ebnf(spec, budget)
        case AnyJsonSpec(object_only, whitespace):
            text = '{"type": "object"}' if object_only else "true"
            return _json_schema(JsonSchemaSpec(text, "any", whitespace), budget)


def _ebnf(spec: EbnfSpec, budget: Budget) -> Node:
    text = spec.grammar
    if len(text) > budget.limits.spec_bytes:
        raise GrammarError(
            "grammar_too_complex", f"grammar longer than {budget.limits.spec_bytes} bytes"
        )
    if spec.syntax == "gbnf" or (spec.syntax == "auto" and "::=" in text):
        return rules.build(gbnf.parse(text), spec.start or "root", budget)
    parsed, start = lark_syntax.parse(text, spec.start or "start", budget)
    return rules.build(parsed, start, budget)


def _json_schema(spec: JsonSchemaSpec, budget: Budget) -> Node:
    return _built(Document(spec.schema, budget.limits), spec, budget)


def _built(document: Document, spec: JsonSchemaSpec, budget: Budget) -> ValueNode:
    options = Options(formats=spec.formats)
    return Builder(document, options, spec.order, spec.whitespace, budget).build()


def _regex(pattern: str, budget: Budget) -> Terminal:
    if len(pattern.encode("utf-8", "surrogatepass")) > budget.limits.spec_bytes:
        raise GrammarError(
            "grammar_too_complex", f"regex longer than {budget.limits.spec_bytes} bytes"
        )
    tree = regex_syntax.parse(pattern)
    automaton: CharAutomaton = regex_automaton(tree, budget, f"regex {pattern!r}")
    if automaton.start is None:
        raise GrammarError("invalid_regex", f"regex {pattern!r} matches no text at all", offset=0)
    return Text(automaton, spelling(automaton.alphabet, json=False))


def _choices(choices: tuple[str, ...], budget: Budget) -> Terminal:
    if not choices:
        raise GrammarError("invalid_grammar", "choices: at least one is needed")
    try:
        texts = [choice.encode() for choice in choices]
    except UnicodeEncodeError as error:
        raise GrammarError(
            "invalid_grammar", f"choices: {error.object!r} is not valid text"
        ) from error
    if sum(map(len, texts)) > budget.limits.spec_bytes:
        raise GrammarError(
            "grammar_too_complex", f"choices: more than {budget.limits.spec_bytes} bytes in all"
        )
    return Literals(texts)
