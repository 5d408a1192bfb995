"""Random regexes and grammars for property tests, each with texts that it should take.

What a strategy draws is a `Piece`: the spec as text, and a function that writes a text of it. A
text is a proposal only (assertions are not looked at); the oracle has the last word.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from hypothesis import strategies as st

Write = Callable[[Random], str]


@dataclass(frozen=True)
class Piece:
    spec: str
    write: Write = field(repr=False)


# -- regexes

LETTERS = "ab1-é A\n_"
CLASSES = {
    ".": "ab1-é A_🐢",
    "[ab]": "ab",
    "[^a]": "b1-é\n🐢",
    "[a-c1-3]": "abc123",
    r"[^\w-]": " \n🐢",
    r"[é-\U0001f422]": "éж🐢",
    r"\d": "1٣",
    r"\D": "a-é",
    r"\w": "aé1_",
    r"\W": "- \n",
    r"\s": " \n",
    r"\S": "a-1",
}
REPEATS = {"*": (0, 3), "+": (1, 3), "?": (0, 1), "{2}": (2, 2), "{1,3}": (1, 3), "{,2}": (0, 2)}
ASSERTIONS = ("^", "$", r"\b", r"\B", r"\A", r"\Z", "(?<=a)", "(?<![1b])", "(?<=[^-])")


def literal(char: str) -> Piece:
    spec = {"\n": "\\n", "-": "\\-", " ": "\\ "}.get(char, char)
    return Piece(spec, lambda rng: char)


def chosen(spec: str, texts: str) -> Piece:
    return Piece(spec, lambda rng: rng.choice(texts))


def joined(parts: list[Piece]) -> Piece:
    spec = "".join(part.spec for part in parts)
    return Piece(spec, lambda rng: "".join(part.write(rng) for part in parts))


def either(parts: list[Piece]) -> Piece:
    spec = f"(?:{'|'.join(part.spec for part in parts)})"
    return Piece(spec, lambda rng: rng.choice(parts).write(rng))


def repeated(part: Piece, repeat: str, lazy: str) -> Piece:
    low, high = REPEATS[repeat]
    return Piece(
        f"(?:{part.spec}){repeat}{lazy}",
        lambda rng: "".join(part.write(rng) for _ in range(rng.randint(low, high))),
    )


def flagged(flag: str, part: Piece) -> Piece:
    def write(rng: Random) -> str:
        text = part.write(rng)
        return text.swapcase() if "i" in flag and rng.random() < 0.5 else text

    return Piece(f"(?{flag}:{part.spec})", write)


def looking(sign: str, ahead: Piece, part: Piece) -> Piece:
    return Piece(f"(?{sign}{ahead.spec}){part.spec}", part.write)


def regexes() -> st.SearchStrategy[Piece]:
    leaves = st.one_of(
        st.sampled_from(LETTERS).map(literal),
        st.sampled_from(sorted(CLASSES)).map(lambda spec: chosen(spec, CLASSES[spec])),
        st.sampled_from(ASSERTIONS).map(lambda spec: Piece(spec, lambda rng: "")),
    )

    def extend(inner: st.SearchStrategy[Piece]) -> st.SearchStrategy[Piece]:
        return st.one_of(
            st.lists(inner, min_size=2, max_size=4).map(joined),
            st.lists(inner, min_size=2, max_size=3).map(either),
            st.builds(
                repeated, inner, st.sampled_from(sorted(REPEATS)), st.sampled_from(["", "?"])
            ),
            st.builds(flagged, st.sampled_from(["i", "s", "m", "a", "i-s", ""]), inner).filter(
                lambda piece: not piece.spec.startswith("(?i-s:(?")
            ),
            st.builds(looking, st.sampled_from("=!"), inner, inner),
            inner.map(lambda part: Piece(f"({part.spec})", part.write)),
        )

    return st.recursive(leaves, extend, max_leaves=8)


# -- context-free grammars, in both syntaxes


@dataclass(frozen=True)
class Expression:
    """An expression in GBNF and in Lark; `grow` adds the texts that it has, given the rules'."""

    gbnf: str
    lark: str
    grow: Callable[[dict[str, frozenset[str]]], frozenset[str]] = field(repr=False)


MAX_TEXT = 6  # characters: longer texts of a grammar are not looked at
MAX_TEXTS = 60


