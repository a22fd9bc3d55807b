"""Campaigns: pairs to label, dimensions, overlap, and the order of the queue.

settings = CampaignConfig("spring models", overlap=3, repeat_share=0.05)
campaign = create_campaign(session, settings, pair_ids, DEFAULT_GUIDELINES, created_by=lead.id)
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, get_args

from sqlalchemy import Row, bindparam, func, insert, select, update

from descore.answer import DIMENSIONS, SUB_SCORES
from storage.campaigns import slots
from storage.campaigns.guidelines import Guidelines, revise_guidelines
from storage.campaigns.label_schema import SIDES
from storage.errors import CampaignError, NotInStoreError
from storage.schema import CampaignPairRow, CampaignRow, CampaignStatus, Choice, MemberRow, Ordering, PairRow
from storage.splits import stable_share
from storage.sql import CAMPAIGN_PAIRS, CAMPAIGNS, GUIDELINES

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

Origin = Literal["studio", "import"]
VISIBLE = ("generators", "thoughts", "rewards")
MOST_OVERLAP = 100
LONGEST_LEASE_SECONDS = 7 * 24 * 3600
_CHUNK = 5000


@dataclass(frozen=True)
class CampaignConfig:
    """What a lead chooses.

    Attributes:
        dimensions: the sub-scores asked, none for the overall preference alone.
        overlap: labels that a pair needs, each of another person.
        gold_share, repeat_share: of the pairs that a person gets, how many are gold pairs, and how many are own ones again
            with the sides exchanged.
        visible: what is open before a label is saved, out of `VISIBLE`; nothing means blind.
        lease_seconds: how long a pair waits for somebody who left.
        qualification_pairs: gold pairs at the start, of which the share `qualification_pass` has to be right.

    Raises:
        CampaignError: a setting is out of range.
    """

    name: str
    dimensions: tuple[str, ...] = DIMENSIONS
    overlap: int = 3
    gold_share: float = 0.05
    repeat_share: float = 0.05
    ordering: Ordering = "random"
    visible: tuple[str, ...] = ()
    lease_seconds: int = 1800
    qualification_pairs: int = 0
    qualification_pass: float = 0.7

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", " ".join(self.name.split()))
        object.__setattr__(self, "dimensions", _ordered(self.dimensions, DIMENSIONS, "dimension"))
        object.__setattr__(self, "visible", _ordered(self.visible, VISIBLE, "thing to show"))
        _require(1 <= len(self.name) <= 200, "a campaign needs a name of at most 200 characters")
        _require(1 <= self.overlap <= MOST_OVERLAP, f"a pair needs 1 to {MOST_OVERLAP} labels; found {self.overlap}")
        shares = (self.gold_share, self.repeat_share)
        _require(all(0 <= share <= 0.5 for share in shares), "gold and repeated pairs are at most half of all each")
        _require(sum(shares) <= 0.8, "gold and repeated pairs leave too little room for new ones")
        _require(self.ordering in get_args(Ordering), f"an order is one of {', '.join(get_args(Ordering))}")
        _require(1 <= self.lease_seconds <= LONGEST_LEASE_SECONDS, "a lease lasts from 1 second to 7 days")
        _require(self.qualification_pairs >= 0, "the qualification can't have a negative number of pairs")
        _require(0 <= self.qualification_pass <= 1, "the share to pass the qualification lies between 0 and 1")


@dataclass(frozen=True)
class Gold:
    """The known answer to a pair.

    Attributes:
        sub_scores: {"A": {dimension: value}, "B": ...}, for feedback only.
    """

    choice: Choice
    sub_scores: Mapping[str, Mapping[str, str]] | None = None
    explanation: str = ""

    def __post_init__(self) -> None:
        _require(self.choice in get_args(Choice), f"a gold answer is one of {', '.join(get_args(Choice))}")
        for video, scores in (self.sub_scores or {}).items():
            is_known = video in SIDES and set(scores) <= set(DIMENSIONS) and set(scores.values()) <= set(SUB_SCORES)
            _require(is_known, f"unknown sub-scores of a gold answer: {video}: {dict(scores)}")


@dataclass(frozen=True)
class Campaign:
    """A campaign. `seed` decides its random order and who gets a gold pair when: it stays on the server.

    Attributes:
        counted: whether its labels take part where nobody names campaigns, see `storage.campaigns.counted`.
        holds_votes: it is made of the votes of the Judge page, see `storage.labelling.vote_labels`.
    """

    id: int
    config: CampaignConfig
    status: CampaignStatus
    origin: Origin
    guideline_version: int
    created_at: datetime
    seed: str = field(repr=False)
    order_version: int = field(repr=False)
    counted: bool = True
    holds_votes: bool = False


_VERSION = select(func.max(GUIDELINES.c.version)).where(GUIDELINES.c.campaign_id == CAMPAIGNS.c.id).scalar_subquery()
_CAMPAIGNS = select(CAMPAIGNS, _VERSION.label("guideline_version"))
_CAMPAIGN = _CAMPAIGNS.where(CAMPAIGNS.c.id == bindparam("campaign"))
# On SQLite the writing transaction has locked everything anyway.
_LOCKED_CAMPAIGN = _CAMPAIGN.with_for_update(key_share=True, of=CAMPAIGNS)


def create_campaign(
    session: Session,
    settings: CampaignConfig,
    pair_ids: Sequence[int],
    guidelines: Guidelines,
    *,
    created_by: int | None,
    gold: Mapping[int, Gold] | None = None,
    scores: Mapping[int, float] | None = None,
    origin: Origin = "studio",
) -> Campaign:
    """Open a campaign over pairs of the store.

    Args:
        gold: known answers by pair id; these pairs only check and train annotators.
        scores: by pair id, the lowest come first unless the order is random; pairs without one come after.
        origin: "import" for labels that came with a file: nobody is assigned there.

    Raises:
        CampaignError: the name is taken, a pair is unknown, or the qualification asks for more gold than there is.
    """
    gold = gold or {}
    _require(len(pair_ids) > len(gold), "a campaign needs pairs to label, besides the gold ones")
    _require(settings.qualification_pairs <= len(gold), f"the qualification needs gold pairs; there are {len(gold)}")
    taken = session.scalar(select(CampaignRow.id).where(CampaignRow.name == settings.name))
    _require(taken is None, f"there is a campaign named {settings.name} already")
    columns = asdict(settings) | {"dimensions": list(settings.dimensions), "visible": list(settings.visible)}
    row = CampaignRow(**columns, origin=origin, seed=secrets.token_hex(16), created_by_id=created_by)
    session.add(row)
    session.flush()
    revise_guidelines(session, row.id, guidelines, created_by)
    campaign = get_campaign(session, row.id)
    insert_pairs(session, campaign, pair_ids, gold, scores or {}, after=-1)
    return campaign


def campaign_from_outside(
    name: str, created_at: datetime, *, visible: Sequence[str] = (), created_by: int | None = None
) -> CampaignRow:
    """Make the row of a campaign whose labels did not come through it, such as those of a file: nobody is assigned there."""
    return CampaignRow(
        name=name,
        status="closed",
        origin="import",
        dimensions=[],
        overlap=1,
        gold_share=0.0,
        repeat_share=0.0,
        ordering="random",
        visible=list(visible),
        lease_seconds=1800,
        qualification_pairs=0,
        qualification_pass=0.0,
        seed=secrets.token_hex(16),
        created_by_id=created_by,
        created_at=created_at,
    )


def free_campaign_name(session: Session, name: str) -> str:
    """Return a name that no campaign has: this one, or with the first number behind it that is free."""
    taken = set(session.scalars(select(CampaignRow.name).where(CampaignRow.name.startswith(name, autoescape=True))))
    numbered = (name, *(f"{name} {number}" for number in range(2, len(taken) + 2)))
    return next(candidate for candidate in numbered if candidate not in taken)


def get_campaign(session: Session, campaign_id: int) -> Campaign:
    """Return a campaign by id.

    Raises:
        NotInStoreError: there is none.
    """
    return _found(session.execute(_CAMPAIGN, {"campaign": campaign_id}).one_or_none(), campaign_id)


def lock_campaign(session: Session, campaign_id: int) -> Campaign:
    """As `get_campaign`; until the end of the transaction nobody else assigns, labels or reorders in this campaign.

    Raises:
        NotInStoreError: there is none.
    """
    return _found(session.execute(_LOCKED_CAMPAIGN, {"campaign": campaign_id}).one_or_none(), campaign_id)


def list_campaigns(session: Session, origin: Origin = "studio") -> tuple[Campaign, ...]:
    """List the campaigns of one origin, oldest first."""
    rows = session.execute(_CAMPAIGNS.where(CAMPAIGNS.c.origin == origin).order_by(CAMPAIGNS.c.id))
    return tuple(_campaign(row) for row in rows)


def set_status(session: Session, campaign_id: int, status: CampaignStatus) -> None:
    """Open, pause or close a campaign.

    Paused: what people have before them can still be finished. Closed: nothing is saved any more; open leases go back,
    with their drafts.

    Raises:
        NotInStoreError: there is no such campaign.
        CampaignError: unknown status, or an imported campaign, where nobody labels.
    """
    _require(status in get_args(CampaignStatus), f"a campaign is {', '.join(get_args(CampaignStatus))}")
    campaign = lock_campaign(session, campaign_id)
    _require(campaign.origin == "studio", "imported labels are not a campaign that people work in")
    if status == "closed":
        slots.return_all(session, campaign_id)
    session.execute(update(CAMPAIGNS).where(CAMPAIGNS.c.id == campaign_id).values(status=status))


def insert_pairs(
    session: Session,
    campaign: Campaign,
    pair_ids: Sequence[int],
    gold: Mapping[int, Gold],
    scores: Mapping[int, float],
    after: int,
) -> int:
    """Queue pairs behind the position `after`, those already in the campaign left out; returns how many came in.

    Raises:
        CampaignError: a pair is not in the store, or a gold answer belongs to none of the pairs.
    """
    distinct = list(dict.fromkeys(pair_ids))
    _require(set(gold) <= set(distinct), "a gold answer belongs to a pair that is not among those of the campaign")
    new = _not_yet_in(session, campaign.id, distinct)
    overlap = campaign.config.overlap
    rows = [
        {
            "campaign_id": campaign.id,
            "pair_id": pair_id,
            "position": after + slots.SPACING * index,
            "is_gold": pair_id in gold,
            "gold": asdict(gold[pair_id]) if pair_id in gold else None,
            "open_slots": 0 if pair_id in gold else overlap,
        }
        for index, pair_id in enumerate(in_order(campaign, new, scores), start=1)
    ]
    for start in range(0, len(rows), _CHUNK):
        session.execute(insert(CAMPAIGN_PAIRS), rows[start : start + _CHUNK])
    return len(rows)


def in_order(campaign: Campaign, pair_ids: Sequence[int], scores: Mapping[int, float]) -> list[int]:
    """Pairs as they come up: by score, then those without one; equal ones in a random order of this campaign's own."""
    ranked = {} if campaign.config.ordering == "random" else scores
    return sorted(pair_ids, key=lambda pair_id: (ranked.get(pair_id, float("inf")), stable_share(campaign.seed, pair_id)))


