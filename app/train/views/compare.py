"""HTML of runs side by side: verdicts, data and settings, with the rows that differ marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from markupsafe import Markup

from app.train.views.compare_curves import run_colour
from app.train.views.gate import Gate, verdict_pill
from app.train.views.runs import PLACES, RunSummary, run_state
from app.ui.dates import day
from app.ui.markup import NOTHING, count, joined
from app.ui.wording import duration, points, share, stage_list
from storage.training.run_notes import RunNote

# Rows that say nothing by differing.
NEVER_THE_SAME = ("asked for", "took", "note")
MOST_SETTINGS = 60  # rows; two presets for different models differ in about half as many
# Lengths of lines and gaps of the patterns, in the units of the swatch.
DASHES = ("", "6 4", "2 3", "6 3 2 3", "10 4", "10 3 2 3")


@dataclass(frozen=True)
class ComparedRun:
    """A run beside others.

    Attributes:
        summary: the run, and what the store knows about it.
        gate: the comparison of its candidate with its rival; None before it.
        settings: all settings of its folder by dotted name; empty before it began.
        note: what a lead wrote about it.
    """

    summary: RunSummary
    gate: Gate | None
    settings: Mapping[str, Any] = field(default_factory=dict)
    note: RunNote | None = None


def compare_view(runs: Sequence[ComparedRun], now: datetime) -> Markup:
    """Show the runs in columns. now: the time, to say how long a run takes."""
    blocks = [("Verdict", _verdict_rows(runs)), ("Data and run", _run_rows(runs, now)), ("Settings", _setting_rows(runs))]
    bodies = joined(_body(title, rows, len(runs)) for title, rows in blocks if rows)
    return Markup(
        '<header class="train-head"><h2 class="train-title">{} runs compared</h2><span class="train-acts">'
        '<button type="button" class="ds-button" data-uncompare="">Close</button></span></header>'
        '<div class="ds-scroll"><table class="ds-table ds-grid train-compared"><thead><tr><th scope="col">'
        '<span class="ds-hint">marked rows differ</span></th>{}</tr></thead>{}</table></div>'
    ).format(len(runs), joined(_head(index, run) for index, run in enumerate(runs)), bodies)


def _head(index: int, compared: ComparedRun) -> Markup:
    run = compared.summary.run
    return Markup(
        '<th scope="col"><svg class="train-swatch" viewBox="0 0 32 6" aria-hidden="true"><line x1="0" y1="3" x2="32" y2="3" '
        'stroke="{}" stroke-width="3" stroke-dasharray="{}"/></svg> <button type="button" class="train-link" data-open="{}">'
        '{}</button> <small>run {}</small> <button type="button" class="ds-button" data-uncompare="{}" '
        'aria-label="take {} out of the comparison">\N{MULTIPLICATION SIGN}</button></th>'
    ).format(run_colour(index), DASHES[index], run.id, run.name, run.id, run.id, run.name)


def _body(title: str, rows: Sequence[tuple[str, list[Markup | str]]], columns: int) -> Markup:
    lines = []
    for name, cells in rows:
        differs = name not in NEVER_THE_SAME and len({str(cell) for cell in cells}) > 1
        lines.append(
            Markup('<tr{}><th scope="row">{}{}</th>{}</tr>').format(
                Markup(' class="is-different"') if differs else "",
                name,
                Markup('<span class="train-unseen"> (differs)</span>') if differs else "",
                joined(Markup("<td>{}</td>").format(cell) for cell in cells),
            )
        )
    return Markup('<tbody><tr><th scope="rowgroup" colspan="{}" class="train-block">{}</th></tr>{}</tbody>').format(
        columns + 1, title, joined(lines)
    )


def _filled(rows: Mapping[str, list[Markup | str]]) -> list[tuple[str, list[Markup | str]]]:
    """Leave out rows without anything; an empty cell gets a dash."""
    return [(name, [cell or NOTHING for cell in cells]) for name, cells in rows.items() if any(cells)]


def _verdict_rows(runs: Sequence[ComparedRun]) -> list[tuple[str, list[Markup | str]]]:
    def of_side(name: str, key: str) -> list[Markup | str]:
        return [_share((run.gate or {}).get(name), key) for run in runs]

    return _filled(
        {
            "verdict": [verdict_pill(str((run.gate or {}).get("verdict", ""))) for run in runs],
            "held-out pairs": [_count((run.gate or {}).get("pairs")) for run in runs],
            "accuracy, without ties": of_side("candidate", "accuracy_without_ties"),
            "the same of its rival": of_side("rival", "accuracy_without_ties"),
            "difference, points": [_difference((run.gate or {}).get("difference")) for run in runs],
            "accuracy, with ties": of_side("candidate", "accuracy_with_ties"),
            "thoughts in strict format": of_side("candidate", "strict_format"),
            "benchmark, points": [_difference((run.gate or {}).get("benchmark")) for run in runs],
        }
    )


def _run_rows(runs: Sequence[ComparedRun], now: datetime) -> list[tuple[str, list[Markup | str]]]:
    summaries = [compared.summary for compared in runs]

    def counted(part: str) -> list[Markup | str]:
        return [_count(summary.run.counts.get(part)) for summary in summaries]

    def asked(name: str) -> list[Markup | str]:
        return [_text(summary.run.request.get(name)) for summary in summaries]

    return _filled(
        {
            "state": [run_state(summary.run) for summary in summaries],
            "stages": [stage_list(summary.run.stages) for summary in summaries],
            "started from": [summary.parent or "" for summary in summaries],
            "compared with, its rival": [summary.rival or "" for summary in summaries],
            "new pairs": counted("new"),
            "replayed pairs": counted("replay"),
            "held-out pairs": counted("held_out"),
            "labels": counted("labels"),
            "annotators": counted("annotators"),
            "snapshot": [(summary.run.snapshot_hash or "")[:10] for summary in summaries],
            "labels that a pair needs": [_text((summary.run.snapshot or {}).get("min_labels")) for summary in summaries],
            "campaigns": [", ".join((summary.run.snapshot or {}).get("campaigns") or ()) or "all" for summary in summaries],
            "share of replay": asked("replay_share"),
            "benchmark pairs": asked("benchmark_pairs"),
            "preset": [summary.run.preset for summary in summaries],
            "place": [PLACES.get(summary.run.place, summary.run.device) for summary in summaries],
            "asked for": [day(summary.run.created_at) for summary in summaries],
            "took": [_took(summary, now) for summary in summaries],
            "note": [compared.note.text if compared.note else "" for compared in runs],
        }
    )


def _setting_rows(runs: Sequence[ComparedRun]) -> list[tuple[str, list[Markup | str]]]:
    """List the settings that differ. A run that has not begun has only those that were changed in its form."""
    by_run = [compared.settings or _overrides(compared.summary.run.overrides) for compared in runs]
    names = list(dict.fromkeys(name for settings in by_run for name in settings))
    rows: list[tuple[str, list[Markup | str]]] = []
    for name in names:
        values = [_text(settings[name]) if name in settings else "" for settings in by_run]
        if len(set(values)) > 1:
            rows.append((name, [value or NOTHING for value in values]))
    if len(rows) > MOST_SETTINGS:
        more = f"{len(rows) - MOST_SETTINGS} more settings differ; the folders of the runs have them"
        rows = [*rows[:MOST_SETTINGS], (more, [NOTHING] * len(runs))]
    return rows


def _overrides(overrides: Sequence[str]) -> Mapping[str, Any]:
    return dict(override.split("=", 1) for override in overrides if "=" in override)


def _share(side: Any, key: str) -> str:
    value = side.get(key) if isinstance(side, Mapping) else None
    return share(value) if isinstance(value, (int, float)) else ""


def _difference(measured: Any) -> Markup | str:
    return points(measured["difference"], measured["interval"]) if isinstance(measured, Mapping) else ""


def _count(value: Any) -> str:
    return count(value) if isinstance(value, int) else ""


def _text(value: Any) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _took(summary: RunSummary, now: datetime) -> str:
    run = summary.run
    return "" if run.started_at is None else duration(((run.ended_at or now) - run.started_at).total_seconds())
