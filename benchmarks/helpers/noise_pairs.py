"""Labelled pairs of small clips of noise, with thoughts, as a table: enough to train on, and quick to make.

table = noise_table(folder, pairs=4)      # for `data.csv`
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np

from descore.answer import DIMENSIONS, render_answer
from descore.video import encode_h264


def noise_table(folder: Path, pairs: int) -> Path:
    """Write clips of 64 x 64 pixels and two seconds into a new folder, and return the path of their table."""
    folder.mkdir(parents=True)
    scores = dict.fromkeys(DIMENSIONS, "0")
    with (folder / "pairs.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["path_A", "path_B", "prompt", "TA", "CoT_A", "CoT_B", "scores_A", "scores_B"])
        for pair in range(pairs):
            for side in "AB":
                noise = np.random.default_rng([pair, ord(side)]).integers(0, 255, (16, 64, 64, 3), dtype=np.uint8)
                encode_h264(noise, folder / f"{pair}{side}.mp4", fps=8)
            # Thoughts of different lengths, so that shares of a mean over tokens differ between passes.
            thoughts = [render_answer(" ".join(["noise"] * (1 + pair + index)), scores, 1.0) for index in range(2)]
            sub_scores = [json.dumps(scores)] * 2
            table.writerow([f"{pair}A.mp4", f"{pair}B.mp4", f"noise {pair}", "AB"[pair % 2], *thoughts, *sub_scores])
    return folder / "pairs.csv"
