"""Analyse page: what is looked at, how much of it is judged, and the runs that judge the rest."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr
from markupsafe import Markup

from app.analyse.figures.judged_pairs import FITTED_HERE, pair_score
from app.analyse.panel import READERS, AnalyseSection
from app.analyse.selection import AnalyseContext, Selection
from app.analyse.views.selection import Coverage, choose_form, coverage_view
from app.runs.supervisor import RunSupervisor
from app.ui.markup import empty
from app.web.form_data import STALE_BUTTON, FormData, FormError
from app.web.panel import Reply
from app.web.plain_errors import PLAIN_ERRORS
from storage.accounts.users import User
from storage.training.model_registry import Checkpoint, get_checkpoint
from storage.training.runs import Run, RunRequest, create_run, list_runs

SHOWN_RUNS = 3
_OLD_RUNS = 50
_REST = 20.0  # how much longer than it took counts are kept


class ChoosePanel(AnalyseSection):
    """The form on top of the page."""

    name, title = "choose", "Choose"

    def view(self, person: User, selection: Selection) -> Reply:
        """The form as it is filled in."""
        known, chosen = self.context.known(), self.context.chosen(selection)
        form = choose_form(known.checkpoints, known.scopes, **selection.to_value())
        return Reply(form + _warnings(selection, chosen.labelled, _trained(known.checkpoints, selection)))

    def choose(self, event: gr.EventData, request: gr.Request) -> list[Any]:
        """Handler: a change of the form. Answers the panel and the selection, twice: for the page and the browser's "
        "memory."""
        try:
            person = self.context.auth.require(request, *READERS)
            selection = self.context.select(FormData.of(event).fields)
            value = selection.to_value()
            return [self.view(person, selection).value(), value, value]
        except PLAIN_ERRORS as error:
            return [Reply(None, str(error), bad=True).value(), gr.skip(), gr.skip()]


def _trained(checkpoints: Sequence[Checkpoint], selection: Selection) -> bool:
    """Whether a chosen checkpoint was trained on labels of this store."""
    chosen = {selection.checkpoint, *selection.beside}
    return any(one.id in chosen and one.snapshot_hash is not None for one in checkpoints)


def _warnings(selection: Selection, labelled: int, trained: bool) -> Markup:
    said = Markup("")
    if trained and not selection.held_out:
        said += Markup(
            '<p class="ds-hint"><mark>A chosen checkpoint was trained on labels of this store.</mark> On pairs '
            "that it learnt it looks better than it is; choose the held-out pairs for a fairer figure.</p>"
        )
    elif trained:
        said += Markup('<p class="ds-hint"><mark>A chosen checkpoint was trained here.</mark> {}</p>').format(FITTED_HERE)
    if not labelled:
        said += empty("People have chosen in none of these pairs yet; what needs their labels stays empty.")
    return said


class ScoringPanel(AnalyseSection):
    """How much is judged, a button for the rest, and the progress of what judges it."""

    name, title, poll_seconds = "scoring", "Scoring", 3

    def __init__(self, context: AnalyseContext, supervisor: RunSupervisor) -> None:
        super().__init__(context)
        self._supervisor = supervisor
        self._counted: dict[Selection, tuple[float, list[Coverage]]] = {}

    def view(self, person: User, selection: Selection) -> Reply:
        """Counts of the selection and the latest runs."""
        names = {one.id: one.name for one in self.context.known().checkpoints}
        found = self._coverage(selection)
        return Reply(coverage_view(found, self._runs(), names, person.role == "lead"))

    def _coverage(self, selection: Selection) -> list[Coverage]:
        """The counts; while a run adds judgements all the time, reading them takes a twentieth of the time at most."""
        until, found = self._counted.get(selection, (0.0, []))
        began = time.monotonic()
        if began < until:
            return found
        chosen = self.context.chosen(selection)
        found = [
            Coverage(
                checkpoint=row,
                pairs=len(one.pairs),
                labelled=sum(pair.choice is not None for pair in one.pairs),
                think=sum(pair_score(pair, "think") is not None for pair in one.pairs),
                quick=sum(pair_score(pair, "quick") is not None for pair in one.pairs),
                missing=sum(None in (pair.think, pair.quick, *pair.video_stats) for pair in one.pairs),
                held_out=selection.held_out,
            )
            for row, one in zip(chosen.registered, chosen.checkpoints, strict=True)
        ]
        self._counted = {selection: (began + _REST * (time.monotonic() - began), found)}
        return found

    def act(self, asked: FormData, person: User, selection: Selection) -> Reply:
        """Score what is missing, cancel that, go on with it."""
        if asked.act == "score":
            self._score(asked.id, person, selection)
        elif asked.act == "cancel-run":
            self._supervisor.cancel(self._run(asked.id).id)
        elif asked.act == "resume-run":
            self._supervisor.resume(self._run(asked.id).id)
        else:
            raise FormError(STALE_BUTTON)
        return self.view(person, selection)

    def _score(self, checkpoint_id: int, person: User, selection: Selection) -> None:
        with self.context.database.write() as session:
            checkpoint = get_checkpoint(session, checkpoint_id)
            request = RunRequest(
                kind="score",
                name=f"score {checkpoint.name}",
                device=self._device(),
                parent_id=checkpoint.id,
                request=_wanted(selection),
            )
            create_run(session, request, None, person.id)
        self._supervisor.wake()

    def _device(self) -> str:
        """Where the app's own model is; that of the last run while it has stepped aside."""
        model = self.context.serving.now.model
        if model is not None:
            return str(model.model.device.type)
        with self.context.database.read() as session:
            return next((run.device for run in list_runs(session, 1)), "cpu")

    def _run(self, run_id: int) -> Run:
        """A run of the kind that belongs here.

        Raises:
            FormError: it is none.
        """
        for run in self._latest():
            if run.id == run_id:
                return run
        raise FormError("This run scores nothing. Reload the page.")

    def _latest(self) -> tuple[Run, ...]:
        with self.context.database.read() as session:
            return list_runs(session, _OLD_RUNS, kind="score")

    def _runs(self) -> list[Run]:
        """Those that wait or go on, and the last one that is over."""
        latest = self._latest()
        going = [run for run in latest if run.state in ("queued", "running")]
        over = [run for run in latest if run.state not in ("queued", "running")][:1]
        return [*going[:SHOWN_RUNS], *over]


def _wanted(selection: Selection) -> Mapping[str, Any]:
    """What a run of kind "score" is asked for: sources and campaigns, None for all; it knows no held-out pairs."""
    return {
        "sources": None if selection.sources is None else list(selection.sources),
        "campaigns": None if selection.campaign_ids is None else list(selection.campaign_ids),
        "modes": ["think", "quick"],
    }
