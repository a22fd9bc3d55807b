"""Fresh pairs of ShapeWorld with the labels of a simulated person who has a taste, as files and as a table to import.

    taste = Taste("style first", {"subject": 1, "dynamics": 0.25, "camera": 1, "environment": 1, "style": 2})
    pairs = fresh_pairs(2)
    table = write_table(pairs, [taste.label(pair, noise=0.1) for pair in pairs], folder)

A taste weighs the exact sub-scores; persons differ only in how much each dimension counts.
"""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Literal

from descore.answer import DIMENSIONS
from trainer.shapeworld.pairs import ShapePair, shape_pairs
from trainer.shapeworld.write_dataset import clip_names, write_clip

Label = Literal["A", "B", "tie"]

FIRST_FRESH = 200_000  # far behind every pair of the training split that a bundled checkpoint has seen
_NOT_ASKED = "N/A"
_RESULTS = {"A": "Video 1 is better", "B": "Video 2 is better", "tie": "Same"}


@dataclass(frozen=True)
class Taste:
    """How much each dimension counts for a simulated person.

    Attributes:
        name: of the person's taste.
        weights: of each dimension.
        tie_below: two videos whose weighted means differ by less are a tie.
    """

    name: str
    weights: Mapping[str, float]
    tie_below: float = 0.2

    def score(self, sub_scores: Mapping[str, str]) -> float:
        """Return the weighted mean of the sub-scores, 0 .. 2; what the prompt leaves free counts as fulfilled."""
        values = {name: 2.0 if sub_scores[name] == _NOT_ASKED else float(sub_scores[name]) for name in DIMENSIONS}
        return sum(self.weights[name] * values[name] for name in DIMENSIONS) / sum(self.weights.values())

    def label(self, pair: ShapePair, noise: float = 0.0, person: str = "") -> Label:
        """Return the person's preference; they get the share `noise` of labels wrong, always the same ones."""
        difference = self.score(pair.scores[0]) - self.score(pair.scores[1])
        label: Label = "tie" if abs(difference) < self.tie_below else "A" if difference > 0 else "B"
        rng = random.Random(f"noise/{person}/{pair.identity}")
        if rng.random() >= noise:
            return label
        return rng.choice(("A", "B")) if label == "tie" else "B" if label == "A" else "A"


def fresh_pairs(count: int, start: int = 0) -> list[ShapePair]:
    """Return pairs of the training distribution that no bundled checkpoint was trained on."""
    return list(shape_pairs("train", count, FIRST_FRESH + start))


def write_clips(pairs: Sequence[ShapePair], folder: Path, workers: int = 2) -> None:
    """Write the mp4 files of pairs, but for those that exist."""
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(workers) as executor:
        list(executor.map(_write_pair, pairs, repeat(folder), chunksize=8))


def write_table(pairs: Sequence[ShapePair], labels: Sequence[Label] | None, folder: Path, workers: int = 2) -> Path:
    """Write clips and a table in DeScore's RL format with sub-scores; without labels, a table of pairs alone."""
    write_clips(pairs, folder, workers)
    table = folder / ("rl.csv" if labels is not None else "pairs.csv")
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["videos", "problem", "answer"] if labels is not None else ["video_a", "video_b", "prompt"])
        for index, pair in enumerate(pairs):
            names = list(clip_names(pair))
            if labels is None:
                writer.writerow([*names, pair.prompt])
            else:
                writer.writerow([str(names), pair.prompt, _answer(pair, labels[index])])
    return table


def _answer(pair: ShapePair, label: Label) -> str:
    answer = {
        "video_1_scores": pair.scores[0],
        "video_2_scores": pair.scores[1],
        "gsb_result": _RESULTS[label],
    }
    return f"<answer>{json.dumps(answer)}</answer>"


def _write_pair(pair: ShapePair, folder: Path) -> None:
    for scene, name in zip(pair.scenes, clip_names(pair), strict=True):
        if not (folder / name).exists():
            write_clip(scene, folder / name)
