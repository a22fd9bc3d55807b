"""The endpoints for programs; docs/api.md describes them. MCP clients find most of them as tools, see `app.judge.tools`.

    client = gradio_client.Client(address)
    client.predict("pair-01", "think", 8, api_name="/judge_bundled")
    a, b = map(gradio_client.handle_file, ("a.mp4", "b.mp4"))
    client.predict(a, b, "A red circle.", api_name="/compare")

A docstring here is what a program's author reads: Gradio serves it as the description of the endpoint. It describes results
by their annotations, which it takes as they are; so there is no `from __future__ import annotations`.
"""

from typing import Any, Literal, TypedDict, cast

import gradio as gr

from app.judge.api import MODEL_QUEUE, MODES, MOST_THOUGHTS, JudgeApi, Selection
from app.serving.answer import Answer
from app.serving.cached_judge import Subject, VideoOfPrompt
from app.serving.judging_queue import Visitor
from app.web.client_signal import ClientSignal
from app.web.plain_errors import plainly
from app.web.uploads import uploaded_file
from descore.judgement import Mode
from storage.pairs import Video
from storage.schema import Choice

LARGEST_ID = 2**31 - 1  # of the columns that hold ids


class ClientLeftError(ValueError):
    """Nobody waits for the answer any more."""


class BundledPairInfo(TypedDict):
    """A bundled pair: its id and its prompt."""

    id: str
    prompt: str


class VideoJudgement(TypedDict):
    """The judgement of one video; `descore.judgement.Judgement` says what each value means."""

    id: str
    reward: float | None
    standardised_reward: float | None
    sub_scores: dict[str, str] | None
    overall_score: float | None
    implied_overall_score: list[float] | None
    overall_contradicts: bool | None
    thought: str
    seconds: float
    distance: float | None
    unfamiliar: bool | None


class Source(TypedDict):
    """What a result was made with, and whether the store had it before and has it now."""

    checkpoint: str
    mode: Mode
    prompt: str
    from_store: bool
    kept: bool


class PairJudgement(Source):
    """Both judgements of a pair, and which video is preferred."""

    videos: list[VideoJudgement]
    p_first_preferred: float | None
    verdict: Literal["A", "B", "tie"] | None
    p_source: str | None
    pair: int


class Score(Source, VideoJudgement):
    """The judgement of a video that was judged alone."""


class Comparison(Source):
    """Which video of a pair is preferred: a `PairJudgement` without the texts."""

    rewards: list[float | None]
    unfamiliar: list[bool | None]
    p_first_preferred: float | None
    verdict: Literal["A", "B", "tie"] | None
    p_source: str | None
    pair: int


class VoteReceipt(TypedDict):
    """A vote as it is stored, with the name of the account behind it; `is_new` is False if its token had come before."""

    pair: int
    choice: Choice
    note: str
    name: str | None
    is_new: bool


