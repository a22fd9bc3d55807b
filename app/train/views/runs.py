"""HTML of the runs: the list, and the open run with its progress, its data and its buttons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from markupsafe import Markup

from app.train.views.gate import verdict_pill
from app.train.views.notices import Notice, notices_view
from app.ui.dates import day
from app.ui.markup import bar, button, count, empty, joined, pill
from app.ui.wording import STEPS, duration, ordinal, plural, stage_list
from storage.training.runs import Run

TONES = {"running": "good", "queued": "warn", "failed": "bad", "lost": "bad"}
RESUMABLE = ("failed", "cancelled", "lost")
# Stages of the progress of a run that has no process yet, or none here.
WAITING = {"slurm": "in SLURM's queue", "elsewhere": "elsewhere"}
PLACES = {"slurm": "SLURM", "elsewhere": "elsewhere, packed"}
COPY = Markup(' <button type="button" class="ds-button" data-copy="#train-run-command">Copy</button>')
# The parts of a stage, by their names in the progress of a run.
PHASES = {
    "thoughts": "collecting thoughts",
    "before": "judging held-out pairs",
    "training": "training",
    "after": "judging held-out pairs again",
}


@dataclass(frozen=True)
class RunSummary:
    """A run, and what the store knows about it.

    Attributes:
        run: as the store has it.
        queue_position: in the queue of its device, from 1; None where it does not wait.
        created_by: name of the person who asked for it.
        parent: name of the checkpoint that it starts from.
        rival: name of the checkpoint that its candidate is compared with.
        candidate: name of the checkpoint that it made.
        verdict: the gate's on the candidate.
        promoted: whether the candidate has ever served.
        note: what a lead wrote about it.
    """

    run: Run
    queue_position: int | None
    created_by: str | None
    parent: str | None
    rival: str | None
    candidate: str | None
    verdict: str | None
    promoted: bool
    note: str = ""


def run_list(summaries: Sequence[RunSummary], opened: int | None) -> Markup:
    """Show the runs, those that go on or wait first, with a mark on the open one. opened: its id."""
    if not summaries:
        return empty("No run yet. Start one with the form Retrain.")
    rows = joined(_card(summary, summary.run.id == opened) for summary in sorted(summaries, key=_order))
    hint = Markup('<p class="ds-hint">Tick two or more runs to see their curves, verdicts and settings side by side.</p>')
    return Markup('<h2 class="train-title">Runs</h2><ul class="train-runs" aria-label="Runs">{}</ul>{}').format(
        rows, hint if len(summaries) > 1 else ""
    )


def _order(summary: RunSummary) -> tuple[int, int]:
    """Sort what runs first, then the queue in its order, then what is over, the newest first."""
    run = summary.run
    return ({"running": 0, "queued": 1}.get(run.state, 2), run.id if run.state == "queued" else -run.id)


def _card(summary: RunSummary, is_open: bool) -> Markup:
    run = summary.run
    return Markup(
        '<li class="{chosen}"><input type="checkbox" data-compare="{id}" aria-label="compare {name}, run {id}">'
        '<button type="button" class="train-run-row" data-open="{id}"{current}>'
        '<span class="train-name"><small>{id}</small> {name}</span><span class="train-state">{state}{verdict}</span>'
        '<span class="train-bar">{bar}</span><small class="train-now">{now}{note}</small>'
        '<small class="train-when">{when}</small></button></li>'
    ).format(
        chosen="is-chosen" if is_open else "",
        id=run.id,
        current=Markup(' aria-current="true"') if is_open else "",
        name=run.name,
        state=pill(run_state(run), _tone(run)),
        verdict=verdict_pill(summary.verdict) + (pill("promoted", "good") if summary.promoted else ""),
        bar=bar(progress_share(run), f"progress of {run.name}") if _works(run) else "",
        now=_activity(summary),
        note=Markup('<em title="{0}">{0}</em>').format(summary.note) if summary.note else "",
        when=day(run.ended_at or run.started_at or run.created_at),
    )


def run_state(run: Run) -> str:
    """Return the state of a run in words."""
    if run.state == "running" and run.cancel_requested_at is not None:
        return "ending"
    if run.state == "running" and not _works(run):
        return WAITING[str(run.progress["stage"])]
    return {"lost": "process lost"}.get(run.state, run.state)


def _works(run: Run) -> bool:
    """Whether a process works on the run, as far as this page can tell."""
    return run.state == "running" and run.progress.get("stage") not in WAITING


def _tone(run: Run) -> str:
    return TONES.get(run.state, "") if run.state != "running" or _works(run) else "warn"


def _activity(summary: RunSummary) -> str:
    """Say in a few words what a run does now."""
    run = summary.run
    if run.state == "queued":
        return f"{ordinal(summary.queue_position or 1)} in the queue of {run.device}"
    if run.state == "running":
        return doing(run)
    work = "judging" if run.kind == "score" else stage_list(run.stages)
    return f"{work}, {plural(training_pairs(run), 'pair')}" if training_pairs(run) else work


def training_pairs(run: Run) -> int:
    """Count the new and replayed pairs."""
    return int(run.counts.get("new", 0)) + int(run.counts.get("replay", 0))


def progress_share(run: Run) -> float:
    """Return the share of the current part of the run that is done, 0 to 1."""
    total = run.progress.get("total") or 0
    return min(1.0, float(run.progress.get("done", 0)) / total) if total else 0.0


def doing(run: Run) -> str:
    """Say the stage, part, step and remaining time of a run, as far as they are known."""
    progress = run.progress
    if not progress.get("stage"):
        return "packing" if run.place == "elsewhere" else "starting"
    if progress["stage"] == "slurm":
        return f"job {run.job} is {str(progress.get('part', '')).lower() or 'handed in'} in SLURM"
    if progress["stage"] == "elsewhere":
        return "its result is being checked" if progress.get("part") else "packed, waits for its result"
    stage, part = str(progress["stage"]), str(progress.get("part", ""))
    done, total = progress.get("done", 0), progress.get("total", 0)
    text = STEPS.get(stage, stage)
    if part in PHASES:
        text += f": {PHASES[part]}"
    if total:
        text += f", {'step ' if part == 'training' else ''}{done} of {total}"
    left = progress.get("seconds_left")
    return text + (f", about {duration(left)} left" if isinstance(left, (int, float)) and left > 0 else "")


def run_head(summary: RunSummary, may_act: bool, now: datetime, notices: Sequence[Notice] = (), command: str = "") -> Markup:
    """Show the open run. Its verdict stands below, with the figures behind it.

    Args:
        summary: the run.
        may_act: whether the person may press its buttons.
        now: the time, to say how long it takes.
        notices: alarms and warnings of its stages.
        command: that does the run, or goes on with it, in a terminal; "" without one.
    """
    run = summary.run
    return Markup(
        '<header class="train-head"><h2 class="train-title">{name} <small>run {id}</small></h2>'
        "<span>{state}</span><span class='train-acts'>{acts}</span></header>{progress}{sentence}{notices}{details}"
    ).format(
        name=run.name,
        id=run.id,
        state=pill(run_state(run), _tone(run)),
        acts=_buttons(summary) if may_act else "",
        progress=_progress(run),
        sentence=_sentence(summary),
        details=_details(summary, now, command),
        notices=notices_view(notices),
    )


def _buttons(summary: RunSummary) -> Markup:
    run = summary.run
    if run.state == "running" and run.cancel_requested_at is not None:
        question = "End the process at once? Its work since the last checkpoint is done again when it goes on."
        return button("End at once", "end", run.id, confirm=question)
    if run.state in ("queued", "running"):
        running = run.state == "running"
        question = f"Cancel {run.name}?" + (" It ends after its current step and can go on later." if running else "")
        if running and run.progress.get("stage") == "elsewhere":
            question = f"Cancel {run.name}? Its pack stays, and its result can be brought back after a resume."
        return button("Cancel", "cancel", run.id, confirm=question)
    if run.state in RESUMABLE:
        return button("Resume", "resume", run.id, kind="is-main")
    if run.candidate_id is not None and not summary.promoted:
        question = f"Let {summary.candidate} judge and label from now on?"
        is_better = summary.verdict == "better"
        if not is_better:
            question = f"The comparison says: {summary.verdict or 'nothing'}. {question}"
        return button("Promote", "promote", run.candidate_id, confirm=question, kind="is-main" if is_better else "")
    return Markup("")


def _progress(run: Run) -> Markup:
    if not _works(run):
        return Markup("")
    return Markup('<div class="train-progress">{}<span>{}</span></div>').format(
        bar(progress_share(run), "progress of this part of the run"), doing(run)
    )


def _sentence(summary: RunSummary) -> Markup:
    """Say the state of a run in a sentence."""
    run = summary.run
    if run.state == "running" and run.cancel_requested_at is not None:
        text = "It is ending: it finishes its current step, keeps a checkpoint and stops."
    elif run.state == "running" and run.progress.get("stage") == "slurm":
        text = f"{doing(run)[0].upper()}{doing(run)[1:]}. It begins when SLURM gives it a machine."
    elif run.state == "running" and run.progress.get("stage") == "elsewhere" and run.progress.get("part"):
        text = "Its result is back and is being checked, file by file."
    elif run.state == "queued":
        text = f"It waits for the device {run.device}: {ordinal(summary.queue_position or 1)} in the queue."
    elif run.state == "lost":
        text = f"The process of this run is gone: {run.message or 'it ended without a message'}."
    elif run.state == "finished" and summary.candidate:
        text = f"It made the checkpoint {summary.candidate}" + (", which was promoted." if summary.promoted else ".")
    else:
        text = run.message
    tone = "is-bad" if run.state in ("failed", "lost") else ""
    return Markup('<p class="train-message {}">{}</p>').format(tone, text) if text else Markup("")


def _details(summary: RunSummary, now: datetime, command: str) -> Markup:
    run = summary.run
    ended = run.ended_at or now
    took = "" if run.started_at is None else duration((ended - run.started_at).total_seconds())
    details: Mapping[str, str | Markup] = {
        "stages": stage_list(run.stages) or "judging",
        "started from": summary.parent or "",
        "compared with": summary.rival or "",
        "preset": run.preset,
        "place": PLACES.get(run.place, "") + (f", job {run.job}" if run.place == "slurm" and run.job else ""),
        "changed": ", ".join(run.overrides),
        "data": _data(run),
        "asked for": Markup("{} {}").format(day(run.created_at), f"by {summary.created_by}" if summary.created_by else ""),
        "time": took if run.state != "queued" else "",
        "promotion": "automatic, if it is better" if run.auto_promote else "",
        "in a terminal": Markup('<code id="train-run-command">{}</code>{}').format(command, COPY) if command else "",
    }
    lines = joined(
        Markup("<div><dt>{}</dt><dd>{}</dd></div>").format(name, value) for name, value in details.items() if value
    )
    return Markup('<dl class="ds-settings train-summary">{}</dl>').format(lines)


def _data(run: Run) -> str:
    counts = run.counts
    if not counts:
        return ""
    new, replay, held_out = (count(counts.get(part, 0)) for part in ("new", "replay", "held_out"))
    text = f"{new} new, {replay} replayed, {held_out} held out"
    return text + (f" (snapshot {run.snapshot_hash[:10]})" if run.snapshot_hash else "")
