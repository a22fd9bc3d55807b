"""What is drawn is what the scene says: every attribute changes the frames, and motion goes where it should."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from descore.video import probe, read_clip
from tests.helpers.paths import ROOT
from trainer.recipe.backbone import FRAME_SIDE, POLICY
from trainer.recipe.recipe import REPORTED_SPLITS
from trainer.recipe.rendered_clips import clip_pool, model_frames, sampled_times
from trainer.shapeworld import write_gallery as gallery
from trainer.shapeworld.pairs import shape_pair, shape_pairs
from trainer.shapeworld.render import frame_times, render
from trainer.shapeworld.scene import CAMERAS, COLOURS, DYNAMICS, LIGHTS, PLACES, SHAPES, STYLES, Rendering, Scene
from trainer.shapeworld.write_dataset import clip_names, write_clip, write_split

RENDERING = Rendering(2.0, 12, 0.18, 0.5, 0.5, 1.0, 0.0, 0, 0, 7)
SCENE = Scene("white", "circle", "stays still", "static", "starry sky", "dim", "plain", RENDERING)
SHIPPED = ROOT / "app" / "gallery"
TIMES = np.linspace(0.1, 1.9, 6)


def centroids(scene: Scene) -> np.ndarray:
    """(T, 2) x and y of the brightest part: the white subject before a dim sky."""
    frames = render(scene, TIMES, 96).astype(float).min(axis=-1)
    bright = (frames > 130).astype(float)
    rows, columns = np.mgrid[:96, :96] / 96
    mass = bright.sum(axis=(1, 2))
    return np.stack([(bright * columns).sum(axis=(1, 2)), (bright * rows).sum(axis=(1, 2))], axis=1) / mass[:, None]


@pytest.mark.parametrize(
    ("attribute", "values"),
    [
        ("colour", COLOURS),
        ("shape", SHAPES),
        ("dynamics", DYNAMICS),
        ("camera", CAMERAS),
        ("place", PLACES),
        ("light", LIGHTS),
        ("style", STYLES),
    ],
)
def test_every_value_of_an_attribute_looks_different(attribute: str, values: tuple[str, ...]) -> None:
    drawn = [render(replace(SCENE, **{attribute: value}), TIMES, 64).astype(float) for value in values]
    for index, first in enumerate(drawn):
        for second in drawn[index + 1 :]:
            assert np.abs(first - second).mean() > 0.5


@pytest.mark.parametrize(
    ("dynamics", "axis", "sign"), [("moves left", 0, -1), ("moves right", 0, 1), ("moves up", 1, -1), ("moves down", 1, 1)]
)
def test_the_subject_moves_where_the_scene_says(dynamics: str, axis: int, sign: int) -> None:
    path = centroids(replace(SCENE, dynamics=dynamics))
    steps = np.diff(path[:, axis])
    assert (np.sign(steps) == sign).all()
    assert np.abs(np.diff(path[:, 1 - axis])).max() < 0.02


def test_growing_grows_and_shrinking_shrinks() -> None:
    def areas(dynamics: str) -> np.ndarray:
        return (render(replace(SCENE, dynamics=dynamics), TIMES, 96).min(axis=-1) > 130).sum(axis=(1, 2))

    assert (np.diff(areas("grows")) > 0).all()
    assert (np.diff(areas("shrinks")) < 0).all()


def test_a_pan_moves_the_environment_and_not_the_subject() -> None:
    path = centroids(replace(SCENE, camera="pan left"))
    assert np.abs(np.diff(path, axis=0)).max() < 0.01
    frames = render(replace(SCENE, camera="pan left"), np.array([0.5, 0.6]), 128).astype(float)
    strip = frames[:, :20, :, :].mean(axis=-1)
    shifts = {shift: np.abs(np.roll(strip[0], shift, axis=1) - strip[1])[:, 16:-16].mean() for shift in range(-6, 7)}
    assert min(shifts, key=lambda shift: shifts[shift]) > 0  # the camera goes left, so what it films goes right


def test_a_written_clip_decodes_to_what_was_drawn(tmp_path: Path) -> None:
    scene = shape_pair("test", 3).scenes[0]
    write_clip(scene, tmp_path / "clip.mp4")
    info = probe(tmp_path / "clip.mp4")
    assert (info.width, info.height, info.codec) == (256, 256, "h264")
    clip = read_clip(tmp_path / "clip.mp4", POLICY)
    assert np.allclose(clip.timestamps, sampled_times(scene), atol=1e-3)
    assert np.abs(clip.frames.astype(float) - render(scene, sampled_times(scene))).mean() < 8
    assert (tmp_path / "clip.mp4").stat().st_size < 400_000


def test_training_frames_are_the_readers_frames_at_the_models_size() -> None:
    frames = model_frames(shape_pair("train", 0).scenes[0])
    assert frames.shape == (POLICY.max_frames, FRAME_SIDE, FRAME_SIDE, 3)
    assert frames.dtype == np.uint8


@pytest.mark.slow
def test_pairs_are_written_once_with_their_table(tmp_path: Path) -> None:
    table = write_split("validation", 2, tmp_path)
    rows = list(csv.DictReader(table.open(encoding="utf-8")))
    pairs = list(shape_pairs("validation", 2))
    assert [row["prompt"] for row in rows] == [pair.prompt for pair in pairs]
    assert [row["TA"] for row in rows] == ["same" if pair.label == "tie" else pair.label for pair in pairs]
    clips = [tmp_path / name for pair in pairs for name in clip_names(pair)]
    before = [path.stat().st_mtime_ns for path in clips]
    assert int(rows[0]["num_frames_A"]) == len(frame_times(pairs[0].scenes[0]))
    write_split("validation", 2, tmp_path)
    assert [path.stat().st_mtime_ns for path in clips] == before


def test_a_clip_pool_is_kept_on_disk(tmp_path: Path) -> None:
    pool = clip_pool("train", 3, tmp_path, workers=1)
    assert pool.shape == (3, 2, 8, FRAME_SIDE, FRAME_SIDE, 3)
    assert np.array_equal(pool[2, 1], model_frames(shape_pair("train", 2).scenes[1]))
    (kept,) = tmp_path.iterdir()
    stamp = kept.stat().st_mtime_ns
    clip_pool("train", 3, tmp_path, workers=1)
    assert kept.stat().st_mtime_ns == stamp


@pytest.mark.slow
def test_the_shipped_gallery_is_what_the_command_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "GALLERY_INDICES", gallery.GALLERY_INDICES[:1])
    (written,) = json.loads(gallery.write_gallery(tmp_path).read_text("utf-8"))
    shipped = json.loads((SHIPPED / "pairs.json").read_text("utf-8"))
    assert written == shipped[0]
    for side in ("a", "b"):
        ours, theirs = (read_clip(folder / written[side], POLICY).frames for folder in (tmp_path, SHIPPED))
        assert np.abs(ours.astype(float) - theirs).mean() < 1


def test_gallery_pairs_lie_outside_the_evaluated_part_of_the_test_split() -> None:
    assert min(gallery.GALLERY_INDICES) >= REPORTED_SPLITS["test"]
