"""Streaming of tokens as text: no broken characters, and the pieces add up to the whole."""

from __future__ import annotations

from typing import Any

_BROKEN = "\ufffd"


class TextStream:
    """The text of one row's tokens, in pieces.

    A token may end inside a character (byte-level BPE) and its text may depend on its neighbour, so a piece
    is given out once its last character is whole. Only the tokens since the last two pieces are decoded, so a
    step costs the same all along.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._context = 0  # tokens before this one have no influence any more
        self._given = 0  # tokens before this one have been given out
        self.text = ""

    def push(self, token: int) -> str:
        """Take one token; return the new text, "" while a character is incomplete."""
        self._ids.append(token)
        return self._give(final=False)

    def finish(self) -> str:
        """Return the rest, even if its last character never became whole."""
        return self._give(final=True)

    def _give(self, final: bool) -> str:
        if self._given == len(self._ids):
            return ""
        before = self._decode(self._ids[self._context : self._given])
        after = self._decode(self._ids[self._context :])
        if len(after) <= len(before) or (after.endswith(_BROKEN) and not final):
            return ""
        piece = after[len(before) :]
        self._context, self._given = self._given, len(self._ids)
        self.text += piece
        return piece

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))
