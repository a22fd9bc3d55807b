"""The drift benchmark on the tiny model: exact in float32, measured in bfloat16."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.bf16_drift import measure
from tests.helpers.tiny import tiny_judge, tiny_video

pytestmark = pytest.mark.training


def test_float32_is_exact_and_bfloat16_is_reported(tmp_path: Path) -> None:
    videos = [str(tiny_video(tmp_path / f"{seed}.mp4", seed, frames=4 * seed, width=16 * seed)) for seed in (2, 3, 4)]
    checkpoint = tiny_judge().save_pretrained(tmp_path / "tiny")
    result = measure(str(checkpoint), videos, "A red circle")
    assert result["spread"] > 0.01
    exact, rounded = result["float32"], result["bfloat16"]
    assert exact["same_thought"] == 1.0
    for name in ("cache_against_forward", "beside_against_alone", "against_float32_forward"):
        assert exact[name] < 1e-5
    assert 1e-4 < rounded["against_float32_forward"] < 0.5 * result["spread"]
    assert rounded["cache_against_forward"] < 0.25 * result["spread"]
