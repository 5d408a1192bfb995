"""What every tokenizer format offers: the vocabulary as bytes, and text to ids."""

from typing import Protocol


class Codec(Protocol):
    """A vocabulary and its encoder. Safe to use from several threads."""

    token_bytes: tuple[bytes, ...]  # by id; b"" where an id has no token
    special_tokens: dict[str, int]  # tokens that are marks, not text: <s>, <|im_end|>, ...
    prefix_ids: tuple[int, ...]  # what the format itself puts before a text: (), (bos,)

    def encode(self, text: str, *, is_first: bool) -> list[int]:
        """Ids of `text` without `prefix_ids`.

        `is_first` tells whether a text starts here: SentencePiece puts a space before it. Raises
        `UnicodeEncodeError` for text that is no valid Unicode (lone surrogates).
        """

    def token_id(self, token: str) -> int | None:
        """Id of a token by its name in the vocabulary."""