def short(texts: set[str]) -> frozenset[str]:
    kept = sorted(
        (text for text in texts if len(text) <= MAX_TEXT), key=lambda text: (len(text), text)
    )
    return frozenset(kept[:MAX_TEXTS])


def word(text: str) -> Expression:
    return Expression(f'"{text}"', f'"{text}"', lambda known: frozenset([text]))


def one_of_chars(spec: str, chars: str) -> Expression:
    return Expression(spec, f"/{spec}/", lambda known: frozenset(chars))


def rule(name: str) -> Expression:
    return Expression(name, name, lambda known: known[name])


def sequence(parts: list[Expression]) -> Expression:
    def grow(known: dict[str, frozenset[str]]) -> frozenset[str]:
        texts = frozenset([""])
        for part in parts:
            following = part.grow(known)
            texts = short({one + other for one in texts for other in following})
        return texts

    return Expression(
        f"({' '.join(part.gbnf for part in parts)})",
        f"({' '.join(part.lark for part in parts)})",
        grow,
    )


def alternatives(parts: list[Expression]) -> Expression:
    return Expression(
        f"({' | '.join(part.gbnf for part in parts)})",
        f"({' | '.join(part.lark for part in parts)})",
        lambda known: short({text for part in parts for text in part.grow(known)}),
    )


def repeat(part: Expression, low: int, high: int | None) -> Expression:
    sign = {(0, None): "*", (1, None): "+", (0, 1): "?"}.get((low, high))
    gbnf = sign or "{" + f"{low},{high}" + "}"

    def grow(known: dict[str, frozenset[str]]) -> frozenset[str]:
        once = part.grow(known)
        found, texts = set[str](), frozenset([""])
        for count in range((high or MAX_TEXT) + 1):
            if count >= low:
                found |= texts
            texts = short({one + other for one in texts for other in once})
        return short(found)

    return Expression(f"({part.gbnf}){gbnf}", f"({part.lark}){sign or f'~{low}..{high}'}", grow)


REPEAT_BOUNDS = ((0, None), (1, None), (0, 1), (2, 3), (0, 2))


@dataclass(frozen=True)
class RandomGrammar:
    gbnf: str
    lark: str
    texts: Callable[[], list[str]] = field(repr=False)  # some of its short texts


@st.composite
def grammars(draw: st.DrawFn) -> RandomGrammar:
    names = ["root", "x", "y", "z"][: draw(st.integers(1, 4))]
    leaves = st.one_of(
        st.sampled_from(["a", "b", "ab", "é", "ba"]).map(word),
        st.sampled_from(names).map(rule),
        st.just(one_of_chars("[ab]", "ab")),
        st.just(one_of_chars("[^a]", "bé(")),
    )
    expressions = st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, min_size=2, max_size=3).map(sequence),
            st.lists(inner, min_size=2, max_size=3).map(alternatives),
            st.builds(lambda part, at: repeat(part, *at), inner, st.sampled_from(REPEAT_BOUNDS)),
        ),
        max_leaves=6,
    )
    rules = {name: draw(expressions) for name in names}
    known = {name: frozenset[str]() for name in names}
    for _ in range(MAX_TEXT + 2):
        grown = {name: short({*known[name], *rules[name].grow(known)}) for name in names}
        if grown == known:
            break
        known = grown
    return RandomGrammar(
        "\n".join(f"{name} ::= {rules[name].gbnf}" for name in names),
        "\n".join(f"{name}: {rules[name].lark}" for name in names),
        lambda: sorted(known["root"]),
    )


# -- vocabularies

PIECES = ("a", "b", "1", "-", "é", " ", "ab", '"', "{", "}", "[", ",", ": ", '", "', "🐢", "true")


def extra_tokens() -> st.SearchStrategy[list[bytes]]:
    """Tokens of several bytes, some of which begin or end inside a character."""

    def cut(pieces: list[str], first: int, last: int) -> bytes:
        text = "".join(pieces).encode()
        return text[min(first, len(text) - 1) : len(text) - last] or text

    token = st.builds(
        cut,
        st.lists(st.sampled_from(PIECES), min_size=1, max_size=4),
        st.sampled_from([0, 0, 0, 1]),
        st.sampled_from([0, 0, 0, 1]),
    )
    return st.lists(token, min_size=1, max_size=12)
