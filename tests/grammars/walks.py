"""A random walk under the mask that checks, at each place, what a matcher promises."""

from random import Random

from ramify.grammars import Matcher
from tests.grammars.vocabularies import allowed, brute_force

CLOSING = (b'"', b"}", b"]", b")")


def walk(matcher: Matcher, rng: Random, num_steps: int = 50, audit: float = 0.1) -> bytes | None:
    """A text made of allowed tokens; None where it did not end within `num_steps`.

    Checked on the way: some token is always allowed; the mask is what `accept` takes (at a share
    `audit` of the places); end of sequence exactly where complete; `rollback` comes back to the
    same mask; a clone goes its own way.
    """
    vocabulary = matcher.grammar.vocabulary
    ends = set(vocabulary.eos_token_ids)
    pieces: list[bytes] = []
    masks = [allowed(matcher)]
    for step in range(num_steps):
        tokens = masks[-1]
        text = b"".join(pieces)
        assert tokens, f"dead end after {text!r}"
        assert bool(tokens & ends) == matcher.is_complete, text
        if rng.random() < audit:
            _audit(matcher, tokens, masks, rng)
        if matcher.is_complete and (rng.random() < 0.35 or tokens == ends):
            return text
        token_id = _pick(sorted(tokens - ends) or sorted(tokens), vocabulary, rng, step / num_steps)
        if token_id in ends:
            return text
        assert matcher.accept(token_id), (text, token_id)
        pieces.append(vocabulary.token_bytes[token_id] or b"")
        masks.append(allowed(matcher))
    return b"".join(pieces) if matcher.is_complete else None


def _pick(tokens: list[int], vocabulary, rng: Random, progress: float) -> int:
    closing = [
        token for token in tokens if (vocabulary.token_bytes[token] or b"").endswith(CLOSING)
    ]
    plain = [token for token in tokens if (vocabulary.token_bytes[token] or b"").isascii()]
    if closing and rng.random() < progress:
        return rng.choice(closing)
    return rng.choice(plain if plain and rng.random() < 0.9 else tokens)


def _audit(matcher: Matcher, tokens: set[int], masks: list[set[int]], rng: Random) -> None:
    assert tokens == brute_force(matcher)
    other = matcher.clone()
    back = rng.randrange(len(masks))
    other.rollback(back)
    assert allowed(other) == masks[len(masks) - 1 - back]
    assert allowed(matcher) == tokens
    refused = next((token for token in range(256) if token not in tokens), None)
    assert refused is None or not matcher.accept(refused)
    assert allowed(matcher) == tokens
