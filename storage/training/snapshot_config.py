"""The config of a snapshot, and queries for its pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

from sqlalchemy import Select, func, or_, select
from sqlalchemy.orm import Session, aliased

from storage.campaigns.counted import counted_campaigns
from storage.errors import StorageError
from storage.labelling.consensus import COUNTED, Method
from storage.schema import AssignmentRow, CampaignPairRow, LabelRow, PairRow, VideoRow
from storage.splits import SplitBy, pair_identity, split_key

_AT_ONCE = 1000


@dataclass(frozen=True)
class SnapshotConfig:
    """How pairs are chosen from what people said.

    Attributes:
        campaigns: names, none for all labels.
        min_labels: people that have to stand behind a pair, unless a lead decided.
        held_out_share: of the pairs, kept from training for ever.
        held_out_by: whether single pairs or whole prompts are held out. By prompts, pairs to train on that share a video
            with a held-out pair are left out.
        replay_share: of the training pairs of an incremental run, those that are older than its checkpoint, so that nothing
            is forgotten.

    Raises:
        StorageError: a setting is out of range.
    """

    campaigns: tuple[str, ...] = ()
    min_labels: int = 1
    consensus: Method = "majority"
    held_out_share: float = 0.2
    replay_share: float = 0.5
    held_out_by: SplitBy = "pairs"

    def __post_init__(self) -> None:
        if self.min_labels < 1 or self.consensus not in ("majority", "weighted"):
            raise StorageError("a pair needs at least 1 label, and a consensus by majority or weighted")
        if not 0 < self.held_out_share <= 0.5:
            raise StorageError("the held-out share is above 0 and at most 0.5: without it nothing can be proved")
        if self.held_out_by not in get_args(SplitBy):
            raise StorageError(f"what is held out is {' or '.join(get_args(SplitBy))}, not {self.held_out_by!r}")
        if not 0 <= self.replay_share <= 0.9:
            raise StorageError("the share of older pairs lies between 0 and 0.9")


@dataclass(frozen=True)
class PairKey:
    """A pair by content.

    Attributes:
        identity: `pair_identity`.
        first: sha256 of video A, which tells two orders apart.
        second: sha256 of video B.
    """

    identity: str
    first: str
    second: str
    prompt: str

    def split_key(self, by: SplitBy) -> str:
        """Return what decides whether it is held out."""
        return split_key(by, self.identity, self.prompt)


def campaign_ids(session: Session, settings: SnapshotConfig) -> tuple[int, ...] | None:
    """Return the ids of the campaigns and imports whose labels count; None for all.

    Raises:
        StorageError: one is unknown, or does not count.
    """
    return counted_campaigns(session, settings.campaigns)


def newest_label(session: Session) -> int:
    """Return the id of the last revision of any label; as long as it stays, nothing is new."""
    return session.scalar(select(func.max(LabelRow.id))) or 0


def changed_campaign_pairs(since_label_id: int, campaigns: Sequence[int] | None) -> Select[Any]:
    """Ids of the campaign pairs whose labels changed after a revision: given, edited, withdrawn, decided.

    An id may come several times: to ask for distinct ones would make SQLite go through all labels by another index.
    Beginning at 0 every campaign pair that has an answer, by the kept totals.
    """
    if since_label_id <= 0:
        campaign_pairs: Select[Any] = select(CampaignPairRow.id).where(
            or_(CampaignPairRow.labelled > 0, CampaignPairRow.consensus.is_not(None))
        )
        if campaigns is not None:
            campaign_pairs = campaign_pairs.where(CampaignPairRow.campaign_id.in_(campaigns))
        return campaign_pairs
    former = aliased(LabelRow)
    labels: Select[Any] = (
        select(LabelRow.campaign_pair_id)
        .join(AssignmentRow, AssignmentRow.id == LabelRow.assignment_id)
        .outerjoin(former, former.id == LabelRow.replaces_id)
        .where(LabelRow.id > since_label_id, AssignmentRow.kind.in_((*COUNTED, "adjudication")))
        .where(or_(LabelRow.action == "label", former.action == "label"))
    )
    return labels if campaigns is None else labels.where(LabelRow.campaign_id.in_(campaigns))


def pair_keys(session: Session, pair_ids: Sequence[int]) -> dict[int, PairKey]:
    """Return the content key of each of these pairs, by id."""
    a, b = aliased(VideoRow), aliased(VideoRow)
    statement: Any = (
        select(PairRow.id, PairRow.prompt, a.sha256, b.sha256)
        .join(a, a.id == PairRow.video_a_id)
        .join(b, b.id == PairRow.video_b_id)
    )
    keys = {}
    for start in range(0, len(pair_ids), _AT_ONCE):
        rows = session.execute(statement.where(PairRow.id.in_(pair_ids[start : start + _AT_ONCE])))
        keys.update(
            {
                pair_id: PairKey(pair_identity(sha256_a, sha256_b, prompt), sha256_a, sha256_b, prompt)
                for pair_id, prompt, sha256_a, sha256_b in rows
            }
        )
    return keys
