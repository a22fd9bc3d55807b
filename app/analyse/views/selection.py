"""What the page looks at, and how much of it has been judged: the form on top, and the runs that judge the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from app.ui.markup import bar, button, checkboxes, count, joined, options, percent, pill
from storage.training.model_registry import Checkpoint
from storage.training.runs import Run

MODES = {"think": "asked to think", "quick": "asked quickly"}
_TONES = {"queued": "", "running": "good", "finished": "good", "failed": "bad", "cancelled": "", "lost": "bad"}


@dataclass(frozen=True)
class Coverage:
    """How many pairs of the selection a checkpoint has judged. labelled: of those that people chose in.

    missing: pairs that it has not judged in both ways, or of which no facts of the videos were measured. held_out: only
    held-out pairs are looked at, while a run judges the others of the same source or campaign too.
    """

    checkpoint: Checkpoint
    pairs: int
    labelled: int
    think: int
    quick: int
    missing: int
    held_out: bool


def choose_form(
    checkpoints: Sequence[Checkpoint],
    scopes: Mapping[str, str],
    *,
    checkpoint: int,
    beside: Sequence[int],
    scope: str,
    held_out: bool,
    mode: str,
) -> Markup:
    """Every change asks at once. The arguments after the choices are what is chosen now."""
    names = {str(one.id): one.name for one in checkpoints}
    others = {key: name for key, name in names.items() if key != str(checkpoint)}
    compared = Markup('<fieldset class="analyse-beside"><legend>beside it</legend>{}</fieldset>').format(
        checkboxes("beside", others, [str(one) for one in beside], change="choose")
    )
    return Markup(
        '<form class="ds-form analyse-choose" data-act="choose">'
        '<label>Checkpoint<select name="checkpoint" aria-label="Checkpoint" data-change="choose">{}</select></label>'
        '<label>Way of asking<select name="way" aria-label="Way of asking" data-change="choose">{}</select></label>'
        '<label>Pairs<select name="scope" aria-label="Pairs" data-change="choose">{}</select></label>'
        "<div>{}</div>{}</form>"
    ).format(
        options(names, str(checkpoint)),
        options(MODES, mode),
        options(scopes, scope),
        checkboxes("held_out", {"yes": "held-out pairs only"}, ["yes"] if held_out else [], change="choose"),
        compared if others else "",
    )


def coverage_view(found: Sequence[Coverage], runs: Sequence[Run], names: Mapping[int, str], may_score: bool) -> Markup:
    """A line for each checkpoint, with a button where something is missing; below it the runs that judge.

    names: of checkpoints by id.
    """
    return Markup('<div class="analyse-coverage">{}{}</div>').format(
        joined(_covered(one, may_score, _busy(runs, one.checkpoint.id)) for one in found),
        joined(_run(run, names.get(run.parent_id or 0, "?"), may_score) for run in runs),
    )


def _busy(runs: Sequence[Run], checkpoint: int) -> bool:
    return any(run.parent_id == checkpoint and run.state in ("queued", "running") for run in runs)


def _covered(one: Coverage, may_score: bool, busy: bool) -> Markup:
    if not one.pairs:
        return Markup('<p><b class="ds-name">{}</b> <span>no pair is selected</span></p>').format(one.checkpoint.name)
    what = "Score missing pairs, held out or not" if one.held_out else "Score missing pairs"
    score = button(what, "score", one.checkpoint.id) if may_score and one.missing and not busy else ""
    return Markup(
        '<p><b class="ds-name">{}</b> <span>has judged {} with a thought and {} quickly, of {} pairs ({} labelled)</span>'
        "{}</p>"
    ).format(one.checkpoint.name, count(one.think), count(one.quick), count(one.pairs), count(one.labelled), score)


def _run(run: Run, name: str, may_change: bool) -> Markup:
    done, total = (_whole(run.progress.get(key)) for key in ("done", "total"))
    share = done / total if total else 0.0
    said = f"{percent(share)}, {count(done)} of {count(total)}" if total else ""
    left = run.progress.get("seconds_left")
    if run.state == "running" and isinstance(left, (int, float)):
        said += f", {_duration(float(left))} left"
    acts = Markup("")
    if may_change and run.state in ("queued", "running"):
        acts = button("Cancel", "cancel-run", run.id)
    elif may_change and run.state in ("failed", "cancelled", "lost"):
        acts = button("Resume", "resume-run", run.id)
    return Markup(
        '<p class="analyse-run"><span>scoring with {}</span>{}<span>{}</span>{}<span class="ds-reason">{}</span>{}</p>'
    ).format(name, pill(run.state, _TONES[run.state]), said, bar(share, f"run {run.id}") if total else "", run.message, acts)


def _whole(value: object) -> int:
    return int(value) if isinstance(value, (int, float)) else 0


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
