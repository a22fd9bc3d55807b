"""HTML of the registry: the checkpoints with their origin, accuracy and size, and which one serves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from app.train.views.decide import decision_pill
from app.train.views.gate import verdict_pill
from app.ui.dates import day
from app.ui.markup import NOTHING, button, empty, joined, pill, table
from app.ui.wording import STAGES, share, size
from storage.training.decide import decisions_of
from storage.training.model_registry import BASE, Checkpoint

HEAD = ("checkpoint", "made from", "held-out accuracy", "verdict", "disk", "made", "")


@dataclass(frozen=True)
class CheckpointSummary:
    """A checkpoint, and what the store knows about it.

    Attributes:
        checkpoint: as the registry has it.
        parent: name of the checkpoint that it was trained from.
        run: the run that made it, in words.
        counts: number of pairs of that run, by kind.
        serves: whether it serves now.
        served: whether it has ever served.
        is_older: whether it is older than the serving one.
    """

    checkpoint: Checkpoint
    parent: str | None
    run: str | None
    counts: Mapping[str, int]
    serves: bool
    served: bool
    is_older: bool


def checkpoint_list(
    summaries: Sequence[CheckpointSummary], may_act: bool, history: Sequence[tuple[Markup, str, str]]
) -> Markup:
    """Show the checkpoints, and the history of serving: (time, name, reason)."""
    if not summaries:
        return empty("No checkpoint yet.")
    rows = [_row(summary, may_act) for summary in summaries]
    return Markup('<h2 class="train-title">Checkpoints</h2>{}{}').format(
        table(HEAD, rows, "train-registry"), _history(history)
    )


def _row(summary: CheckpointSummary, may_act: bool) -> list[Markup | str]:
    checkpoint = summary.checkpoint
    return [
        Markup('<span class="ds-name">{}</span> {}{}').format(
            checkpoint.name, pill("serves now", "good") if summary.serves else "", _lineage(summary)
        ),
        _origin(summary),
        _accuracy(checkpoint),
        verdict_pill((checkpoint.gate or {}).get("verdict")) + _decided(checkpoint) or NOTHING,
        size(checkpoint.disk_bytes) if checkpoint.disk_bytes else NOTHING,
        day(checkpoint.created_at),
        _buttons(summary) if may_act else "",
    ]


def _origin(summary: CheckpointSummary) -> Markup | str:
    if summary.parent is None and summary.run is None:
        return "comes with the program" if summary.checkpoint.location == BASE else "comes from elsewhere"
    stage = STAGES.get(summary.checkpoint.stage or "", summary.checkpoint.stage or "")
    pairs = summary.counts.get("new", 0) + summary.counts.get("replay", 0)
    return Markup("{}<small> {} {}{}</small>").format(
        summary.parent or "", stage, f"in {summary.run}" if summary.run else "", f", {pairs} pairs" if pairs else ""
    )


def _decided(checkpoint: Checkpoint) -> Markup:
    """Show the last outcome of asking people."""
    outcomes = [each.recorded["outcome"] for each in decisions_of(checkpoint) if each.recorded]
    return decision_pill(outcomes[-1]) if outcomes else Markup("")


def _accuracy(checkpoint: Checkpoint) -> Markup | str:
    """Show the accuracy without and with ties, as the gate measured it, else as the manifest says."""
    gate = checkpoint.gate or {}
    figures: Mapping[str, Any] = gate.get("candidate") or checkpoint.metrics.get("held-out") or {}
    without_ties = figures.get("accuracy_without_ties")
    if without_ties is None:
        return NOTHING
    with_ties = figures.get("accuracy_with_ties")
    small = "" if with_ties is None else Markup(" <small>with ties {}</small>").format(share(with_ties))
    return Markup("<b>{}</b>{}").format(share(without_ties), small)


def _buttons(summary: CheckpointSummary) -> Markup:
    checkpoint = summary.checkpoint
    if summary.serves:
        return Markup("")
    rolls_back = summary.served or summary.is_older
    question = f"Let {checkpoint.name} judge and label from now on?"
    title, act = ("Roll back to it", "roll_back") if rolls_back else ("Promote", "promote")
    buttons = button(title, act, checkpoint.id, confirm=question)
    if checkpoint.location != BASE:
        question = f"Delete {checkpoint.name}? Its files are removed for good; its row in the lineage stays."
        buttons += button("Delete", "delete", checkpoint.id, confirm=question)
    return buttons


def _lineage(summary: CheckpointSummary) -> Markup:
    """Show how the checkpoint was made, folded away."""
    checkpoint = summary.checkpoint
    details: Mapping[str, str] = {
        "fingerprint": checkpoint.fingerprint[:16],
        "location": "bundled with the program" if checkpoint.location == BASE else checkpoint.location,
        "snapshot": (checkpoint.snapshot_hash or "")[:16],
        "code": checkpoint.code_version[:40],
    }
    lines = joined(
        Markup("<div><dt>{}</dt><dd>{}</dd></div>").format(name, value) for name, value in details.items() if value
    )
    settings = _json(checkpoint.settings, "settings") + _json(checkpoint.metrics, "metrics")
    return Markup(
        '<details class="train-more" data-keep="checkpoint-{}"><summary>how it was made</summary><dl>{}</dl>{}</details>'
    ).format(checkpoint.id, lines, settings)


def _json(values: Mapping[str, Any], title: str) -> Markup:
    if not values:
        return Markup("")
    text = json.dumps(values, indent=1, ensure_ascii=False)
    return Markup('<p><small>{}</small></p><pre class="train-json">{}</pre>').format(title, text)


def _history(history: Sequence[tuple[Markup, str, str]]) -> Markup:
    if len(history) < 2:
        return Markup("")
    lines = joined(Markup("<li>{} <b>{}</b> <small>{}</small></li>").format(*entry) for entry in history)
    return Markup(
        '<details class="train-history" data-keep="history"><summary>History of serving</summary><ol>{}</ol></details>'
    ).format(lines)
