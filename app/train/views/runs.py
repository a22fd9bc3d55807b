"""All runs, and the one that is open: how far it is, what it trains on, what can be done with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from markupsafe import Markup

from app.train.views.gate import verdict_pill
from app.ui.markup import bar, button, count, empty, joined, pill
from app.ui.wording import STEPS, day, duration, ordinal, plural, stage_list
from storage.training.runs import Run

TONES = {"running": "good", "queued": "warn", "failed": "bad", "lost": "bad"}
RESUMABLE = ("failed", "cancelled", "lost")
# The parts of a stage, as a run tells them.
PARTS = {
    "thoughts": "collecting thoughts",
    "before": "judging held-out pairs",
    "training": "training",
    "after": "judging held-out pairs again",
}


@dataclass(frozen=True)
class RunLine:
    """A run with what else is known of it.

    place: in the queue of its device, from 1. by: who asked for it. parent, rival, candidate: names of checkpoints. verdict:
    on what it made, None before. promoted: whether what it made has ever served.
    """

    run: Run
    place: int | None
    by: str | None
    parent: str | None
    rival: str | None
    candidate: str | None
    verdict: str | None
    promoted: bool


def run_list(lines: Sequence[RunLine], opened: int | None) -> Markup:
    """Every run, the newest first; the open one is marked."""
    if not lines:
        return empty("No run yet. What is asked for above comes here.")
    rows = joined(_card(line, line.run.id == opened) for line in lines)
    return Markup('<h2 class="train-title">Runs</h2><div class="train-runs" role="list" aria-label="Runs">{}</div>').format(
        rows
    )


def _card(line: RunLine, is_open: bool) -> Markup:
    run = line.run
    return Markup(
        '<button type="button" class="train-line {chosen}" role="listitem" data-open="{id}" aria-pressed="{pressed}">'
        '<span class="train-name"><small>{id}</small> {name}</span><span class="train-state">{state}{verdict}</span>'
        '<span class="train-bar">{bar}</span><small class="train-now">{now}</small>'
        '<small class="train-when">{when}</small></button>'
    ).format(
        chosen="is-chosen" if is_open else "",
        id=run.id,
        pressed=str(is_open).lower(),
        name=run.name,
        state=pill(_state(run), TONES.get(run.state, "")),
        verdict=verdict_pill(line.verdict) + (pill("promoted", "good") if line.promoted else ""),
        bar=bar(progress_share(run), f"progress of {run.name}") if run.state == "running" else "",
        now=_now(line),
        when=day(run.ended_at or run.started_at or run.created_at),
    )


def _state(run: Run) -> str:
    ending = run.state == "running" and run.cancel_requested_at is not None
    return "ending" if ending else {"lost": "process lost"}.get(run.state, run.state)


def _now(line: RunLine) -> str:
    """What it does now, in a few words."""
    run = line.run
    if run.state == "queued":
        return f"{ordinal(line.place or 1)} in the queue of {run.device}"
    if run.state == "running":
        return doing(run)
    what = "judging" if run.kind == "score" else stage_list(run.stages)
    return f"{what}, {plural(training_pairs(run), 'pair')}" if training_pairs(run) else what


def training_pairs(run: Run) -> int:
    """New and replayed pairs."""
    return int(run.counts.get("new", 0)) + int(run.counts.get("replay", 0))


def progress_share(run: Run) -> float:
    """How much of the part that it is in is done, 0..1."""
    total = run.progress.get("total") or 0
    return min(1.0, float(run.progress.get("done", 0)) / total) if total else 0.0


def doing(run: Run) -> str:
    """Stage, part, step and the time that is left, as far as it told."""
    progress = run.progress
    if not progress.get("stage"):
        return "starting"
    stage, part = str(progress["stage"]), str(progress.get("part", ""))
    done, total = progress.get("done", 0), progress.get("total", 0)
    text = STEPS.get(stage, stage)
    if part in PARTS:
        text += f": {PARTS[part]}"
    if total:
        text += f", {'step ' if part == 'training' else ''}{done} of {total}"
    left = progress.get("seconds_left")
    return text + (f", about {duration(left)} left" if isinstance(left, (int, float)) and left > 0 else "")


def run_head(line: RunLine, may_act: bool, now: datetime, notes: Sequence[str] = ()) -> Markup:
    """The open run: what it is, how far it is, and its buttons for those who may press them. notes: what to know of it."""
    run = line.run
    return Markup(
        '<header class="train-head"><h2 class="train-title">{name} <small>run {id}</small></h2>'
        "<span>{state}{verdict}</span><span class='train-acts'>{acts}</span></header>{progress}{said}{facts}{notes}"
    ).format(
        name=run.name,
        id=run.id,
        state=pill(_state(run), TONES.get(run.state, "")),
        verdict=verdict_pill(line.verdict),
        acts=_acts(line) if may_act else "",
        progress=_progress(run),
        said=_said(line),
        facts=_facts(line, now),
        notes=joined(Markup('<p class="train-message">{}</p>').format(one) for one in notes),
    )


def _acts(line: RunLine) -> Markup:
    run = line.run
    if run.state == "running" and run.cancel_requested_at is not None:
        ask = "End the process at once? What it did since its last checkpoint is done again when it goes on."
        return button("End at once", "end", run.id, confirm=ask)
    if run.state in ("queued", "running"):
        ask = f"Cancel {run.name}?" + (" It ends after its step and can go on later." if run.state == "running" else "")
        return button("Cancel", "cancel", run.id, confirm=ask)
    if run.state in RESUMABLE:
        return button("Resume", "resume", run.id, kind="is-main")
    if run.candidate_id is not None and not line.promoted:
        ask = f"Let {line.candidate} judge and label from now on?"
        if line.verdict != "better":
            ask = f"The comparison says: {line.verdict or 'nothing'}. {ask}"
        return button("Promote", "promote", run.candidate_id, confirm=ask, kind="is-main")
    return Markup("")


def _progress(run: Run) -> Markup:
    if run.state != "running":
        return Markup("")
    return Markup('<div class="train-progress">{}<span>{}</span></div>').format(
        bar(progress_share(run), "progress of this part of the run"), doing(run)
    )


def _said(line: RunLine) -> Markup:
    """What there is to say of its state, in a sentence."""
    run = line.run
    if run.state == "running" and run.cancel_requested_at is not None:
        text = "It was told to end: it finishes the step that it is in, keeps a checkpoint and stops."
    elif run.state == "queued":
        text = f"It waits for the device {run.device}: {ordinal(line.place or 1)} in the queue."
    elif run.state == "lost":
        text = f"The process of this run is gone: {run.message or 'it died without a word'}."
    elif run.state == "finished" and line.candidate:
        text = f"It made the checkpoint {line.candidate}" + (", which was promoted." if line.promoted else ".")
    else:
        text = run.message
    tone = "is-bad" if run.state in ("failed", "lost") else ""
    return Markup('<p class="train-message {}">{}</p>').format(tone, text) if text else Markup("")


def _facts(line: RunLine, now: datetime) -> Markup:
    run = line.run
    ended = run.ended_at or now
    took = "" if run.started_at is None else duration((ended - run.started_at).total_seconds())
    facts: Mapping[str, str | Markup] = {
        "stages": stage_list(run.stages) or "judging",
        "started from": line.parent or "",
        "compared with": line.rival or "",
        "preset": run.preset,
        "changed": ", ".join(run.overrides),
        "data": _data(run),
        "asked for": Markup("{} {}").format(day(run.created_at), f"by {line.by}" if line.by else ""),
        "time": took if run.state != "queued" else "",
        "promotion": "automatic, if it is better" if run.auto_promote else "",
    }
    lines = joined(Markup("<div><dt>{}</dt><dd>{}</dd></div>").format(name, value) for name, value in facts.items() if value)
    return Markup('<dl class="ds-settings train-summary">{}</dl>').format(lines)


def _data(run: Run) -> str:
    counts = run.counts
    if not counts:
        return ""
    new, replay, held_out = (count(counts.get(part, 0)) for part in ("new", "replay", "held_out"))
    text = f"{new} new, {replay} replayed, {held_out} held out"
    return text + (f" (snapshot {run.snapshot_hash[:10]})" if run.snapshot_hash else "")