def last_position(session: Session, campaign_id: int) -> int:
    """Return a position that is behind all pairs and all cursors of the queue."""
    foremost = select(func.max(MemberRow.cursor_position)).where(MemberRow.campaign_id == campaign_id)
    last = select(func.max(CampaignPairRow.position)).where(CampaignPairRow.campaign_id == campaign_id)
    return max(session.scalar(foremost) or 0, session.scalar(last) or 0)


def _not_yet_in(session: Session, campaign_id: int, pair_ids: Sequence[int]) -> list[int]:
    known: set[int] = set()
    present: set[int] = set()
    for start in range(0, len(pair_ids), _CHUNK):
        chunk = pair_ids[start : start + _CHUNK]
        known.update(session.scalars(select(PairRow.id).where(PairRow.id.in_(chunk))))
        here = (CampaignPairRow.campaign_id == campaign_id, CampaignPairRow.pair_id.in_(chunk))
        present.update(session.scalars(select(CampaignPairRow.pair_id).where(*here)))
    missing = [pair_id for pair_id in pair_ids if pair_id not in known]
    _require(not missing, f"there is no pair {missing[0] if missing else ''} in the store")
    return [pair_id for pair_id in pair_ids if pair_id not in present]


_SETTINGS = tuple(column.name for column in fields(CampaignConfig))


def _found(row: Row[Any] | None, campaign_id: int) -> Campaign:
    if row is None:
        raise NotInStoreError(f"there is no campaign {campaign_id}")
    return _campaign(row)


def _campaign(row: Row[Any]) -> Campaign:
    return Campaign(
        id=row.id,
        config=CampaignConfig(**{name: getattr(row, name) for name in _SETTINGS}),
        status=row.status,
        origin=row.origin,
        guideline_version=row.guideline_version or 0,
        created_at=row.created_at,
        seed=row.seed,
        order_version=row.order_version,
        counted=row.counted,
        holds_votes=row.holds_votes,
    )


def _ordered(names: Sequence[str], known: Sequence[str], what: str) -> tuple[str, ...]:
    """Sort names into the order of the known ones, and refuse unknown ones."""
    unknown = set(names) - set(known)
    _require(not unknown, f"there is no {what} named {', '.join(sorted(unknown))}; they are {', '.join(known)}")
    return tuple(name for name in known if name in names)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise CampaignError(message)
