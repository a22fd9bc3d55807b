"""Words of people's preferences in tables, and what they mean.

    LabelReader("pairs.csv", "TA").read("same", line=2)         # 0: neither is better

+1: the first video is better; -1: the second; 0: neither; None: no label.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from descore.errors import TableError

BOTH_BAD = ("bothbad_vote", "both_bad", "both bad", "bothbad")  # neither is better, and neither is good
_MEANINGS = {"a": 1, "b": -1, "tie": 0}
WORDS: dict[str, int | None] = {
    **dict.fromkeys(("a", "left", "leftvote", "first", "a is better", "a better", "a>b", "video a is better"), 1),
    **dict.fromkeys(("b", "right", "rightvote", "second", "b is better", "b better", "b>a", "video b is better"), -1),
    **dict.fromkeys(("same", "tie", "tievote", "equal", "draw", "a=b", *BOTH_BAD), 0),
    **dict.fromkeys(("", "invalid", "null", "none", "nan", "n/a"), None),
}
_NUMBERED = re.compile(r"video[ _]?([12])( is)?( better)?")


class LabelReader:
    """The labels of one column; "Video 1 Better" means the first video, unless the columns of the videos count from 0."""

    def __init__(self, name: str, column: str, videos: Sequence[str] = (), words: Mapping[str, int] | None = None) -> None:
        """Prepare to read a column.

        Args:
            name: of the file, for messages.
            column: that holds the labels.
            videos: columns of the two videos.
            words: further words, or other meanings of known ones.
        """
        self._name, self._column = name, column
        self._words = {**WORDS, **{word.casefold().strip(): meaning for word, meaning in (words or {}).items()}}
        self._numbers = _numbers(videos)

    def read(self, value: object, line: int) -> int | None:
        """Return +1, -1, 0, or None where the row has no label.

        Raises:
            TableError: a word whose meaning isn't known.
        """
        word = "" if value is None else " ".join(str(value).casefold().split())
        if word in self._words:
            return self._words[word]
        match = _NUMBERED.fullmatch(word)
        if match and match[1] in self._numbers:
            return 1 - 2 * self._numbers.index(match[1])
        hint = f"say what it means by --label {str(value).strip()[:40]!r}=A (or =B, =tie)"
        raise TableError(self._name, f"{str(value)[:40]!r} is no label that is known; {hint}", line, self._column)


def parse_words(texts: Sequence[str]) -> dict[str, int]:
    """Read texts like `Video 1 Better=B`.

    Raises:
        ValueError: not of that form.
    """
    words = {}
    for text in texts:
        word, equals, meaning = text.rpartition("=")
        if not equals or meaning.strip().casefold() not in _MEANINGS:
            raise ValueError(f"--label takes WORD=A, WORD=B or WORD=tie (got {text!r})")
        words[word] = _MEANINGS[meaning.strip().casefold()]
    return words


def _numbers(videos: Sequence[str]) -> tuple[str, ...]:
    """Return the numbers of the two videos.

    Columns that count from 0 have none: "Video 1" may be the second there, or the first all the same, so people have to say.
    """
    return () if any("0" in re.findall(r"\d", column) for column in videos) else ("1", "2")
