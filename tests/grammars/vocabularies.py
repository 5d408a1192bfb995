"""Small vocabularies for tests, and brute force over them."""

import random

import numpy as np

from ramify.grammars import Matcher, Vocabulary


def byte_vocabulary(*extra: bytes) -> Vocabulary:
    """The 256 bytes, some longer tokens, a control token, and end of sequence (the last)."""
    tokens: list[bytes | None] = [bytes([byte]) for byte in range(256)]
    tokens += extra
    tokens += [None, None]
    return Vocabulary(tokens, [len(tokens) - 1])


def allowed(matcher: Matcher) -> set[int]:
    """The tokens of a matcher's mask."""
    bits = np.unpackbits(matcher.mask().view(np.uint8), bitorder="little")
    return set(np.flatnonzero(bits).tolist())


def brute_force(matcher: Matcher) -> set[int]:
    """The tokens that a copy of the matcher accepts."""
    found = set()
    for token_id in range(len(matcher.grammar.vocabulary)):
        if matcher.accept(token_id):
            matcher.rollback(1)
            found.add(token_id)
    return found


def sample(
    matcher: Matcher, rng: random.Random, max_tokens: int = 60, audit: float = 0.0
) -> bytes | None:
    """A random text under the mask; None where it did not end within `max_tokens`.

    Asserts that some token is always allowed and, at a share `audit` of the steps, that the mask is
    what brute force finds.
    """
    vocabulary = matcher.grammar.vocabulary
    out = b""
    for _ in range(max_tokens):
        tokens = allowed(matcher)
        assert tokens, f"dead end after {out!r}"
        if rng.random() < audit:
            assert tokens == brute_force(matcher), out
        ends = tokens & set(vocabulary.eos_token_ids)
        if ends and (rng.random() < 0.3 or tokens == ends):
            assert matcher.is_complete
            return out
        token_id = rng.choice(sorted(tokens - ends))
        assert matcher.accept(token_id)
        out += vocabulary.token_bytes[token_id] or b""
    return None
