"""HTML of the new labels, of the form that asks for a run, and of the preview of that run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from markupsafe import Markup

from app.runs.places.places import PlaceChoice
from app.ui.dates import day
from app.ui.markup import DASH, NOTHING, checkboxes, count, empty, joined, options
from app.ui.wording import duration, figures, plural, signed, size, stage_list
from storage.labelling.krippendorff import Alpha
from storage.training.devices import process_count
from storage.training.new_labels import NewLabels
from storage.training.preflight import Preflight, PresetPreflight

# Knob -> its title: the heading of its group, and its name there.
KNOBS = {
    "cold_start.steps": "Cold start, steps",
    "cold_start.optim.lr": "Cold start, learning rate",
    "dual_rl.steps": "Dual RL, steps",
    "dual_rl.optim.lr": "Dual RL, learning rate",
    "dual_rl.objective.num_generations": "Dual RL, rollouts a video",
}
# A knob that is one of several words: its title, and each word as the form says it.
WORD_KNOBS = {
    "dual_rl.objective.groups_without_spread": (
        "Rollouts of a video that all got one reward",
        {"keep": "count in the mean", "leave_out": "are left out", "sample_again": "are sampled again"},
    )
}
STAGE_OF = {"cold_start": "cold-start", "dual_rl": "dual-rl"}
STAGE_CHOICES = {
    "cold-start,dual-rl": "Both stages",
    "cold-start": "Cold start only",
    "dual-rl": "Dual RL only",
}
STARTS = {
    "current": "From the current checkpoint (incremental, with replay of older labels)",
    "base": "From the base, on all labels",
}
PLACES = {"here": "This machine", "slurm": "SLURM", "elsewhere": "Elsewhere"}
SECONDS_FROM = {
    "runs": "as runs took here",
    "trial": "after a short trial",
    "plan": "estimated from the work",
}


@dataclass(frozen=True)
class FormDraft:
    """The form as it stands, unchecked; names are those of its fields.

    Attributes:
        name: of the run.
        stages: names of the stages, separated by commas.
        start: "current" or "base".
        preset: name of the preset.
        knobs: typed value by knob.
        replay_share: in percent of the training pairs.
        min_labels: people who have to have labelled a pair.
        campaigns: names of those whose labels count; all by default.
        benchmark_pairs: number of benchmark pairs in the comparison.
        auto_promote: whether a better checkpoint is promoted by itself.
        place: "here", "slurm" or "elsewhere"; "" where none was chosen yet.
    """

    name: str = ""
    stages: str = "cold-start,dual-rl"
    start: str = "current"
    preset: str = ""
    knobs: Mapping[str, str] = field(default_factory=dict)
    replay_share: str = "50"
    min_labels: str = "1"
    campaigns: tuple[str, ...] = ()
    benchmark_pairs: str = "100"
    auto_promote: bool = False
    place: str = ""


def new_labels_view(labels: NewLabels, alpha: Alpha | None, checkpoint: str, since: datetime | None) -> Markup:
    """Show the labels that are newer than the serving checkpoint.

    Args:
        labels: the counts.
        alpha: agreement of the annotators; None where no pair has two labels.
        checkpoint: name of the serving checkpoint.
        since: when it began to serve.
    """
    title = Markup('<h2 class="train-title">New since {} <small>{}</small></h2>').format(
        checkpoint, Markup("serving from {}").format(day(since)) if since else ""
    )
    if not labels.labels:
        text = "No label is newer than this checkpoint. Labels come in on the Label page and by import on the Lead page."
        return title + empty(text)
    counts: dict[str, str | Markup] = {
        "labels": count(labels.labels),
        "pairs with a consensus": count(labels.pairs),
        "annotators": count(labels.annotators),
        "agreement, alpha": _alpha(alpha),
        "held out": count(labels.held_out),
        "for training": count(labels.new),
    }
    unusable = [
        f"{plural(labels.without_majority, 'pair')} without a majority" if labels.without_majority else "",
        f"{plural(labels.too_few, 'pair')} with too few labels" if labels.too_few else "",
    ]
    text = " and ".join(filter(None, unusable))
    settled = "more labels, or a decision under Adjudicate on the Lead page, settle them"
    hint = f"{text[0].upper()}{text[1:]} can't be used yet; {settled}." if text else ""
    return title + figures(counts) + (Markup('<p class="ds-hint">{}</p>').format(hint) if hint else Markup(""))


def _alpha(alpha: Alpha | None) -> Markup:
    if alpha is None or alpha.value is None:
        reason = "no pair has two labels" if alpha is None else str(alpha.reason)
        return Markup('<span title="{}">{}</span>').format(reason, DASH)
    if alpha.low is None or alpha.high is None:
        return Markup("{}").format(signed(alpha.value, 2))
    return Markup("{} <small>{} to {}</small>").format(
        signed(alpha.value, 2).lstrip("+"), signed(alpha.low, 2).lstrip("+"), signed(alpha.high, 2).lstrip("+")
    )


def can_run(preset: PresetPreflight, place: str) -> bool:
    """Whether a preset can run at a place; of others than this machine only its fit to the checkpoint is known."""
    return not preset.why_not if place == "here" else preset.elsewhere


def device_title(preset: PresetPreflight, preflight: Preflight) -> str:
    """Name the devices that a preset takes of this machine."""
    processes = process_count(preset.device)
    return f"all {processes} GPUs ({preflight.device_name})" if processes > 1 else preflight.device_name


def run_form_view(
    preflight: Preflight | None, draft: FormDraft, campaigns: Sequence[str], places: Sequence[PlaceChoice]
) -> Markup:
    """Show the form; while the preflight runs, a note that it does."""
    title = Markup('<h2 class="train-title">Retrain</h2>')
    if preflight is None:
        return title + Markup('<p class="ds-empty train-measuring">Measuring what this machine can train ...</p>')
    place = draft.place if draft.place in _open_places(places, preflight) else ""
    place = place or next(iter(_open_places(places, preflight)), "")
    first = preflight.first if place == "here" else preflight.first_elsewhere
    chosen = next((preset for preset in preflight.presets if preset.name == draft.preset and can_run(preset, place)), first)
    if preflight.trouble or chosen is None:
        trouble = preflight.trouble or " ".join(f"{preset.name}: {preset.why_not}." for preset in preflight.presets)
        return title + empty(trouble or "No preset can run on this machine.")
    return title + Markup(
        '<form class="ds-form train-form" data-act="retrain"><p class="ds-hint">{title}.</p>'
        '<div class="train-choices">{stages}{starts}{places}</div>'
        '<div class="train-groups">{run}{knobs}{labels}</div>'
        '<details class="train-more" data-keep="data"><summary>Which labels, and the comparison</summary>'
        '<div class="ds-columns">{least}{benchmark}{campaigns}</div></details>'
        '<div class="ds-submit"><button type="submit" class="ds-button is-main">Retrain</button>'
        '<label class="ds-check"><input type="checkbox" name="auto_promote" value="yes"{auto}>'
        "Promote by itself if the comparison says better</label>"
        '<button type="button" class="ds-button train-reset" data-reset hidden>Back to the preset’s settings</button>'
        "</div></form>"
    ).format(
        stages=_radios("stages", {key: text for key, text in STAGE_CHOICES.items() if _has(chosen, key)}, draft.stages),
        starts=_radios("start", STARTS, draft.start),
        places=_place_choice(preflight, chosen, places, place),
        title=chosen.title,
        run=_group(
            "Run", [_text("name", "Name", draft.name, "name of the checkpoint"), _preset_choice(preflight, chosen, place)]
        ),
        knobs=_knobs(chosen, draft),
        labels=_group(
            "Older labels", [_number("replay_share", "Replay, % of the training pairs", draft.replay_share, 0, 90)], "replay"
        ),
        least=_number("min_labels", "Labels that a pair needs", draft.min_labels, 1, 99),
        benchmark=_number("benchmark_pairs", "Benchmark pairs, where there is a benchmark", draft.benchmark_pairs, 0, 400),
        campaigns=_campaigns(campaigns, draft.campaigns),
        auto=Markup(" checked") if draft.auto_promote else "",
    )


def _group(legend: str, controls: Sequence[Markup], shown_for: str = "") -> Markup:
    """Put controls under a heading. shown_for: stage without which, or "replay", the page hides them."""
    return Markup('<fieldset class="train-group"{}><legend class="train-legend">{}</legend>{}</fieldset>').format(
        Markup(' data-group="{}"').format(shown_for) if shown_for else "", legend, joined(controls)
    )


def _has(preset: PresetPreflight, stages: str) -> bool:
    return set(stages.split(",")) <= set(preset.stages)


def _open_places(places: Sequence[PlaceChoice], preflight: Preflight) -> list[str]:
    """List the places that can be chosen: this machine only where it can run a preset."""
    return [place.name for place in places if not place.why_not and (place.name != "here" or preflight.first is not None)]


def _place_choice(preflight: Preflight, chosen: PresetPreflight, places: Sequence[PlaceChoice], selected: str) -> Markup:
    """Show the places; one that can't be chosen says why."""
    open_places = _open_places(places, preflight)
    abouts = {
        "here": device_title(preflight.first or chosen, preflight),
        "elsewhere": "packed into a folder, trained on any machine, brought back",
    }
    reasons = {"here": "no preset for this checkpoint can run here"}
    lines = joined(
        Markup(
            '<label class="ds-radio{}"><input type="radio" name="place" value="{}" data-change="place"{}{}>'
            "<span>{} <small>{}</small></span></label>"
        ).format(
            "" if place.name in open_places else " is-closed",
            place.name,
            Markup(" checked") if place.name == selected else "",
            "" if place.name in open_places else Markup(" disabled"),
            PLACES[place.name],
            (place.about or abouts.get(place.name, ""))
            if place.name in open_places
            else place.why_not or reasons.get(place.name, ""),
        )
        for place in places
    )
    return Markup('<fieldset class="ds-choices"><legend class="train-legend">Where it runs</legend>{}</fieldset>').format(
        lines
    )


