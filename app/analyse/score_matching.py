"""Matching of another model's scores with pairs of the store: by pair id, or by both file names and the prompt.

The pair ids of a file may come from elsewhere, so an id counts only where the row's names and prompt fit that pair.

matched = match_scores(read_scores(text), pairs)
matched.scores, matched.unknown, matched.problems
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.analyse.external_scores import MOST_PROBLEMS, Reward, ScoreRow, ScoreTable
from storage.exchange.exporting.stored_pairs import clip_name
from storage.pairs import Pair, Video


@dataclass(frozen=True)
class MatchedScore:
    """Another model's rewards of one pair of the store, (A, B)."""

    pair_id: int
    rewards: tuple[Reward, Reward]


@dataclass(frozen=True)
class MatchedScores:
    """Result of a match.

    Attributes:
        scores: of pairs in the store.
        unknown: number of rows that belong to no pair of the store.
        problems: of rows that can't be used, a sentence each.
    """

    scores: tuple[MatchedScore, ...]
    unknown: int
    problems: tuple[str, ...]


def match_scores(table: ScoreTable, pairs: Sequence[Pair]) -> MatchedScores:
    """Find the store's pair of each row. Rows that have A and B swapped are swapped back."""
    index = _PairIndex(pairs)
    scores = {}
    problems = list(table.problems)
    unknown = 0
    for row in table.rows:
        if not row.b and not row.pair:
            continue
        try:
            match = index.find(row)
        except ValueError as error:
            problems.append(f"row {row.line}: {error}")
            continue
        if match is None:
            unknown += 1
            continue
        pair, swapped = match
        first, second = row.rewards
        scores[pair.id] = MatchedScore(pair.id, (second, first) if swapped else (first, second))
    by_video, unknown_videos = _match_videos(table.rows, pairs)
    return MatchedScores(tuple({**by_video, **scores}.values()), unknown + unknown_videos, tuple(problems[:MOST_PROBLEMS]))


class _PairIndex:
    """Pairs of the store by the names that a file may use for them."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._by_id = {str(pair.id): pair for pair in pairs}
        self._by_names: dict[tuple[str, str], list[tuple[Pair, bool]]] = {}
        for pair in pairs:
            for a, b in zip(_names(pair.video_a), _names(pair.video_b), strict=True):
                self._by_names.setdefault((a, b), []).append((pair, False))
                self._by_names.setdefault((b, a), []).append((pair, True))

    def find(self, row: ScoreRow) -> tuple[Pair, bool] | None:
        """Return the pair of a row, and whether the row has its videos swapped; None where no pair fits.

        Raises:
            ValueError: several pairs fit.
        """
        pair = self._by_id.get(row.pair)
        swapped = None if pair is None else _is_swapped(row, pair)
        if pair is not None and swapped is not None:
            return pair, swapped
        matches = self._by_names.get((_base(row.a), _base(row.b)), []) if row.b else []
        if row.prompt:
            matches = [match for match in matches if _same(match[0].prompt, row.prompt)]
        matches = list({match[0].id: match for match in reversed(matches)}.values())
        if len(matches) > 1:
            raise ValueError(f"{len(matches)} pairs have videos called {_base(row.a)} and {_base(row.b)}; add their prompt")
        return matches[0] if matches else None


def _is_swapped(row: ScoreRow, pair: Pair) -> bool | None:
    """Return whether a row has a pair's videos swapped; None where its names or its prompt are not those of this pair."""
    if row.prompt and not _same(pair.prompt, row.prompt):
        return None
    for swapped, videos in ((False, (pair.video_a, pair.video_b)), (True, (pair.video_b, pair.video_a))):
        if all(not name or _base(name) in _names(video) for name, video in zip((row.a, row.b), videos, strict=True)):
            return swapped
    return None


def _match_videos(rows: Sequence[ScoreRow], pairs: Sequence[Pair]) -> tuple[dict[int, MatchedScore], int]:
    """Return the scores of pairs whose videos have a row each, by pair id, and the number of such rows without a pair."""
    single = [row for row in rows if not row.b and not row.pair]
    by_video: dict[tuple[str, str], Reward] = {}
    for row in single:
        by_video[_base(row.a), _words(row.prompt)] = row.rewards[0]
    scores, used = {}, set()
    for pair in pairs if single else ():
        keys = [_video_key(by_video, video, pair.prompt) for video in (pair.video_a, pair.video_b)]
        used |= {key for key in keys if key is not None}
        if keys[0] is not None and keys[1] is not None:
            scores[pair.id] = MatchedScore(pair.id, (by_video[keys[0]], by_video[keys[1]]))
    return scores, sum((_base(row.a), _words(row.prompt)) not in used for row in single)


def _video_key(by_video: Mapping[tuple[str, str], Reward], video: Video, prompt: str) -> tuple[str, str] | None:
    for name in _names(video):
        for words in (_words(prompt), ""):
            if (name, words) in by_video:
                return name, words
    return None


def _names(video: Video) -> tuple[str, str, str]:
    """Return the names that a file may use for a video: its original name, its hash, and its name in our own exports."""
    return _base(video.original_name), video.sha256, _base(clip_name(video.sha256, video.file))


def _base(path: str) -> str:
    """Return the last part of a path without its ending, in lower case."""
    return re.sub(r"\.\w{2,4}$", "", re.split(r"[\\/]", path.strip())[-1]).lower()


def _words(text: str) -> str:
    return " ".join(text.split()).casefold()


def _same(first: str, second: str) -> bool:
    return _words(first) == _words(second)
