"""The Judge page: choose or upload two videos, ask the model, see why, vote.

Handlers are thin: typed input, a call into `serving`, `clip_store` or `storage`, a view. The page keeps its selection in the
browser too, so that a reload comes back to the same pair and to the vote that this browser gave.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

import gradio as gr

from app.judge.api import (
    MODEL_QUEUE,
    MODES,
    MOST_THOUGHTS,
    VOTER,
    JudgeApi,
    Selection,
    upload_box,
)
from app.judge.gallery import gallery_strip, gallery_view
from app.judge.shares import SharedPair
from app.serving.answer import Answer
from app.ui.answer_panel import answer_panel, answer_view
from app.ui.share import share_line, share_view
from app.ui.synced_pair import synced_pair
from app.ui.vote import vote_bar, vote_view
from app.web.auth import NotAllowedError
from app.web.client_signal import ClientSignal
from app.web.plain_errors import JUDGING_ERRORS, judging_error_text, plainly
from descore.judgement import Mode
from descore.prompt import PROMPT_CHARACTERS, prompt_problem
from storage import StorageError
from storage.errors import ShareError
from storage.pairs import Video
from storage.uploads import KEPT_FOR
from storage.votes import Seen, ShownAnswer

log = logging.getLogger(__name__)

_SAVED = ("voter", "a", "b", "bundled")  # and the prompt
_LONGEST_ID = 100
# Leads see the pairs of all sources, and can put them into a campaign; annotators see those of their campaigns.
KEPT = (
    f"Without an account, the videos that you use here are deleted after {KEPT_FOR.days} days, unless somebody votes on "
    "them, they are put up for labelling, or a link to them is open. The people who run this app can see them and show them "
    "to annotators. Of your address only a hash is kept, to share the room fairly."
)


@dataclass(frozen=True)
class Shown:
    """What the page is to show.

    Attributes:
        bundled: the id of a pair of the gallery.
        shared: the link that the pair came by.
        answer: of the model, from the store.
        notice: a sentence about a link that leads nowhere.
    """

    a: Video
    b: Video
    prompt: str
    bundled: Any = None
    shared: SharedPair | None = None
    answer: Answer | None = None
    notice: str = ""


@dataclass(frozen=True)
class Answered:
    """The answer on the page, and how it was asked for.

    Attributes:
        pair: id of the pair that it is about; None where its link has ended.
        seen: what a vote keeps of it.
    """

    mode: Mode
    k: int
    pair: int | None = None
    seen: Seen = "unknown"


class JudgePage:
    """Builds the page inside the current `gr.Blocks` and holds what its handlers need."""

    def __init__(self, api: JudgeApi) -> None:
        self.api, self.bundled = api, api.bundled
        self._running: dict[str, threading.Event] = {}

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
            self._build_own()
            self.prompt = gr.Textbox(
                label="Prompt",
                placeholder="What were both videos asked to show?",
                max_lines=4,
                max_length=PROMPT_CHARACTERS,
                elem_id="prompt",
            )
            self.player = synced_pair()
            self._build_controls()
            self.panel = answer_panel()
            self.votes = vote_bar()
            self.share = share_line()
        self._connect(blocks)

    def _build_own(self) -> None:
        with gr.Accordion("Two videos of your own", open=False, elem_id="own") as self.own:
            with gr.Row():
                self.own_a, self.own_b = (upload_box(label) for label in ("Video A", "Video B"))
            gr.HTML(f'<p class="ds-hint">{KEPT}</p>', elem_id="own-kept", apply_default_css=False)
            self.use_own = gr.Button("Use these two videos", size="sm", elem_id="use-own")
            self.own_error = gr.HTML(visible=False, elem_id="own-error", apply_default_css=False)

    def _build_controls(self) -> None:
        with gr.Row(elem_id="ask"):
            self.mode = gr.Radio(MODES, value="think", label="How to ask", show_label=False, container=False, elem_id="mode")
            self.k = gr.Slider(2, MOST_THOUGHTS, 8, step=1, label="thoughts", visible=False, container=False, elem_id="k")
            self.judge = gr.Button("Judge", variant="primary", elem_id="judge")
            self.cancel = gr.Button("Cancel", interactive=False, elem_id="cancel")

    def _connect(self, blocks: gr.Blocks) -> None:
        page = [
            self.selection,
            self.strip,
            self.player,
            self.prompt,
            self.panel,
            self.votes,
            self.mode,
            self.share,
            self.notice,
            self.answered,
            self.saved,
        ]
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        blocks.load(plainly(self._restore), self.saved, page, **quiet)
        self.strip.select(plainly(self._choose), self.saved, page, **quiet)
        self.use_own.click(
            plainly(self._take_own),
            [self.own_a, self.own_b, self.prompt, self.saved],
            [*page, self.own_a, self.own_b, self.own, self.own_error],
            show_progress="minimal",
            api_visibility="private",
            **MODEL_QUEUE,
        )
        # An answer belongs to the prompt that was judged; clearing it takes no round trip, so it can't come late.
        nothing = json.dumps([answer_view(Answer()), share_view()])
        self.prompt.input(None, None, [self.panel, self.share], js=f"() => {nothing}", **quiet)
        # On blur, so also before a click on Judge: another prompt is another pair, with another vote.
        self.prompt.blur(plainly(self._reword), [self.selection, self.prompt, self.saved], [self.votes, self.saved], **quiet)
        self.mode.change(lambda mode: gr.Slider(visible=mode == "k"), self.mode, self.k, queue=False, **quiet)
        self.judge.click(
            self._judge,
            [self.selection, self.prompt, self.mode, self.k, self.saved],
            [self.panel, self.judge, self.cancel, self.share, self.answered],
            **MODEL_QUEUE,
            **quiet,
        )
        self.cancel.click(self._cancel, queue=False, **quiet)
        voting = [self.selection, self.prompt, self.answered, self.saved]
        self.votes.vote(plainly(self._vote), voting, self.votes, **quiet)
        shown = [self.selection, self.prompt, self.answered, self.saved]
        self.share.make_link(plainly(self._make_link), shown, self.share, **quiet)
        self.share.end_link(plainly(self._end_link), shown, self.share, **quiet)

    # ---- choosing a pair -----------------------------------------------------------------------------------------

    def _restore(self, saved: dict[str, Any] | None, request: gr.Request) -> tuple[Any, ...]:
        """Show, on load, the pair of the link that was followed, else what this browser looked at last, else the first."""
        saved = _checked_state(saved)
        saved.setdefault("voter", secrets.token_hex(16))
        notice = ""
        try:
            linked = self._linked(saved, request)
            if linked is not None:
                return linked
        except (StorageError, NotAllowedError) as error:
            notice = str(error)
        try:
            a, b = (self.api.clip_store.by_id(saved.get(side, "")) for side in ("a", "b"))
            self.api.access.refuse_blind(request, (a, b))
            shown = Shown(a, b, saved.get("prompt", ""), saved.get("bundled"), notice=notice)
            return self._page(shown, saved, request)
        except (StorageError, NotAllowedError):
            first = next(iter(self.api.shown_pairs(request)), None)
        if first is None:
            return None, *[gr.skip()] * 7, _notice(notice), None, saved
        return self._page(Shown(first.a, first.b, first.prompt, first.id, notice=notice), saved, request)

    def _linked(self, saved: dict[str, Any], request: gr.Request) -> tuple[Any, ...] | None:
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
            return self._page(shown, saved, request)
        if "pair" in query:
            pair, bundled = self.api.linked_pair(query["pair"], request)
            shown = Shown(pair.video_a, pair.video_b, pair.prompt, bundled, answer=self.api.answer_in_store(pair))
            return self._page(shown, saved, request)
        return None

    def _choose(self, saved: dict[str, Any], event: gr.EventData, request: gr.Request) -> tuple[Any, ...]:
        self._abandon(request.session_hash)
        pair = self.bundled.get(str(event.id))
        if pair is None:
            raise gr.Error("This pair is no longer in the gallery. Reload the page.", print_exception=False)
        self.api.access.refuse_blind(request, (pair.a, pair.b))
        return self._page(Shown(pair.a, pair.b, pair.prompt, pair.id), saved, request)

    def _take_own(
        self, path_a: str | None, path_b: str | None, prompt: str, saved: dict[str, Any], request: gr.Request
    ) -> tuple[Any, ...]:
        try:
            a, b = self.api.take_in_pair(path_a, path_b, self.api.access.visitor(request))
            self.api.access.refuse_blind(request, (a, b))
        except JUDGING_ERRORS as error:
            # The saved state is given back as it is: a browser state can't skip an update.
            same = [gr.skip()] * 10
            return *same, _checked_state(saved), *same[:3], gr.HTML(_error_line(str(error)), visible=True)
        self._abandon(request.session_hash)
        page = self._page(Shown(a, b, prompt), saved, request)
        return *page, None, None, gr.Accordion(open=False), gr.HTML(visible=False)

    def _page(self, shown: Shown, saved: dict[str, Any], request: gr.Request) -> tuple[Any, ...]:
        """Return all outputs that depend on the pair, in the order of `page` in `_connect`."""
        bundled = str(shown.bundled) if shown.bundled in self.bundled else None
        token = None if shown.shared is None else shown.shared.token
        selection = Selection(shown.a.public_id, shown.b.public_id, bundled, token)
        saved = _checked_state(saved)
        if shown.shared is None:
            player = {"a": self.api.clip_store.view(shown.a), "b": self.api.clip_store.view(shown.b)}
            saved |= {"a": selection.a, "b": selection.b, "prompt": shown.prompt, "bundled": bundled}
        else:  # of a shared pair a browser keeps no more than the link
            player = self.api.shares.view(shown.shared)
        answer = shown.answer or Answer()
        share = self._share_view(selection, shown.prompt, shown.answer is not None, saved, request)
        return (
            selection,
            gallery_view(self.api.shown_pairs(request), self.api.clip_store, bundled),
            player,
            gr.Textbox(shown.prompt, interactive=shown.shared is None),
            answer_view(answer),
            self._vote_view(selection, shown.prompt, saved, request),
            gr.skip() if shown.answer is None else answer.mode,
            share,
            _notice(shown.notice, share["until"] if shown.shared is not None and not share["own"] else ""),
            None if shown.answer is None else self._answered(selection, shown.prompt, answer, 0, request),
            _checked_state(saved),
        )

    def _reword(
        self, selection: Selection | None, prompt: str, saved: dict[str, Any], request: gr.Request
    ) -> tuple[Any, ...]:
        kept = _checked_state(saved)
        if selection is None or selection.share is None:
            kept = _checked_state(kept | {"prompt": prompt})
        return self._vote_view(selection, prompt, saved, request), kept

    # ---- asking the model ----------------------------------------------------------------------------------------

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
        cancel = self._begin(request.session_hash)
        answer = Answer(phase="running", mode=mode)
        rest = gr.Button(interactive=False), gr.Button(interactive=True), gr.skip(), None
        try:
            pair, visitor = self.api.admit(selection, prompt, request)
            for answer in self.api.answers(pair, mode, int(k), cancel, visitor):
                yield answer_view(answer), *rest
                rest = (gr.skip(),) * 4
        except JUDGING_ERRORS as error:
            answer = replace(answer, phase="error", status=judging_error_text(error))
        except Exception:
            log.exception("judging failed")
            answer = replace(answer, phase="error", status="The model failed. The app's log says why.")
        finally:
            cancel.set()
            current = self._running.get(request.session_hash or "") is cancel
            if current:
                del self._running[request.session_hash or ""]
        buttons = gr.Button(interactive=True), gr.Button(interactive=False)
        if not current:  # the page shows another pair by now
            yield answer_view(Answer()), *buttons, gr.skip(), gr.skip()
            return
        done = answer.comparison is not None and answer.kept
        share = self._share_view(selection, prompt, True, saved, request) if done else gr.skip()
        answered = self._answered(selection, prompt, answer, int(k), request) if done else None
        yield answer_view(answer), *buttons, share, answered

    def _answered(self, selection: Selection | None, prompt: str, answer: Answer, k: int, request: gr.Request) -> Answered:
        """Return what a vote and a link need to know of the answer on the page."""
        try:
            pair = self.api.pair_of(selection, prompt, request).id
        except JUDGING_ERRORS:
            return Answered(answer.mode, k)  # its link has ended meanwhile
        verdict = answer.comparison
        outcome, p = (None, None) if verdict is None else (verdict.verdict, verdict.p_first_preferred)
        fingerprint = self.api.serving.now.fingerprint
        seen = ShownAnswer(answer.mode, k if answer.mode == "k" else 0, fingerprint, outcome, p)
        return Answered(answer.mode, k, pair, seen)

    def _begin(self, session: str | None) -> threading.Event:
        """Return the stop signal of a tab's new question, after stopping an older question of the same tab."""
        self._abandon(session)
        cancel = self._running[session or ""] = ClientSignal()
        return cancel

    def _abandon(self, session: str | None) -> None:
        """Stop a tab's question and forget it: nobody needs its answer."""
        running = self._running.pop(session or "", None)
        if running is not None:
            running.set()

    def _cancel(self, request: gr.Request) -> None:
        """Stop a tab's question; its last answer says so."""
        running = self._running.get(request.session_hash or "")
        if running is not None:
            running.set()

    # ---- voting --------------------------------------------------------------------------------------------------

    def _vote(
        self,
        selection: Selection | None,
        prompt: str,
        answered: Answered | None,
        saved: dict[str, Any],
        event: gr.EventData,
        request: gr.Request,
    ) -> Any:
        saved = _checked_state(saved)
        try:
            pair = self.api.pair_of(selection, prompt, request)
            voter = str(saved.get("voter", ""))
            shown = self._shown_at_vote(pair.id, answered, request)
            self.api.save_vote(pair.id, str(event.choice), str(event.token), voter, str(event.note), request, shown)
        except JUDGING_ERRORS as error:
            return self._vote_view(selection, prompt, saved, request) | {"status": f"not saved: {error}"}
        return self._vote_view(selection, prompt, saved, request)

    def _shown_at_vote(self, pair: int, answered: Answered | None, request: gr.Request) -> Seen:
        """Return what of the model stood on the page, which nobody but the server has to be believed about."""
        if (request.session_hash or "") in self._running:
            return ShownAnswer("think")  # it is being written
        return answered.seen if answered is not None and answered.pair == pair else "nothing"

    def _vote_view(
        self, selection: Selection | None, prompt: str, saved: dict[str, Any], request: gr.Request
    ) -> dict[str, Any]:
        if selection is None:
            return vote_view(None, None)
        problem = prompt_problem(prompt)
        if problem is not None:
            return vote_view(
                None, None, f"a vote needs the prompt; this one {problem}" if prompt else "a vote needs the prompt"
            )
        try:
            pair = self.api.pair_of(selection, prompt, request)
        except (ShareError, NotAllowedError) as error:
            return vote_view(None, None, str(error))
        return vote_view(pair.id, self.api.current_vote(pair, str(saved.get("voter", "")), request))

    # ---- sharing -------------------------------------------------------------------------------------------------

    def _make_link(
        self, selection: Selection | None, prompt: str, answered: Answered | None, saved: dict[str, Any], request: gr.Request
    ) -> dict[str, Any]:
        browser = str(_checked_state(saved).get("voter", ""))
        try:
            if selection is None or selection.share is not None or answered is None or not browser:
                raise ShareError("Judge two videos of your own first, then share them.")
            pair, visitor = self.api.admit(selection, prompt, request)
            token = self.api.shares.make(pair, answered.mode, answered.k, browser, visitor)
            share = self.api.shares.open(token, request).share
        except JUDGING_ERRORS as error:
            return share_view("ready", status=f"Not shared: {judging_error_text(error)}")
        return share_view("made", f"judge?share={token}", share.expires_at, own=True)

    def _end_link(
        self, selection: Selection | None, prompt: str, answered: Answered | None, saved: dict[str, Any], request: gr.Request
    ) -> dict[str, Any]:
        browser = str(_checked_state(saved).get("voter", ""))
        pair = self.api.pair_of(selection, prompt, request)
        ended = self.api.shares.end(pair, browser)
        status = "The link has ended; nobody can open it any more." if ended else "This browser made no link to this pair."
        here = selection is not None and selection.share is None
        return share_view("ready" if here and answered is not None else "none", status=status)

    def _share_view(
        self, selection: Selection | None, prompt: str, judged: bool, saved: dict[str, Any], request: gr.Request
    ) -> dict[str, Any]:
        """Return what the line of the link shows.

        Args:
            judged: the page shows an answer of the model.
        """
        browser = str(_checked_state(saved).get("voter", ""))
        if selection is None or prompt_problem(prompt) is not None:
            return share_view()
        if selection.bundled is not None:
            own_prompt = prompt.strip() == self.bundled[selection.bundled].prompt.strip()
            return share_view("link", f"judge?{urlencode({'pair': selection.bundled})}") if own_prompt else share_view()
        try:
            if selection.share is not None:
                share = self.api.shares.open(selection.share, request).share
                query, own = f"?{urlencode({'share': selection.share})}", share.is_made_by(browser)
                return share_view("shared", until=share.expires_at, own=own, query=query)
            made = self.api.shares.own(self.api.pair_of(selection, prompt, request), browser)
        except (StorageError, NotAllowedError) as error:
            return share_view(status=str(error))
        if made is not None:
            return share_view("open", until=made.expires_at, own=True)
        return share_view("ready" if judged else "none")


def _checked_state(saved: Any) -> dict[str, Any]:
    """Return what may be kept of a browser's state, which anybody can send: nothing unknown, nothing endless."""
    state = saved if isinstance(saved, dict) else {}
    texts = {name: value for name in _SAVED if isinstance(value := state.get(name), str)}
    kept = {name: value for name, value in texts.items() if len(value) <= _LONGEST_ID}
    if "voter" in kept and not VOTER.fullmatch(kept["voter"]):
        del kept["voter"]
    prompt = state.get("prompt")
    if isinstance(prompt, str) and prompt_problem(prompt) is None:
        kept["prompt"] = prompt
    return kept


def _notice(text: str, until: str = "") -> gr.HTML:
    """Return the line on top of the page: about a link that leads nowhere, or one that is open until a day."""
    if until:
        line = f"Somebody shared this pair. Everybody with the link can open it until {until}."
        return gr.HTML(f'<p class="shared-line" role="status">{line}</p>', visible=True)
    return gr.HTML(_error_line(text) if text else "", visible=bool(text))


def _error_line(text: str) -> str:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;")
    return f'<p class="error-line" role="alert">{escaped}</p>'
