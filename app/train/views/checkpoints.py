"""The registry: checkpoints, where each comes from, how good it is, what it takes, and which one serves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from app.train.views.gate import verdict_pill
from app.ui.markup import NOTHING, button, empty, joined, pill, table
from app.ui.wording import day, share, size
from storage.training.model_registry import BASE, Checkpoint

HEAD = ("checkpoint", "made from", "held-out accuracy", "verdict", "disk", "made", "")
STAGES = {"cold-start": "cold start", "dual-rl": "dual RL"}


@dataclass(frozen=True)
class CheckpointLine:
    """A checkpoint with the names of its parent and run. served: whether it has served before. counts: of its run's data."""

    checkpoint: Checkpoint
    parent: str | None
    run: str | None
    counts: Mapping[str, int]
    serves: bool
    served: bool
    is_older: bool


def checkpoint_list(lines: Sequence[CheckpointLine], may_act: bool, served: Sequence[tuple[str, str, str]]) -> Markup:
    """All checkpoints, the newest first, and what served when: (moment, name, why)."""
    if not lines:
        return empty("No checkpoint yet.")
    rows = [_row(line, may_act) for line in lines]
    return Markup('<h2 class="train-title">Checkpoints</h2>{}{}').format(
        table(HEAD, rows, "train-registry"), _history(served)
    )


def _row(line: CheckpointLine, may_act: bool) -> list[Markup | str]:
    checkpoint = line.checkpoint
    return [
        Markup('<span class="ds-name">{}</span> {}{}').format(
            checkpoint.name, pill("serves now", "good") if line.serves else "", _lineage(line)
        ),
        _origin(line),
        _accuracy(checkpoint),
        verdict_pill((checkpoint.gate or {}).get("verdict")) or NOTHING,
        size(checkpoint.disk_bytes) if checkpoint.disk_bytes else NOTHING,
        day(checkpoint.created_at),
        _acts(line) if may_act else "",
    ]


def _origin(line: CheckpointLine) -> Markup | str:
    if line.parent is None and line.run is None:
        return "comes with the program" if line.checkpoint.location == BASE else "comes from elsewhere"
    stage = STAGES.get(line.checkpoint.stage or "", line.checkpoint.stage or "")
    pairs = line.counts.get("new", 0) + line.counts.get("replay", 0)
    return Markup("{}<small> {} {}{}</small>").format(
        line.parent or "", stage, f"in {line.run}" if line.run else "", f", {pairs} pairs" if pairs else ""
    )


def _accuracy(checkpoint: Checkpoint) -> Markup | str:
    """Without and with ties, as the gate measured it, else as its manifest says."""
    gate = checkpoint.gate or {}
    found: Mapping[str, Any] = gate.get("candidate") or checkpoint.metrics.get("held-out") or {}
    plain = found.get("accuracy_without_ties")
    if plain is None:
        return NOTHING
    with_ties = found.get("accuracy_with_ties")
    also = "" if with_ties is None else Markup(" <small>with ties {}</small>").format(share(with_ties))
    return Markup("<b>{}</b>{}").format(share(plain), also)


def _acts(line: CheckpointLine) -> Markup:
    checkpoint = line.checkpoint
    if line.serves:
        return Markup("")
    back = line.served or line.is_older
    ask = f"Let {checkpoint.name} judge and label from now on?"
    acts = button("Roll back to it" if back else "Promote", "roll_back" if back else "promote", checkpoint.id, confirm=ask)
    if checkpoint.location != BASE:
        gone = f"Delete {checkpoint.name}? Its files are removed for good; its row in the lineage stays."
        acts += button("Delete", "delete", checkpoint.id, confirm=gone)
    return acts


def _lineage(line: CheckpointLine) -> Markup:
    """Everything that is known of how it was made, folded away."""
    checkpoint = line.checkpoint
    facts: Mapping[str, str] = {
        "fingerprint": checkpoint.fingerprint[:16],
        "location": "bundled with the program" if checkpoint.location == BASE else checkpoint.location,
        "snapshot": (checkpoint.snapshot_hash or "")[:16],
        "code": checkpoint.code_version[:40],
    }
    lines = joined(Markup("<div><dt>{}</dt><dd>{}</dd></div>").format(name, value) for name, value in facts.items() if value)
    settings = _json(checkpoint.settings, "settings") + _json(checkpoint.metrics, "metrics")
    return Markup(
        '<details class="train-more" data-keep="checkpoint-{}"><summary>lineage</summary><dl>{}</dl>{}</details>'
    ).format(checkpoint.id, lines, settings)


def _json(values: Mapping[str, Any], title: str) -> Markup:
    if not values:
        return Markup("")
    text = json.dumps(values, indent=1, ensure_ascii=False)
    return Markup('<p><small>{}</small></p><pre class="train-json">{}</pre>').format(title, text)


def _history(served: Sequence[tuple[str, str, str]]) -> Markup:
    if len(served) < 2:
        return Markup("")
    lines = joined(Markup("<li>{} <b>{}</b> <small>{}</small></li>").format(*one) for one in served)
    return Markup(
        '<details class="train-history" data-keep="history"><summary>What served when</summary><ol>{}</ol></details>'
    ).format(lines)
