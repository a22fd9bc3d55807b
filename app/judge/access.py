"""Who may judge: everybody, or only people with an account; and as whom they stand in the queue.

access = JudgingAccess(auth, "sign-in")
visitor = access.visitor(request)        # raises NotSignedInError for somebody without an account
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal

from app.serving.judging_queue import Visitor
from app.web.auth import Auth, NotAllowedError, NotSignedInError
from app.web.deployment import client_address, on_space
from storage import Database
from storage.accounts.users import User
from storage.labelling.blind import blind_videos
from storage.pairs import Video

Access = Literal["open", "sign-in"]


def default_access(database: Database) -> Access:
    """Choose for where the app runs: a Space and a machine of one's own are open, a lab's PostgreSQL asks for a sign-in."""
    return "sign-in" if database.engine.dialect.name == "postgresql" and not on_space() else "open"


class JudgingAccess:
    """The rule of one app."""

    def __init__(self, auth: Auth, access: Access) -> None:
        self._auth, self.access = auth, access

    def person(self, request: Any) -> User | None:
        """Return who is signed in."""
        return self._auth.user(request)

    def hidden(self, request: Any, videos: Collection[Video]) -> frozenset[int]:
        """Return the ids of those videos that a blind campaign keeps this visitor, who is no lead, from having judged."""
        user = self._auth.user(request)
        if user is not None and user.role == "lead":
            return frozenset()
        with self._auth.database.read() as session:
            return blind_videos(session, {video.id for video in videos})

    def refuse_blind(self, request: Any, videos: Collection[Video]) -> None:
        """Refuse to judge videos that are being labelled blind, unless a lead asks.

        Raises:
            NotAllowedError: one of them is.
        """
        if self.hidden(request, videos):
            raise NotAllowedError("This pair is being labelled blind: until its campaign is closed only leads may judge it.")

    def visitor(self, request: Any) -> Visitor:
        """Return who asks, as the queue counts them.

        Args:
            request: of Gradio, whose session is that of the tab.

        Raises:
            NotSignedInError: only people with an account may judge here, and nobody is signed in.
        """
        user = self._auth.user(request)
        if user is not None and user.is_guest:  # a click is no reason to be served before others
            user = None
        if user is None and self.access == "sign-in":
            raise NotSignedInError("Sign in to judge: this app answers people with an account only.")
        session = str(request.session_hash or "") if hasattr(request, "session_hash") else ""
        return Visitor(session, client_address(request), None if user is None else user.id)
