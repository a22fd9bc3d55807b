"""JSON endpoints of the Train page.

    GET  /api/train/state?run=&have=     the parts of the page that the browser does not have yet; leads and viewers
    GET  /api/train/compare?runs=3,5     runs side by side; leads and viewers
    POST /api/train/plan                 what a run would use and take, as the form stands
    POST /api/train/form                 the form for another preset
    POST /api/train/act  {"act", "id"}   retrain, cancel, end, resume, bring_back, promote, roll_back, delete, note,
                                         decide_judge, decide_open, decide_add

Only leads change anything; each request is checked for who asks. A run is a process of its own (app/runs/supervisor.py), so
no answer waits for it. Loading a promoted checkpoint takes seconds and has threads of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from anyio import CapacityLimiter
from starlette.routing import BaseRoute, Route

from app.runs.preflight import Preflights
from app.runs.supervisor import RunSupervisor
from app.serving.serving import Serving
from app.train.commands import terminal_command
from app.train.compare import run_ids
from app.train.decide import DECIDE_ACTS, act_on_decision
from app.train.page_state import PageStateReader
from app.train.run_form import check_form, device_of, newest_known_label, preview_of, queue_length, queue_run, read_draft
from app.train.summaries import read_campaigns
from app.train.views.run_form import FormDraft, preview_view, run_form_view
from app.web.auth import Auth
from app.web.form_data import STALE_BUTTON, FormData, FormError
from app.web.json_api import Work, endpoint
from descore.errors import CheckpointError
from storage import Database, StorageError
from storage.accounts.users import User
from storage.training.model_registry import mark_deleted, remove_files
from storage.training.run_notes import write_note

READING_THREADS = 2
ACTING_THREADS = 2
BUSY_SECONDS, IDLE_SECONDS = 2, 6  # between two requests of a browser
LONGEST_VERSIONS = 2000  # characters
REFUSALS = (StorageError, CheckpointError, FormError)


class TrainApi:
    """Endpoints of one store."""

    def __init__(
        self,
        database: Database,
        state: PageStateReader,
        serving: Serving,
        auth: Auth,
        supervisor: RunSupervisor,
        preflights: Preflights,
    ) -> None:
        self._database, self._state, self._serving = database, state, serving
        self._auth, self._supervisor, self._preflights = auth, supervisor, preflights

    def routes(self) -> list[BaseRoute]:
        """Return the web routes, for the app that Gradio launches."""
        reading, acting = CapacityLimiter(READING_THREADS), CapacityLimiter(ACTING_THREADS)

        def route(name: str, work: Work, threads: CapacityLimiter, method: str, *roles: Any) -> Route:
            return Route(f"/api/train/{name}", endpoint(self._auth, work, threads, roles), methods=[method])

        return [
            route("state", self.state, reading, "GET", "lead", "viewer"),
            route("compare", self.compare, reading, "GET", "lead", "viewer"),
            route("plan", self.plan, reading, "POST", "lead"),
            route("form", self.form, reading, "POST", "lead"),
            route("act", self.act, acting, "POST", "lead"),
        ]

    # ---- reading -------------------------------------------------------------------------------------------------

    def state(self, user: User, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parts whose versions the browser does not have ("name:version,name:version")."""
        run = str(fields.get("run", ""))
        state = self._state.read(user.role == "lead", int(run) if run.isdigit() and len(run) < 10 else None)
        entries = str(fields.get("have", ""))[:LONGEST_VERSIONS].split(",")
        versions = dict(entry.split(":", 1) for entry in entries if ":" in entry)
        changed = {name: part for name, part in state.parts.items() if versions.get(name) != part.version}
        answer: dict[str, Any] = {
            "run": state.run,
            "live": state.live,
            "seconds": BUSY_SECONDS if state.busy else IDLE_SECONDS,
            "parts": {name: {"html": part.html, "version": part.version} for name, part in changed.items()},
        }
        if versions.get("figures") != state.figures.version:
            figures = json.loads(state.figures.html) if state.figures.html else {}
            answer["figures"] = {"version": state.figures.version, "of": figures}
        return answer

    def compare(self, _user: User, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return the table and the curves of several runs."""
        comparison = self._state.compare(run_ids(str(fields.get("runs", ""))))
        return {
            "runs": comparison.runs,
            "html": comparison.html,
            "figures": comparison.figures,
            "live": comparison.live,
        }

    def plan(self, _user: User, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return the preview of a run, or what is wrong with the form."""
        return {"plan": str(self._preview(read_draft(FormData.read(fields))))}

    def form(self, _user: User, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return the form with the knobs of its preset, and the preview."""
        sent = FormData.read(fields)
        draft = read_draft(sent)
        if sent.text("changed") == "preset":
            draft = replace(draft, knobs={})
        with self._database.read() as session:
            campaigns = read_campaigns(session)
        form = run_form_view(self._state.preflight(), draft, campaigns, self._supervisor.places.choices())
        return {"form": str(form), "plan": str(self._preview(draft))}

    def _preview(self, draft: FormDraft) -> str:
        preflight = self._state.preflight()
        if preflight is None or preflight.trouble:
            return ""
        places = self._supervisor.places.choices()
        try:
            form = check_form(draft, preflight, places)
            since = newest_known_label(self._database, self._serving, form.start)
            new_labels = self._state.new_labels(form.config, since)
            preflight = self._state.preflight(new_labels) or preflight
            form = check_form(draft, preflight, places)
        except REFUSALS as error:
            return preview_view(None, str(error))
        queue = queue_length(self._database, device_of(form, preflight)) if form.place == "here" else 0
        about = next((place.about for place in places if place.name == form.place), "")
        benchmark = self._state.has_benchmark()
        is_away = form.place == "elsewhere"  # where the store is not
        command = "" if is_away else terminal_command(form, self._state.location(form.start), self._database.home)
        return preview_view(preview_of(form, new_labels, preflight, command, queue, benchmark, about))

    # ---- acting --------------------------------------------------------------------------------------------------

    def act(self, user: User, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out the act of a button. A refusal is an answer, not an error: the page shows it beside the button."""
        form = FormData.read(fields)
        try:
            sentence, run_id = self._act(form, user)
        except REFUSALS as error:
            return {"said": f"{str(error)[:1].upper()}{str(error)[1:]}", "bad": True, "run": None}
        finally:
            self._state.forget()
        return {"said": sentence, "bad": False, "run": run_id}

    def _act(self, form: FormData, user: User) -> tuple[str, int | None]:
        """Carry out the act of a button; return a sentence about it, and the id of the run to open."""
        if form.act == "retrain":
            return self._retrain(form, user)
        if form.act == "cancel":
            run = self._supervisor.cancel(form.id)
            cancelled = run.state == "cancelled"
            return f"{run.name} is cancelled." if cancelled else f"{run.name} ends after its current step.", run.id
        if form.act == "end":
            self._supervisor.end_at_once(form.id)
            return "Its process was ended.", form.id
        if form.act == "resume":
            run = self._supervisor.resume(form.id)
            return f"{run.name} is in the queue and goes on from its last checkpoint.", run.id
        if form.act == "bring_back":
            return self._bring_back(form)
        if form.act in ("promote", "roll_back"):
            action: Any = form.act
            served = self._serving.promote(self._database, form.id, action, user.id)
            self._preflights.forget()
            return f"{served.name} serves from now on. Judgements that have begun end on the one before.", None
        if form.act in DECIDE_ACTS:
            sentence = act_on_decision(self._database, self._serving, form, user)
            self._supervisor.wake()
            return sentence, None
        if form.act == "delete":
            return self._delete(form.id), None
        if form.act == "note":
            with self._database.write() as session:
                write_note(session, form.id, form.text("text"), user.id)
            return "The note is saved.", None
        raise FormError(STALE_BUTTON)

    def _retrain(self, fields: FormData, user: User) -> tuple[str, int | None]:
        preflight = self._state.preflight()
        if preflight is None:
            raise FormError("The app is still measuring what this machine can train. Try again in a moment.")
        form = check_form(read_draft(fields), preflight, self._supervisor.places.choices())
        run = queue_run(self._database, self._serving, form, device_of(form, preflight), user.id)
        self._preflights.forget()
        self._supervisor.wake()
        return f"{run.name} is run {run.id}; its data is frozen.", run.id

    def _bring_back(self, form: FormData) -> tuple[str, int | None]:
        folder = form.text("folder")
        if not folder:
            raise FormError("Enter the folder of the finished pack, on the machine of this app.")
        run = self._supervisor.bring_back(form.id, Path(folder).expanduser())
        return f"{run.name} is brought back: its files are checked, then it is compared.", run.id

    def _delete(self, checkpoint_id: int) -> str:
        """Mark a checkpoint as deleted, then remove its files: a kill in between leaves files, never a row without them."""
        with self._database.write() as session:
            deleted = mark_deleted(session, checkpoint_id)
        freed = remove_files(deleted, self._database.home)
        return f"{deleted.name} is deleted" + (f", {freed / 1e6:.1f} MB are free again." if freed else ".")
