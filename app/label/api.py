"""The JSON endpoints behind the Label page; programs may use them too, with the cookie of a sign-in.

    GET  /api/label/campaigns                  POST /api/label/next     {"campaign"}
    GET  /api/label/history?campaign=          POST /api/label/submit   {"turn", "submission", "edits", "answer"}
    GET  /api/label/guidelines?campaign=       POST /api/label/draft    {"turn", "draft"}
    POST /api/label/open     {"turn"}          POST /api/label/undo     {"campaign", "submission"}
    POST /api/label/compare  {"turn"}

Each is thin: one call into the store, a view. An error is {"error": {"code", "message"}}; see app/web/json_api.py. The store
waits for locks and disks, so the work is done in threads of its own, and asking the model in others, so that neither
holds up the event loop or the videos.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from anyio import CapacityLimiter
from starlette.routing import BaseRoute, Route

from app.clip_store import ClipStore
from app.label.views import (
    PARTS,
    answer_of,
    assignment_view,
    checked_draft,
    feedback_view,
    generators_view,
    guidelines_view,
    history_view,
    label_view,
    model_view,
)
from app.serving.cached_judge import stream_answer
from app.serving.serving import Serving
from app.web.auth import Auth
from app.web.json_api import RequestError, Work, endpoint, number_of, text_of
from storage import Database, Session
from storage.accounts.users import User
from storage.campaigns.campaign import Campaign, get_campaign, list_campaigns
from storage.campaigns.guidelines import current_guidelines
from storage.campaigns.progress import label_counts, progress
from storage.labelling.assignments import Assignment, get_assignment, history, mark_revealed, save_draft
from storage.labelling.next_assignment import NoAssignment, next_assignment
from storage.labelling.submit import submit, undo

# Writers of a campaign take turns anyway, and more threads only take the interpreter from the one whose turn it is: 50
# annotators on PostgreSQL waited at the 95th percentile 92 ms for a submit with 2 threads, 159 ms with 4, longer with 16.
STORE_THREADS = 2
MODEL_THREADS = 4
COUNT_SHARE = 1 / 500  # of the time may go into counting the labels that a campaign still wants,
COUNT_SECONDS = 10.0  # but a count is shown no longer than this


class LabelApi:
    """The endpoints of one store."""

    def __init__(self, database: Database, clip_store: ClipStore, serving: Serving, auth: Auth) -> None:
        self._database, self._clip_store, self._serving, self._auth = database, clip_store, serving, auth
        self._left: dict[int, tuple[float, int]] = {}

    def routes(self) -> list[BaseRoute]:
        """The web routes, for the app that Gradio launches."""
        store, model = CapacityLimiter(STORE_THREADS), CapacityLimiter(MODEL_THREADS)
        gets: dict[str, Work] = {"campaigns": self.campaigns, "history": self.history, "guidelines": self.guidelines}
        posts: dict[str, Work] = {
            "next": self.next,
            "submit": self.submit,
            "draft": self.draft,
            "undo": self.undo,
            "open": self.open,
        }

        def route(name: str, work: Work, threads: CapacityLimiter, method: str) -> Route:
            return Route(f"/api/label/{name}", endpoint(self._auth, work, threads), methods=[method])

        return [
            *(route(name, work, store, "GET") for name, work in gets.items()),
            *(route(name, work, store, "POST") for name, work in posts.items()),
            route("compare", self.compare, model, "POST"),
        ]

    # ---- campaigns -----------------------------------------------------------------------------------------------

    def campaigns(self, user: User, fields: Mapping[str, Any]) -> dict[str, Any]:
        """What there is to label; closed campaigns are left out."""
        with self._database.read() as session:
            listed = [one for one in list_campaigns(session) if one.status != "closed"]
            done = {one.id: label_counts(session, one.id, user.id, day_began(fields)).labels for one in listed}
        return {
            "campaigns": [
                {
                    "id": one.id,
                    "name": one.config.name,
                    "status": one.status,
                    "done": done[one.id],
                    "left": self._labels_left(one.id),
                }
                for one in listed
            ]
        }

    def guidelines(self, user: User, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The guidelines as they are now."""
        campaign_id = number_of(fields, "campaign")
        with self._database.read() as session:
            campaign = get_campaign(session, campaign_id)
            version, guidelines = current_guidelines(session, campaign_id)
        return guidelines_view(version, guidelines, campaign.config.dimensions)

    # ---- turns ---------------------------------------------------------------------------------------------------

    def next(self, user: User, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The turn that this person has, or a new one, or why there is none."""
        campaign_id = number_of(fields, "campaign")
        with self._database.write() as session:
            campaign = get_campaign(session, campaign_id)
            found = next_assignment(session, campaign_id, user.id)
            said = self._whats_next(session, user, campaign, found, fields)
        return self._counted(campaign, said)

    def submit(self, user: User, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Save an answer, a skip or a flag, and give the next turn with it; both or neither."""
        token, submission = text_of(fields, "turn"), text_of(fields, "submission")
        edits = None if fields.get("edits") is None else number_of(fields, "edits")
        with self._database.write() as session:
            turn = get_assignment(session, token, user.id)
            campaign = get_campaign(session, turn.campaign_id)
            given = answer_of(fields.get("answer"), turn.left_video)
            done = submit(session, token, user.id, submission, given, edits=edits)
            feedback = None
            if done.gold is not None and done.label.action == "label":
                feedback = feedback_view(done.label, done.gold, _practice(session, user, campaign, done=True))
            found = next_assignment(session, turn.campaign_id, user.id)
            said = self._whats_next(session, user, campaign, found, fields)
        saved = {"turn": token, "is_new": done.is_new, "at": done.label.created_at.isoformat()}
        return {"saved": saved, "feedback": feedback, **self._counted(campaign, said)}

    def draft(self, user: User, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Keep what is filled in, and the turn with it."""
        with self._database.write() as session:
            expires_at = save_draft(session, text_of(fields, "turn"), user.id, checked_draft(fields.get("draft")))
        return {"expires_at": expires_at.isoformat()}

    def undo(self, user: User, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Take the last answer back; its turn is open again, with what was filled in as its draft."""
        campaign_id, submission = number_of(fields, "campaign"), text_of(fields, "submission")
        with self._database.write() as session:
            campaign = get_campaign(session, campaign_id)
            found = undo(session, campaign_id, user.id, submission)
            said = self._whats_next(session, user, campaign, found, fields)
        return self._counted(campaign, said)

    def history(self, user: User, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The last ten, newest first."""
        with self._database.read() as session:
            turns = history(session, number_of(fields, "campaign"), user.id)
        return {"turns": [history_view(turn) for turn in turns if turn.label is not None]}

    def open(self, user: User, fields: Mapping[str, Any]) -> dict[str, Any]:
        """One of the last ten, to look at or change."""
        token = text_of(fields, "turn")
        with self._database.read() as session:
            turn = get_assignment(session, token, user.id)
            campaign = get_campaign(session, turn.campaign_id)
            recent = {one.token for one in history(session, turn.campaign_id, user.id)}
        if turn.state != "leased" and token not in recent:
            raise RequestError(409, "too_old", "Only your last ten can be changed.")
        return {"turn": assignment_view(turn, campaign, self._clip_store, None)}

    def _whats_next(
        self,
        session: Session,
        user: User,
        campaign: Campaign,
        found: Assignment | NoAssignment | None,
        fields: Mapping[str, Any],
    ) -> dict[str, Any]:
        """A turn or the reason for none, and the person's own progress."""
        said: dict[str, Any] = {"turn": None, "waiting": None}
        if isinstance(found, NoAssignment):
            said["waiting"] = found.reason
        elif found is not None:
            practice = _practice(session, user, campaign) if found.kind == "qualification" else None
            said["turn"] = assignment_view(found, campaign, self._clip_store, practice)
        mine = label_counts(session, campaign.id, user.id, day_began(fields))
        said["progress"] = {"today": mine.today, "labels": mine.labels}
        return said

    def _counted(self, campaign: Campaign, said: dict[str, Any]) -> dict[str, Any]:
        """With the campaign's labels left; outside of the writing transaction, which others wait for."""
        said["progress"]["left"] = self._labels_left(campaign.id)
        return said

    def _labels_left(self, campaign_id: int) -> int:
        """Labels that the campaign still wants of everybody. Counting goes through all its pairs, so in a large one this
        may be some seconds old.
        """
        begun = time.monotonic()
        fresh_until, left = self._left.get(campaign_id, (begun, 0))
        if begun >= fresh_until:
            with self._database.read() as session:
                counts = progress(session, campaign_id)
            left, ended = max(0, counts.wanted - counts.labels), time.monotonic()
            self._left[campaign_id] = (ended + min(COUNT_SECONDS, (ended - begun) / COUNT_SHARE), left)
        return left

    # ---- the model's view ----------------------------------------------------------------------------------------

    def compare(self, user: User, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The model's view: all of it once the label is saved, before that only what the campaign opens.

        That all of it was shown is noted before it is, since a later revision has to say so; what a campaign opens, every
        label of it says anyway.
        """
        token = text_of(fields, "turn")
        with self._database.read() as session:
            turn = get_assignment(session, token, user.id)
            campaign = get_campaign(session, turn.campaign_id)
        parts = PARTS if turn.state == "labelled" else campaign.config.visible
        if not parts:
            raise RequestError(403, "not_saved", "The model's view opens when your label is saved.")
        if turn.state == "labelled":
            with self._database.write() as session:
                mark_revealed(session, token, user.id)
        found: dict[str, Any] = {"dimensions": list(campaign.config.dimensions), "model": None, "generators": None}
        if turn.state == "labelled" and turn.label is not None:
            found["own"] = label_view(turn.label)
        if "generators" in parts:
            found["generators"] = generators_view(turn.pair, turn.left_video)
        if set(parts) & {"thoughts", "rewards"}:
            *_, answer = stream_answer(
                self._serving, self._database, self._clip_store, turn.pair, "think", 1, threading.Event()
            )
            found["model"] = model_view(answer, turn.left_video, parts)
        return found


def _practice(session: Session, user: User, campaign: Campaign, done: bool = False) -> dict[str, int]:
    """Which practice pair it is, of how many; `done`: the one that was just answered, else the one before the person."""
    answered = label_counts(session, campaign.id, user.id, datetime.now(timezone.utc)).practised
    return {"number": max(1, answered + (0 if done else 1)), "of": campaign.config.qualification_pairs}


def day_began(fields: Mapping[str, Any]) -> datetime:
    """When the person's day began, as their browser says; by default, or if that can't be, UTC's day."""
    now = datetime.now(timezone.utc)
    try:
        said = datetime.fromisoformat(str(fields.get("midnight")).replace("Z", "+00:00"))
        if said.tzinfo is not None and timedelta(0) <= now - said <= timedelta(hours=26):
            return said
    except ValueError:
        pass
    return now.replace(hour=0, minute=0, second=0, microsecond=0)
