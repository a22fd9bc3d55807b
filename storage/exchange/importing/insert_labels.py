"""The labels of an import: campaigns, campaign pairs, assignments, revisions, totals; written in bulk."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import Table, func, insert, select, update

from descore.answer import DIMENSIONS
from storage.campaigns.campaign import campaign_from_outside
from storage.campaigns.slots import SPACING
from storage.labelling import totals
from storage.schema import (
    AssignmentState,
    CampaignPairRow,
    CampaignRow,
    GuidelineRow,
    LabelRow,
    MemberRow,
)
from storage.sql import ASSIGNMENTS, CAMPAIGN_PAIRS, MEMBERS

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from storage.exchange.importing.dry_run import NewAssignment
    from storage.exchange.importing.resolve import PairKey
    from storage.exchange.parsed import ParsedAssignment, ParsedLabel

_LABELS = cast("Table", LabelRow.__table__)
_CHUNK = 2000
_GUIDELINES = {"intro": "These labels came with a file; what their authors were told is not known.", "dimensions": {}}
_STATES: Mapping[str, AssignmentState] = {
    "label": "labelled",
    "skip": "skipped",
    "flag": "flagged",
    "withdraw": "returned",
}
# Labels of these kinds count in the totals of their authors, who are members therefore.
_PERSONAL = ("work", "repeat", "gold", "qualification")


def add_labels(
    session: Session,
    new_assignments: Sequence[NewAssignment],
    pair_ids: Mapping[PairKey, int],
    people: Mapping[str, int],
    created_by: int | None,
    now: datetime,
) -> None:
    """Add assignments with their labels, campaign by campaign."""
    by_campaign: dict[str, list[NewAssignment]] = {}
    for new in new_assignments:
        by_campaign.setdefault(new.assignment.key[0], []).append(new)
    for name, of_campaign in by_campaign.items():
        campaign_id = _campaign(session, name, of_campaign, created_by, now)
        campaign_pair_ids = _campaign_pairs(session, campaign_id, of_campaign, pair_ids)
        _members(session, campaign_id, of_campaign, people, now)
        _add_assignments(session, campaign_id, of_campaign, campaign_pair_ids, pair_ids, people, now)
        totals.rebuild(session, campaign_id)


def _campaign(
    session: Session, name: str, new_assignments: Sequence[NewAssignment], created_by: int | None, now: datetime
) -> int:
    """Find or make the campaign of that name, with the dimensions that its labels have."""
    used = {
        dimension
        for new in new_assignments
        for label in new.assignment.parsed.labels
        for cells in label.sub_scores.values()
        for dimension in cells
    }
    row = session.scalars(select(CampaignRow).where(CampaignRow.name == name)).one_or_none()
    if row is None:
        row = campaign_from_outside(name, now, created_by=created_by)
        session.add(row)
        session.flush()
        session.add(GuidelineRow(campaign_id=row.id, version=1, content=_GUIDELINES, author_id=created_by, created_at=now))
    dimensions = [dimension for dimension in DIMENSIONS if dimension in {*used, *row.dimensions}]
    if dimensions != row.dimensions:
        row.dimensions = dimensions
    session.flush()
    return row.id


def _campaign_pairs(
    session: Session, campaign_id: int, new_assignments: Sequence[NewAssignment], pair_ids: Mapping[PairKey, int]
) -> dict[int, int]:
    """Pair -> its campaign pair; pairs that have none get one at the end."""
    in_campaign = CampaignPairRow.campaign_id == campaign_id
    present = dict(session.execute(select(CampaignPairRow.pair_id, CampaignPairRow.id).where(in_campaign)).tuples().all())
    last = session.scalar(select(func.max(CampaignPairRow.position)).where(in_campaign)) or 0
    missing: dict[int, ParsedAssignment] = {}
    for new in new_assignments:
        pair_id = pair_ids[new.assignment.key[1]]
        if pair_id not in present:
            missing.setdefault(pair_id, new.assignment.parsed)
    rows = [
        {
            "campaign_id": campaign_id,
            "pair_id": pair_id,
            "position": last + SPACING * number,
            "is_gold": assignment.gold is not None,
            "gold": None if assignment.gold is None else dict(assignment.gold),
            "state": assignment.pair_state,
            "open_slots": 0,
        }
        for number, (pair_id, assignment) in enumerate(missing.items(), start=1)
    ]
    for batch in _batches(rows):
        statement = insert(CAMPAIGN_PAIRS).returning(CAMPAIGN_PAIRS.c.pair_id, CAMPAIGN_PAIRS.c.id)
        present.update(session.execute(statement, batch).tuples().all())
    return present


def _members(
    session: Session, campaign_id: int, new_assignments: Sequence[NewAssignment], people: Mapping[str, int], now: datetime
) -> None:
    needed = {people[new.assignment.key[2]] for new in new_assignments if new.assignment.parsed.kind in _PERSONAL}
    present = set(session.scalars(select(MemberRow.annotator_id).where(MemberRow.campaign_id == campaign_id)))
    rows = [
        {"campaign_id": campaign_id, "annotator_id": annotator_id, "standing": "active", "created_at": now}
        for annotator_id in sorted(needed - present)
    ]
    if rows:
        session.execute(insert(MEMBERS), rows)


def _add_assignments(
    session: Session,
    campaign_id: int,
    new_assignments: Sequence[NewAssignment],
    campaign_pair_ids: Mapping[int, int],
    pair_ids: Mapping[PairKey, int],
    people: Mapping[str, int],
    now: datetime,
) -> None:
    """Insert the assignments, then revision by revision the labels of all: each names the id of the one that it replaces."""
    common = []
    for new in new_assignments:
        pair_id = pair_ids[new.assignment.key[1]]
        ids = {"campaign_id": campaign_id, "campaign_pair_id": campaign_pair_ids[pair_id], "pair_id": pair_id}
        common.append(ids | {"annotator_id": people[new.assignment.key[2]]})
    assignments = _add_or_find(session, new_assignments, common, now)
    former = [new.replaces_id for new in new_assignments]
    for revision in range(max(len(new.assignment.tokens) for new in new_assignments)):
        due = [number for number, new in enumerate(new_assignments) if new.first <= revision < len(new.assignment.tokens)]
        rows: list[Mapping[str, Any]] = []
        for number in due:
            assignment = new_assignments[number].assignment
            ours = {
                "assignment_id": assignments[number],
                "token": assignment.tokens[revision],
                "replaces_id": former[number],
            }
            rows.append({**common[number], **ours, **_label(assignment.parsed.labels[revision], now)})
        for number, label_id in zip(due, _insert_in_order(session, _LABELS, rows), strict=True):
            former[number] = label_id


def _add_or_find(
    session: Session, new_assignments: Sequence[NewAssignment], common: Sequence[Mapping[str, Any]], now: datetime
) -> list[int]:
    """Insert the new assignments, bring the stored ones up to date, and return the ids of all in their order."""
    ids = [new.assignment_id for new in new_assignments]
    fresh = [index for index, assignment_id in enumerate(ids) if assignment_id is None]
    rows = [{**common[index], **_assignment(new_assignments[index], now)} for index in fresh]
    for index, assignment_id in zip(fresh, _insert_in_order(session, ASSIGNMENTS, rows), strict=True):
        ids[index] = assignment_id
    for index, new in enumerate(new_assignments):
        if new.assignment_id is not None:
            values = {name: _assignment(new, now)[name] for name in ("state", "finished_at", "seconds")}
            session.execute(update(ASSIGNMENTS).where(ASSIGNMENTS.c.id == ids[index]).values(values))
    return [assignment_id for assignment_id in ids if assignment_id is not None]


def _assignment(new: NewAssignment, now: datetime) -> dict[str, Any]:
    parsed = new.assignment.parsed
    first, last = parsed.labels[0], parsed.labels[-1]
    state = _STATES[last.action]
    finished = [label for label in parsed.labels if label.action != "withdraw"]
    return {
        "token": secrets.token_urlsafe(16),
        "kind": parsed.kind,
        "round": parsed.round,
        "left_video": first.left_video,
        "state": state,
        "guideline_version": last.guideline_version,
        "leased_at": first.created_at or now,
        "expires_at": first.created_at or now,
        "finished_at": (finished[-1].created_at or now) if finished else None,
        "seconds": last.seconds if state == "labelled" else None,
    }


def _label(label: ParsedLabel, now: datetime) -> dict[str, Any]:
    return {
        "action": label.action,
        "choice": label.choice,
        "strength": label.strength,
        "sub_scores": {side: dict(cells) for side, cells in label.sub_scores.items()},
        "marks": [dict(mark) for mark in label.marks],
        "note": label.note,
        "reason": label.reason,
        "left_video": label.left_video,
        "visible": list(label.visible),
        "guideline_version": label.guideline_version,
        "seconds": label.seconds,
        "playback": {side: dict(stats) for side, stats in label.playback.items()},
        "created_at": label.created_at or now,
    }


def _insert_in_order(session: Session, table: Table, rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Insert rows; their ids in the same order.

    Many rows go in one statement, whose answer has no certain order: so each row is found again by its mark.
    """
    marks = (table.c.token, table.c.annotator_id)
    ids: dict[tuple[str, int], int] = {}
    for batch in _batches(rows):
        for row in session.execute(insert(table).returning(table.c.id, *marks), batch):
            ids[row.token, row.annotator_id] = row.id
    return [ids[row["token"], row["annotator_id"]] for row in rows]


def _batches(rows: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    return [list(rows[start : start + _CHUNK]) for start in range(0, len(rows), _CHUNK)]
