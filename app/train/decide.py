"""Deciding a candidate with few labels, on the Train page: judging pairs, asking people, following the test.

decide = DecideReader(database, serving)
decide.read(candidate, runs)                    # what the page shows; an outcome that is reached is kept
act_on_decision(database, serving, form, user)  # the buttons of it
"""

from __future__ import annotations

from collections.abc import Sequence

from app.runs.scoring import queue_scoring
from app.serving.serving import Serving
from app.train.views.decide import DecideSummary
from app.web.form_data import STALE_BUTTON, FormData, FormError
from storage import Database, StorageError
from storage.accounts.users import User
from storage.training.decide import (
    DecisionConfig,
    DecisionState,
    add_differing,
    decision_state,
    decisions_of,
    further_pairs,
    open_decision,
    record_outcome,
)
from storage.training.decide_pairs import Comparison, DecisionPool, compare_on, decision_pool, judging_mode
from storage.training.model_registry import Checkpoint, get_checkpoint
from storage.training.runs import Run

DECIDE_ACTS = ("decide_judge", "decide_open", "decide_add")
MOST_JUDGED = 20_000  # pairs of one request


class DecideReader:
    """Reads how far a decision about a candidate is."""

    def __init__(self, database: Database, serving: Serving) -> None:
        self._database, self._serving = database, serving

    def read(self, candidate: Checkpoint, runs: Sequence[Run]) -> DecideSummary | None:
        """Return the decision between a candidate and the serving checkpoint, recording its outcome; None without either.

        Args:
            candidate: a checkpoint that a run here made.
            runs: the newest ones, among them those that judge now.
        """
        current_id = self._serving.checkpoint_id
        if current_id is None or candidate.deleted_at is not None:
            return None
        with self._database.read() as session:
            current = get_checkpoint(session, current_id)
            decisions = [each for each in decisions_of(candidate) if current_id in (each.current_id, candidate.id)]
            state = decision_state(session, decisions[-1]) if decisions else None
            pool: DecisionPool | None = None
            comparison: Comparison | None = None
            trouble = ""
            if candidate.id != current_id and (state is None or state.decision.recorded is None):
                pool = decision_pool(session, candidate, current)
                try:
                    if state is None:
                        comparison = compare_on(session, pool, candidate, current)
                    else:
                        comparison = further_pairs(session, candidate, state.decision)
                except StorageError as error:
                    trouble = str(error)
        if candidate.id == current_id and state is None:
            return None
        if state is not None and state.look.outcome is not None and state.decision.recorded is None:
            state = self._record(candidate.id, state)
        judging = [
            run
            for run in runs
            if run.kind == "score" and run.state in ("queued", "running") and run.parent_id in (candidate.id, current_id)
        ]
        return DecideSummary(
            candidate_id=candidate.id,
            candidate=candidate.name,
            current=current.name if state is None else state.decision.current,
            serves=candidate.id == current_id,
            pool=pool,
            comparison=comparison,
            state=state,
            judging=tuple(judging),
            trouble=trouble,
        )

    def _record(self, candidate_id: int, state: DecisionState) -> DecisionState:
        with self._database.write() as session:
            record_outcome(session, candidate_id, state)
            kept = decisions_of(get_checkpoint(session, candidate_id))
            same = next(each for each in kept if each.campaign_id == state.decision.campaign_id)
            return decision_state(session, same)


def act_on_decision(database: Database, serving: Serving, form: FormData, user: User) -> str:
    """Carry out a button of the decision; return a sentence about it. The caller wakes the supervisor of runs.

    Raises:
        FormError: a field makes no sense, or nothing serves.
        StorageError: the store refuses.
    """
    current_id = serving.checkpoint_id
    if current_id is None:
        raise FormError("The serving checkpoint is not in the registry. Start the app again.")
    if form.act == "decide_judge":
        return _judge(database, serving, form, user, current_id)
    if form.act == "decide_open":
        config = DecisionConfig(margin=form.number("margin") / 100, people=form.whole("people"))
        with database.write() as session:
            decision = open_decision(session, form.id, current_id, config, user.id)
        return f"{len(decision.differing)} pairs wait on the Label page. The test goes on with each label."
    if form.act == "decide_add":
        with database.write() as session:
            candidate = get_checkpoint(session, form.id)
            campaign_id = next((each.campaign_id for each in decisions_of(candidate) if each.recorded is None), None)
            if campaign_id is None:
                raise FormError(STALE_BUTTON)
            added = add_differing(session, candidate.id, campaign_id)
        return f"{added} more pairs wait on the Label page."
    raise FormError(STALE_BUTTON)


def _judge(database: Database, serving: Serving, form: FormData, user: User, current_id: int) -> str:
    """Queue runs that judge pairs with both checkpoints."""
    wanted = form.whole("pairs")
    if not 1 <= wanted <= MOST_JUDGED:
        raise FormError(f"Enter a number of pairs from 1 to {MOST_JUDGED}.")
    with database.read() as session:
        candidate, current = get_checkpoint(session, form.id), get_checkpoint(session, current_id)
        pool = decision_pool(session, candidate, current)
        pairs = compare_on(session, pool, candidate, current).unjudged[:wanted]
    if not pairs:
        raise FormError("Both have judged all pairs that can decide. Import more pairs on the Lead page.")
    for checkpoint in (candidate, current):
        request = {"pairs": list(pairs), "modes": [judging_mode(checkpoint)]}
        queue_scoring(database, serving, checkpoint.id, request, user.id)
    return f"{candidate.name} and {current.name} judge {len(pairs)} pairs, one after the other."
