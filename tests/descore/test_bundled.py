"""The bundled checkpoint as it is shipped: small, described, and able to judge its world."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from descore.checkpoints.folder import locate
from descore.judge import DeScore
from descore.video import encode_h264
from trainer.recipe.recipe import REPORTED_SPLITS
from trainer.shapeworld.evaluate import evaluate
from trainer.shapeworld.pairs import shape_pairs
from trainer.shapeworld.render import frame_times, render
from trainer.shapeworld.scene import Rendering, Scene
from trainer.shapeworld.write_dataset import clip_names, write_split

pytestmark = pytest.mark.slow

RENDERING = Rendering(2.5, 16, 0.18, 0.5, 0.5, 1.0, 0.0, 0, 0, 7)


@pytest.fixture(scope="module")
def judge() -> DeScore:
    return DeScore.from_pretrained("bundled")


def clip(folder: Path, name: str, scene: Scene, backwards: bool = False) -> Path:
    frames = render(scene, frame_times(scene))
    path = folder / f"{name}.mp4"
    encode_h264(frames[::-1] if backwards else frames, path, scene.rendering.fps)
    return path


def test_it_is_small_enough_to_live_in_the_repository() -> None:
    folder, _ = locate("bundled")
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 20 * 1024**2


def test_its_card_says_what_was_measured_on_every_reported_split(judge: DeScore) -> None:
    folder, _ = locate("bundled")
    card = (folder / "README.md").read_text("utf-8")
    assert "ShapeWorld" in judge.manifest.trained_on
    for split, count in REPORTED_SPLITS.items():
        figures = judge.manifest.metrics[split]
        assert figures["pairs"] == count
        assert split in card
        assert figures["quick"]["accuracy_without_ties"] > 0.5
    assert set(judge.manifest.calibration) >= {"think", "quick"}


def test_it_judges_fresh_pairs_far_better_than_chance(judge: DeScore, tmp_path: Path) -> None:
    figures = evaluate(judge, "test", 24, modes=("think",), folder=tmp_path).to_dict()
    assert figures["accuracy_without_ties"] >= 0.75
    assert figures["strict_format"] >= 0.95
    assert figures["sub_score_exact_match"] >= 0.8


def test_the_reward_follows_video_prompt_and_frame_order(judge: DeScore, tmp_path: Path) -> None:
    left = Scene("red", "circle", "moves left", "static", "meadow", "bright", "plain", RENDERING)
    star = Scene("blue", "square", "moves left", "static", "meadow", "bright", "plain", RENDERING)
    forwards, backwards = clip(tmp_path, "forwards", left), clip(tmp_path, "backwards", left, backwards=True)
    other = clip(tmp_path, "other", star)
    prompt = "A red circle moves left, on a bright meadow."
    for mode in ("think", "quick"):
        right, turned, wrong = (one.reward for one in judge.score([forwards, backwards, other], prompt, mode))
        (asked_otherwise,) = judge.score([forwards], "A blue square spins, on a dim sea.", mode)
        assert right is not None
        assert turned is not None
        assert wrong is not None
        assert asked_otherwise.reward is not None
        assert abs(right - turned) > 1e-3
        assert right > wrong
        assert right > asked_otherwise.reward


def test_a_pair_is_judged_the_same_from_both_sides_and_alone(judge: DeScore, tmp_path: Path) -> None:
    (known,) = shape_pairs("test", 1)
    write_split("test", 1, tmp_path)
    a, b = (tmp_path / name for name in clip_names(known))
    straight, swapped = judge.judge([a, b], known.prompt), judge.judge([b, a], known.prompt)
    alone = judge.judge([a], known.prompt)
    assert straight.videos[0].thought == swapped.videos[1].thought == alone.videos[0].thought
    rewards = [straight.videos[0].reward, swapped.videos[1].reward, alone.videos[0].reward]
    assert np.ptp(np.array(rewards, dtype=float)) < 1e-4
    assert straight.p_first_preferred == pytest.approx(1 - (swapped.p_first_preferred or 0), abs=1e-4)
