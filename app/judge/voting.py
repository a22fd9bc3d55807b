"""Votes on the Judge page: what a person may see of the model's answer before one, and what a vote keeps of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from app.judge.api import JudgeApi, Selection
from app.judge.browser_state import checked_state
from app.judge.shown import Answered, Question, Updates
from app.serving.answer import Answer
from app.ui.answer_panel import answer_view
from app.ui.vote import vote_view
from app.web.auth import NotAllowedError
from app.web.plain_errors import JUDGING_ERRORS
from descore.prompt import prompt_problem
from storage.errors import ShareError
from storage.votes import Seen, ShownAnswer


class Voting:
    """The handlers of the votes, and of the switch that lets the model's answer wait for one."""

    def __init__(self, api: JudgeApi, running: Mapping[str, Question]) -> None:
        """Take what the handlers need; running: the questions that are not answered yet, by the session of their tab."""
        self._api, self._running = api, running

    def take_vote(
        self,
        selection: Selection | None,
        prompt: str,
        answered: Answered | None,
        saved: dict[str, Any],
        event: gr.EventData,
        request: gr.Request,
    ) -> Updates:
        """Save a vote with what stood on the page, and show the answer that waited for it."""
        saved = checked_state(saved)
        try:
            pair = self._api.pair_of(selection, prompt, request)
            voter = str(saved.get("voter", ""))
            shown = self._shown_at_vote(pair.id, answered, request)
            self._api.save_vote(pair.id, str(event.choice), str(event.token), voter, str(event.note), request, shown)
        except JUDGING_ERRORS as error:
            return {"votes": self.view(selection, prompt, saved, request) | {"status": f"not saved: {error}"}}
        uncovered = self._uncovered(selection, prompt, answered, request)
        return uncovered | {"votes": self.view(selection, prompt, saved, request)}

    def keep_vote_first(
        self,
        on: Any,
        selection: Selection | None,
        prompt: str,
        answered: Answered | None,
        saved: dict[str, Any],
        request: gr.Request,
    ) -> Updates:
        """Keep in the browser whether a vote comes before the model's answer."""
        kept = checked_state(checked_state(saved) | {"vote_first": on is True})
        return ({} if on is True else self._uncovered(selection, prompt, answered, request)) | {"saved": kept}

    def is_covered(self, selection: Selection | None, prompt: str, saved: dict[str, Any], request: gr.Request) -> bool:
        """Whether the model's answer about a pair is kept back, since there is no vote yet."""
        state = checked_state(saved)
        if "vote_first" not in state or selection is None:
            return False
        pair = self._api.pair_of(selection, prompt, request)
        return self._api.current_vote(pair, str(state.get("voter", "")), request) is None

    def _uncovered(
        self, selection: Selection | None, prompt: str, answered: Answered | None, request: gr.Request
    ) -> Updates:
        """Return the answer that was kept back, and what is shown of it from now on."""
        running = self._running.get(request.session_hash or "")
        if running is not None:
            running.covered = False
        if answered is None or not answered.covered or selection is None:
            return {}
        if selection.share is not None:
            answer = self._api.shares.answer(self._api.shares.open(selection.share, request))
        else:
            pair = self._api.pair_of(selection, prompt, request)
            answer = self._api.answer_in_store(pair, answered.mode, answered.k)
        if answer is None:
            return {}
        shown = self.answered(selection, prompt, answer, answered.k, False, request)
        return {"panel": answer_view(answer), "answered": shown}

    def _shown_at_vote(self, pair: int, answered: Answered | None, request: gr.Request) -> Seen:
        """Return what of the model stood on the page, which nobody but the server has to be believed about."""
        running = self._running.get(request.session_hash or "")
        if running is not None:
            return "nothing" if running.covered else ShownAnswer(running.mode, running.k)  # it is being written
        return answered.seen if answered is not None and answered.pair == pair else "nothing"

    def view(self, selection: Selection | None, prompt: str, saved: dict[str, Any], request: gr.Request) -> dict[str, Any]:
        """Return what the bar shows of a pair: the vote that there is, or why there can be none."""
        if selection is None:
            return vote_view(None, None)
        problem = prompt_problem(prompt)
        if problem is not None:
            return vote_view(
                None, None, f"a vote needs the prompt; this one {problem}" if prompt else "a vote needs the prompt"
            )
        try:
            pair = self._api.pair_of(selection, prompt, request)
        except (ShareError, NotAllowedError) as error:
            return vote_view(None, None, str(error))
        return vote_view(pair.id, self._api.current_vote(pair, str(saved.get("voter", "")), request))

    def answered(
        self, selection: Selection | None, prompt: str, answer: Answer, k: int, covered: bool, request: gr.Request
    ) -> Answered:
        """Return what a vote and a link need to know of the answer on the page."""
        try:
            pair = self._api.pair_of(selection, prompt, request).id
        except JUDGING_ERRORS:
            return Answered(answer.mode, k, covered=covered)  # its link has ended meanwhile
        if covered:
            return Answered(answer.mode, k, pair, "nothing", covered)
        verdict = answer.comparison
        outcome, p = (None, None) if verdict is None else (verdict.verdict, verdict.p_first_preferred)
        if verdict is not None and verdict.unfamiliar:
            p = None  # it is not shown
        fingerprint = self._api.serving.now.fingerprint
        seen = ShownAnswer(answer.mode, k if answer.mode == "k" else 0, fingerprint, outcome, p)
        return Answered(answer.mode, k, pair, seen)