class JudgeEndpoints:
    """The endpoints of one app. The same limits hold as on the Judge page, since the same functions do the work."""

    def __init__(self, api: JudgeApi) -> None:
        self._api = api

    def connect(self) -> None:
        """Add the endpoints to the current `gr.Blocks`."""
        gr.api(self.gallery, api_name="gallery")
        for endpoint in (self.judge_bundled, self.judge, self.score, self.compare):
            gr.api(endpoint, api_name=endpoint.__name__, **MODEL_QUEUE)
        gr.api(self.vote, api_name="vote")

    @plainly
    def gallery(self, request: gr.Request) -> list[BundledPairInfo]:
        """List the pairs that come with the app: id and prompt."""
        return [{"id": pair.id, "prompt": pair.prompt} for pair in self._api.shown_pairs(request)]

    @plainly
    def judge_bundled(self, pair: str, request: gr.Request, mode: Mode = "think", k: int = 8) -> PairJudgement:
        """Judge a pair that comes with the app; the result is that of `judge`.

        Args:
            pair: its id, as `gallery` lists it.
            mode: "think" (with a thought), "quick" (without) or "k" (several thoughts).
            k: number of thoughts in mode "k", 2 to 16.
        """
        if not isinstance(pair, str) or pair not in self._api.bundled:
            raise ValueError(f"There is no bundled pair {str(pair)[:80]!r}.")
        bundled = self._api.bundled[pair]
        selection = Selection(bundled.a.public_id, bundled.b.public_id, pair)
        return self._pair_judgement(selection, bundled.prompt, mode, k, request)

    @plainly
    def judge(
        self,
        video_a: gr.FileData,
        video_b: gr.FileData,
        prompt: str,
        request: gr.Request,
        mode: Mode = "think",
        k: int = 8,
    ) -> PairJudgement:
        """Judge two videos of one prompt: thought, sub-scores and reward of each, P(A preferred) and the verdict.

        Args:
            video_a: first video, an uploaded file.
            video_b: second video, an uploaded file.
            prompt: what both videos were asked to show.
            mode: "think" (with a thought), "quick" (without) or "k" (several thoughts).
            k: number of thoughts in mode "k", 2 to 16.
        """
        visitor, prompt = self._asked(prompt, mode, k, request)
        a, b = self._api.take_in_pair(_path(video_a), _path(video_b), visitor)
        return self._pair_judgement(Selection(a.public_id, b.public_id), prompt, mode, k, request)

    @plainly
    def score(self, video: gr.FileData, prompt: str, request: gr.Request, mode: Mode = "think", k: int = 8) -> Score:
        """Judge one video: thought, sub-scores and reward, which can be compared with other videos of the same prompt.

        Args:
            video: an uploaded file.
            prompt: what the video was asked to show.
            mode: "think" (with a thought), "quick" (without) or "k" (several thoughts).
            k: number of thoughts in mode "k", 2 to 16.
        """
        visitor, prompt = self._asked(prompt, mode, k, request)
        taken_in = self._api.take_in(_path(video), visitor)
        self._api.access.refuse_blind(request, (taken_in,))
        result = self._result(VideoOfPrompt(taken_in, prompt), mode, k, visitor)
        (judged,) = result.pop("videos")
        return cast("Score", result | judged)

    @plainly
    def compare(
        self,
        video_a: gr.FileData,
        video_b: gr.FileData,
        prompt: str,
        request: gr.Request,
        mode: Mode = "think",
        k: int = 8,
    ) -> Comparison:
        """Tell which of two videos of one prompt is preferred: verdict, P(A preferred) and both rewards, without texts.

        Args:
            video_a: first video, an uploaded file.
            video_b: second video, an uploaded file.
            prompt: what both videos were asked to show.
            mode: "think" (with a thought), "quick" (without) or "k" (several thoughts).
            k: number of thoughts in mode "k", 2 to 16.
        """
        judged = self.judge(video_a, video_b, prompt, request, mode, k)
        return {
            "checkpoint": judged["checkpoint"],
            "mode": judged["mode"],
            "prompt": judged["prompt"],
            "rewards": [video["reward"] for video in judged["videos"]],
            "unfamiliar": [video["unfamiliar"] for video in judged["videos"]],
            "p_first_preferred": judged["p_first_preferred"],
            "verdict": judged["verdict"],
            "p_source": judged["p_source"],
            "pair": judged["pair"],
            "from_store": judged["from_store"],
            "kept": judged["kept"],
        }

    @plainly
    def vote(self, pair: int, choice: str, token: str, voter: str, request: gr.Request, note: str = "") -> VoteReceipt:
        """Save a person's vote on a pair; the same token again saves nothing.

        Args:
            pair: number of the pair, from a result of `judge`.
            choice: A, tie, B or both_bad.
            token: new for each vote.
            voter: 32 hex digits, the same for all votes of one person.
            note: why, at most 1,000 characters.
        """
        pair_id = whole_number(pair, "pair", 1, LARGEST_ID)
        saved = self._api.save_vote(pair_id, choice, token, voter, note, request)
        vote = saved.vote
        return {
            "pair": vote.pair_id,
            "choice": vote.choice,
            "note": vote.note,
            "name": vote.user_name,
            "is_new": saved.is_new,
        }

    def _asked(self, prompt: Any, mode: Any, k: Any, request: Any) -> tuple[Visitor, str]:
        """Check all that can be checked before a video is decoded; return who asks, and the prompt."""
        visitor = self._api.access.visitor(request)
        prompt = prompt if isinstance(prompt, str) else ""
        self._api.serving.now.check_prompt(prompt)
        _check_mode(mode, k)
        return visitor, prompt

    def _pair_judgement(self, selection: Selection, prompt: str, mode: Any, k: Any, request: Any) -> PairJudgement:
        _check_mode(mode, k)
        pair, visitor = self._api.admit(selection, prompt, request)
        return cast("PairJudgement", self._result(pair, mode, k, visitor) | {"pair": pair.id})

    def _result(self, subject: Subject, mode: Mode, k: Any, visitor: Visitor) -> dict[str, Any]:
        *_, answer = self._api.answers(subject, mode, int(k), ClientSignal(), visitor)
        return _json_result(answer, subject.videos)


def _json_result(answer: Answer, videos: tuple[Video, ...]) -> dict[str, Any]:
    if answer.comparison is None:
        raise ClientLeftError("The client left before the answer was there; nothing was kept.")
    result = answer.comparison.to_json_dict()
    for judged, video in zip(result["videos"], videos, strict=True):
        # Clients take anything with a "path" for a file to download.
        del judged["path"]
        judged["id"] = video.public_id
    return result | {"from_store": answer.from_store, "kept": answer.kept}


def _path(file: Any) -> str | None:
    return None if file is None else str(uploaded_file(file))


def _check_mode(mode: Any, k: Any) -> None:
    if mode not in [value for _, value in MODES]:
        raise ValueError(f"A mode is think, quick or k (got {str(mode)[:80]!r}).")
    whole_number(k, "k, the number of thoughts,", 2, MOST_THOUGHTS)


def whole_number(value: Any, name: str, low: int, high: int) -> int:
    """Return a whole number of a request.

    Raises:
        ValueError: it is none, or out of range.
    """
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if not whole or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"{name} has to be a whole number from {low} to {high} (got {str(value)[:40]!r}).")
    return int(value)
