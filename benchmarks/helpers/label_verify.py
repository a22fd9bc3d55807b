"""Compares a store with what the clients of a load were answered."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from storage.maintenance.integrity import check_store
from storage.schema import AssignmentRow, CampaignPairRow, CampaignRow, LabelRow, UserRow

if TYPE_CHECKING:
    from benchmarks.helpers.label_clients import Record
    from storage import Database


def verify(database: Database, campaign_id: int, record: Record) -> dict[str, int]:
    """Count faults, each of which should be zero, and labels.

    lost: answered and not there. changed: there and not what was sent. doubled: revisions that nobody was answered about.
    above_overlap: pairs with more labels and leases than the campaign asks.
    """
    columns = (LabelRow.token, UserRow.name, LabelRow.action, LabelRow.choice, LabelRow.left_video, AssignmentRow.token)
    statement = (
        select(*columns)
        .join(UserRow, UserRow.id == LabelRow.annotator_id)
        .join(AssignmentRow, AssignmentRow.id == LabelRow.assignment_id)
        .where(LabelRow.campaign_id == campaign_id)
    )
    held = (
        select(AssignmentRow.campaign_pair_id)
        .where(AssignmentRow.kind == "work", AssignmentRow.state.in_(("leased", "labelled")))
        .where(AssignmentRow.campaign_id == campaign_id)
        .group_by(AssignmentRow.campaign_pair_id)
        .having(func.count() > select(CampaignRow.overlap).where(CampaignRow.id == campaign_id).scalar_subquery())
    )
    with database.read() as session:
        stored = session.execute(statement).tuples().all()
        above = len(session.scalars(held).all())
        pairs = session.scalar(select(func.count()).where(CampaignPairRow.campaign_id == campaign_id)) or 0
    by_submission = {row[0]: row for row in stored}
    known = record.answered.keys() | record.withdrawn
    violations = check_store(database)
    for violation in violations:
        print(violation, file=sys.stderr)
    return {
        "pairs": pairs,
        "answered": len(record.answered),
        "withdrawn": len(record.withdrawn),
        "revisions": len(stored),
        "lost": len(known - by_submission.keys()),
        "changed": sum(
            _differs(by_submission[submission], name, fields)
            for submission, (name, fields) in record.answered.items()
            if submission in by_submission
        ),
        "doubled": len(stored) - len(by_submission.keys() & known),
        "above_overlap": above,
        "violations": len(violations),
    }


def _differs(row: tuple[Any, ...], name: str, fields: Mapping[str, Any]) -> bool:
    """Whether a stored revision is of another person, turn or answer than was sent."""
    _, stored_name, action, choice, left_video, turn = row
    answer = fields["answer"]
    said = answer.get("choice")
    right_video = "B" if left_video == "A" else "A"
    meant = {"left": left_video, "right": right_video}.get(said, said)
    return (stored_name, action, choice, turn) != (name, answer["action"], meant, fields["turn"])
