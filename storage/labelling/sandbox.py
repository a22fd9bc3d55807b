"""The sandbox of a demo: a campaign over the bundled pairs that never ends, and what guests may do there.

    campaign = open_sandbox(session, pair_ids)     # the open one, or the next one when all its pairs have their labels
    check_guest(session, guest.id, campaign)       # GuestLimitError: another campaign, or enough answers

It is not blind: a blind campaign keeps its pairs from the Judge page (`blind.py`), and the gallery would be empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from storage.campaigns.campaign import (
    MOST_OVERLAP,
    Campaign,
    CampaignConfig,
    create_campaign,
    get_campaign,
    list_campaigns,
    set_status,
)
from storage.campaigns.guidelines import DEFAULT_GUIDELINES
from storage.campaigns.progress import progress
from storage.errors import GuestLimitError
from storage.labelling.campaign_pairs import add_pairs
from storage.schema import LabelRow

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

NAME = "Sandbox"
# Two of five: a visitor sees how sub-scores work and is through in a minute.
DIMENSIONS = ("subject", "dynamics")
GUEST_ANSWERS = 40  # labels, skips, flags, changes and undos together


def is_sandbox(campaign: Campaign) -> bool:
    """Tell whether this is a sandbox, an earlier one too."""
    first, _, rest = campaign.config.name.partition(" ")
    return campaign.origin == "studio" and first == NAME and (not rest or rest.isdigit())


def open_sandbox(session: Session, pair_ids: Sequence[int]) -> Campaign:
    """Return the open sandbox, with all of these pairs in it.

    Args:
        pair_ids: the bundled pairs.
    """
    sandboxes = [campaign for campaign in list_campaigns(session) if is_sandbox(campaign)]
    newest = sandboxes[-1] if sandboxes else None
    if newest is not None and newest.status != "closed":
        add_pairs(session, newest.id, pair_ids)  # a newer version may bring more
        counts = progress(session, newest.id)
        if counts.finished < counts.pairs:
            if newest.status == "paused":
                set_status(session, newest.id, "open")
            return get_campaign(session, newest.id)
        set_status(session, newest.id, "closed")
    name = NAME if newest is None else f"{NAME} {len(sandboxes) + 1}"
    settings = CampaignConfig(
        name, DIMENSIONS, overlap=MOST_OVERLAP, gold_share=0.0, repeat_share=0.0, visible=("thoughts", "rewards")
    )
    return create_campaign(session, settings, pair_ids, DEFAULT_GUIDELINES, created_by=None)


def check_guest(session: Session, guest_id: int, campaign: Campaign) -> None:
    """Refuse what a guest may not label.

    Raises:
        GuestLimitError: another campaign, or they have saved as many answers as they may.
    """
    if not is_sandbox(campaign):
        raise GuestLimitError("This is a demo: guests label in the sandbox only.")
    answers = session.scalar(select(func.count()).select_from(LabelRow).where(LabelRow.annotator_id == guest_id)) or 0
    if answers >= GUEST_ANSWERS:
        raise GuestLimitError(f"This is a demo: a guest may save {GUEST_ANSWERS} answers, and you have. Thank you!")
