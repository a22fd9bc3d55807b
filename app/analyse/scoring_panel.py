"""Progress of judging the selected pairs: counts, a button for the missing ones, and the runs that judge them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from app.analyse.figures.judged_pairs import pair_score
from app.analyse.section import AnalyseSection
from app.analyse.selection import AnalyseContext, Selection
from app.analyse.views.scoring import JudgedCounts, scoring_view
from app.runs.scoring import queue_scoring
from app.runs.supervisor import RunSupervisor
from app.web.form_data import STALE_BUTTON, FormData, FormError
from app.web.panel import Reply
from storage.accounts.users import User
from storage.training.runs import Run, list_runs

SHOWN_RUNS = 3
_SEARCHED_RUNS = 50  # newest scoring runs among which a button may name one
_KEEP_FACTOR = 20.0  # counts are kept this many times as long as counting took


class ScoringPanel(AnalyseSection):
    """Counts of the judged pairs, and the newest scoring runs."""

    name, title, poll_seconds = "scoring", "Scoring", 3

    def __init__(self, context: AnalyseContext, supervisor: RunSupervisor) -> None:
        super().__init__(context)
        self._supervisor = supervisor
        self._counted: dict[Selection, tuple[float, list[JudgedCounts]]] = {}

    def view(self, person: User, selection: Selection) -> Reply:
        """Show the counts of the selection and the newest runs."""
        names = {checkpoint.id: checkpoint.name for checkpoint in self.context.options().checkpoints}
        return Reply(scoring_view(self._counts(selection), self._runs(), names, may_score=person.role == "lead"))

    def _counts(self, selection: Selection) -> list[JudgedCounts]:
        """Count the judged pairs of each checkpoint.

        A run that judges changes the store all the time, so counts are kept for a while: counting takes a twentieth of the
        time at most.
        """
        until, counts = self._counted.get(selection, (0.0, []))
        began = time.monotonic()
        if began < until:
            return counts
        selected = self.context.load(selection)
        counts = [
            JudgedCounts(
                checkpoint=row,
                pairs=len(checkpoint.pairs),
                labelled=sum(pair.choice is not None for pair in checkpoint.pairs),
                think=sum(pair_score(pair, "think") is not None for pair in checkpoint.pairs),
                quick=sum(pair_score(pair, "quick") is not None for pair in checkpoint.pairs),
                missing=sum(None in (pair.think, pair.quick, *pair.video_stats) for pair in checkpoint.pairs),
                held_out=selection.held_out,
            )
            for row, checkpoint in zip(selected.registered, selected.checkpoints, strict=True)
        ]
        self._counted = {selection: (began + _KEEP_FACTOR * (time.monotonic() - began), counts)}
        return counts

    def act(self, form: FormData, person: User, selection: Selection) -> Reply:
        """Queue a run that judges the missing pairs, cancel one, or resume one."""
        if form.act == "score":
            self._score(form.id, person, selection)
        elif form.act == "cancel-run":
            self._supervisor.cancel(self._run(form.id).id)
        elif form.act == "resume-run":
            self._supervisor.resume(self._run(form.id).id)
        else:
            raise FormError(STALE_BUTTON)
        return self.view(person, selection)

    def _score(self, checkpoint_id: int, person: User, selection: Selection) -> None:
        queue_scoring(self.context.database, self.context.serving, checkpoint_id, _score_request(selection), person.id)
        self._supervisor.wake()

    def _run(self, run_id: int) -> Run:
        """Return a scoring run.

        Raises:
            FormError: no scoring run has this id.
        """
        for run in self._newest():
            if run.id == run_id:
                return run
        raise FormError("This run scores nothing. Reload the page.")

    def _newest(self) -> tuple[Run, ...]:
        with self.context.database.read() as session:
            return list_runs(session, _SEARCHED_RUNS, kind="score")

    def _runs(self) -> list[Run]:
        """Return the runs that wait or go on, and the last one that has ended."""
        newest = self._newest()
        active = [run for run in newest if run.state in ("queued", "running")]
        ended = [run for run in newest if run.state not in ("queued", "running")][:1]
        return [*active[:SHOWN_RUNS], *ended]


def _score_request(selection: Selection) -> Mapping[str, Any]:
    """Return the request of a scoring run: sources and campaigns, None for all. A run does not tell held-out pairs apart."""
    return {
        "sources": None if selection.sources is None else list(selection.sources),
        "campaigns": None if selection.campaign_ids is None else list(selection.campaign_ids),
        "modes": ["think", "quick"],
    }
