"""Labelled pairs from the store, or from a file in a format of the field.

    loaded = load_pairs(config.data, home)

    store       the common answer of a pair (`storage.labelling.consensus`), thoughts from kept judgements
    file        any format that `storage.exchange` reads, DeScore's two and VideoAlign's among them; columns CoT_A, CoT_B,
                scores_A and scores_B (JSON) beside the format's own are used too

Several rows or entries about the same two videos and prompt, in either order, become one pair by majority. What can't be
used costs its pair; `problems` says why.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from descore.video import VideoError, content_hash
from storage import Database, StorageError, open_database
from storage.campaigns.counted import counted_campaigns
from storage.exchange.format_writer import current_labels
from storage.exchange.formats.detect import read_file
from storage.exchange.parsed import ParsedPair, known_sub_scores
from storage.judgements import thoughts_of_pairs
from storage.labelling.consensus import COUNTED, iterate_consensus
from storage.pairs import get_pair
from storage.splits import split_key
from storage.training.snapshot_config import SnapshotConfig
from storage.training.snapshots import with_share_in_use
from storage.video_files import video_path
from trainer.data.pairs import LoadedPairs, TrainingPair, is_held_out, pair_identity
from trainer.data.thought_file import read_thoughts

if TYPE_CHECKING:
    from trainer.config import DataConfig

_SIGN = {"A": 1, "B": -1, "tie": 0, "both_bad": 0}
_SIZE = {"slightly": 1.0, "clearly": 2.0}


@dataclass(frozen=True)
class _Entry:
    """A pair with the label of one source.

    Attributes:
        people: number of people who gave it.
        adjudicated: it overrules the others.
    """

    pair: TrainingPair
    people: int
    adjudicated: bool = False


def load_pairs(settings: DataConfig, home: Path | None = None) -> LoadedPairs:
    """Load the pairs that the settings ask for: from their csv if there is one, else from the store.

    Args:
        home: the data folder of the store, by default the user's.

    Raises:
        StorageError: the store or the table can't be opened, or a campaign is unknown.
    """
    if settings.csv is not None:
        return from_csv(Path(settings.csv), None if settings.videos is None else Path(settings.videos), settings)
    database = open_database(home=home)
    try:
        return from_store(database, settings)
    finally:
        database.close()


def from_store(database: Database, settings: DataConfig) -> LoadedPairs:
    """Load the pairs of the store that people agree on.

    Raises:
        StorageError: the store can't be read, or a campaign is unknown.
    """
    entries, problems = [], []
    with database.read() as session:
        campaign_ids = counted_campaigns(session, settings.campaigns)
        thoughts = thoughts_of_pairs(session)
        for answer in iterate_consensus(session, campaign_ids, settings.consensus):
            pair = get_pair(session, answer.pair_id)
            if answer.choice is None:
                problems.append(f"pair {pair.id}: its {answer.labels} labels have no majority")
                continue
            try:
                videos = video_path(pair.video_a.file, database.home), video_path(pair.video_b.file, database.home)
            except StorageError as error:
                problems.append(f"pair {pair.id}: {error}")
                continue
            label, contents = _SIGN[answer.choice], (pair.video_a.sha256, pair.video_b.sha256)
            training_pair = TrainingPair(
                identity=pair_identity(*contents, pair.prompt),
                videos=videos,
                contents=contents,
                prompt=pair.prompt,
                label=label,
                strength=max(0.0, label * (answer.strength or 0.0)),
                thoughts=thoughts.get(pair.id),
                sub_scores=(answer.sub_scores.get("A", {}), answer.sub_scores.get("B", {})),
            )
            entries.append(_Entry(training_pair, answer.labels, answer.adjudicated))
    return _loaded(entries, problems, settings)


def split_of_store(settings: DataConfig, home: Path | None = None) -> DataConfig:
    """Hold out what the checkpoints of the store hold out; settings that name a file stay as they are.

    Raises:
        StorageError: the store can't be opened.
    """
    if settings.csv is not None:
        return settings
    database = open_database(home=home)
    try:
        with database.read() as session:
            used = with_share_in_use(session, SnapshotConfig(held_out_share=settings.held_out_share))
    finally:
        database.close()
    return replace(settings, held_out_share=used.held_out_share, held_out_by=used.held_out_by)


def from_csv(path: Path, videos: Path | None, settings: DataConfig) -> LoadedPairs:
    """Load the labelled pairs of a file.

    Args:
        videos: the folder that its paths start from, by default the file's own.

    Raises:
        StorageError: it can't be read, or has no format that is known.
    """
    _, parsed = read_file(path, videos=videos)
    entries, problems = [], [str(problem) for problem in (*parsed.problems, *parsed.notes)]
    hashed = cache(content_hash)
    for pair in parsed.pairs:
        try:
            entries += _entries(pair, hashed)
        except (VideoError, ValueError) as error:
            problems.append(f"{parsed.file}:{pair.line}: {error}")
    return _loaded(entries, problems, settings)


def _entries(pair: ParsedPair, hashed: Callable[[Path], str]) -> list[_Entry]:
    """One entry for each person's label."""
    labels = [(turn.kind, label) for turn, label in current_labels(pair) if turn.kind in (*COUNTED, "adjudication")]
    if not labels or pair.a.path is None or pair.b.path is None:
        return []
    contents = hashed(pair.a.path), hashed(pair.b.path)
    base = TrainingPair(
        identity=pair_identity(*contents, pair.prompt),
        videos=(pair.a.path, pair.b.path),
        contents=contents,
        prompt=pair.prompt.strip(),
        label=0,
        thoughts=_thoughts(pair),
    )
    pair_scores = _further_scores(pair.extra_columns)
    entries = []
    for kind, label in labels:
        sign = _SIGN[label.choice or "tie"]
        scores = label.sub_scores or pair_scores
        sides = (dict(scores.get("A", {})), dict(scores.get("B", {})))
        size = _SIZE.get(label.strength or "", 0.0) if sign else 0.0
        labelled = replace(base, label=sign, strength=size, sub_scores=sides)
        entries.append(_Entry(labelled, people=int(kind in COUNTED), adjudicated=kind == "adjudication"))
    return entries


