"""Campaigns in which everybody says what the test wants, whatever order the pairs come in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from labelling import NOW, Team, answer, save

from storage import Database
from storage.answers import Answer
from storage.assignment import Turn, next_turn
from storage.schema import Choice

LETTERS: Mapping[str, Choice] = {"A": "A", "B": "B", "=": "tie", "x": "both_bad"}


def opine(database: Database, team: Team, opinions: Sequence[str | Sequence[Answer | None]]) -> None:
    """Let each person answer every pair that they get.

    Args:
        opinions: one for each person: what they say of the first pair, the second ...: letters of `LETTERS`, or answers.
            "." or None leaves the person's work there unsaid, by a skip.
    """
    for annotator, said in zip(team.people, opinions, strict=True):
        while True:
            with database.write() as session:
                turn = next_turn(session, team.campaign.id, annotator, NOW)
                if not isinstance(turn, Turn):
                    break
                one = said[team.pairs.index(turn.pair.id)]
                if isinstance(one, str):
                    one = None if one == "." else answer(LETTERS[one])
                save(session, turn, one or Answer(action="skip", reason="no opinion"))
