"""A request's place in its grammar, and the tokens that the grammar leaves no choice about.

Where the next bytes are forced, the answer takes the tokens that the model's own tokenizer would
write for them: the model then sees what it was trained on. A span's last tokens are left to the
model where a token it may choose could begin inside the span and end past it.
"""

from collections import deque
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from ramify.grammars.errors import GrammarError
from ramify.grammars.matcher import Matcher, TokenGrammar
from ramify.grammars.vocabulary import Vocabulary
from ramify.lang.errors import InvalidRequest
from ramify.lang.protocol import CONSTRAINTS, Sampling
from ramify.runtime.tokenizer.tokenizer import Tokenizer

Encode = Callable[[str], list[int]]  # tokens of a text that follows other text

_MAX_TAIL = 4  # tokens before a forced span that are looked at, to find a whole character


class Guide:
    """What the grammar of one request allows next. One thread at a time."""

    __slots__ = ("_forced", "_forcing", "_matcher", "_output", "_remaining")

    def __init__(
        self, grammar: TokenGrammar, max_tokens: int, forcing: "Forcing | None" = None
    ) -> None:
        """May raise `GrammarError`, as every method may: the grammar outgrew its limits."""
        self._matcher = Matcher(grammar)
        self._remaining = max_tokens  # tokens left, those of `_forced` included
        self._forcing = forcing  # None: every token is the model's choice
        self._output: deque[int] = deque(maxlen=_MAX_TAIL)  # the last tokens
        self._forced: deque[int] = deque()  # tokens that come next
        self._look_ahead()

    @property
    def is_finished(self) -> bool:
        """Was an end-of-sequence token accepted?"""
        return self._matcher.is_finished

    @property
    def must_end(self) -> bool:
        """Is the text whole, with nothing that may follow?"""
        matcher = self._matcher
        if not matcher.is_complete or matcher.is_finished:
            return matcher.is_finished
        return not (matcher.mask() & ~_end_row(matcher.grammar.vocabulary)).any()

    @property
    def forced(self) -> tuple[int, ...]:
        """Tokens that come next whatever the model says; accept them one by one."""
        return tuple(self._forced)

    def mask(self) -> np.ndarray:
        """[<= num_words] int32: the allowed tokens, token i as bit i % 32 of word i // 32, and none
        past its end. Only those after which the answer can still be completed within `max_tokens`.
        One array for all requests in a state of a grammar, where it is kept: do not write to it."""
        if self._forced:
            return one_token_mask(self._forced[0])
        return self._matcher.mask(self._remaining)

    def fill(self, row: np.ndarray) -> None:
        """Write `mask` into a [>= num_words] int32 row."""
        mask = self.mask()
        row[: len(mask)] = mask
        row[len(mask) :] = 0

    def accept(self, token: int) -> bool:
        """Go on by one token. False where it is not allowed; the request cannot go on then."""
        if self._forced and token != self._forced[0]:
            return False
        if not self._matcher.accept(token):
            return False
        self._output.append(token)
        self._remaining -= 1
        if self._forced:
            self._forced.popleft()
        if not self._forced:
            self._look_ahead()
        return True

    def _look_ahead(self) -> None:
        if self._forcing is None:
            return
        forced = self._forcing.tokens(self._matcher, tuple(self._output))
        if forced and self._leaves_enough(forced):
            self._forced.extend(forced)

    def _leaves_enough(self, forced: tuple[int, ...]) -> bool:
        """Can the answer still be completed? The tokenizer's tokens are not the fewest."""
        after = self._matcher.clone()
        for token in forced:
            after.accept(token)
        needed = after.min_remaining
        return needed is None or self._remaining - len(forced) >= needed


