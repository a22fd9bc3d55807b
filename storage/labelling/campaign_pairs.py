"""The pairs of a campaign: adding more, their order, how many labels each needs, and what annotators flagged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sqlalchemy import and_, bindparam, null, select, update

from storage.campaigns import slots
from storage.campaigns.campaign import Gold, in_order, insert_pairs, last_position, lock_campaign
from storage.errors import CampaignError, NotInStoreError
from storage.labelling.labels import IS_LAST
from storage.pairs import Pair, get_pair
from storage.schema import AssignmentRow, CampaignPairRow, LabelRow
from storage.sql import CAMPAIGN_PAIRS, CAMPAIGNS

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


@dataclass(frozen=True)
class FlaggedPair:
    """A pair that annotators say can't be judged, with what they wrote, oldest first."""

    pair: Pair
    reasons: tuple[str, ...]


def add_pairs(session: Session, campaign_id: int, pair_ids: Sequence[int], gold: Mapping[int, Gold] | None = None) -> int:
    """Queue more pairs behind those of the campaign, in a random order; returns how many were not in it yet.

    Raises:
        NotInStoreError: there is no such campaign.
        CampaignError: a pair is not in the store, or a gold answer belongs to none of the pairs.
    """
    campaign = lock_campaign(session, campaign_id)
    return insert_pairs(session, campaign, pair_ids, gold or {}, {}, after=last_position(session, campaign_id))


def reorder(session: Session, campaign_id: int, scores: Mapping[int, float]) -> None:
    """Sort the whole queue again, gold pairs too, the lowest score first; in a campaign of random order nothing moves.

    Everybody starts again from the front and is led past what they had.

    Args:
        scores: by pair id; pairs without one come after.

    Raises:
        NotInStoreError: there is no such campaign.
    """
    campaign = lock_campaign(session, campaign_id)
    if campaign.config.ordering == "random":
        return
    rows = select(CampaignPairRow.pair_id, CampaignPairRow.id, CampaignPairRow.position)
    stored = {row.pair_id: row for row in session.execute(rows.where(CampaignPairRow.campaign_id == campaign_id))}
    moved = [
        {"campaign_pair": stored[pair_id].id, "new_position": slots.SPACING * index}
        for index, pair_id in enumerate(in_order(campaign, list(stored), scores), start=1)
        if stored[pair_id].position != slots.SPACING * index
    ]
    if moved:
        session.execute(
            update(CAMPAIGN_PAIRS)
            .where(CAMPAIGN_PAIRS.c.id == bindparam("campaign_pair"))
            .values(position=bindparam("new_position")),
            moved,
        )
    _start_from_the_front(session, campaign_id)


def set_overlap(session: Session, campaign_id: int, overlap: int) -> None:
    """Change how many labels a pair needs. Labels beyond a smaller number stay and count.

    Raises:
        NotInStoreError: there is no such campaign.
        CampaignError: the number is out of range.
    """
    campaign = lock_campaign(session, campaign_id)
    replace(campaign.config, overlap=overlap)  # refuses a number out of range
    session.execute(update(CAMPAIGNS).where(CAMPAIGNS.c.id == campaign_id).values(overlap=overlap))
    session.execute(
        update(CAMPAIGN_PAIRS)
        .where(CAMPAIGN_PAIRS.c.campaign_id == campaign_id, ~CAMPAIGN_PAIRS.c.is_gold)
        .values(
            open_slots=slots.open_slots(campaign_id),
            disputed=and_(CAMPAIGN_PAIRS.c.labelled >= overlap, CAMPAIGN_PAIRS.c.consensus.is_(null())),
        )
    )
    if overlap > campaign.config.overlap:
        _start_from_the_front(session, campaign_id)


def resolve_flag(session: Session, campaign_id: int, pair_id: int, put_back: bool) -> None:
    """Decide on a flagged pair: back into the queue for all but those who flagged it, or out of the campaign.

    Raises:
        NotInStoreError: the pair is not in the campaign.
        CampaignError: the pair is not flagged.
    """
    lock_campaign(session, campaign_id)
    same = (CampaignPairRow.campaign_id == campaign_id, CampaignPairRow.pair_id == pair_id)
    row = session.execute(select(CampaignPairRow.id, CampaignPairRow.state).where(*same)).one_or_none()
    if row is None:
        raise NotInStoreError(f"the pair {pair_id} is not in this campaign")
    if row.state != "flagged":
        raise CampaignError("this pair is not flagged; somebody decided on it already")
    state = "open" if put_back else "dropped"
    session.execute(update(CAMPAIGN_PAIRS).where(CAMPAIGN_PAIRS.c.id == row.id).values(state=state))
    if put_back:
        slots.put_back(session, campaign_id, [row.id])
        return
    held = select(AssignmentRow.id).where(AssignmentRow.campaign_pair_id == row.id, slots.IS_LEASED)
    slots.return_leases(session, campaign_id, session.scalars(held).all())


def flagged_pairs(session: Session, campaign_id: int) -> tuple[FlaggedPair, ...]:
    """List the flagged pairs that wait for the lead's decision."""
    is_flagged = (CampaignPairRow.campaign_id == campaign_id, CampaignPairRow.state == "flagged")
    reasons: dict[int, list[str]] = defaultdict(list)
    for pair_id in session.scalars(select(CampaignPairRow.pair_id).where(*is_flagged).order_by(CampaignPairRow.id)):
        reasons[pair_id] = []
    flags = (
        select(LabelRow.pair_id, LabelRow.reason)
        .join(CampaignPairRow, CampaignPairRow.id == LabelRow.campaign_pair_id)
        .where(*is_flagged, LabelRow.action == "flag", IS_LAST)
        .order_by(LabelRow.id)
    )
    for row in session.execute(flags):
        reasons[row.pair_id].append(row.reason)
    return tuple(FlaggedPair(get_pair(session, pair_id), tuple(texts)) for pair_id, texts in reasons.items())


def _start_from_the_front(session: Session, campaign_id: int) -> None:
    version = CAMPAIGNS.c.order_version + 1
    session.execute(update(CAMPAIGNS).where(CAMPAIGNS.c.id == campaign_id).values(order_version=version))
