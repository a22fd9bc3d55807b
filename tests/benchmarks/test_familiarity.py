"""The arithmetic of the familiarity benchmark, without a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks.familiarity.__main__ import auroc, auroc_interval, distinct, real_videos


def test_auroc_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    own, real = rng.normal(size=50).round(1), (rng.normal(size=9) + 1).round(1)
    expected = roc_auc_score([0] * 50 + [1] * 9, [*own, *real])
    assert auroc(own, real) == pytest.approx(expected)
    low, high = auroc_interval(own.reshape(25, 2), real)
    assert low < expected < high


def test_the_same_frames_count_once(tmp_path: Path) -> None:
    features = np.array([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]], dtype=np.float32)
    assert distinct(features).tolist() == [[1.0, 2.0], [3.0, 4.0]]
    for name in ("b.MP4", "a.webm", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in real_videos([tmp_path])] == ["a.webm", "b.MP4"]