class Forcing:
    """How a model's tokenizer writes forced text. Shared by all requests."""

    def __init__(self, token_bytes: Callable[[int], bytes], encode: Encode) -> None:
        self._token_bytes = token_bytes
        self._encode = encode
        self._spell = lru_cache(4096)(self._spelled)

    def tokens(self, matcher: Matcher, output: tuple[int, ...]) -> tuple[int, ...]:
        """Tokens that must follow `output`; () where the model has a choice, or would not have
        written the last tokens as they are had it known what follows."""
        text = matcher.forced()
        if not text:
            return ()
        tail = self._tail(output)
        found = () if tail is None else self._spell(tail, text)
        return found[: self._num_certain(matcher, text, found)] if found else ()

    def _tail(self, output: tuple[int, ...]) -> tuple[int, ...] | None:
        """The last tokens of `output` that are whole characters; None where they are not."""
        for count in range(1 if output else 0, len(output) + 1):
            tail = output[len(output) - count :]
            try:
                b"".join(map(self._token_bytes, tail)).decode()
            except UnicodeDecodeError:
                continue
            return tail
        return None

    def _spelled(self, tail: tuple[int, ...], text: bytes) -> tuple[int, ...]:
        """Tokens of `text` after `tail`, as the tokenizer writes them; () where it would have
        written `tail` differently."""
        before = b"".join(map(self._token_bytes, tail)).decode()
        try:
            known = text.decode()
        except UnicodeDecodeError as error:
            known = text[: error.start].decode()  # the span ends inside a character
        found = tuple(self._encode(before + known))
        return found[len(tail) :] if found[: len(tail)] == tail else ()

    def _num_certain(self, matcher: Matcher, text: bytes, tokens: tuple[int, ...]) -> int:
        """How many of `tokens` no allowed token could cross: one that begins at or before a
        token's last byte, and reaches past the end of `text`."""
        vocabulary = matcher.grammar.vocabulary
        longer = _longer_rows(vocabulary)
        probe = matcher.clone()
        first = max(0, len(text) - len(longer))  # no token that begins earlier reaches the end
        certain = len(text)
        if first:
            probe.accept_text(text[:first])
        for at in range(first, len(text)):
            if (probe.mask() & longer[len(text) - at - 1]).any():
                certain = at
                break
            probe.accept_text(text[at : at + 1])
        count = position = 0
        probe = matcher.clone()
        for token in tokens:
            piece = self._token_bytes(token)
            position += len(piece)
            if position > certain or not piece or not probe.accept(token):
                break
            count += 1
        return count


def forcing_of(tokenizer: Tokenizer) -> Forcing:
    """The forcing of a model's tokenizer."""
    return Forcing(
        lambda token: tokenizer.bytes_of(token, skip_special_tokens=True),
        lambda text: tokenizer.encode(text, is_first=False),
    )


def one_token_mask(token: int) -> np.ndarray:
    """[words up to its own] int32: this token alone."""
    row = np.zeros((token >> 5) + 1, np.uint32)
    row[-1] = 1 << (token & 31)
    return row.view(np.int32)


def refusal(error: GrammarError, sampling: Sampling) -> InvalidRequest:
    """What the caller is told of a constraint in `sampling` that cannot be served."""
    name = next(name for name in CONSTRAINTS if getattr(sampling, name) is not None)
    where = error.pointer if error.pointer is not None else error.offset
    at = "" if where is None else f" (at {where!r})"
    return InvalidRequest(
        f"{name}: {error.message}{at}",
        code=error.code,
        param=name,
        pointer=error.pointer,
        offset=error.offset,
    )


def _end_row(vocabulary: Vocabulary) -> np.ndarray:
    """[num_words] int32: the end-of-sequence tokens."""
    found: np.ndarray | None = vocabulary.tables.get("end_row")
    if found is None:
        found = vocabulary.tables["end_row"] = _row(vocabulary, vocabulary.eos_token_ids)
    return found


def _longer_rows(vocabulary: Vocabulary) -> list[np.ndarray]:
    """Row i, [num_words] int32: tokens of more than i + 1 bytes. As many as it takes."""
    found: list[np.ndarray] | None = vocabulary.tables.get("longer_rows")
    if found is None:
        lengths = np.array([len(text or b"") for text in vocabulary.text_tokens], np.int32)
        found = [
            _row(vocabulary, np.flatnonzero(lengths > length))
            for length in range(1, int(lengths.max(initial=1)))
        ]
        vocabulary.tables["longer_rows"] = found
    return found


def _row(vocabulary: Vocabulary, token_ids: "np.ndarray | tuple[int, ...]") -> np.ndarray:
    bits = np.zeros(32 * vocabulary.num_words, np.uint8)
    bits[np.asarray(token_ids, np.int64)] = 1
    return np.packbits(bits, bitorder="little").view(np.int32)