def _preset_choice(preflight: Preflight, chosen: PresetPreflight, place: str) -> Markup:
    titles = {
        preset.name: preset.name if can_run(preset, place) else f"{preset.name} ({preset.why_not})"
        for preset in preflight.presets
    }
    inner = joined(
        Markup('<option value="{}"{}{}>{}</option>').format(
            preset.name,
            Markup(" selected") if preset is chosen else "",
            "" if can_run(preset, place) else Markup(" disabled"),
            titles[preset.name],
        )
        for preset in preflight.presets
    )
    return Markup('<label class="ds-field">Preset<select name="preset" data-change="preset">{}</select></label>').format(
        inner
    )


def _knobs(preset: PresetPreflight, draft: FormDraft) -> Markup:
    """Show the knobs of the preset by stage, so that the page can hide those of a stage that is not trained."""
    typed = draft.knobs if draft.preset == preset.name else {}
    groups = []
    for section, stage in STAGE_OF.items():
        names = [name for name in KNOBS if name in preset.knobs and name.startswith(f"{section}.")]
        if names:
            title = KNOBS[names[0]].partition(",")[0]
            knobs = [_knob(name, preset.knobs[name], typed) for name in names]
            words = [name for name in WORD_KNOBS if name in preset.knobs and name.startswith(f"{section}.")]
            knobs += [_word_knob(name, typed.get(name, preset.knobs[name])) for name in words]
            groups.append(_group(title, knobs, stage))
    return joined(groups)


