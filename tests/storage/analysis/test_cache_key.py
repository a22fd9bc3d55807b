"""The stamp that tells whether figures have to be computed again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from storage.analysis.cache_key import last_changes
from storage.analysis.external_scores import ExternalScore, save_external
from storage.analysis.video_stats import VideoStats, save_video_stats
from storage.judgements import Question, save_judgement
from storage.pairs import get_pair
from tests.helpers.labelling import label_next, make_team
from tests.helpers.stores import RECORD

if TYPE_CHECKING:
    from storage import Database


def test_everything_that_figures_are_made_of_changes_the_stamp(database: Database) -> None:
    team = make_team(database, pairs=2, people=1, overlap=1)
    with database.write() as session:
        pair = get_pair(session, team.pairs[0])
        changes = [
            lambda: label_next(session, team, team.people[0]),
            lambda: save_judgement(session, Question(pair.video_a.id, pair.prompt, "print", "think"), RECORD),
            lambda: save_external(session, "VideoScore", [ExternalScore(pair.id, 1.0, 2.0)]),
            lambda: save_video_stats(session, [VideoStats(pair.video_a.id, 1.0, 0.5, 0.1, 16, 100)]),
        ]
        seen = {last_changes(session)}
        for number, change in enumerate(changes, start=2):
            change()
            seen.add(last_changes(session))
            assert len(seen) == number
        assert last_changes(session) in seen
