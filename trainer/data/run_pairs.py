"""The pairs of a run as they were when it began: a run that is resumed later trains on the very same pairs.

run/data.jsonl      one line for each pair with its part ("train" or "held_out"); the first line holds the problems

Paths of videos are absolute or, in a pack, start from the run's folder.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from storage.atomic import write_atomic
from trainer.data.pairs import LoadedPairs, TrainingPair

FILE = "data.jsonl"


def save_pairs(loaded: LoadedPairs, run_folder: Path, relative: bool = False) -> None:
    """Write the pairs into the run folder, atomically.

    Args:
        relative: the paths of the videos start from the run folder, and stay so.
    """
    lines: list[Any] = [{"problems": loaded.problems}]
    for part, pairs in (("train", loaded.train), ("held_out", loaded.held_out)):
        for pair in pairs:
            videos = [video.as_posix() if relative else str(video.absolute()) for video in pair.videos]
            lines.append({"part": part, **asdict(pair), "videos": videos})
    write_atomic(run_folder / FILE, "".join(json.dumps(line) + "\n" for line in lines))


def read_pairs(run_folder: Path) -> LoadedPairs | None:
    """Read the pairs of a run; None if it has none yet."""
    path = run_folder / FILE
    if not path.exists():
        return None
    head, *lines = (json.loads(line) for line in path.read_text("utf-8").splitlines())
    parts: dict[str, list[TrainingPair]] = {"train": [], "held_out": []}
    for line in lines:
        parts[line.pop("part")].append(_pair(line, run_folder))
    return LoadedPairs(tuple(parts["train"]), tuple(parts["held_out"]), tuple(head["problems"]))


def _pair(line: dict[str, Any], run_folder: Path) -> TrainingPair:
    a, b = line["videos"]
    return TrainingPair(
        **{
            **line,
            "videos": (run_folder / a, run_folder / b),  # of two absolute paths the second
            "contents": tuple(line["contents"]),
            "thoughts": None if line["thoughts"] is None else tuple(line["thoughts"]),
            "sub_scores": tuple(line["sub_scores"]),
        }
    )