def _knob(name: str, default: Any, typed: Mapping[str, str]) -> Markup:
    """Show one knob; its heading has the stage, so that it stands in the name alone."""
    title = KNOBS[name]
    short = title.partition(", ")[2] or title
    return Markup(
        '<label class="ds-field">{}<input type="number" name="knob-{}" value="{}" min="0" step="{}" '
        'aria-label="{}" required></label>'
    ).format(
        f"{short[:1].upper()}{short[1:]}",
        name,
        typed.get(name, f"{default:g}"),
        "1" if float(default).is_integer() else "any",
        title,
    )


def _word_knob(name: str, chosen: str) -> Markup:
    title, words = WORD_KNOBS[name]
    return Markup('<label class="ds-field ds-wide">{}<select name="knob-{}">{}</select></label>').format(
        title, name, options(words, chosen)
    )


def _radios(name: str, choices: Mapping[str, str], chosen: str) -> Markup:
    chosen = chosen if chosen in choices else next(iter(choices))
    lines = joined(
        Markup('<label class="ds-radio"><input type="radio" name="{}" value="{}"{}>{}</label>').format(
            name, value, Markup(" checked") if value == chosen else "", text
        )
        for value, text in choices.items()
    )
    return Markup('<fieldset class="ds-choices"><legend class="train-legend">{}</legend>{}</fieldset>').format(
        {"stages": "What to train", "start": "From where"}[name], lines
    )


def _text(name: str, title: str, value: str, hint: str) -> Markup:
    return Markup(
        '<label class="ds-field">{}<input type="text" name="{}" value="{}" maxlength="80" placeholder="{}"></label>'
    ).format(title, name, value, hint)


def _number(name: str, title: str, value: str, low: int, high: int) -> Markup:
    return Markup(
        '<label class="ds-field" data-for="{}">{}<input type="number" name="{}" value="{}" min="{}" max="{}" step="1" '
        "required></label>"
    ).format(name, title, name, value, low, high)


def _campaigns(names: Sequence[str], chosen: Sequence[str]) -> Markup:
    if not names:
        return Markup("")
    boxes = checkboxes("campaigns", {name: name for name in names}, chosen)
    return Markup(
        '<fieldset class="ds-field ds-wide"><legend>Campaigns and imports (none chosen: all)</legend>{}</fieldset>'
    ).format(boxes)


