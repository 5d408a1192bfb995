"""Tokens of a running sequence to the text and the tokens of its answer, up to a stop."""

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from ramify.lang.protocol import Sampling
from ramify.runtime.tokenizer.detokenizer import Detokenizer
from ramify.runtime.tokenizer.stop_scanner import StopMatch, StopScanner
from ramify.runtime.tokenizer.tokenizer import Tokenizer


class Kept(NamedTuple):
    """What has become certain: it belongs to the answer."""

    text: str
    token_ids: tuple[int, ...]  # whole tokens of that text; may come later than the text
    tail: str = ""  # with `matched`: text after the last whole token, already part of the text
    matched: str | None = None  # the stop that ended the answer; nothing is kept after it


class StopMatcher:
    """Detokenizes a sequence and looks for `stop` and `stop_regex` in its text.

    Text that could be the beginning of a stop is held back until that is decided, and a token
    until all of its text is certain. How the tokens were split over calls changes nothing in the
    sum of what is kept. A stop that is the name of a special token stops at that token.
    """

    def __init__(self, tokenizer: Tokenizer, sampling: Sampling) -> None:
        skip = sampling.skip_special_tokens
        self._detokenizer = Detokenizer(tokenizer, skip_special_tokens=skip)
        self._scanner = StopScanner(sampling.stop, sampling.stop_regex)
        self._stop_ids = tokenizer.special_ids_of(sampling.stop) if skip else {}
        self._min_tokens = sampling.min_tokens
        self._num_tokens = 0
        # [whole, whole + len(text)): what no kept token covers yet, of which `sent` are kept text
        self._whole = 0
        self._text = ""
        self._sent = 0
        self._tokens: deque[tuple[int, int | None]] = deque()  # id, end; None: inside a character
        self.is_stopped = False

    def feed(self, token_ids: Iterable[int]) -> Kept:
        """Take the sequence's next tokens. After a stop they are ignored."""
        if self.is_stopped:
            return Kept("", ())
        if self._scanner.is_idle and not self._stop_ids:
            return self._feed_unwatched(tuple(token_ids))
        for token_id in token_ids:
            self._num_tokens += 1
            may_stop = self._num_tokens >= self._min_tokens
            if may_stop and token_id in self._stop_ids:
                end = self._whole + len(self._text)
                return self._stop(StopMatch(end, end, self._stop_ids[token_id]))
            text = self._detokenizer.feed((token_id,))
            self._text += text
            end = self._whole + len(self._text)
            self._tokens.append((token_id, None if self._detokenizer.is_mid_character else end))
            match = self._scanner.read(text, may_stop=may_stop)
            if match is not None:
                return self._stop(match)
        return self._keep(self._scanner.held_from())

    def flush(self) -> Kept:
        """The sequence has ended by itself: what was held back is kept."""
        if self.is_stopped:
            return Kept("", ())
        text = self._detokenizer.flush()
        self._text += text
        match = self._scanner.read(text, may_stop=self._num_tokens >= self._min_tokens)
        if match is not None:
            return self._stop(match)
        kept = Kept(self._text[self._sent :], tuple(token_id for token_id, _ in self._tokens))
        self._text, self._sent = "", 0
        self._tokens.clear()
        return kept

    def _feed_unwatched(self, token_ids: tuple[int, ...]) -> Kept:
        self._num_tokens += len(token_ids)
        return Kept(self._detokenizer.feed(token_ids), token_ids)

    def _keep(self, until: int) -> Kept:
        """Keep text up to position `until`, and the tokens that lie in it as a whole."""
        text = self._text[self._sent : until - self._whole]
        self._sent += len(text)
        token_ids: list[int] = []
        inside: list[int] = []  # tokens that end inside a character: kept with the one that ends it
        while self._tokens and (self._tokens[0][1] is None or self._tokens[0][1] <= until):
            token_id, end = self._tokens.popleft()
            inside.append(token_id)
            if end is not None:
                token_ids += inside
                inside.clear()
                self._text = self._text[end - self._whole :]
                self._sent -= end - self._whole
                self._whole = end
        self._tokens.extendleft((token_id, None) for token_id in reversed(inside))
        return Kept(text, tuple(token_ids))

    def _stop(self, match: StopMatch) -> Kept:
        self.is_stopped = True
        kept = self._keep(match.start)
        tail = self._text[: match.start - self._whole]
        return kept._replace(tail=tail, matched=match.stop)
