"""Pairs of a run of the store: labels as they were frozen, videos and thoughts as they are now.

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
    """Load new pairs and replay to train on, and the held-out pairs; a pair without its video file becomes a problem."""
    thoughts = thoughts_of_pairs(session)
    parts: dict[bool, list[TrainingPair]] = {True: [], False: []}
    problems = []
    for frozen in snapshot_pairs(session, run_id):
        try:
            pair = _pair(session, frozen, thoughts.get(frozen.pair_id), home)
        except StorageError as error:
            problems.append(f"pair {frozen.pair_id}: {error}")
            continue
        parts[frozen.part == "held_out"].append(pair)
    return LoadedPairs(tuple(parts[False]), tuple(parts[True]), tuple(problems))


def pair_ids(session: Session, run_id: int) -> dict[str, int]:
    """Map the identity of each pair of a run to its id in the store."""
    return {frozen.identity: frozen.pair_id for frozen in snapshot_pairs(session, run_id)}


def _pair(session: Session, frozen: SnapshotPair, thoughts: tuple[str, str] | None, home: Path) -> TrainingPair:
    pair = get_pair(session, frozen.pair_id)
    return TrainingPair(
        identity=frozen.identity,
        videos=(video_path(pair.video_a.file, home), video_path(pair.video_b.file, home)),
        contents=(pair.video_a.sha256, pair.video_b.sha256),
        prompt=pair.prompt,
        label=frozen.label,
        strength=frozen.strength,
        thoughts=thoughts,
        sub_scores=(dict(frozen.sub_scores.get("A", {})), dict(frozen.sub_scores.get("B", {}))),
    )