@dataclass(frozen=True)
class RunPreview:
    """Preview of the run that the form asks for.

    Attributes:
        stages: to train, in order.
        preset: with what this machine can do of it.
        device_name: name of the device.
        free_bytes: free memory of the device.
        new: number of new pairs.
        replay: number of replayed pairs.
        held_out: number of held-out pairs in the comparison.
        seconds: by stage; empty where unknown.
        command: that trains with these settings in a terminal; "" where the place needs another machine.
        overrides: "name=value" of each knob that differs from the preset.
        queue: number of runs before it.
        place: where it runs.
        place_about: what the place has, where it is not this machine.
    """

    stages: tuple[str, ...]
    preset: PresetPreflight
    device_name: str
    free_bytes: float
    new: int
    replay: int
    held_out: int
    seconds: Mapping[str, float]
    command: str
    overrides: tuple[str, ...]
    queue: int
    place: str = "here"
    place_about: str = ""


def preview_view(preview: RunPreview | None, trouble: str = "") -> Markup:
    """Show the data, time and memory of the run, and its command. trouble: what is wrong with the form."""
    title = Markup('<h3 class="train-subtitle">What it will do</h3>')
    if trouble:
        return title + Markup('<p class="train-message is-bad">{}</p>').format(trouble)
    if preview is None:
        return Markup("")
    total = sum(preview.seconds.values())
    times = ", ".join(f"{name} {duration(seconds)}" for name, seconds in _named(preview.seconds))
    preset = preview.preset
    is_here = preview.place == "here"
    memory = NOTHING if preset.memory_bytes is None else Markup("{}").format(size(preset.memory_bytes))
    if is_here:
        memory += Markup(" <small>of {} free</small>").format(size(preview.free_bytes))
    details = {
        "pairs": Markup("{} new, {} replayed; {} held out <small>to compare</small>").format(
            count(preview.new), count(preview.replay), count(preview.held_out)
        ),
        "time": Markup("about {} <small>{}; {}</small>").format(
            duration(total), times, SECONDS_FROM.get(preset.known_from, "roughly")
        )
        if total
        else Markup("not known yet" if is_here else "as that machine takes"),
        "device": Markup("{}{}").format(
            preview.device_name, f", after {plural(preview.queue, 'other run')}" if preview.queue else ""
        )
        if is_here
        else Markup("{}").format(f"SLURM: {preview.place_about}" if preview.place == "slurm" else "of your choice"),
        "memory": memory,
    }
    lines = joined(Markup("<div><dt>{}</dt><dd>{}</dd></div>").format(name, value) for name, value in details.items())
    consequence = {
        "here": "Labelling and judging go on while it trains.",
        "slurm": "It is handed in as one job, which waits in SLURM's queue. Labelling and judging go on.",
        "elsewhere": "Everything that it needs is written into one folder. This page then says what to type on the other "
        "machine, and takes the result back. Labelling and judging go on.",
    }[preview.place]
    if is_here and preset.steps_aside:
        consequence = (
            "The device can't hold both models: the serving one is unloaded while it trains. Pairs judged before still open."
        )
    no_pairs = "" if preview.new + preview.replay else "There is no pair to train on yet. Label some first."
    return title + Markup('<dl class="ds-settings train-plan">{}</dl><p class="ds-hint">{}</p>{}{}').format(
        lines,
        consequence,
        Markup('<p class="train-message is-bad">{}</p>').format(no_pairs) if no_pairs else "",
        _command(preview),
    )


def _command(preview: RunPreview) -> Markup:
    """Show the form's settings as a command, and where the command of the run itself will stand."""
    changed = plural(len(preview.overrides), "setting") if preview.overrides else "no setting"
    settings = f"Preset {preview.preset.name}, {stage_list(preview.stages)}; {changed} changed."
    if not preview.command:
        text = "Retrain freezes the labels and gives the run a number; then the commands for the other machine stand below."
        return Markup('<p class="ds-hint">{} {}</p>').format(settings, text)
    return Markup(
        '<p class="train-command-title">The same settings in a terminal <button type="button" class="ds-button" '
        'data-copy="#train-command">Copy</button></p><pre class="train-command" id="train-command" tabindex="0">{}</pre>'
        '<p class="ds-hint">{} It trains on all labelled pairs that are not held out, outside the queue; nothing is '
        "compared or registered. Retrain gives the run a number; its own command then stands at the run.</p>"
    ).format(preview.command, settings)


def _named(seconds: Mapping[str, float]) -> list[tuple[str, float]]:
    titles = {"cold-start": "cold start", "dual-rl": "dual RL", "gate": "comparison"}
    return [(titles.get(name, name), value) for name, value in seconds.items() if value]
