"""What a checkpoint was trained on, its ancestors' data among it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from storage.training.runs import snapshot_pairs
from storage.training.trained_pairs import trained_contents, trained_identities
from tests.helpers.labelling import make_team
from tests.helpers.retraining import add_run, let_say, make_checkpoint, serve_base, snapshot_of

if TYPE_CHECKING:
    from storage import Database


def test_the_data_of_ancestors_counts_and_held_out_pairs_do_not(database: Database) -> None:
    team = make_team(database, pairs=12, people=1, overlap=1)
    let_say(database, team, 0, "ABABABABABAB")
    snapshot = snapshot_of(database, held_out_share=0.4)
    with database.write() as session:
        base = serve_base(session)
        run = add_run(session, base, snapshot)
        parent = make_checkpoint(session, "parent", parent_id=base.id, run_id=run.id)
        child = make_checkpoint(session, "child", parent_id=parent.id)
        trained = {pair.identity for pair in snapshot_pairs(session, run.id) if pair.part != "held_out"}
        assert 0 < len(trained) < 12
        assert trained_identities(session, child.id) == trained_identities(session, parent.id) == trained
        assert trained_identities(session, base.id) == frozenset()
        videos, prompts = trained_contents(session, [base.id, child.id])
        assert len(videos) == 2 * len(trained)
        assert len(prompts) == 1
        assert trained_contents(session, [base.id]) == (set(), set())
