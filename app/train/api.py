"""The JSON endpoints behind the Train page.

    GET  /api/train/state?run=&have=     the page in parts; what the browser has is not sent again. Leads and viewers.
    POST /api/train/plan                 what the form as it stands would come to
    POST /api/train/form                 the form anew, for another preset
    POST /api/train/act  {"act", "id"}   retrain, cancel, end, resume, promote, roll_back, delete

Only leads change anything; who asks is looked up for each request. Training itself is a process of its own
(app/runs/supervisor.py), so
an answer never waits for it; loading a promoted checkpoint takes seconds and has threads of its own.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from anyio import CapacityLimiter
from starlette.routing import BaseRoute, Route

from app.runs.preflight import Preflights
from app.runs.supervisor import RunSupervisor
from app.serving.serving import Serving
from app.train.page_state import TrainState
from app.train.run_form import RunForm, draft_of, make_run, plan_of, queue_length, since_of, wanted
from app.train.views.run_form import Draft, making_form, plan_view
from app.web.auth import Auth
from app.web.form_data import STALE_BUTTON, FormData, FormError
from app.web.json_api import Work, endpoint
from descore.errors import CheckpointError
from storage import Database, StorageError
from storage.accounts.users import User
from storage.campaigns.campaign import list_campaigns
from storage.training.model_registry import mark_deleted, remove_files
from storage.training.runs import list_runs

log = logging.getLogger(__name__)

LOOKING_THREADS = 2
ACTING_THREADS = 2
BUSY_SECONDS, IDLE_SECONDS = 2, 6  # between two looks of a browser
REFUSED = (StorageError, CheckpointError, FormError)


class TrainApi:
    """The endpoints of one store."""

    def __init__(
        self,
        database: Database,
        state: TrainState,
        serving: Serving,
        auth: Auth,
        supervisor: RunSupervisor,
        preflights: Preflights,
    ) -> None:
        self._database, self._state, self._serving = database, state, serving
        self._auth, self._supervisor, self._preflights = auth, supervisor, preflights

    def routes(self) -> list[BaseRoute]:
        """The web routes, for the app that Gradio launches."""
        looking, acting = CapacityLimiter(LOOKING_THREADS), CapacityLimiter(ACTING_THREADS)

        def route(name: str, work: Work, threads: CapacityLimiter, method: str, *roles: Any) -> Route:
            return Route(f"/api/train/{name}", endpoint(self._auth, work, threads, roles), methods=[method])

        return [
            route("state", self.state, looking, "GET", "lead", "viewer"),
            route("plan", self.plan, looking, "POST", "lead"),
            route("form", self.form, looking, "POST", "lead"),
            route("act", self.act, acting, "POST", "lead"),
        ]

    # ---- looking -------------------------------------------------------------------------------------------------

    def state(self, user: User, fields: Mapping[str, Any]) -> dict[str, Any]:
        """What has changed since the versions that the browser has ("name:version,name:version")."""
        asked = str(fields.get("run", ""))
        shown = self._state.shown(user.role == "lead", int(asked) if asked.isdigit() and len(asked) < 10 else None)
        has = dict(one.split(":", 1) for one in str(fields.get("have", ""))[:2000].split(",") if ":" in one)
        changed = {name: one for name, one in shown.parts.items() if has.get(name) != one.version}
        answer: dict[str, Any] = {
            "run": shown.run,
            "seconds": BUSY_SECONDS if shown.busy else IDLE_SECONDS,
            "parts": {name: {"html": one.html, "version": one.version} for name, one in changed.items()},
        }
        if has.get("figures") != shown.figures.version:
            found = json.loads(shown.figures.html) if shown.figures.html else {}
            answer["figures"] = {"version": shown.figures.version, "of": found}
        return answer

    def plan(self, user: User, fields: Mapping[str, Any]) -> dict[str, Any]:
        """What the form comes to, or what is wrong with it."""
        return {"plan": str(self._plan(draft_of(FormData.read(fields))))}

    def form(self, user: User, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The form anew: another preset has other knobs."""
        draft = replace(draft_of(FormData.read(fields)), knobs={})
        with self._database.read() as session:
            campaigns = [one.config.name for kind in ("studio", "import") for one in list_campaigns(session, kind)]
        return {"form": str(making_form(self._state.preflight(), draft, campaigns)), "plan": str(self._plan(draft))}

    def _plan(self, draft: Draft) -> str:
        preflight = self._state.preflight()
        if preflight is None or preflight.trouble:
            return ""
        try:
            asked = wanted(draft, preflight)
            news = self._state.news(asked.settings, since_of(self._database, self._serving, asked.start))
            preflight = self._state.preflight(news) or preflight
            asked = wanted(draft, preflight)
            with self._database.read() as session:
                newest = list_runs(session, 1)
        except REFUSED as error:
            return plan_view(None, str(error))
        next_id = newest[0].id + 1 if newest else 1
        queue = queue_length(self._database, preflight.device)
        return plan_view(plan_of(asked, news, preflight, next_id, queue, self._state.has_benchmark()))

    # ---- acting --------------------------------------------------------------------------------------------------

    def act(self, user: User, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Do what a button asks. What can't be done is said, not raised: the page shows it beside the button."""
        asked = FormData.read(fields)
        try:
            said, run = self._act(asked, user)
        except REFUSED as error:
            return {"said": f"{str(error)[:1].upper()}{str(error)[1:]}", "bad": True, "run": None}
        finally:
            self._state.forget()
        return {"said": said, "bad": False, "run": run}

    def _act(self, asked: FormData, user: User) -> tuple[str, int | None]:
        """The sentence about what was done, and the run to open."""
        if asked.act == "retrain":
            return self._retrain(asked, user)
        if asked.act == "cancel":
            run = self._supervisor.cancel(asked.id)
            done = run.state == "cancelled"
            return f"{run.name} is cancelled." if done else f"{run.name} ends after the step that it is in.", run.id
        if asked.act == "end":
            self._supervisor.end_at_once(asked.id)
            return "Its process was ended.", asked.id
        if asked.act == "resume":
            run = self._supervisor.resume(asked.id)
            return f"{run.name} waits for its turn and goes on from its last checkpoint.", run.id
        if asked.act in ("promote", "roll_back"):
            action: Any = asked.act
            served = self._serving.promote(self._database, asked.id, action, user.id)
            self._preflights.forget()
            return f"{served.name} serves from now on. Judgements in flight end on the one before.", None
        if asked.act == "delete":
            return self._delete(asked.id), None
        raise FormError(STALE_BUTTON)

    def _retrain(self, asked: FormData, user: User) -> tuple[str, int | None]:
        preflight = self._state.preflight()
        if preflight is None:
            raise FormError("it is still being found out what this machine can train; try again in a moment")
        checked: RunForm = wanted(draft_of(asked), preflight)
        run = make_run(self._database, self._serving, checked, preflight.device, user.id)
        self._preflights.forget()
        self._supervisor.wake()
        return f"{run.name} is run {run.id}; its data is frozen.", run.id

    def _delete(self, checkpoint_id: int) -> str:
        """Out of use first, and the files when that is kept: a kill in between leaves files, never a row without them."""
        with self._database.write() as session:
            gone = mark_deleted(session, checkpoint_id)
        freed = remove_files(gone, self._database.home)
        return f"{gone.name} is deleted" + (f", {freed / 1e6:.1f} MB are free again." if freed else ".")
