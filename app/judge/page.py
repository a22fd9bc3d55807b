"""The Judge page: choose a pair or bring two videos, ask the model, see why, vote.

Handlers are thin: typed input, a call into `serving`, `clip_store` or `storage`, a view. The page keeps its selection in the
browser too, so that a reload comes back to the same pair, its verdict, and the vote that this browser gave.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import gradio as gr

from app.judge.api import MODEL_QUEUE, MODES, MOST_THOUGHTS, JudgeApi, Selection
from app.judge.batch import batch_panel, table_view
from app.judge.browser_state import THOUGHTS, asked_in, checked_state
from app.judge.gallery import gallery_strip, gallery_view
from app.judge.history import history_entry, history_panel, history_view
from app.judge.own import CLOSED, own_panel, own_video, own_view
from app.judge.share_line import ShareLine
from app.judge.shown import Answered, Question, Shown, Updates, by_part, notice, turn_of, whole
from app.judge.voting import Voting
from app.serving.answer import Answer, cover
from app.ui.answer_panel import answer_panel, answer_view
from app.ui.share import share_line, share_view
from app.ui.synced_pair import synced_pair
from app.ui.vote import vote_bar
from app.web.auth import NotAllowedError
from app.web.client_signal import ClientSignal
from app.web.plain_errors import JUDGING_ERRORS, judging_error_text, plainly
from app.web.uploads import uploaded_file
from descore.judgement import Mode
from descore.prompt import PROMPT_CHARACTERS, prompt_problem
from storage import NotInStoreError, StorageError
from storage.pairs import Video

log = logging.getLogger(__name__)


class JudgePage:
    """Builds the page inside the current `gr.Blocks` and holds what its handlers need."""

    def __init__(self, api: JudgeApi) -> None:
        self.api, self.bundled = api, api.bundled
        self._running: dict[str, Question] = {}
        self.links, self.voting = ShareLine(api), Voting(api, self._running)
        self._left: dict[str, Question] = {}  # stopped, and not at their end yet

    # ---- layout --------------------------------------------------------------------------------------------------

    def build(self, blocks: gr.Blocks) -> None:
        """Lay the page out and connect its handlers."""
        # The voter's id is random and lives in this browser; nobody else can name it.
        self.saved = gr.BrowserState({}, storage_key="descore-judge", secret="descore-judge")
        self.selection = gr.State(None)
        self.answered = gr.State(None)  # mode and number of thoughts of the answer on the page
        with gr.Column(elem_id="judge-page"):
            self.notice = gr.HTML(visible=False, elem_id="link-notice", apply_default_css=False)
            self.strip = gallery_strip()
            with gr.Column(elem_id="question"):
                self.own = own_panel()
                self._build_controls()
            with gr.Column(elem_id="desk"):
                self.player = synced_pair(tools=True)
                self.panel = answer_panel()
                self.votes = vote_bar()
                self.share = share_line()
            self.batch = batch_panel()
            self.history = history_panel()
        self._connect(blocks)

    def _build_controls(self) -> None:
        with gr.Row(elem_id="ask"):
            self.prompt = gr.Textbox(
                label="Prompt",
                placeholder="What were both videos asked to show?",
                max_lines=4,
                max_length=PROMPT_CHARACTERS,
                elem_id="prompt",
            )
            self.mode = gr.Radio(MODES, value="think", label="How to ask", show_label=False, container=False, elem_id="mode")
            self.k = gr.Slider(
                2, MOST_THOUGHTS, THOUGHTS, step=1, label="thoughts", visible=False, container=False, elem_id="k"
            )
            self.vote_first = gr.Checkbox(
                label="vote first",
                container=False,
                elem_id="vote-first",
            )
            self.judge = gr.Button("Judge", variant="primary", elem_id="judge")
            self.cancel = gr.Button("Cancel", interactive=False, elem_id="cancel")

    def _connect(self, blocks: gr.Blocks) -> None:
        parts = {
            "selection": self.selection,
            "strip": self.strip,
            "own": self.own,
            "player": self.player,
            "prompt": self.prompt,
            "panel": self.panel,
            "votes": self.votes,
            "mode": self.mode,
            "k": self.k,
            "vote_first": self.vote_first,
            "share": self.share,
            "notice": self.notice,
            "history": self.history,
            "answered": self.answered,
            "saved": self.saved,
        }
        page = list(parts.values())
        named = partial(by_part, parts)
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        blocks.load(plainly(named(self._restore)), self.saved, page, **quiet)
        self.strip.select(plainly(named(self._choose)), self.saved, page, **quiet)
        self.history.reopen(plainly(named(self._reopen)), self.saved, page, **quiet)
        self.batch.reopen(plainly(named(self._reopen)), self.saved, page, **quiet)
        self.batch.table(plainly(self._read_table), None, self.batch, **quiet)
        self.player.swap(plainly(named(self._swap)), [self.selection, self.prompt, self.saved], page, **quiet)
        self.own.begin(plainly(named(self._begin_own)), self.saved, page, **quiet)
        self.own.take(plainly(named(self._take_own)), [self.prompt, self.saved], page, **MODEL_QUEUE, **quiet)
        # An answer belongs to the prompt that was judged; clearing it takes no round trip, so it can't come late.
        nothing = json.dumps([answer_view(Answer()), share_view()])
        self.prompt.input(None, None, [self.panel, self.share], js=f"() => {nothing}", **quiet)
        # On blur, so also before a click on Judge: another prompt is another pair, with another vote.
        self.prompt.blur(plainly(self._reword), [self.selection, self.prompt, self.saved], [self.votes, self.saved], **quiet)
        asked = [self.mode, self.k, self.saved]
        gr.on([self.mode.input, self.k.release], self._keep_mode, asked, [self.k, self.saved], queue=False, **quiet)
        question = [self.selection, self.prompt, self.mode, self.k, self.saved]
        gr.on(
            [self.judge.click, self.prompt.submit],
            self._judge,
            question,
            [self.panel, self.judge, self.cancel, self.share, self.answered],
            **MODEL_QUEUE,
            **quiet,
        ).then(self._remember, [*question, self.answered], [self.history, self.saved], **quiet)
        self.cancel.click(self._cancel, queue=False, **quiet)
        voting = [self.selection, self.prompt, self.answered, self.saved]
        shown_by_vote = [self.votes, self.panel, self.answered]
        self.votes.vote(plainly(named(self.voting.take_vote)), voting, shown_by_vote, **quiet)
        uncovering = [self.vote_first, *voting]
        self.vote_first.input(
            plainly(named(self.voting.keep_vote_first)), uncovering, [self.panel, self.answered, self.saved], **quiet
        )
        shown = [self.selection, self.prompt, self.answered, self.saved]
        self.share.make_link(plainly(self.links.make), shown, self.share, **quiet)
        self.share.end_link(plainly(self.links.end), shown, self.share, **quiet)

    # ---- choosing a pair -----------------------------------------------------------------------------------------

    def _restore(self, saved: dict[str, Any] | None, request: gr.Request) -> Updates:
        """Show, on load, the pair of the link that was followed, else what this browser looked at last, else the first."""
        saved = checked_state(saved)
        saved.setdefault("voter", secrets.token_hex(16))
        notice = ""
        try:
            linked = self._linked(saved, request)
            if linked is not None:
                return linked
        except (StorageError, NotAllowedError) as error:
            notice = str(error)
        try:
            return self._page(replace(self._last_shown(saved, request), notice=notice), saved, request)
        except (StorageError, NotAllowedError):
            first = next(iter(self.api.shown_pairs(request)), None)
        if first is None:
            return self._page(Shown(None, None, "", notice=notice), saved, request)
        return self._page(Shown(first.a, first.b, first.prompt, first.id, notice=notice), saved, request)

    def _linked(self, saved: dict[str, Any], request: gr.Request) -> Updates | None:
        """Return the page of the link in the address, with what the store has of the model's answer; None without one.

        Raises:
            StorageError: the link leads nowhere, or has ended.
            NotAllowedError: its pair is being labelled blind.
        """
        query = request.query_params
        if "share" in query:
            shared = self.api.shares.open(query["share"], request)
            a, b = shared.pair.videos
            shown = Shown(a, b, shared.pair.prompt, shared=shared, answer=self.api.shares.answer(shared))
        elif "pair" in query:
            pair, bundled = self.api.linked_pair(query["pair"], request)
            shown = Shown(pair.video_a, pair.video_b, pair.prompt, bundled, answer=self.api.answer_in_store(pair))
        else:
            return None
        page = self._page(shown, saved, request)
        if shown.answer is None:
            return page
        mode, k = shown.answer.mode, shown.answer.k or THOUGHTS
        return page | {"mode": mode, "k": gr.Slider(value=k, visible=mode == "k")}

    def _last_shown(self, saved: dict[str, Any], request: gr.Request) -> Shown:
        """Return what a browser showed when its state was saved, with the answer that the store has.

        Raises:
            StorageError: it showed nothing, or a video is not here any more.
            NotAllowedError: the videos are being labelled blind.
        """
        a, b = (self.api.clip_store.by_id(saved[side]) if side in saved else None for side in ("a", "b"))
        shown = Shown(a, b, saved.get("prompt", ""), saved.get("bundled"))
        if "own" not in saved and len(shown.videos) < 2:
            raise NotInStoreError("this browser has shown no pair yet")
        return self._with_answer(shown, saved, request)

    def _with_answer(self, shown: Shown, saved: dict[str, Any], request: gr.Request) -> Shown:
        """Add what the store has of the model's answer: asked for as this browser did last, else as links show it.

        Raises:
            NotAllowedError: the videos are being labelled blind.
        """
        self.api.access.refuse_blind(request, shown.videos)
        selection = self._selection(shown)
        if selection is None or prompt_problem(shown.prompt) is not None:
            return shown
        pair = self.api.pair_of(selection, shown.prompt, request)
        return replace(shown, answer=self.api.answer_in_store(pair, *asked_in(saved)))

    def _choose(self, saved: dict[str, Any], event: gr.EventData, request: gr.Request) -> Updates:
        self._abandon(request.session_hash)
        pair = self.bundled.get(str(event.id))
        if pair is None:
            raise gr.Error("This pair is no longer in the gallery. Reload the page.", print_exception=False)
        self.api.access.refuse_blind(request, (pair.a, pair.b))
        return self._page(Shown(pair.a, pair.b, pair.prompt, pair.id), saved, request)

    def _reopen(self, saved: dict[str, Any], event: gr.EventData, request: gr.Request) -> Updates:
        """Show a pair of the browser's history, with the answer that it is about."""
        self._abandon(request.session_hash)
        entry = {name: getattr(event, name, None) for name in ("a", "b", "bundled", "prompt", "mode", "k")}
        saved = checked_state(checked_state(saved) | entry)
        try:
            return self._page(self._last_shown(saved, request), saved, request)
        except NotInStoreError:
            raise gr.Error("The videos of this pair are not here any more.", print_exception=False) from None

    def _swap(self, selection: Selection | None, prompt: str, saved: dict[str, Any], request: gr.Request) -> Updates:
        """Make A of B and B of A: another pair, of the same judgements."""
        if selection is None or selection.share is not None:
            raise gr.Error("Only a pair of the gallery or of your own videos can be swapped.", print_exception=False)
        self._abandon(request.session_hash)
        a, b = (self.api.clip_store.by_id(name) for name in (selection.b, selection.a))
        shown = self._with_answer(Shown(a, b, prompt, selection.bundled), checked_state(saved), request)
        return self._page(shown, saved, request)

    def _read_table(self, event: gr.EventData, request: gr.Request) -> dict[str, Any]:
        """Read the pairs of a table that the browser has uploaded; the videos are named by the browser."""
        self.api.access.visitor(request)
        name = str(getattr(event, "name", ""))[:200] or "The table"
        return table_view(uploaded_file(getattr(event, "path", None)), name, turn_of(event))

    # ---- videos of one's own -------------------------------------------------------------------------------------

    def _begin_own(self, saved: dict[str, Any], event: gr.EventData, request: gr.Request) -> Updates:
        """Make room for two videos: nothing of the pair before stays, its prompt least of all."""
        self._abandon(request.session_hash)
        return self._page(Shown(None, None, "", turn=turn_of(event)), saved, request)

    def _take_own(self, prompt: str, saved: dict[str, Any], event: gr.EventData, request: gr.Request) -> Updates:
        """Take the videos in that came, keep those that were there, and show what there is."""
        self._abandon(request.session_hash)
        sides: dict[str, Video | None] = {}
        errors: dict[str, str] = {}
        for side in ("a", "b"):
            named = getattr(event, side, None)
            sides[side] = own_video(self.api, side, named if isinstance(named, dict) else {}, errors, request)
        shown = Shown(sides["a"], sides["b"], prompt, errors=errors, turn=turn_of(event))
        try:
            page = self._page(self._with_answer(shown, checked_state(saved), request), saved, request)
        except JUDGING_ERRORS as error:  # an answer all the same, or the browser would wait for it
            own = own_view(self.api.clip_store, None, None, {"a": judging_error_text(error)}, shown.turn)
            return {"own": own, "saved": checked_state(saved)}
        del page["prompt"]  # somebody may be writing there
        return page

    # ---- the page of a pair --------------------------------------------------------------------------------------

    def _selection(self, shown: Shown) -> Selection | None:
        """Return the pair on the page; None while a video is missing."""
        if shown.a is None or shown.b is None:
            return None
        bundled = str(shown.bundled) if shown.bundled in self.bundled else None
        token = None if shown.shared is None else shown.shared.token
        return Selection(shown.a.public_id, shown.b.public_id, bundled, token)

    def _page(self, shown: Shown, saved: dict[str, Any], request: gr.Request) -> Updates:
        """Return all that depends on the pair."""
        selection = self._selection(shown)
        bundled = None if selection is None else selection.bundled
        is_own = shown.shared is None and bundled is None
        saved = checked_state(saved)
        if shown.shared is None:
            player = {
                side: None if video is None else self.api.clip_store.view(video)
                for side, video in (("a", shown.a), ("b", shown.b))
            }
            saved |= {"prompt": shown.prompt, "bundled": bundled, "own": is_own}
            saved |= {side: video and video.public_id for side, video in (("a", shown.a), ("b", shown.b))}
        else:  # of a shared pair a browser keeps no more than the link
            player = self.api.shares.view(shown.shared)
        saved = checked_state(saved)
        covered = shown.answer is not None and self.voting.is_covered(selection, shown.prompt, saved, request)
        answer = cover(shown.answer or Answer()) if covered else shown.answer or Answer()
        if left := self._left.get(request.session_hash or ""):
            left.instead = answer
        share = self.links.view(selection, shown.prompt, shown.answer is not None, saved, request)
        mode, k = asked_in(saved)
        own = own_view(self.api.clip_store, shown.a, shown.b, shown.errors, shown.turn) if is_own else CLOSED
        return {
            "selection": selection,
            "strip": gallery_view(self.api.shown_pairs(request), self.api.clip_store, bundled, is_own),
            "own": own,
            "player": player,
            "prompt": gr.Textbox(shown.prompt, interactive=shown.shared is None),
            "panel": answer_view(answer),
            "votes": self.voting.view(selection, shown.prompt, saved, request),
            "mode": mode,
            "k": gr.Slider(value=k, visible=mode == "k"),
            "vote_first": "vote_first" in saved,
            "share": share,
            "notice": notice(shown.notice, share["until"] if shown.shared is not None and not share["own"] else ""),
            "history": history_view(self.api.access.person(request)),
            "answered": None
            if shown.answer is None
            else self.voting.answered(selection, shown.prompt, shown.answer, shown.answer.k, covered, request),
            "saved": saved,
        }

    def _reword(
        self, selection: Selection | None, prompt: str, saved: dict[str, Any], request: gr.Request
    ) -> tuple[Any, ...]:
        kept = checked_state(saved)
        if selection is None or selection.share is None:
            kept = checked_state(kept | {"prompt": prompt})
        return self.voting.view(selection, prompt, saved, request), kept

    # ---- asking the model ----------------------------------------------------------------------------------------

    def _keep_mode(self, mode: Any, k: Any, saved: dict[str, Any]) -> tuple[Any, ...]:
        """Keep in the browser how it asks, and show the number of thoughts where there are several."""
        return gr.Slider(visible=mode == "k"), checked_state(checked_state(saved) | {"mode": mode, "k": whole(k)})

    def _judge(
        self,
        selection: Selection | None,
        prompt: str,
        mode: Mode,
        k: int,
        saved: dict[str, Any],
        request: gr.Request,
    ) -> Iterator[tuple[Any, ...]]:
        """Stream the answer for both videos; end cleanly when it is cancelled or the page goes away."""
        question = self._begin(request.session_hash, mode, whole(k))
        tab, cancel = request.session_hash or "", question.cancel
        answer = Answer(phase="running", mode=mode)
        rest = gr.Button(interactive=False), gr.Button(interactive=True), gr.skip(), None
        try:
            pair, visitor = self.api.admit(selection, prompt, request)
            question.covered = self.voting.is_covered(selection, prompt, saved, request)
            for answer in self.api.answers(pair, mode, int(k), cancel, visitor):
                yield answer_view(cover(answer) if question.covered else answer), *rest
                rest = (gr.skip(),) * 4
        except JUDGING_ERRORS as error:
            answer = replace(answer, phase="error", status=judging_error_text(error))
        except Exception:
            log.exception("judging failed")
            answer = replace(answer, phase="error", status="The model failed. The app's log says why.")
        finally:
            cancel.set()
            current = self._running.get(tab) is question
            for questions in (self._running, self._left):
                if questions.get(tab) is question:
                    del questions[tab]
        buttons = gr.Button(interactive=True), gr.Button(interactive=False)
        if not current:  # the page shows another pair by now
            yield answer_view(question.instead), *buttons, gr.skip(), gr.skip()
            return
        done = answer.comparison is not None and answer.kept
        share = self.links.view(selection, prompt, True, saved, request) if done else gr.skip()
        covered = question.covered and done  # what the store could not keep can't be shown later
        answered = self.voting.answered(selection, prompt, answer, int(k), covered, request) if done else None
        yield answer_view(cover(answer) if covered else answer), *buttons, share, answered

    def _remember(
        self,
        selection: Selection | None,
        prompt: str,
        mode: Mode,
        k: int,
        saved: dict[str, Any],
        answered: Answered | None,
        request: gr.Request,
    ) -> tuple[Any, ...]:
        """Note a judgement that has just ended in the browser's history, and how it was asked for."""
        saved = checked_state(saved)
        if selection is None or selection.share is not None or answered is None:
            return gr.skip(), saved
        saved = checked_state(saved | {"prompt": prompt, "mode": mode, "k": whole(k)})
        try:
            pair = self.api.pair_of(selection, prompt, request)
            answer = self.api.answer_in_store(pair, answered.mode, answered.k)
        except JUDGING_ERRORS:
            answer = None
        entry = None if answer is None else history_entry(selection, prompt, cover(answer) if answered.covered else answer)
        return history_view(self.api.access.person(request), entry), saved

    def _begin(self, session: str | None, mode: Mode, k: int) -> Question:
        """Return a tab's new question, after stopping an older one of the same tab."""
        self._abandon(session)
        question = self._running[session or ""] = Question(ClientSignal(), mode, k if mode == "k" else 0)
        return question

    def _abandon(self, session: str | None) -> None:
        """Stop a tab's question and forget it: nobody needs its answer."""
        running = self._running.pop(session or "", None)
        if running is not None:
            running.cancel.set()
            self._left[session or ""] = running

    def _cancel(self, request: gr.Request) -> None:
        """Stop a tab's question; its last answer says so."""
        running = self._running.get(request.session_hash or "")
        if running is not None:
            running.cancel.set()
