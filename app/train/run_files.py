"""Files of a run's folder, as the page needs them; read again only after a file has changed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from app.train.views.curves import StageLog, run_figures
from app.train.views.notices import Notice, alarm_notice
from storage.training.alarms import alarms
from storage.training.run_folder import BEFORE, CONFIG, METRICS, REPORT, SAMPLES, read_metrics, read_samples

PROBLEMS_SHOWN = 3

Stamp = tuple[int, int]


def figures_json(folder: Path, stages: Sequence[str], revision: str) -> str:
    """Return the curves of a run as JSON, "" where nothing was logged yet.

    Args:
        folder: of the run.
        stages: of the run, in order.
        revision: names the run, so that the browser keeps its zoom.
    """
    return _figures(folder, tuple(stages), revision, _log_stamps(folder, stages))


def samples(folder: Path) -> Sequence[Mapping[str, Any]]:
    """Read the sampled thoughts of a run."""
    return _samples(folder, _stamp(folder / SAMPLES))


def notices(folder: Path, stages: Sequence[str]) -> tuple[Notice, ...]:
    """List the alarms of a run so far, the warnings of its ended stages, and the pairs that those left out, each once.

    Of many pairs the first few are named.
    """
    return _notices(
        folder, tuple(stages), tuple(_stamp(folder / stage / name) for stage in stages for name in (METRICS, REPORT))
    )


def stage_logs(folder: Path, stages: Sequence[str]) -> Sequence[StageLog]:
    """Read the log of each stage so far."""
    return _logs(folder, tuple(stages), _log_stamps(folder, stages))


def run_settings(folder: Path) -> Mapping[str, Any]:
    """Return all settings of a run by dotted name, such as "cold_start.optim.lr"; none before it has begun."""
    return dict(_flat(_config(folder)))


def _flat(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


@lru_cache(maxsize=32)
def _logs(folder: Path, stages: tuple[str, ...], _stamps: tuple[Stamp, ...]) -> tuple[StageLog, ...]:
    config = _config(folder)
    return tuple(_stage_log(folder / stage, stage, config) for stage in stages)


def _log_stamps(folder: Path, stages: Sequence[str]) -> tuple[Stamp, ...]:
    """Return stamps that change with the logs of the stages, or with the settings."""
    stamps = (_stamp(folder / stage / name) for stage in stages for name in (METRICS, BEFORE, REPORT))
    return _stamp(folder / CONFIG), *stamps


def _stage_log(folder: Path, stage: str, config: Mapping[str, Any]) -> StageLog:
    rows = read_metrics(folder)
    planned = config.get(stage.replace("-", "_"), {}).get("steps")
    steps = planned if isinstance(planned, int) and planned > 0 else len(rows)
    report = _object(folder / REPORT)
    before = report.get("before") or _object(folder / BEFORE)
    return StageLog(stage, steps, rows, before, report.get("after") or {})


@lru_cache(maxsize=32)
def _figures(folder: Path, stages: tuple[str, ...], revision: str, _stamps: tuple[Stamp, ...]) -> str:
    logs = stage_logs(folder, stages)
    if not any(log.rows or log.before for log in logs):
        return ""
    return json.dumps(run_figures(logs, revision), separators=(",", ":"), allow_nan=False)


@lru_cache(maxsize=32)
def _notices(folder: Path, stages: tuple[str, ...], _stamps: tuple[Stamp, ...]) -> tuple[Notice, ...]:
    logs = {stage: rows for stage in stages if (rows := read_metrics(folder / stage))}
    found = [
        alarm_notice(stage, alarm, is_newest=stage == list(logs)[-1])
        for stage, rows in logs.items()
        for alarm in alarms(stage, rows)
    ]
    reports = [_object(folder / stage / REPORT) for stage in stages]
    warnings, left_out = (
        list(dict.fromkeys(str(entry) for report in reports for entry in report.get(name) or ()))
        for name in ("warnings", "problems")
    )
    found += [Notice("warning", f"{warning[:1].upper()}{warning[1:]}.") for warning in warnings]
    found += [Notice("note", f"left out: {problem}") for problem in left_out[:PROBLEMS_SHOWN]]
    more = len(left_out) - PROBLEMS_SHOWN
    if more > 0:
        found.append(Notice("note", f"and {more} more pairs; report.json has them all"))
    return tuple(found)


@lru_cache(maxsize=32)
def _samples(folder: Path, _stamp_of_file: Stamp) -> Sequence[Mapping[str, Any]]:
    return read_samples(folder)


def _config(folder: Path) -> Mapping[str, Any]:
    try:
        config = yaml.safe_load((folder / CONFIG).read_text("utf-8"))
    except (OSError, yaml.YAMLError):
        return {}
    return config if isinstance(config, dict) else {}


def _object(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _stamp(path: Path) -> Stamp:
    """Return a stamp that changes with the file; (0, 0) where there is none."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_size
