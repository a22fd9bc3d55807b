"""The form of the Train page: read, checked, previewed, and turned into a queued run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from typing import Any, cast

from app.runs.places.places import PlaceChoice
from app.serving.serving import Serving
from app.train.views.run_form import (
    KNOBS,
    STAGE_CHOICES,
    STAGE_OF,
    STARTS,
    WORD_KNOBS,
    FormDraft,
    RunPreview,
    can_run,
    device_title,
)
from app.web.form_data import FormData, FormError
from storage import Database
from storage.schema import RunPlace, Start
from storage.training.devices import overlap
from storage.training.model_registry import lineage
from storage.training.new_labels import NewLabels
from storage.training.preflight import Preflight, PresetPreflight
from storage.training.runs import Run, RunRequest, create_run, newest_trained_label, runs_in
from storage.training.snapshot_config import SnapshotConfig
from storage.training.snapshots import make_snapshot, with_share_in_use

LARGEST_KNOB = 1e9
MOST_BENCHMARK_PAIRS = 400


@dataclass(frozen=True)
class RunForm:
    """A checked form.

    Attributes:
        name: of the run and of its checkpoint.
        stages: to train, in order.
        start: "current" to go on from the serving checkpoint, "base" to begin again.
        preset: with what this machine can do of it.
        overrides: "name=value" of each knob that differs from the preset.
        values: of all knobs, by name.
        config: which labels the run trains on.
        benchmark_pairs: number of benchmark pairs in the comparison.
        auto_promote: whether a better checkpoint is promoted by itself.
        place: where it runs.
    """

    name: str
    stages: tuple[str, ...]
    start: Start
    preset: PresetPreflight
    overrides: tuple[str, ...]
    values: Mapping[str, float]
    config: SnapshotConfig
    benchmark_pairs: int
    auto_promote: bool
    place: RunPlace = "here"

    @property
    def incremental(self) -> bool:
        """Whether the run trains on new labels, with older ones as replay only."""
        return self.start == "current"


def read_draft(form: FormData) -> FormDraft:
    """Read the form as it was sent, unchecked."""
    knobs = {name.removeprefix("knob-"): form.text(name) for name in form.fields if name.startswith("knob-")}
    return FormDraft(
        name=form.text("name"),
        stages=form.text("stages"),
        start=form.text("start"),
        preset=form.text("preset"),
        knobs=knobs,
        replay_share=form.text("replay_share"),
        min_labels=form.text("min_labels"),
        campaigns=form.many("campaigns"),
        benchmark_pairs=form.text("benchmark_pairs"),
        auto_promote=form.text("auto_promote") == "yes",
        place=form.text("place"),
    )


def check_form(draft: FormDraft, preflight: Preflight, places: Sequence[PlaceChoice]) -> RunForm:
    """Check a form against what this machine, or the place that it names, can train.

    Raises:
        FormError: a field is missing or out of its bounds; the message says which.
        StorageError: the choice of labels is not possible.
    """
    place = next((place for place in places if place.name == (draft.place or "here")), None)
    if place is None or place.why_not:
        raise FormError(f"Choose where it runs{f' (SLURM {place.why_not})' if place else ''}.")
    preset = preflight.preset(draft.preset)
    if preset is None or not can_run(preset, place.name):
        reason = f" ({preset.why_not})" if preset else ""
        raise FormError(f"Choose a preset that can run {'here' if place.name == 'here' else 'on this checkpoint'}{reason}.")
    if draft.stages not in STAGE_CHOICES or draft.start not in STARTS:
        raise FormError("Choose what to train, and from where.")
    stages = tuple(draft.stages.split(","))
    if not set(stages) <= set(preset.stages):
        raise FormError(f"The preset {preset.title} can't train {' and '.join(stages)}.")
    typed = {name: getattr(draft, name) for name in ("replay_share", "min_labels", "benchmark_pairs")}
    numbers = FormData("", "", typed)
    config = SnapshotConfig(
        campaigns=draft.campaigns,
        min_labels=numbers.whole("min_labels"),
        replay_share=numbers.number("replay_share") / 100,
    )
    if not 0 <= numbers.whole("benchmark_pairs") <= MOST_BENCHMARK_PAIRS:
        raise FormError(f"Enter 0 to {MOST_BENCHMARK_PAIRS} benchmark pairs.")
    values, words = _values(draft, preset, stages), _words(draft, preset, stages)
    overrides = [f"{name}={value:g}" for name, value in values.items() if value != float(preset.knobs[name])]
    overrides += [f"{name}={word}" for name, word in words.items() if word != preset.knobs[name]]
    return RunForm(
        name=draft.name or f"retrained {datetime.now(timezone.utc):%Y-%m-%d}",
        stages=stages,
        start=cast("Start", draft.start),
        preset=preset,
        overrides=tuple(overrides),
        values=values,
        config=config,
        benchmark_pairs=numbers.whole("benchmark_pairs"),
        auto_promote=draft.auto_promote,
        place=place.name,
    )


def _values(draft: FormDraft, preset: PresetPreflight, stages: tuple[str, ...]) -> dict[str, float]:
    """Read the knobs that the preset has for these stages, as numbers."""
    values = {}
    for name in filter(partial(_is_asked, preset, stages), KNOBS):
        default = preset.knobs[name]
        typed = draft.knobs.get(name, "")
        if not typed:
            values[name] = float(default)
            continue
        title = KNOBS.get(name, name)
        value = FormData("", "", {title: typed}).number(title)
        least = 1 if name.endswith("steps") else 2 if name.endswith("num_generations") else 0
        if not least <= value <= LARGEST_KNOB or (least and not value.is_integer()):
            kind = f"a whole number of at least {least}" if least else "a number of at least 0"
            raise FormError(f"Enter {kind} for {title}.")
        values[name] = value
    return values


def _words(draft: FormDraft, preset: PresetPreflight, stages: tuple[str, ...]) -> dict[str, str]:
    """Read the knobs that are words."""
    words = {}
    for name in filter(partial(_is_asked, preset, stages), WORD_KNOBS):
        title, known = WORD_KNOBS[name]
        words[name] = draft.knobs.get(name) or preset.knobs[name]
        if words[name] not in known:
            raise FormError(f"Choose one of the answers for {title}.")
    return words


def _is_asked(preset: PresetPreflight, stages: tuple[str, ...], knob: str) -> bool:
    return knob in preset.knobs and STAGE_OF[knob.partition(".")[0]] in stages


def preview_of(
    form: RunForm,
    new_labels: NewLabels,
    preflight: Preflight,
    command: str,
    queue: int,
    has_benchmark: bool,
    place_about: str = "",
) -> RunPreview:
    """Preview the run that a form asks for.

    Args:
        form: the checked form.
        new_labels: which it would train on.
        preflight: what this machine can train.
        command: that trains with these settings in a terminal.
        queue: number of runs before it.
        has_benchmark: whether the comparison has benchmark pairs.
        place_about: what the place has, where it is not this machine.
    """
    is_here = form.place == "here"
    return RunPreview(
        stages=form.stages,
        preset=form.preset,
        device_name=device_title(form.preset, preflight),
        free_bytes=preflight.memory_free,
        new=new_labels.new,
        replay=new_labels.replay if form.incremental else 0,
        held_out=new_labels.compared,
        seconds=_seconds(form, new_labels.compared, form.benchmark_pairs if has_benchmark else 0) if is_here else {},
        command=command,
        overrides=form.overrides,
        queue=queue,
        place=form.place,
        place_about=place_about,
    )


def _seconds(form: RunForm, held_out: int, benchmark: int) -> dict[str, float]:
    """Estimate the time of each stage: the preset's, corrected for the form's steps, rollouts and benchmark pairs."""
    preset, seconds, per_step = form.preset, {}, _seconds_per_step(form)
    for stage in (stage for stage in form.stages if stage in preset.seconds):
        preset_steps, steps = (values.get(f"{_section_of(stage)}.steps", 0) for values in (preset.knobs, form.values))
        preset_seconds = preset_steps * preset.seconds_per_step.get(stage, 0.0)
        seconds[stage] = preset.seconds[stage] + steps * per_step.get(stage, 0.0) - preset_seconds
    if seconds and held_out:
        seconds["gate"] = preset.seconds.get("gate", 0.0) * (held_out + benchmark) / held_out
    return seconds


def _seconds_per_step(form: RunForm) -> dict[str, float]:
    """Estimate the time of a step by stage, where it is known: the preset's, scaled by the form's number of rollouts."""
    seconds = {}
    for stage in (stage for stage in form.stages if stage in form.preset.seconds_per_step):
        knob = f"{_section_of(stage)}.objective.num_generations"
        preset_rollouts = form.preset.knobs.get(knob)
        scale = form.values[knob] / preset_rollouts if preset_rollouts and knob in form.values else 1.0
        seconds[stage] = form.preset.seconds_per_step[stage] * scale
    return seconds


def _section_of(stage: str) -> str:
    """Return the name of a stage's section in the configuration."""
    return stage.replace("-", "_")


