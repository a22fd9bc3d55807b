"""`DeScore.score` and its neighbours as programs call them: inputs of every kind, errors an item, progress, batch sizes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import descore
from descore import DeScore, DeviceError, Frames, Judgement, PromptError, RewardError, VideoError
from descore.engines.engine import ROWS_AT_ONCE, Engine
from descore.video import VideoFramesError
from descore.video.memory_frames import write_lossless
from tests.helpers.tiny import tiny_clip, tiny_judge, tiny_video

PROMPT = "A red circle bounces"


@pytest.fixture(scope="module")
def judge() -> DeScore:
    return tiny_judge(thought_tokens=4)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("videos")
    return [str(tiny_video(folder / f"{seed}.mp4", seed, frames=8 + 4 * seed)) for seed in range(3)]


def rewards(results: Sequence[Judgement | Exception]) -> list[float]:
    return [result.reward for result in results if isinstance(result, Judgement) and result.reward is not None]


def test_everything_that_the_package_names_is_there() -> None:
    assert {name for name in descore.__all__ if getattr(descore, name) is None} == set()
    assert set(descore.__all__) <= set(dir(descore))


def test_a_single_path_is_one_video(judge: DeScore, videos: list[str]) -> None:
    expected = rewards(judge.score([videos[0]], PROMPT, "quick"))
    assert rewards(judge.score(videos[0], PROMPT, "quick")) == expected
    assert rewards(judge.score(Path(videos[0]), PROMPT, "quick")) == expected
    assert [video.path for video in judge.judge(videos[0], PROMPT, "quick").videos] == [videos[0]]


def test_generators_and_bytes(judge: DeScore, videos: list[str]) -> None:
    prompts = [f"{PROMPT} {index}" for index in range(3)]
    expected = rewards(judge.score(videos, prompts, "quick"))
    assert rewards(judge.score((video for video in videos), (prompt for prompt in prompts), "quick")) == expected
    read = [Path(video).read_bytes() for video in videos]
    judged = judge.score(read, prompts, "quick")
    assert rewards(judged) == expected
    assert judged[0].path == f"{len(read[0]):,} bytes"
    assert judge.judge(read[0], PROMPT, "quick").videos[0].reward == judge.judge(videos[0], PROMPT, "quick").videos[0].reward


def test_frames_in_memory_are_judged_as_their_file(judge: DeScore, tmp_path: Path) -> None:
    video = Frames(tiny_clip(3, frames=14).frames, fps=4)
    file = write_lossless(video, tmp_path / "x.mp4")
    (memory,), (read,) = judge.score(video, PROMPT), judge.score(file, PROMPT)
    assert (memory.thought, memory.reward) == (read.thought, read.reward)
    # An engine elsewhere takes files: the base class writes one, without loss.
    clip = Engine.read_frames(judge.engine, video, tmp_path)
    assert (clip.frames == judge.engine.read(file).frames).all()


def test_bare_frames_need_their_rate(judge: DeScore) -> None:
    frames = tiny_clip(1).frames
    with pytest.raises(VideoFramesError, match="fps"):
        judge.score(frames, PROMPT)  # type: ignore[arg-type]
    (error,) = judge.score([[frames]], PROMPT, on_error="return")  # type: ignore[list-item]
    assert isinstance(error, VideoFramesError)


def test_one_bad_item_costs_its_item_alone(judge: DeScore, videos: list[str], tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    items: list[Any] = [videos[0], tmp_path / "bad.mp4", videos[1], tmp_path / "gone.mp4", videos[2], 7]
    prompts = [PROMPT] * 6
    prompts[4] = ""
    results = judge.score(items, prompts, "quick", batch_size=2, on_error="return")
    kinds = [type(result) for result in results]
    assert [issubclass(kind, VideoError) for kind in kinds] == [False, True, False, True, False, True]
    assert issubclass(kinds[4], PromptError)
    assert rewards(results) == pytest.approx(rewards(judge.score(videos[:2], PROMPT, "quick")), abs=1e-5)
    with pytest.raises(VideoError, match=r"bad\.mp4"):
        judge.score(items[:4], PROMPT, "quick")
    with pytest.raises(PromptError):
        judge.score(items, prompts, "quick")


def test_one_reward_that_is_not_finite_costs_its_row_alone(
    judge: DeScore, videos: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    score, prompts = judge.model.score, [PROMPT, PROMPT, PROMPT]
    rows: list[int] = []

    def broken(state: Any) -> torch.Tensor:
        rows.append(len(state.mask))
        if rows in ([3], [3, 1]):  # the batch, and then its first row alone
            raise RewardError("the reward is not a finite number: [nan]")
        return score(state)

    monkeypatch.setattr(judge.model, "score", broken)
    first, second, third = judge.score(videos, prompts, "quick", on_error="return")
    assert isinstance(first, RewardError)
    assert isinstance(second, Judgement)
    assert isinstance(third, Judgement)
    assert rows == [3, 1, 2]


def test_progress_is_counted(judge: DeScore, videos: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    seen: list[tuple[int, int]] = []
    judge.score(videos, PROMPT, "quick", batch_size=2, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(2, 3), (3, 3)]
    judge.score(videos, PROMPT, "quick", progress=True)
    assert "3/3" in capfd.readouterr().err
    judge.score(videos, PROMPT, "quick")
    assert not capfd.readouterr().err


def test_batch_sizes(judge: DeScore, videos: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    expected = rewards(judge.score(videos, PROMPT, "quick"))
    assert rewards(judge.score(videos, PROMPT, "quick", batch_size="auto")) == expected
    assert judge.engine.rows_at_once() == ROWS_AT_ONCE
    for wrong in (0, -1, "many", 1.5):
        with pytest.raises(ValueError, match="batch_size"):
            judge.score(videos, PROMPT, "quick", batch_size=wrong)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="on_error"):
        judge.score(videos, PROMPT, "quick", on_error="ignore")  # type: ignore[call-overload]

    prefill, sizes = judge.model.prefill_in_pieces, []

    def small_device(inputs: Any) -> Any:
        sizes.append(len(inputs["input_ids"]))
        if sizes[-1] > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return prefill(inputs)

    monkeypatch.setattr(judge.model, "prefill_in_pieces", small_device)
    assert rewards(judge.score(videos, PROMPT, "quick", batch_size="auto")) == pytest.approx(expected, abs=1e-5)
    assert sizes == [3, 1, 2, 1, 1]
    with pytest.raises(torch.OutOfMemoryError):
        judge.score(videos, PROMPT, "quick", batch_size=3)


def test_a_judge_says_what_it_is_and_can_be_closed(judge: DeScore) -> None:
    with judge as same:
        assert same is judge
    text = repr(judge)
    assert text.startswith("DeScore('tiny', engine='transformers ")
    assert "device='cpu', dtype='float32'" in text


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_device_that_is_not_there_is_said_in_one_sentence(judge: DeScore) -> None:
    for call in (lambda: DeScore.from_pretrained("bundled", device="cuda"), lambda: judge.to("cuda:1")):
        with pytest.raises(DeviceError, match=r"no GPU that PyTorch can use: use device='cpu'"):
            call()
    with pytest.raises(DeviceError, match="is no device"):
        judge.to("gpu")
    assert judge.to("cpu").device.type == "cpu"


def test_sub_scores_are_numbers_too(judge: DeScore, videos: list[str]) -> None:
    verdict = judge.judge(videos[0], PROMPT, "quick")
    assert verdict.videos[0].sub_score_values is None
    scores = {"subject": "2", "dynamics": "0", "camera": "N/A"}
    fields = {**vars(verdict.videos[0]), "sub_scores": scores}
    assert Judgement(**fields).sub_score_values == {"subject": 2, "dynamics": 0, "camera": None}
