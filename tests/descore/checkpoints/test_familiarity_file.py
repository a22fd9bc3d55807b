"""Familiarity in a checkpoint folder: it changes no reward and no fingerprint, and every engine in this process gives it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from descore.checkpoints.folder import BUNDLED, add_familiarity, copy_checkpoint, folder_fingerprint, locate
from descore.engines.engine import FinishedThought
from descore.engines.server_wire import finished_from_json, finished_to_json
from descore.errors import CheckpointError
from descore.familiarity import FAMILIARITY_FILE, LEAST_VIDEOS, Familiarity, fit_familiarity, read_familiarity
from descore.judge import DeScore
from descore.reference_videos import reference_features
from tests.helpers.tiny import reads_in_pieces, tiny_judge, tiny_video

PROMPT = "a red circle bounces"
# Of the bundled checkpoint: judgements are kept under it, so nothing that no reward depends on may change it.
BUNDLED_FINGERPRINT = "a9af3163c175254eba2cde6062d43922976e80c88a005061b2e92865f2693c07"

pytestmark = reads_in_pieces


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_judge().save_pretrained(tmp_path_factory.mktemp("tiny") / "checkpoint")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    room = tmp_path_factory.mktemp("videos")
    return [tiny_video(room / f"{seed}.mp4", seed) for seed in range(2)]


@pytest.fixture(scope="module")
def known(folder: Path, videos: list[Path]) -> Familiarity:
    """Videos around the first one; the second is far from them."""
    features = reference_features(DeScore.from_pretrained(folder), videos)
    near = (
        features[0] + np.random.default_rng(0).normal(size=(LEAST_VIDEOS, features.shape[1])) * np.abs(features).mean() / 20
    )
    fitted = fit_familiarity(np.concatenate([near, features[:1]]), np.arange(LEAST_VIDEOS + 1))
    assert fitted is not None
    return fitted


@pytest.fixture(scope="module")
def judge(folder: Path, known: Familiarity) -> DeScore:
    plain = folder_fingerprint(folder)
    add_familiarity(folder, known)
    assert folder_fingerprint(folder) == plain
    return DeScore.from_pretrained(folder)


@pytest.mark.parametrize("mode", ["think", "quick", "k"])
def test_each_mode_gives_the_same_distance_and_no_other_reward(
    judge: DeScore, videos: list[Path], known: Familiarity, mode: str
) -> None:
    near, far = judge.judge(videos, PROMPT, mode, k=2).videos  # type: ignore[arg-type]
    features = reference_features(judge, videos)
    assert near.distance == pytest.approx(known.distance(features[0]), rel=1e-4)
    assert far.distance == pytest.approx(known.distance(features[1]), rel=1e-4)
    assert (near.unfamiliar, far.unfamiliar) == (False, True)
    assert near.reward == pytest.approx(tiny_judge().judge(videos[0], PROMPT, mode, k=2).videos[0].reward, abs=1e-5)  # type: ignore[arg-type]


def test_the_manifest_lists_it_and_a_damaged_one_is_refused(judge: DeScore, folder: Path, tmp_path: Path) -> None:
    assert judge.model.familiarity is not None
    assert FAMILIARITY_FILE in json.loads((folder / "descore.json").read_text())["files"]
    assert "## Familiarity" in (folder / "README.md").read_text()
    copy = copy_checkpoint(folder, tmp_path / "copy", "copy", {}, link=False)
    assert DeScore.from_pretrained(copy).model.familiarity is not None
    (copy / FAMILIARITY_FILE).write_bytes(b"x" * (copy / FAMILIARITY_FILE).stat().st_size)
    with pytest.raises(CheckpointError, match="hash differs"):
        DeScore.from_pretrained(copy)


def test_saving_again_keeps_it(judge: DeScore, tmp_path: Path, folder: Path) -> None:
    again = judge.save_pretrained(tmp_path / "again")
    assert (again / FAMILIARITY_FILE).read_bytes() == (folder / FAMILIARITY_FILE).read_bytes()


def test_the_bundled_checkpoint_keeps_its_fingerprint() -> None:
    folder = locate(BUNDLED)[0]
    assert folder_fingerprint(folder) == BUNDLED_FINGERPRINT
    known = read_familiarity(folder)
    assert known is not None
    assert "AUROC" in "".join(known.measured)


def test_a_server_hands_it_on_and_an_earlier_one_does_not() -> None:
    rows = [[FinishedThought("", False, 0.5, (), 1.25)]]
    data = json.loads(json.dumps(finished_to_json(rows)))
    assert finished_from_json(data) == rows
    del data["rows"][0][0]["distance"]
    assert finished_from_json(data)[0][0].distance is None