def newest_known_label(database: Database, serving: Serving, start: Start) -> int:
    """Return the newest label that the checkpoint to start from was trained on."""
    if start == "base" or serving.checkpoint_id is None:
        return 0
    with database.read() as session:
        return newest_trained_label(session, serving.checkpoint_id)


def device_of(form: RunForm, preflight: Preflight) -> str:
    """Return the device of a run: of this machine those that its preset takes, else the name of the place."""
    return (form.preset.device or preflight.device) if form.place == "here" else form.place


def queue_run(database: Database, serving: Serving, form: RunForm, device: str, by: int) -> Run:
    """Freeze the data and put the run into the queue.

    Args:
        database: the store.
        serving: the checkpoint that the run is compared with.
        form: the checked form.
        device: that the run trains on.
        by: id of the person who asks.

    Raises:
        FormError: the serving checkpoint is not in the registry.
        StorageError: there is nothing to train on, or the store refuses.
    """
    rival = serving.checkpoint_id
    if rival is None:
        raise FormError("The serving checkpoint is not in the registry. Start the app again.")
    since = newest_known_label(database, serving, form.start)
    with database.read() as session:
        parent = rival if form.incremental else lineage(session, rival)[-1].id
        config = with_share_in_use(session, form.config)
        snapshot = make_snapshot(session, config, since, form.incremental)
    further: dict[str, Any] = {
        "replay_share": form.config.replay_share,
        "benchmark_pairs": form.benchmark_pairs,
        "steps_aside": form.preset.steps_aside and form.place == "here",
        "seconds_per_step": _seconds_per_step(form),
    }
    request = RunRequest(
        kind="train",
        name=form.name,
        device=device,
        parent_id=parent,
        rival_id=rival,
        stages=form.stages,
        start=form.start,
        preset=form.preset.name,
        overrides=form.overrides,
        request=further,
        auto_promote=form.auto_promote,
        place=form.place,
    )
    with database.write() as session:
        return create_run(session, request, snapshot, by)


def queue_length(database: Database, device: str) -> int:
    """Count the runs that a new one on these devices would wait for; SLURM and other machines let none wait here."""
    with database.read() as session:
        runs = [run for run in runs_in(session, "queued", "running") if run.place == "here"]
    return sum(overlap(run.device, device) for run in runs)
