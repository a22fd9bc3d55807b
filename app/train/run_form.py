"""From the form on the Train page to a run: what was asked for, checked, and what it would come to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, cast

from app.serving.serving import Serving
from app.train.views.run_form import KNOBS, STAGE_CHOICES, STAGE_OF, STARTS, Draft, Plan
from app.web.form_data import FormData, FormError
from storage import Database
from storage.schema import Start
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
    """A checked form. overrides: "name=value" of what differs from the preset."""

    name: str
    stages: tuple[str, ...]
    start: Start
    preset: PresetPreflight
    overrides: tuple[str, ...]
    values: Mapping[str, float]
    settings: SnapshotConfig
    benchmark_pairs: int
    auto_promote: bool

    @property
    def incremental(self) -> bool:
        """Whether older labels only come along as replay."""
        return self.start == "current"


def draft_of(asked: FormData) -> Draft:
    """The form as it was sent, unchecked."""
    knobs = {name.removeprefix("knob-"): asked.text(name) for name in asked.fields if name.startswith("knob-")}
    return Draft(
        name=asked.text("name"),
        stages=asked.text("stages"),
        start=asked.text("start"),
        preset=asked.text("preset"),
        knobs=knobs,
        replay_share=asked.text("replay_share"),
        min_labels=asked.text("min_labels"),
        campaigns=asked.many("campaigns"),
        benchmark_pairs=asked.text("benchmark_pairs"),
        auto_promote=asked.text("auto_promote") == "yes",
    )


def wanted(draft: Draft, preflight: Preflight) -> RunForm:
    """What a form asks for.

    Raises:
        FormError: a field is missing or out of its bounds; the message says which.
        StorageError: the data settings can't be.
    """
    preset = preflight.preset(draft.preset)
    if preset is None or preset.why_not:
        raise FormError(f"choose a preset that can run here{f': {preset.why_not}' if preset else ''}")
    if draft.stages not in STAGE_CHOICES or draft.start not in STARTS:
        raise FormError("choose what to train, and from where")
    stages = tuple(draft.stages.split(","))
    if not set(stages) <= set(preset.stages):
        raise FormError(f"{preset.title} has no {' and '.join(stages)}")
    typed = {name: getattr(draft, name) for name in ("replay_share", "min_labels", "benchmark_pairs")}
    numbers = FormData("", "", typed)
    settings = SnapshotConfig(
        campaigns=draft.campaigns,
        min_labels=numbers.whole("min_labels"),
        replay_share=numbers.number("replay_share") / 100,
    )
    if not 0 <= numbers.whole("benchmark_pairs") <= MOST_BENCHMARK_PAIRS:
        raise FormError(f"benchmark pairs are at most {MOST_BENCHMARK_PAIRS}")
    values = _values(draft, preset, stages)
    overrides = tuple(f"{name}={value:g}" for name, value in values.items() if value != float(preset.knobs[name]))
    return RunForm(
        name=draft.name or f"retrained {datetime.now(timezone.utc):%Y-%m-%d}",
        stages=stages,
        start=cast("Start", draft.start),
        preset=preset,
        overrides=overrides,
        values=values,
        settings=settings,
        benchmark_pairs=numbers.whole("benchmark_pairs"),
        auto_promote=draft.auto_promote,
    )


def _values(draft: Draft, preset: PresetPreflight, stages: tuple[str, ...]) -> dict[str, float]:
    """The knobs of the stages that are trained, as numbers. Only knobs that the preset offers count."""
    values = {}
    for name in KNOBS:
        if name not in preset.knobs or STAGE_OF[name.partition(".")[0]] not in stages:
            continue
        default = preset.knobs[name]
        typed = draft.knobs.get(name, "")
        if not typed:
            values[name] = float(default)
            continue
        title = KNOBS.get(name, name)
        value = FormData("", "", {title: typed}).number(title)
        least = 1 if name.endswith("steps") else 2 if name.endswith("num_generations") else 0
        if not least <= value <= LARGEST_KNOB or (least and not value.is_integer()):
            raise FormError(f"{title} has to be {'a whole number of at least ' + str(least) if least else 'at least 0'}")
        values[name] = value
    return values


def plan_of(asked: RunForm, news: NewLabels, preflight: Preflight, next_id: int, queue: int, benchmark: bool) -> Plan:
    """What the run would be. next_id: the number that it will get; queue: runs before it; benchmark: there is one."""
    return Plan(
        stages=asked.stages,
        preset=asked.preset,
        device_name=preflight.device_name,
        free_bytes=preflight.memory_free,
        new=news.new,
        replay=news.replay if asked.incremental else 0,
        held_out=news.compared,
        seconds=_seconds(asked, news.compared, asked.benchmark_pairs if benchmark else 0),
        command=f"python -m trainer run {next_id}",
        overrides=asked.overrides,
        queue=queue,
    )


def _seconds(asked: RunForm, held_out: int, benchmark: int) -> dict[str, float]:
    """By stage: those of the preset, with the steps and rollouts that are asked for, and the benchmark's pairs."""
    preset, seconds, per_step = asked.preset, {}, _seconds_per_step(asked)
    for stage in (stage for stage in asked.stages if stage in preset.seconds):
        before, now = (values.get(f"{_setting_of(stage)}.steps", 0) for values in (preset.knobs, asked.values))
        was = preset.seconds_per_step.get(stage, 0.0)
        seconds[stage] = preset.seconds[stage] + now * per_step.get(stage, 0.0) - before * was
    if seconds and held_out:
        seconds["gate"] = preset.seconds.get("gate", 0.0) * (held_out + benchmark) / held_out
    return seconds


