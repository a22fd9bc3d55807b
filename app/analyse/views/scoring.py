"""HTML of the scoring panel: how many selected pairs each checkpoint has judged, and the runs that judge the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from app.ui.markup import bar, button, count, joined, percent, pill
from app.ui.wording import duration
from storage.training.model_registry import Checkpoint
from storage.training.runs import Run

_TONES = {"queued": "", "running": "good", "finished": "good", "failed": "bad", "cancelled": "", "lost": "bad"}


@dataclass(frozen=True)
class JudgedCounts:
    """Number of selected pairs that a checkpoint has judged.

    Attributes:
        checkpoint: as the registry has it.
        pairs: selected pairs.
        labelled: those in which people chose.
        think: those judged in mode "think".
        quick: those judged in mode "quick".
        missing: those not judged in both modes, or whose videos were not measured.
        held_out: whether only held-out pairs are selected; a run judges the others of the source or campaign too.
    """

    checkpoint: Checkpoint
    pairs: int
    labelled: int
    think: int
    quick: int
    missing: int
    held_out: bool


def scoring_view(
    counts: Sequence[JudgedCounts], runs: Sequence[Run], names: Mapping[int, str], *, may_score: bool
) -> Markup:
    """Show a line for each checkpoint, with a button where pairs are missing, and the runs that judge.

    Args:
        counts: of each selected checkpoint.
        runs: scoring runs, in the order of the page.
        names: of checkpoints, by id.
        may_score: whether the person may start, cancel and resume runs.
    """
    return Markup('<div class="analyse-coverage">{}{}</div>').format(
        joined(_counts_line(entry, may_score, _is_busy(runs, entry.checkpoint.id)) for entry in counts),
        joined(_run(run, names.get(run.parent_id or 0, "?"), may_score) for run in runs),
    )


def _is_busy(runs: Sequence[Run], checkpoint: int) -> bool:
    return any(run.parent_id == checkpoint and run.state in ("queued", "running") for run in runs)


def _counts_line(counts: JudgedCounts, may_score: bool, busy: bool) -> Markup:
    if not counts.pairs:
        return Markup('<p><b class="ds-name">{}</b> <span>no pair is selected</span></p>').format(counts.checkpoint.name)
    title = "Score missing pairs, held out or not" if counts.held_out else "Score missing pairs"
    score = button(title, "score", counts.checkpoint.id) if may_score and counts.missing and not busy else ""
    return Markup(
        '<p><b class="ds-name">{}</b> <span>has judged {} with a thought and {} quickly, of {} pairs ({} labelled)</span>'
        "{}</p>"
    ).format(
        counts.checkpoint.name, count(counts.think), count(counts.quick), count(counts.pairs), count(counts.labelled), score
    )


def _run(run: Run, name: str, may_change: bool) -> Markup:
    done, total = (_int(run.progress.get(key)) for key in ("done", "total"))
    share = done / total if total else 0.0
    text = f"{percent(share)}, {count(done)} of {count(total)}" if total else ""
    left = run.progress.get("seconds_left")
    if run.state == "running" and isinstance(left, (int, float)):
        text += f", {duration(float(left))} left"
    buttons = Markup("")
    if may_change and run.state in ("queued", "running"):
        buttons = button("Cancel", "cancel-run", run.id)
    elif may_change and run.state in ("failed", "cancelled", "lost"):
        buttons = button("Resume", "resume-run", run.id)
    return Markup(
        '<p class="analyse-run"><span>scoring with {}</span>{}<span>{}</span>{}<span class="ds-reason">{}</span>{}</p>'
    ).format(
        name, pill(run.state, _TONES[run.state]), text, bar(share, f"run {run.id}") if total else "", run.message, buttons
    )


def _int(value: object) -> int:
    return int(value) if isinstance(value, (int, float)) else 0
