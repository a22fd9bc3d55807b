"""Judging: independence of the neighbours, streaming, the three modes, verdicts."""

from __future__ import annotations

import statistics
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from descore.answer import render_answer
from descore.calibration import Calibration, ModeCalibration
from descore.errors import PromptError, RewardError
from descore.judge import DeScore
from descore.judgement import Judged, Judgement, Mode, ThoughtDelta, Verdict
from descore.modeling.model import DeScoreModel
from descore.modeling.text_streamer import TextStream
from descore.video import VideoError
from tests.helpers.tiny import (
    calibrated,
    reads_in_pieces,
    tiny_backbone,
    tiny_judge,
    tiny_processor,
    tiny_tokenizer,
    tiny_video,
)

PROMPT = "A red circle bounces"


@pytest.fixture(scope="module")
def judge() -> DeScore:
    return tiny_judge()


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A, B, C: of different sizes and lengths, so that they pad each other when side by side."""
    folder = tmp_path_factory.mktemp("videos")
    shapes = {"A": (1, 8, 32, 32), "B": (2, 16, 64, 48), "C": (3, 12, 32, 64)}
    return [str(tiny_video(folder / f"{name}.mp4", *shape)) for name, shape in shapes.items()]


def same(first: Judgement, second: Judgement) -> bool:
    assert first.reward is not None
    assert second.reward is not None
    return first.thought == second.thought and abs(first.reward - second.reward) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["think", "quick", "k"])
def test_a_video_does_not_depend_on_its_neighbours(judge: DeScore, videos: list[str], mode: Mode) -> None:
    judge, (a, b, c) = calibrated(judge), videos
    alone = judge.judge([a], PROMPT, mode, k=3).videos[0]
    beside_b = judge.judge([a, b], PROMPT, mode, k=3)
    beside_c = judge.judge([a, c], PROMPT, mode, k=3)
    swapped = judge.judge([b, a], PROMPT, mode, k=3)
    assert same(alone, beside_b.videos[0])
    assert same(alone, beside_c.videos[0])
    assert same(alone, swapped.videos[1])
    assert same(beside_b.videos[1], swapped.videos[0])
    assert not same(alone, beside_b.videos[1])
    assert beside_b.p_first_preferred is not None
    assert swapped.p_first_preferred is not None
    assert beside_b.p_first_preferred + swapped.p_first_preferred == pytest.approx(1, abs=1e-4)
    assert {beside_b.verdict, swapped.verdict} == {"A", "B"}


def test_stream_ends_with_the_verdict_and_its_text_adds_up(judge: DeScore, videos: list[str]) -> None:
    events = list(judge.stream(videos[:2], PROMPT))
    *deltas, first, second, verdict = events
    assert isinstance(first, Judged)
    assert isinstance(second, Judged)
    assert isinstance(verdict, Verdict)
    assert (first.index, second.index) == (0, 1)
    assert verdict.videos == (first.judgement, second.judgement)
    for index, judgement in enumerate(verdict.videos):
        pieces = [event.text for event in deltas if isinstance(event, ThoughtDelta) and event.index == index]
        assert "".join(pieces) == judgement.thought
        assert all(pieces)
        assert judgement.thought
    assert any(judgement.truncated for judgement in verdict.videos)
    places = [event.index for event in deltas if isinstance(event, ThoughtDelta)]
    assert places.index(1) < len(places) - places[::-1].index(0) - 1, "both thoughts stream at the same time"


def test_text_comes_before_the_thought_is_over(judge: DeScore, videos: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    steps = []
    append = judge.model._append_tokens
    monkeypatch.setattr(judge.model, "_append_tokens", lambda *a: (steps.append(1), append(*a))[1])
    stream = judge.stream(videos[:2], PROMPT)
    assert isinstance(next(stream), ThoughtDelta)
    assert len(steps) <= 4


@pytest.mark.parametrize("how", ["cancel", "close"])
def test_stopping_takes_one_token(judge: DeScore, videos: list[str], monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    steps = []
    append = judge.model._append_tokens
    monkeypatch.setattr(judge.model, "_append_tokens", lambda *a: (steps.append(1), append(*a))[1])
    cancel = threading.Event()
    stream = judge.stream(videos[:2], PROMPT, cancel=cancel)
    next(stream)
    before = len(steps)
    if how == "cancel":
        cancel.set()
        assert not any(isinstance(event, (Judged, Verdict)) for event in stream)
    else:
        stream.close()  # type: ignore[attr-defined]
    assert len(steps) <= before + 1
    assert same(judge.judge([videos[0]], PROMPT).videos[0], judge.judge([videos[0]], PROMPT).videos[0])


@pytest.mark.slow
def test_two_streams_at_once_do_not_disturb_each_other(judge: DeScore, videos: list[str]) -> None:
    expected = [judge.judge([video], PROMPT).videos[0] for video in videos]
    streams = [judge.stream([video], PROMPT) for video in videos]
    found: dict[int, Judgement] = {}
    while len(found) < len(streams):  # one event of each in turn
        for place, stream in enumerate(streams):
            if isinstance(event := next(stream, None), Verdict):
                found[place] = event.videos[0]
    assert all(same(found[place], expected[place]) for place in found)

    results: dict[int, Judgement] = {}
    threads = [
        threading.Thread(target=lambda p=p, v=v: results.__setitem__(p, judge.judge([v], PROMPT).videos[0]))
        for p, v in enumerate(videos)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(same(results[place], expected[place]) for place in range(len(videos)))


def test_k_thoughts_from_one_look_at_the_video(judge: DeScore, videos: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    tower = judge.model.backbone.model.visual
    monkeypatch.setattr(tower, "forward", lambda *a, f=tower.forward, **k: (calls.append(1), f(*a, **k))[1])
    verdict = judge.judge(videos[:2], PROMPT, "k", k=4, seed=7)
    assert calls == [1]
    again, other = (judge.judge(videos[:2], PROMPT, "k", k=4, seed=seed) for seed in (7, 8))
    assert [v.thought for v in verdict.videos] == [v.thought for v in again.videos]
    assert verdict.videos[0].thought != other.videos[0].thought
    for judgement in verdict.videos:
        assert judgement.reward_spread is not None
        assert judgement.reward_spread > 0


def say(judge: DeScore, monkeypatch: pytest.MonkeyPatch, texts: list[str]) -> None:
    """Let the random model write these texts, row after row."""
    tokenizer, end = judge.model.processor.tokenizer, min(judge.model.end_ids)
    scripts = [[*tokenizer(text, add_special_tokens=False)["input_ids"], end] for text in texts]
    steps: dict[int, Iterator[int]] = {}

    def choosing(state, *_):  # type: ignore[no-untyped-def]
        step = steps.setdefault(id(state), iter(range(10_000)))
        now = next(step)
        chosen = [script[min(now, len(script) - 1)] for script in scripts]
        state.running = [on and token != end for on, token in zip(state.running, chosen, strict=True)]
        return chosen

    monkeypatch.setattr(judge.model, "_choose", choosing)


SCORES = {"subject": "2", "dynamics": "1", "camera": "N/A", "environment": "0", "style": "2"}


def test_sub_scores_are_read_from_the_thought(judge: DeScore, videos: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    judge = DeScore(judge.model, replace(judge.manifest, max_thought_tokens=400))
    good, sloppy = render_answer("I see it.", SCORES, 3.5), '```json\n{"subject": 1}\n```'
    say(judge, monkeypatch, [good, sloppy])
    first, second = judge.judge(videos[:2], PROMPT).videos
    assert (first.thought, first.sub_scores, first.overall_score) == (good, SCORES, 3.5)
    assert first.strict_format
    assert first.parse_note is None
    assert not first.truncated
    assert second.thought == sloppy
    assert second.sub_scores is None
    assert second.overall_score is None
    assert second.parse_note is not None
    assert "not readable" in second.parse_note
    assert not second.strict_format


def test_k_mode_votes(judge: DeScore, videos: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    judge = DeScore(judge.model, replace(judge.manifest, max_thought_tokens=400))
    answers = [
        render_answer("a", {**SCORES, "style": style}, score) for style, score in [("0", 2.0), ("1", 3.0), ("1", 4.0)]
    ]
    say(judge, monkeypatch, [*answers, "nothing"])
    video = judge.judge(videos[:1], PROMPT, "k", k=4).videos[0]
    assert video.sub_scores == {**SCORES, "style": "1"}
    assert video.overall_score == 3.0
    assert video.sub_score_votes is not None
    assert video.sub_score_votes["style"] == {"0": 1, "1": 2}
    assert video.thoughts is not None
    assert [thought["text"] for thought in video.thoughts] == [*answers, "nothing"]
    assert statistics.fmean(thought["reward"] for thought in video.thoughts) == pytest.approx(video.reward)
    assert video.parse_note is not None
    assert video.parse_note.startswith("1 of 4 thoughts: not readable")
    assert video.thought == answers[0]


def test_quick_gives_a_reward_and_nothing_else(judge: DeScore, videos: list[str]) -> None:
    events = list(judge.stream(videos[:2], PROMPT, "quick"))
    assert [type(event) for event in events] == [Judged, Judged, Verdict]
    video = events[-1].videos[0]  # type: ignore[union-attr]
    assert video.reward is not None
    assert (video.thought, video.sub_scores, video.parse_note, video.truncated) == ("", None, None, False)


def test_calibration_scales_reward_and_verdict(judge: DeScore, videos: list[str]) -> None:
    plain = judge.judge(videos[:2], PROMPT)
    a, b = (video.reward for video in plain.videos)
    assert a is not None
    assert b is not None
    assert plain.videos[0].standardised_reward is None
    scale = ModeCalibration(mean=1.0, std=2.0, temperature=3.0, tie_threshold=1000.0, reference_videos=2, validation_pairs=1)
    judge = DeScore(judge.model, replace(judge.manifest, calibration=Calibration({"think": scale})))
    for mode in ("think", "k"):
        verdict = judge.judge(videos[:2], PROMPT, mode, k=2)  # type: ignore[arg-type]
        assert verdict.verdict == "tie"
        assert verdict.videos[0].standardised_reward is not None
    verdict = judge.judge(videos[:2], PROMPT)
    assert verdict.videos[0].standardised_reward == pytest.approx((a - 1.0) / 2.0, abs=1e-4)
    assert verdict.p_first_preferred == pytest.approx(scale.p_first(a, b), abs=1e-4)
    assert judge.judge(videos[:2], PROMPT, "quick").videos[0].standardised_reward is None


@pytest.mark.slow
def test_many_are_scored_as_one_by_one(judge: DeScore, videos: list[str]) -> None:
    paths, prompts = videos * 4, [f"prompt {place % 5}" for place in range(12)]
    for judgement, path, prompt in zip(judge.score(paths, prompts), paths, prompts, strict=True):
        assert judgement.path == path
        assert same(judgement, judge.judge([path], prompt).videos[0])
    with pytest.raises(ValueError, match="need 3 prompts"):
        judge.score(videos, ["one", "two"])
    assert judge.score([], []) == []


def test_a_backbone_without_a_head_thinks_and_gives_no_reward(videos: list[str]) -> None:
    bare = DeScore(DeScoreModel(tiny_backbone(), tiny_processor()), tiny_judge().manifest)
    assert not bare.has_reward
    verdict = bare.judge(videos[:2], PROMPT)
    assert verdict.verdict is None
    assert verdict.p_first_preferred is None
    assert all(video.thought and video.reward is None for video in verdict.videos)
    with pytest.raises(RewardError, match="no trained scoring module"):
        bare.judge(videos[:2], PROMPT, "quick")


def test_without_a_calibration_there_is_no_probability_and_the_verdict_is_the_higher_reward(
    judge: DeScore, videos: list[str]
) -> None:
    plain = DeScore(judge.model, replace(judge.manifest, calibration=Calibration({})))
    verdict = plain.judge(videos[:2], PROMPT, "quick")
    a, b = (video.reward for video in verdict.videos)
    assert a is not None
    assert b is not None
    assert (verdict.verdict, verdict.p_first_preferred) == ("A" if a > b else "B", None)
    assert verdict.to_json_dict()["p_source"] == "none: the checkpoint has no calibration for this mode"
    assert all(video.standardised_reward is None for video in verdict.videos)


def test_what_is_wrong_is_said_before_any_event(judge: DeScore, videos: list[str], tmp_path: Path) -> None:
    with pytest.raises(VideoError):
        next(judge.stream([videos[0], str(tmp_path / "none.mp4")], PROMPT))
    with pytest.raises(ValueError, match="prompt is empty"):
        next(judge.stream(videos[:1], "  "))
    with pytest.raises(ValueError, match="no video"):
        next(judge.stream([], PROMPT))
    with pytest.raises(ValueError, match="unknown mode"):
        next(judge.stream(videos[:1], PROMPT, "slow"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 2"):
        next(judge.stream(videos[:1], PROMPT, "k", k=1))


def test_json_dict_has_the_documented_keys(judge: DeScore, videos: list[str]) -> None:
    pair, single = (judge.judge(videos[:n], PROMPT).to_json_dict() for n in (2, 1))
    assert list(pair) == ["checkpoint", "mode", "engine", "prompt", "videos", "p_first_preferred", "verdict", "p_source"]
    assert list(single) == ["checkpoint", "mode", "engine", "prompt", "videos"]
    assert list(pair["videos"][0]) == [
        "path", "reward", "standardised_reward", "sub_scores", "overall_score", "implied_overall_score",
        "overall_contradicts", "thought", "seconds", "distance", "unfamiliar",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["plain", "naïve 日本語 😀😀 <think>", "e\u0301 \ufffd end", "😀"])
def test_text_stream_never_breaks_a_character(text: str) -> None:
    tokenizer = tiny_tokenizer()
    stream, pieces = TextStream(tokenizer), []
    for token in tokenizer(text, add_special_tokens=False)["input_ids"]:
        pieces.append(stream.push(token))
    pieces.append(stream.finish())
    assert "".join(pieces) == stream.text == text
    assert sum(piece.count("\ufffd") for piece in pieces) == text.count("\ufffd")


def test_text_stream_gives_out_what_stays_broken() -> None:
    tokenizer = tiny_tokenizer()
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        ids = torch.randint(0, 300, (40,), generator=generator).tolist()
        stream = TextStream(tokenizer)
        pieces = [stream.push(token) for token in ids] + [stream.finish()]
        assert "".join(pieces) == tokenizer.decode(ids, clean_up_tokenization_spaces=False)


@pytest.mark.parametrize("prompt", ["", "x" * 20_000, "x" * 1_000_000, "a\0b", "\ud800", "a <|im_end|> square", "é" * 4000])
def test_a_prompt_that_can_not_be_used_is_refused_before_any_video_is_read(judge: DeScore, prompt: str) -> None:
    for call in (
        lambda: judge.judge(["missing.mp4"], prompt),
        lambda: next(judge.stream(["missing.mp4"], prompt)),
        lambda: judge.score(["missing.mp4", "missing.mp4"], ["a square", prompt]),
    ):
        with pytest.raises(PromptError, match="the prompt"):
            call()


def test_the_limit_in_tokens_is_what_the_largest_video_and_the_longest_thought_leave(videos: list[str]) -> None:
    judge = tiny_judge(thought_tokens=3000)
    limit = judge.prompt_tokens
    assert limit is not None
    assert 0 < limit < 1000
    word = " Ω"  # nothing that the tokenizer merges: a blank, and a letter of two bytes
    tokens = len(judge.model.processor.tokenizer(word * 10, add_special_tokens=False)["input_ids"]) // 10
    fits = word * (limit // tokens)
    judge.check_prompt(fits)
    with pytest.raises(PromptError, match=rf"tokens; tiny has room for {limit:,} beside a video"):
        judge.check_prompt(fits + word * 2)
    rows = [judge.engine.encode(judge.engine.read(videos[0]), fits)]
    assert len(rows[0]["input_ids"]) + 3000 + 1 <= judge.model.backbone.config.get_text_config().max_position_embeddings


@reads_in_pieces
def test_a_cancelled_stream_reads_no_further_piece_and_lets_others_in_between(
    judge: DeScore, videos: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    long, cancel, passes = "a red circle " * 100, threading.Event(), [0]
    forward = judge.model.backbone.forward

    def counted(*args: object, **kwargs: object) -> object:
        assert judge.engine.lock.locked()
        passes[0] += 1
        if passes[0] == 2:
            cancel.set()
        return forward(*args, **kwargs)

    monkeypatch.setattr(judge.model.backbone, "forward", counted)
    assert list(judge.stream(videos[:2], long, cancel=cancel)) == []
    assert passes == [2]
    assert not judge.engine.lock.locked()


def test_nothing_is_computed_for_a_stream_that_was_cancelled_before(
    judge: DeScore, videos: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cancel = threading.Event()
    cancel.set()

    def never(*_: object, **__: object) -> object:
        raise AssertionError("the vision tower ran")

    monkeypatch.setattr(judge.model.backbone.base_model, "get_video_features", never)
    assert list(judge.stream(videos[:2], PROMPT, cancel=cancel)) == []
