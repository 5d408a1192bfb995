"""The text of a sequence while its tokens arrive."""

import codecs
from collections.abc import Iterable

from ramify.runtime.tokenizer.tokenizer import Tokenizer

_new_decoder = codecs.getincrementaldecoder("utf-8")


class Detokenizer:
    """Tokens in, text out, whole characters only.

    All text given out equals `Tokenizer.decode` of all tokens, however they were split. A token
    costs its own bytes: what was decoded is never looked at again.
    """

    def __init__(self, tokenizer: Tokenizer, *, skip_special_tokens: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skip_special_tokens = skip_special_tokens
        self._decoder = _new_decoder(errors="replace")

    @property
    def is_mid_character(self) -> bool:
        """Whether the last token ended inside a character, whose bytes are held back."""
        return bool(self._decoder.getstate()[0])

    def feed(self, token_ids: Iterable[int]) -> str:
        """Text that `token_ids` complete."""
        skip = self._skip_special_tokens
        pieces = [self._tokenizer.bytes_of(i, skip_special_tokens=skip) for i in token_ids]
        return self._decoder.decode(b"".join(pieces))

    def flush(self) -> str:
        """What is left at the end: U+FFFD if the last character was never completed."""
        return self._decoder.decode(b"", final=True)