def _thoughts(pair: ParsedPair) -> tuple[str, str] | None:
    a = pair.thought_a or str(pair.extra_columns.get("CoT_A", ""))
    b = pair.thought_b or str(pair.extra_columns.get("CoT_B", ""))
    return (a, b) if a and b else None


def _further_scores(facts: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    cells = {side: facts[f"scores_{side}"] for side in "AB" if f"scores_{side}" in facts}
    return known_sub_scores({side: json.loads(cell) if isinstance(cell, str) else cell for side, cell in cells.items()})


def _loaded(entries: Iterable[_Entry], problems: list[str], settings: DataConfig) -> LoadedPairs:
    """Merge entries of the same pair, add thoughts from the file of thoughts where there are none, and split."""
    groups: dict[str, list[_Entry]] = defaultdict(list)
    for entry in entries:
        groups[entry.pair.identity].append(entry)
    collected = read_thoughts(Path(settings.thoughts)) if settings.thoughts is not None else {}
    pairs = []
    for identity in sorted(groups):
        group = groups[identity]
        if sum(entry.people for entry in group) < settings.min_labels and not any(entry.adjudicated for entry in group):
            problems.append(f"pair {identity[:12]}: fewer than {settings.min_labels} labels")
        elif (pair := _common(group)) is None:
            problems.append(f"pair {identity[:12]}: its {len(group)} labels have no majority")
        else:
            thoughts = collected.get(identity)
            if pair.thoughts is None and thoughts is not None:
                pair = replace(pair, thoughts=thoughts.about(pair.contents))
            pairs.append(pair)
    by = settings.held_out_by
    held = [is_held_out(split_key(by, pair.identity, pair.prompt), settings.held_out_share) for pair in pairs]
    held_out = tuple(pair for pair, out in zip(pairs, held, strict=True) if out)
    known = {content for pair in held_out for content in pair.contents} if by == "prompts" else set()
    train = []
    for pair, out in zip(pairs, held, strict=True):
        if not out and known.isdisjoint(pair.contents):
            train.append(pair)
        elif not out:
            problems.append(f"pair {pair.identity[:12]}: a video of its is in a held-out pair")
    return LoadedPairs(tuple(train), held_out, tuple(problems))


def _common(group: list[_Entry]) -> TrainingPair | None:
    """Take the majority of the entries of one pair, in the order of videos of the first; None without one.

    An adjudicated entry overrules the others.
    """
    first = group[0].pair
    deciding = [entry for entry in group if entry.adjudicated][-1:] or group
    turned = [entry.pair if entry.pair.contents == first.contents else swapped(entry.pair) for entry in deciding]
    label, votes = Counter(pair.label for pair in turned).most_common(1)[0]
    if 2 * votes <= len(turned):
        return None
    agreeing = [pair.strength for pair in turned if pair.label == label]
    strength = 0.0 if 0.0 in agreeing else sum(agreeing) / len(agreeing)
    thoughts = next((pair.thoughts for pair in turned if pair.thoughts is not None), None)
    scores = tuple(_majority_scores([pair.sub_scores[side] for pair in turned]) for side in (0, 1))
    return replace(first, label=label, strength=strength, thoughts=thoughts, sub_scores=(scores[0], scores[1]))


def swapped(pair: TrainingPair) -> TrainingPair:
    """Swap A and B."""
    return replace(
        pair,
        videos=pair.videos[::-1],
        contents=pair.contents[::-1],
        label=-pair.label,
        thoughts=None if pair.thoughts is None else pair.thoughts[::-1],
        sub_scores=pair.sub_scores[::-1],
    )


def _majority_scores(answers: list[Mapping[str, str]]) -> dict[str, str]:
    majority = {}
    for name in dict.fromkeys(name for answer in answers for name in answer):
        votes = Counter(answer[name] for answer in answers if name in answer)
        value, count = votes.most_common(1)[0]
        if 2 * count > votes.total():
            majority[name] = value
    return majority
