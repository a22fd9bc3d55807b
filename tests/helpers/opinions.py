"""Campaigns in which each person gives the labels that a test wants, whatever order the pairs come in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from storage.campaigns.label_schema import Answer
from storage.labelling.assignments import Assignment
from storage.labelling.next_assignment import next_assignment
from tests.helpers.labelling import NOW, Team, answer, save

if TYPE_CHECKING:
    from storage import Database
    from storage.schema import Choice

LETTERS: Mapping[str, Choice] = {"A": "A", "B": "B", "=": "tie", "x": "both_bad"}


def opine(database: Database, team: Team, opinions: Sequence[str | Sequence[Answer | None]]) -> None:
    """Let each person answer every pair that they get.

    Args:
        database: the store.
        team: people and pairs of the campaign.
        opinions: one for each person: their answer to the first pair, the second ...: letters of `LETTERS`, or answers; "."
            or None is a skip.
    """
    for annotator, answers in zip(team.people, opinions, strict=True):
        while True:
            with database.write() as session:
                assignment = next_assignment(session, team.campaign.id, annotator, NOW)
                if not isinstance(assignment, Assignment):
                    break
                opinion = answers[team.pairs.index(assignment.pair.id)]
                if isinstance(opinion, str):
                    opinion = None if opinion == "." else answer(LETTERS[opinion])
                save(session, assignment, opinion or Answer(action="skip", reason="no opinion"))
