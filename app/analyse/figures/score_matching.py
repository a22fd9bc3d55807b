"""Which pairs of the store another model's scores are of: by pair id, or by both file names and the prompt.

A file's pair ids may be somebody else's numbers, so an id counts only where the row's names and prompt fit that pair.

found = match_scores(read_scores(text), pairs)
found.scores, found.unknown, found.problems
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.analyse.figures.external_scores import MOST_PROBLEMS, Reward, ScoreRow, ScoreTable
from storage.exchange.exporting.stored_pairs import clip_name
from storage.pairs import Pair, Video


@dataclass(frozen=True)
class PairScore:
    """Another model's rewards of a pair of the store."""

    pair_id: int
    rewards: tuple[Reward, Reward]


@dataclass(frozen=True)
class MatchedScores:
    """Scores of pairs in the store; how many rows belong to none; what else is wrong."""

    scores: tuple[PairScore, ...]
    unknown: int
    problems: tuple[str, ...]


def match_scores(table: ScoreTable, pairs: Sequence[Pair]) -> MatchedScores:
    """Find the store's pair of each row. A file that has A and B the other way round is turned."""
    known, scores = _Known(pairs), {}
    problems, unknown = list(table.problems), 0
    for row in table.rows:
        if not row.b and not row.pair:
            continue
        try:
            found = known.pair(row)
        except ValueError as error:
            problems.append(f"row {row.line}: {error}")
            continue
        if found is None:
            unknown += 1
            continue
        pair, turned = found
        first, second = row.rewards
        scores[pair.id] = PairScore(pair.id, (second, first) if turned else (first, second))
    singles, lost = _singles(table.rows, pairs)
    return MatchedScores(tuple({**singles, **scores}.values()), unknown + lost, tuple(problems[:MOST_PROBLEMS]))


class _Known:
    """The store's pairs by what a file may call them."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._by_id = {str(pair.id): pair for pair in pairs}
        self._by_names: dict[tuple[str, str], list[tuple[Pair, bool]]] = {}
        for pair in pairs:
            for a, b in zip(_names(pair.video_a), _names(pair.video_b), strict=True):
                self._by_names.setdefault((a, b), []).append((pair, False))
                self._by_names.setdefault((b, a), []).append((pair, True))

    def pair(self, row: ScoreRow) -> tuple[Pair, bool] | None:
        """The pair of a row, and whether the row has its videos the other way round; None for an unknown one.

        Raises:
            ValueError: several pairs fit.
        """
        named = self._by_id.get(row.pair)
        turned = None if named is None else _turned(row, named)
        if named is not None and turned is not None:
            return named, turned
        found = self._by_names.get((_base(row.a), _base(row.b)), []) if row.b else []
        if row.prompt:
            found = [one for one in found if _same(one[0].prompt, row.prompt)]
        found = list({one[0].id: one for one in reversed(found)}.values())
        if len(found) > 1:
            raise ValueError(f"{len(found)} pairs have videos called {_base(row.a)} and {_base(row.b)}; add their prompt")
        return found[0] if found else None


def _turned(row: ScoreRow, pair: Pair) -> bool | None:
    """Whether a row has a pair's videos the other way round; None where its names or its prompt are not of this pair."""
    if row.prompt and not _same(pair.prompt, row.prompt):
        return None
    for turned, videos in ((False, (pair.video_a, pair.video_b)), (True, (pair.video_b, pair.video_a))):
        said = zip((row.a, row.b), videos, strict=True)
        if all(not name or _base(name) in _names(video) for name, video in said):
            return turned
    return None


def _singles(rows: Sequence[ScoreRow], pairs: Sequence[Pair]) -> tuple[dict[int, PairScore], int]:
    """Pairs of which both videos have a row of their own, by id, and how many such rows belong to no pair."""
    single = [row for row in rows if not row.b and not row.pair]
    by_video: dict[tuple[str, str], Reward] = {}
    for row in single:
        by_video[_base(row.a), _words(row.prompt)] = row.rewards[0]
    found, used = {}, set()
    for pair in pairs if single else ():
        keys = [_single_key(by_video, video, pair.prompt) for video in (pair.video_a, pair.video_b)]
        used |= {key for key in keys if key is not None}
        if keys[0] is not None and keys[1] is not None:
            found[pair.id] = PairScore(pair.id, (by_video[keys[0]], by_video[keys[1]]))
    return found, sum((_base(row.a), _words(row.prompt)) not in used for row in single)


def _single_key(by_video: Mapping[tuple[str, str], Reward], video: Video, prompt: str) -> tuple[str, str] | None:
    for name in _names(video):
        for said in (_words(prompt), ""):
            if (name, said) in by_video:
                return name, said
    return None


def _names(video: Video) -> tuple[str, str, str]:
    """What a file may call a video: the name it came with, its content, or what our own exports call it."""
    return _base(video.original_name), video.sha256, _base(clip_name(video.sha256, video.file))


def _base(path: str) -> str:
    """A path's last part without its ending, as a comparable name."""
    return re.sub(r"\.\w{2,4}$", "", re.split(r"[\\/]", path.strip())[-1]).lower()


def _words(text: str) -> str:
    return " ".join(text.split()).casefold()


def _same(first: str, second: str) -> bool:
    return _words(first) == _words(second)
