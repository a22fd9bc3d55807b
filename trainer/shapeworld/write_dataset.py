"""Pairs of ShapeWorld as files: mp4 clips and the pair table.

The table, `pairs.csv`, has the columns of the VideoAlign format (`path_A, path_B, prompt, TA, fps_A, num_frames_A, ...`)
and behind them what only this world knows: exact sub-scores, overall scores and reference thoughts.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from descore.video import encode_h264
from trainer.shapeworld.pairs import ShapePair, shape_pairs
from trainer.shapeworld.render import frame_times, render

if TYPE_CHECKING:
    from trainer.shapeworld.scene import Scene

TABLE = "pairs.csv"
_CRF = 26


def write_clip(scene: Scene, path: Path) -> None:
    """Write a scene's clip: 256x256 H.264 at the scene's frame rate."""
    partial = path.with_name(f".{path.name}")
    encode_h264(render(scene, frame_times(scene)), partial, scene.rendering.fps, crf=_CRF)
    partial.replace(path)


def write_split(split: str, count: int, folder: Path, noise: float = 0.0, workers: int = 1) -> Path:
    """Write the first `count` pairs of a split into `folder` and return the path of their table."""
    return write_pairs(list(shape_pairs(split, count, noise=noise)), folder, workers)


def write_pairs(pairs: Sequence[ShapePair], folder: Path, workers: int = 1) -> Path:
    """Write pairs into `folder` and return the path of their table.

    Clips that are already there are kept (they are always the same for the same split and index), so an interrupted
    call goes on where it stopped. The table is written last.
    """
    folder.mkdir(parents=True, exist_ok=True)
    title = f"render {pairs[0].identity.rsplit('-', 1)[0]}"
    if workers > 1:
        with ProcessPoolExecutor(workers) as executor:
            done: Iterable[None] = executor.map(_write_pair, pairs, repeat(folder), chunksize=8)
            list(tqdm(done, total=len(pairs), desc=title, mininterval=5))
    else:
        for pair in tqdm(pairs, desc=title, mininterval=5):
            _write_pair(pair, folder)
    table = folder / TABLE
    partial = table.with_suffix(".partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        rows = [table_row(pair) for pair in pairs]
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(table)
    return table


def _write_pair(pair: ShapePair, folder: Path) -> None:
    for scene, name in zip(pair.scenes, clip_names(pair), strict=True):
        if not (folder / name).exists():
            write_clip(scene, folder / name)


def clip_names(pair: ShapePair) -> tuple[str, str]:
    """Return the file names of a pair's clips."""
    return f"{pair.identity}_A.mp4", f"{pair.identity}_B.mp4"


def table_row(pair: ShapePair) -> dict[str, object]:
    """Return a pair's row of the table."""
    names = clip_names(pair)
    row: dict[str, object] = {
        "path_A": names[0],
        "path_B": names[1],
        "prompt": pair.prompt,
        "TA": "same" if pair.label == "tie" else pair.label,
    }
    for side, scene in zip("AB", pair.scenes, strict=True):
        row |= {f"fps_{side}": float(scene.rendering.fps), f"num_frames_{side}": len(frame_times(scene))}
    for index, side in enumerate("AB"):
        row |= {
            f"scores_{side}": json.dumps(pair.scores[index]),
            f"overall_{side}": pair.overall[index],
            f"CoT_{side}": pair.thoughts[index],
        }
    return row
