"""What the folder of a run says, for the page that shows it; read again only when a file has changed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from app.train.views.curves import StageLog, run_figures
from storage.training.run_folder import BEFORE, CONFIG, METRICS, REPORT, SAMPLES, read_metrics, read_samples

PROBLEMS_SHOWN = 3

Stamp = tuple[int, int]


def figures_json(folder: Path, stages: Sequence[str], revision: str) -> str:
    """The curves of a run as JSON, "" where nothing was logged yet."""
    places = [folder / stage for stage in stages]
    stamps = tuple(_stamp(place / name) for place in places for name in (METRICS, BEFORE, REPORT))
    return _figures(folder, tuple(stages), revision, (_stamp(folder / CONFIG), *stamps))


def samples(folder: Path) -> Sequence[Mapping[str, Any]]:
    """The sampled thoughts of a run."""
    return _samples(folder, _stamp(folder / SAMPLES))


def notes(folder: Path, stages: Sequence[str]) -> tuple[str, ...]:
    """What the stages that ended warn of, and the pairs that they left out, each once; of many pairs the first few."""
    reports = [_object(folder / stage / REPORT) for stage in stages]
    warnings, left_out = (
        list(dict.fromkeys(str(one) for report in reports for one in report.get(name) or ()))
        for name in ("warnings", "problems")
    )
    more = len(left_out) - PROBLEMS_SHOWN
    shown = [*warnings, *(f"left out: {one}" for one in left_out[:PROBLEMS_SHOWN])]
    return (*shown, f"and {more} more pairs; report.json has them all") if more > 0 else tuple(shown)


def stage_logs(folder: Path, stages: Sequence[str]) -> list[StageLog]:
    """What each stage has logged so far."""
    settings = _settings(folder)
    return [_stage_log(folder / stage, stage, settings) for stage in stages]


def _stage_log(place: Path, stage: str, settings: Mapping[str, Any]) -> StageLog:
    rows = read_metrics(place)
    planned = settings.get(stage.replace("-", "_"), {}).get("steps")
    steps = planned if isinstance(planned, int) and planned > 0 else len(rows)
    report = _object(place / REPORT)
    before = report.get("before") or _object(place / BEFORE)
    return StageLog(stage, steps, rows, before, report.get("after") or {})


@lru_cache(maxsize=32)
def _figures(folder: Path, stages: tuple[str, ...], revision: str, stamps: tuple[Stamp, ...]) -> str:
    logs = stage_logs(folder, stages)
    if not any(log.rows or log.before for log in logs):
        return ""
    return json.dumps(run_figures(logs, revision), separators=(",", ":"), allow_nan=False)


@lru_cache(maxsize=32)
def _samples(folder: Path, stamp: Stamp) -> Sequence[Mapping[str, Any]]:
    return read_samples(folder)


def _settings(folder: Path) -> Mapping[str, Any]:
    try:
        found = yaml.safe_load((folder / CONFIG).read_text("utf-8"))
    except (OSError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def _object(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _stamp(path: Path) -> Stamp:
    """Changes with the file; (0, 0) where there is none."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size