def _seconds_per_step(asked: RunForm) -> dict[str, float]:
    """By stage, as far as it is known: those of the preset, with the rollouts that are asked for."""
    found = {}
    for stage in (stage for stage in asked.stages if stage in asked.preset.seconds_per_step):
        rollouts = f"{_setting_of(stage)}.objective.num_generations"
        usual = asked.preset.knobs.get(rollouts)
        more = asked.values[rollouts] / usual if usual and rollouts in asked.values else 1.0
        found[stage] = asked.preset.seconds_per_step[stage] * more
    return found


def _setting_of(stage: str) -> str:
    """The name of a stage among the settings."""
    return stage.replace("-", "_")


def since_of(database: Database, serving: Serving, start: Start) -> int:
    """The newest label that the checkpoint to start from could know."""
    if start == "base" or serving.checkpoint_id is None:
        return 0
    with database.read() as session:
        return newest_trained_label(session, serving.checkpoint_id)


def make_run(database: Database, serving: Serving, asked: RunForm, device: str, by: int) -> Run:
    """Freeze the data and put the run into the queue.

    Raises:
        StorageError: there is nothing to train on, or the store refuses.
    """
    rival = serving.checkpoint_id
    if rival is None:
        raise FormError("what serves now is not in the registry; start the app again")
    since = since_of(database, serving, asked.start)
    with database.read() as session:
        parent = rival if asked.incremental else lineage(session, rival)[-1].id
        settings = with_share_in_use(session, asked.settings)
        snapshot = make_snapshot(session, settings, since, asked.incremental)
    further: dict[str, Any] = {
        "replay_share": asked.settings.replay_share,
        "benchmark_pairs": asked.benchmark_pairs,
        "steps_aside": asked.preset.steps_aside,
        "seconds_per_step": _seconds_per_step(asked),
    }
    request = RunRequest(
        kind="train",
        name=asked.name,
        device=device,
        parent_id=parent,
        rival_id=rival,
        stages=asked.stages,
        start=asked.start,
        preset=asked.preset.name,
        overrides=asked.overrides,
        request=further,
        auto_promote=asked.auto_promote,
    )
    with database.write() as session:
        return create_run(session, request, snapshot, by)


def queue_length(database: Database, device: str) -> int:
    """Runs that a new one on this device would wait for."""
    with database.read() as session:
        return sum(run.device == device for run in runs_in(session, "queued", "running"))
