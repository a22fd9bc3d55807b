"""The line of the link on the Judge page: what it shows, and what its buttons do."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import gradio as gr

from app.judge.api import JudgeApi, Selection
from app.judge.browser_state import checked_state
from app.judge.shown import Answered
from app.ui.share import share_view
from app.web.auth import NotAllowedError
from app.web.plain_errors import JUDGING_ERRORS, judging_error_text
from descore.prompt import prompt_problem
from storage import StorageError
from storage.errors import ShareError


class ShareLine:
    """The handlers of one app's line; each returns the component's value."""

    def __init__(self, api: JudgeApi) -> None:
        self._api = api

    def make(
        self, selection: Selection | None, prompt: str, answered: Answered | None, saved: dict[str, Any], request: gr.Request
    ) -> dict[str, Any]:
        """Make a link to the pair on the page."""
        browser = str(checked_state(saved).get("voter", ""))
        try:
            if selection is None or selection.share is not None or answered is None or not browser:
                raise ShareError("Judge two videos of your own first, then share them.")
            pair, visitor = self._api.admit(selection, prompt, request)
            token = self._api.shares.make(pair, answered.mode, answered.k, browser, visitor)
            share = self._api.shares.open(token, request).share
        except JUDGING_ERRORS as error:
            return share_view("ready", status=f"Not shared: {judging_error_text(error)}")
        return share_view("made", f"judge?share={token}", share.expires_at, own=True)

    def end(
        self, selection: Selection | None, prompt: str, answered: Answered | None, saved: dict[str, Any], request: gr.Request
    ) -> dict[str, Any]:
        """End the link that this browser made."""
        browser = str(checked_state(saved).get("voter", ""))
        pair = self._api.pair_of(selection, prompt, request)
        ended = self._api.shares.end(pair, browser)
        status = "The link has ended; nobody can open it any more." if ended else "This browser made no link to this pair."
        here = selection is not None and selection.share is None
        return share_view("ready" if here and answered is not None else "none", status=status)

    def view(
        self, selection: Selection | None, prompt: str, judged: bool, saved: dict[str, Any], request: gr.Request
    ) -> dict[str, Any]:
        """Return what the line of the link shows.

        Args:
            judged: the page shows an answer of the model.
        """
        browser = str(checked_state(saved).get("voter", ""))
        if selection is None or prompt_problem(prompt) is not None:
            return share_view()
        if selection.bundled is not None:
            is_its_own = prompt.strip() == self._api.bundled[selection.bundled].prompt.strip() and self._api.as_bundled(
                selection
            )
            return share_view("link", f"judge?{urlencode({'pair': selection.bundled})}") if is_its_own else share_view()
        try:
            if selection.share is not None:
                share = self._api.shares.open(selection.share, request).share
                query, own = f"?{urlencode({'share': selection.share})}", share.is_made_by(browser)
                return share_view("shared", until=share.expires_at, own=own, query=query)
            made = self._api.shares.own(self._api.pair_of(selection, prompt, request), browser)
        except (StorageError, NotAllowedError) as error:
            return share_view(status=str(error))
        if made is not None:
            return share_view("open", until=made.expires_at, own=True)
        return share_view("ready" if judged else "none")
