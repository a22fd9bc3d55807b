"""The data of a run of the store as the trainer takes it: labels as they were frozen, videos and thoughts as they are now.

with database.read() as session:
    loaded = frozen_pairs(session, run.id, database.home)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from storage import StorageError
from storage.judgements import thoughts_of_pairs
from storage.pairs import get_pair
from storage.training.runs import snapshot_pairs
from storage.video_files import video_path
from trainer.data.pairs import LoadedPairs, TrainingPair

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from storage.training.snapshots import SnapshotPair


def frozen_pairs(session: Session, run_id: int, home: Path) -> LoadedPairs:
    """New pairs and replay to train on, and the held-out ones. A pair whose video file is gone is told and left out."""
    thoughts = thoughts_of_pairs(session)
    parts: dict[bool, list[TrainingPair]] = {True: [], False: []}
    problems = []
    for one in snapshot_pairs(session, run_id):
        try:
            pair = _pair(session, one, thoughts.get(one.pair_id), home)
        except StorageError as error:
            problems.append(f"pair {one.pair_id}: {error}")
            continue
        parts[one.part == "held_out"].append(pair)
    return LoadedPairs(tuple(parts[False]), tuple(parts[True]), tuple(problems))


def pair_ids(session: Session, run_id: int) -> dict[str, int]:
    """The pair of the store behind each identity of a run."""
    return {one.identity: one.pair_id for one in snapshot_pairs(session, run_id)}


def _pair(session: Session, one: SnapshotPair, thoughts: tuple[str, str] | None, home: Path) -> TrainingPair:
    pair = get_pair(session, one.pair_id)
    return TrainingPair(
        identity=one.identity,
        videos=(video_path(pair.video_a.file, home), video_path(pair.video_b.file, home)),
        contents=(pair.video_a.sha256, pair.video_b.sha256),
        prompt=pair.prompt,
        label=one.label,
        strength=one.strength,
        thoughts=thoughts,
        sub_scores=(dict(one.sub_scores.get("A", {})), dict(one.sub_scores.get("B", {}))),
    )
