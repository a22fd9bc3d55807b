"""What a checkpoint, or one that it descends from, was trained on in this store.

identities = trained_identities(session, checkpoint.id)         # of pairs, see `storage.splits.pair_identity`
videos, prompts = trained_contents(session, [checkpoint.id])    # ids of videos, hashes of prompts
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from storage.schema import PairRow, RunPairRow
from storage.training.model_registry import lineage

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def trained_identities(session: Session, checkpoint_id: int) -> frozenset[str]:
    """Return the identities of the pairs in the training data of a checkpoint and its ancestors.

    Raises:
        NotInStoreError: there is no such checkpoint.
    """
    identities = select(RunPairRow.identity).where(*_trained_in(_runs(session, [checkpoint_id])))
    return frozenset(session.scalars(identities.distinct()))


def trained_contents(session: Session, checkpoint_ids: Iterable[int]) -> tuple[set[int], set[str]]:
    """Return the ids of the videos and the hashes of the prompts in the training data of checkpoints and their ancestors.

    Raises:
        NotInStoreError: there is no such checkpoint.
    """
    columns = (PairRow.video_a_id, PairRow.video_b_id, PairRow.prompt_hash)
    pairs: Any = select(*columns).join(RunPairRow, RunPairRow.pair_id == PairRow.id)
    videos: set[int] = set()
    prompts: set[str] = set()
    for row in session.execute(pairs.where(*_trained_in(_runs(session, checkpoint_ids)))):
        videos.update((row.video_a_id, row.video_b_id))
        prompts.add(row.prompt_hash)
    return videos, prompts


def _runs(session: Session, checkpoint_ids: Iterable[int]) -> set[int]:
    family = (ancestor for checkpoint_id in checkpoint_ids for ancestor in lineage(session, checkpoint_id))
    return {ancestor.run_id for ancestor in family if ancestor.run_id is not None}


def _trained_in(runs: set[int]) -> tuple[Any, ...]:
    return RunPairRow.run_id.in_(runs), RunPairRow.part != "held_out"
