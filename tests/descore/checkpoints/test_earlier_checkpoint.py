"""A checkpoint folder made by the version before 0.9 opens and judges with the same numbers.

`tests/fixtures/earlier_checkpoint` holds a random Qwen3-VL backbone with an adapter, a scoring module and a calibration, and
what that version printed for one bundled pair in each mode.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from descore.checkpoints.folder import read_manifest
from descore.judge import DeScore
from tests.helpers.paths import ROOT

FOLDER = ROOT / "tests" / "fixtures" / "earlier_checkpoint"
VIDEOS = ["app/gallery/pair-01-a.mp4", "app/gallery/pair-01-b.mp4"]
JUDGED: dict[str, Any] = json.loads((FOLDER / "judged.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def judge() -> DeScore:
    return DeScore.from_pretrained(FOLDER / "checkpoint", device="cpu")


def test_its_manifest_is_read() -> None:
    manifest = read_manifest(FOLDER / "checkpoint")
    assert (manifest.name, manifest.max_thought_tokens) == ("tiny-before-0.9", 24)
    assert manifest.lineage == {"parent": "none", "stage": "random weights", "seed": 5}
    assert manifest.calibration["think"].temperature == 0.5


@pytest.mark.parametrize("mode", ["think", "quick", "k"])
def test_it_judges_with_the_same_numbers(judge: DeScore, mode: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    judged = judge.judge(VIDEOS, "a blue triangle bounces", mode, k=3).to_json_dict()
    expected = JUDGED[mode]
    for video, before in zip(judged.pop("videos"), expected.pop("videos"), strict=True):
        assert {key: video[key] for key in ("path", "thought", "sub_scores", "overall_score")} == {
            key: before[key] for key in ("path", "thought", "sub_scores", "overall_score")
        }
        assert set(video) - set(before) == {
            "seconds", "implied_overall_score", "overall_contradicts", "distance", "unfamiliar",
        }  # fmt: skip
        assert video["unfamiliar"] is None, "it says nothing about the videos that it knows"
        assert video["reward"] == pytest.approx(before["reward"], abs=1e-4)
        assert video["standardised_reward"] == pytest.approx(before["standardised_reward"], abs=1e-3)
    assert judged.pop("p_first_preferred") == pytest.approx(expected.pop("p_first_preferred"), abs=1e-3)
    assert judged.pop("engine").startswith("transformers ")
    assert judged.pop("p_source").startswith("fitted on ")
    assert judged == expected
