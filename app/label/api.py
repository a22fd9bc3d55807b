"""The JSON endpoints behind the Label page; programs may use them too, with the cookie of a sign-in.

    GET  /api/label/campaigns                  POST /api/label/next     {"campaign"}
    GET  /api/label/history?campaign=          POST /api/label/submit   {"turn", "submission", "edits", "answer"}
    GET  /api/label/guidelines?campaign=       POST /api/label/draft    {"turn", "draft"}
    POST /api/label/open     {"turn"}          POST /api/label/undo     {"campaign", "submission"}
    POST /api/label/compare  {"turn"}

`turn` is the token of an assignment. Each endpoint is thin: one call into the store, a view. An error is
{"error": {"code", "message"}}; see app/web/json_api.py.
The store waits for locks and disks, so its work is done in threads of its own, and that of the model in others: neither
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
from app.serving.judging_queue import Visitor
from app.serving.serving import Serving
from app.web.auth import Auth
from app.web.json_api import RequestError, Work, endpoint, number_of, text_of
from storage import Database, Session
from storage.accounts.users import User
from storage.campaigns.campaign import Campaign, get_campaign, list_campaigns
from storage.campaigns.guidelines import current_guidelines
from storage.campaigns.progress import label_counts, progress
from storage.errors import GuestLimitError, NotInStoreError
from storage.labelling.assignments import Assignment, get_assignment, history, mark_revealed, save_draft
from storage.labelling.next_assignment import NoAssignment, next_assignment
from storage.labelling.revisions import saved_before
from storage.labelling.sandbox import check_guest, is_sandbox
from storage.labelling.submit import submit, undo

# Writers of a campaign wait for each other anyway, and more threads only take the interpreter from the one that writes: 50
# annotators on PostgreSQL waited at the 95th percentile 92 ms for a submit with 2 threads, 159 ms with 4, longer with 16.
STORE_THREADS = 2
MODEL_THREADS = 4
COUNT_SHARE = 1 / 500  # of the time may go into counting the labels that a campaign still needs,
COUNT_SECONDS = 10.0  # but a count is shown no longer than this


class LabelApi:
    """The endpoints of one store."""

    def __init__(self, database: Database, clip_store: ClipStore, serving: Serving, auth: Auth) -> None:
        self._database, self._clip_store, self._serving, self._auth = database, clip_store, serving, auth
        self._labels_left_of: dict[int, tuple[float, int]] = {}

    def routes(self) -> list[BaseRoute]:
        """Return the web routes, for the app that Gradio launches."""
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
        """List the campaigns to label; closed ones are left out."""
        with self._database.read() as session:
            campaigns = [campaign for campaign in list_campaigns(session) if campaign.status != "closed"]
            if user.is_guest:
                campaigns = [campaign for campaign in campaigns if is_sandbox(campaign)]
            done = {
                campaign.id: label_counts(session, campaign.id, user.id, day_began(fields)).labels for campaign in campaigns
            }
        return {
            "campaigns": [
                {
                    "id": campaign.id,
                    "name": campaign.config.name,
                    "status": campaign.status,
                    "done": done[campaign.id],
                    "left": self._labels_left(campaign.id),
                }
                for campaign in campaigns
            ]
        }

    def guidelines(self, user: User, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return the current guidelines."""
        campaign_id = number_of(fields, "campaign")
        with self._database.read() as session:
            campaign = get_campaign(session, campaign_id)
            if user.is_guest and not is_sandbox(campaign):
                raise NotInStoreError(f"there is no campaign {campaign_id}")
            version, guidelines = current_guidelines(session, campaign_id)
        return guidelines_view(version, guidelines, campaign.config.dimensions)

    # ---- assignments ---------------------------------------------------------------------------------------------

    def next(self, user: User, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return the assignment that this person has, or a new one, or why there is none."""
        campaign_id = number_of(fields, "campaign")
        with self._database.write() as session:
            campaign = get_campaign(session, campaign_id)
            following = self._following(session, user, campaign)
            view = self._next_view(session, user, campaign, following, fields)
        return self._counted(campaign, view)

    def submit(self, user: User, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Save an answer, a skip or a flag, and return the next assignment; both or neither."""
        token, submission = text_of(fields, "turn"), text_of(fields, "submission")
        edits = None if fields.get("edits") is None else number_of(fields, "edits")
        with self._database.write() as session:
            assignment = get_assignment(session, token, user.id)
            campaign = get_campaign(session, assignment.campaign_id)
            answer = answer_of(fields.get("answer"), assignment.left_video)
            if user.is_guest and saved_before(session, user.id, submission) is None:
                check_guest(session, user.id, campaign)
            done = submit(session, token, user.id, submission, answer, edits=edits)
            feedback = None
            if done.gold is not None and done.label.action == "label":
                feedback = feedback_view(done.label, done.gold, _practice(session, user, campaign, done=True))
            following = self._following(session, user, campaign)
            view = self._next_view(session, user, campaign, following, fields)
        saved = {"turn": token, "is_new": done.is_new, "at": done.label.created_at.isoformat()}
        return {"saved": saved, "feedback": feedback, **self._counted(campaign, view)}

    def draft(self, user: User, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Save a draft, which extends the lease."""
        with self._database.write() as session:
            expires_at = save_draft(session, text_of(fields, "turn"), user.id, checked_draft(fields.get("draft")))
        return {"expires_at": expires_at.isoformat()}

    def undo(self, user: User, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Take the last answer back; its assignment is open again, with that answer as its draft."""
        campaign_id, submission = number_of(fields, "campaign"), text_of(fields, "submission")
        with self._database.write() as session:
            campaign = get_campaign(session, campaign_id)
            if user.is_guest and saved_before(session, user.id, submission) is None:
                check_guest(session, user.id, campaign)
            following = undo(session, campaign_id, user.id, submission)
            view = self._next_view(session, user, campaign, following, fields)
        return self._counted(campaign, view)

    def history(self, user: User, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return the last ten assignments, newest first."""
        with self._database.read() as session:
            assignments = history(session, number_of(fields, "campaign"), user.id)
        return {"turns": [history_view(assignment) for assignment in assignments if assignment.label is not None]}

    def open(self, user: User, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return one of the last ten assignments, to look at or change."""
        token = text_of(fields, "turn")
        with self._database.read() as session:
            assignment = get_assignment(session, token, user.id)
            campaign = get_campaign(session, assignment.campaign_id)
            recent = {entry.token for entry in history(session, assignment.campaign_id, user.id)}
        if assignment.state != "leased" and token not in recent:
            raise RequestError(409, "too_old", "Only your last ten can be changed.")
        return {"turn": assignment_view(assignment, campaign, self._clip_store, None)}

    def _following(self, session: Session, user: User, campaign: Campaign) -> Assignment | NoAssignment | str:
        """Return the next assignment, or why there is none; to a guest the limit of guests is a reason, too."""
        if user.is_guest:
            try:
                check_guest(session, user.id, campaign)
            except GuestLimitError as error:
                return str(error)
        return next_assignment(session, campaign.id, user.id)

    def _next_view(
        self,
        session: Session,
        user: User,
        campaign: Campaign,
        following: Assignment | NoAssignment | str | None,
        fields: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Return an assignment or the reason for none, and the person's own progress."""
        view: dict[str, Any] = {"turn": None, "waiting": None}
        if isinstance(following, (NoAssignment, str)):
            view["waiting"] = following if isinstance(following, str) else following.reason
        elif following is not None:
            practice = _practice(session, user, campaign) if following.kind == "qualification" else None
            view["turn"] = assignment_view(following, campaign, self._clip_store, practice)
        mine = label_counts(session, campaign.id, user.id, day_began(fields))
        view["progress"] = {"today": mine.today, "labels": mine.labels}
        return view

    def _counted(self, campaign: Campaign, view: dict[str, Any]) -> dict[str, Any]:
        """Add the number of labels left in the campaign, outside of the writing transaction, which others wait for."""
        view["progress"]["left"] = self._labels_left(campaign.id)
        return view

    def _labels_left(self, campaign_id: int) -> int:
        """Count the labels that the campaign still needs of everybody.

        Counting goes through all its pairs, so in a large campaign the number may be some seconds old.
        """
        begun = time.monotonic()
        fresh_until, left = self._labels_left_of.get(campaign_id, (begun, 0))
        if begun >= fresh_until:
            with self._database.read() as session:
                counts = progress(session, campaign_id)
            left, ended = counts.left, time.monotonic()
            self._labels_left_of[campaign_id] = (ended + min(COUNT_SECONDS, (ended - begun) / COUNT_SHARE), left)
        return left

    # ---- the model's view ----------------------------------------------------------------------------------------

    def compare(self, user: User, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return the model's view: all of it once the label is saved, before that only the parts that the campaign opens.

        The store notes that all of it was shown before it is, since a later revision has to say so. The parts that a
        campaign opens are noted with each of its labels anyway.
        """
        token = text_of(fields, "turn")
        with self._database.read() as session:
            assignment = get_assignment(session, token, user.id)
            campaign = get_campaign(session, assignment.campaign_id)
        parts = PARTS if assignment.state == "labelled" else campaign.config.visible
        if not parts:
            raise RequestError(403, "not_saved", "The model's view opens when your label is saved.")
        if assignment.state == "labelled":
            with self._database.write() as session:
                mark_revealed(session, token, user.id)
        content: dict[str, Any] = {"dimensions": list(campaign.config.dimensions), "model": None, "generators": None}
        if assignment.state == "labelled" and assignment.label is not None:
            content["own"] = label_view(assignment.label)
        if "generators" in parts:
            content["generators"] = generators_view(assignment.pair, assignment.left_video)
        if set(parts) & {"thoughts", "rewards"}:
            *_, answer = stream_answer(
                self._serving,
                self._database,
                self._clip_store,
                assignment.pair,
                "think",
                1,
                threading.Event(),
                Visitor("compare", person=user.id),
            )
            content["model"] = model_view(answer, assignment.left_video, parts)
        return content


def _practice(session: Session, user: User, campaign: Campaign, done: bool = False) -> dict[str, int]:
    """Return the number of the practice pair, and of how many.

    Args:
        done: whether it was just answered; else it lies before the person.
    """
    answered = label_counts(session, campaign.id, user.id, datetime.now(timezone.utc)).practised
    return {"number": max(1, answered + (0 if done else 1)), "of": campaign.config.qualification_pairs}


def day_began(fields: Mapping[str, Any]) -> datetime:
    """Return when the person's day began, as their browser says; UTC's midnight if it says nothing plausible."""
    now = datetime.now(timezone.utc)
    try:
        midnight = datetime.fromisoformat(str(fields.get("midnight")).replace("Z", "+00:00"))
        if midnight.tzinfo is not None and timedelta(0) <= now - midnight <= timedelta(hours=26):
            return midnight
    except ValueError:
        pass
    return now.replace(hour=0, minute=0, second=0, microsecond=0)
