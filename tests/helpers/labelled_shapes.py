"""A few labelled pairs with real video files, as a table and as a store."""

from __future__ import annotations

import csv
from pathlib import Path

from descore.answer import DIMENSIONS, render_answer
from tests.helpers.tiny import tiny_video

GOOD = dict.fromkeys(DIMENSIONS, "2")
FLAWED = GOOD | {"camera": "0", "style": "N/A"}
THOUGHTS = (render_answer("I see what was asked.", GOOD, 5.0), render_answer("The camera is wrong.", FLAWED, 4.2))


def write_videos(folder: Path, count: int) -> list[Path]:
    """`count` small mp4 files of different content."""
    folder.mkdir(parents=True, exist_ok=True)
    return [tiny_video(folder / f"{index}.mp4", seed=index) for index in range(count)]


def write_cold_start_table(path: Path, rows: list[tuple[str, str, str, str]]) -> Path:
    """DeScore's cold-start CSV of rows (video A, video B, prompt, GSB), all with the same thoughts."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["videos", "problem", "prompt", "CoT_A", "CoT_B", "GSB"])
        for a, b, prompt, label in rows:
            writer.writerow([str([a, b]), "Judge the video.", prompt, *THOUGHTS, label])
    return path
