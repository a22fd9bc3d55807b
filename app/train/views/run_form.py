"""What is new since the current checkpoint, and the form that asks for a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from markupsafe import Markup

from app.ui.markup import DASH, NOTHING, checkboxes, count, empty, joined
from app.ui.wording import day, duration, figures, plural, signed, size, stage_list
from storage.labelling.krippendorff import Alpha
from storage.training.new_labels import NewLabels
from storage.training.preflight import Preflight, PresetPreflight

# Setting -> what the form calls it; those of a stage that is not trained are not asked for.
KNOBS = {
    "cold_start.steps": "Cold start, steps",
    "cold_start.optim.lr": "Cold start, learning rate",
    "dual_rl.steps": "Dual RL, steps",
    "dual_rl.optim.lr": "Dual RL, learning rate",
    "dual_rl.objective.num_generations": "Rollouts a video",
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
SECONDS_FROM = {
    "runs": "as runs took here",
    "trial": "after a short trial",
    "plan": "estimated from the work",
}


@dataclass(frozen=True)
class Draft:
    """The form as it stands. knobs: setting -> what was typed, of the preset that is chosen."""

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


def news(found: NewLabels, alpha: Alpha | None, checkpoint: str, since: datetime | None) -> Markup:
    """What people said that the current checkpoint does not know."""
    title = Markup('<h2 class="train-title">New since {} <small>{}</small></h2>').format(
        checkpoint, Markup("serving from {}").format(day(since)) if since else ""
    )
    if not found.labels:
        text = "No label is newer than this checkpoint. Labels come in on the Label page and by import on the Lead page."
        return title + empty(text)
    facts: dict[str, str | Markup] = {
        "labels": count(found.labels),
        "pairs with a consensus": count(found.pairs),
        "annotators": count(found.annotators),
        "agreement, alpha": _alpha(alpha),
        "held out": count(found.held_out),
        "for training": count(found.new),
    }
    aside = [
        f"{plural(found.without_majority, 'pair')} without a majority" if found.without_majority else "",
        f"{plural(found.too_few, 'pair')} with too few labels" if found.too_few else "",
    ]
    left = " and ".join(filter(None, aside))
    hint = f"{left[0].upper()}{left[1:]} can't be used yet; the Lead page adjudicates." if left else ""
    return title + figures(facts) + (Markup('<p class="ds-hint">{}</p>').format(hint) if hint else Markup(""))


def _alpha(alpha: Alpha | None) -> Markup:
    if alpha is None or alpha.value is None:
        why = "no pair has two labels" if alpha is None else str(alpha.reason)
        return Markup('<span title="{}">{}</span>').format(why, DASH)
    if alpha.low is None or alpha.high is None:
        return Markup("{}").format(signed(alpha.value, 2))
    return Markup("{} <small>{} to {}</small>").format(
        signed(alpha.value, 2).lstrip("+"), signed(alpha.low, 2).lstrip("+"), signed(alpha.high, 2).lstrip("+")
    )


def making_form(preflight: Preflight | None, draft: Draft, campaigns: Sequence[str]) -> Markup:
    """The choices; while the preflight runs, a note that it does."""
    title = Markup('<h2 class="train-title">Retrain</h2>')
    if preflight is None:
        return title + empty("Looking at what this machine can train ...")
    chosen = preflight.preset(draft.preset) or preflight.first
    if preflight.trouble or chosen is None:
        trouble = preflight.trouble or " ".join(f"{one.name}: {one.why_not}." for one in preflight.presets)
        return title + empty(trouble or "No preset can run on this machine.")
    return title + Markup(
        '<form class="ds-form train-form" data-act="retrain"><p class="ds-hint">{title}.</p>'
        '<div class="train-choices">{stages}{starts}</div>'
        '<div class="ds-columns">{preset}{name}{knobs}{replay}</div>'
        '<details class="train-more" data-keep="data"><summary>Which labels, and the comparison</summary>'
        '<div class="ds-columns">{least}{benchmark}{campaigns}</div></details>'
        '<div class="ds-submit"><button type="submit" class="ds-button is-main">Retrain</button>'
        '<label class="ds-check"><input type="checkbox" name="auto_promote" value="yes"{auto}>'
        "Promote by itself if the comparison says better</label></div></form>"
    ).format(
        stages=_radios("stages", {key: text for key, text in STAGE_CHOICES.items() if _has(chosen, key)}, draft.stages),
        starts=_radios("start", STARTS, draft.start),
        title=chosen.title,
        preset=_preset_choice(preflight, chosen),
        name=_text("name", "Name", draft.name, "as the checkpoint will be called"),
        knobs=_knobs(chosen, draft),
        replay=_number("replay_share", "Replay, % of the training pairs", draft.replay_share, 0, 90),
        least=_number("min_labels", "People that have to stand behind a pair", draft.min_labels, 1, 99),
        benchmark=_number("benchmark_pairs", "Benchmark pairs, where there is a benchmark", draft.benchmark_pairs, 0, 400),
        campaigns=_campaigns(campaigns, draft.campaigns),
        auto=Markup(" checked") if draft.auto_promote else "",
    )


def _has(preset: PresetPreflight, stages: str) -> bool:
    return set(stages.split(",")) <= set(preset.stages)


def _preset_choice(preflight: Preflight, chosen: PresetPreflight) -> Markup:
    lines = {one.name: one.name if not one.why_not else f"{one.name} ({one.why_not})" for one in preflight.presets}
    inner = joined(
        Markup('<option value="{}"{}{}>{}</option>').format(
            one.name,
            Markup(" selected") if one is chosen else "",
            Markup(" disabled") if one.why_not else "",
            lines[one.name],
        )
        for one in preflight.presets
    )
    return Markup('<label class="ds-field">Preset<select name="preset" data-change="preset">{}</select></label>').format(
        inner
    )


def _knobs(chosen: PresetPreflight, draft: Draft) -> Markup:
    """The knobs of the preset's stages; each says to which stage it belongs, so that the page can hide it."""
    typed = draft.knobs if draft.preset == chosen.name else {}
    fields = []
    for key, title in KNOBS.items():
        if key not in chosen.knobs:
            continue
        default, stage = chosen.knobs[key], STAGE_OF[key.partition(".")[0]]
        whole = float(default).is_integer()
        fields.append(
            Markup(
                '<label class="ds-field" data-stage="{}">{}<input type="number" name="knob-{}" value="{}" min="0" '
                'step="{}" required></label>'
            ).format(stage, title, key, typed.get(key, f"{default:g}"), "1" if whole else "any")
        )
    return joined(fields)


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
class Plan:
    """What a run would be, as the form stands. seconds: by stage, None where it can't be told."""

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


def plan_view(plan: Plan | None, trouble: str = "") -> Markup:
    """What it will use, how long it takes, and the command that will run."""
    title = Markup('<h3 class="train-subtitle">What it will do</h3>')
    if trouble:
        return title + Markup('<p class="train-message is-bad">{}</p>').format(trouble)
    if plan is None:
        return Markup("")
    whole = sum(plan.seconds.values())
    times = ", ".join(f"{name} {duration(seconds)}" for name, seconds in _named(plan.seconds))
    preset = plan.preset
    memory = NOTHING if preset.memory_bytes is None else Markup("{}").format(size(preset.memory_bytes))
    memory += Markup(" <small>of {} free</small>").format(size(plan.free_bytes))
    facts = {
        "pairs": Markup("{} new, {} replayed; {} held out <small>to compare</small>").format(
            count(plan.new), count(plan.replay), count(plan.held_out)
        ),
        "time": Markup("about {} <small>{}; {}</small>").format(
            duration(whole), times, SECONDS_FROM.get(preset.known_from, "roughly")
        )
        if whole
        else Markup("not known yet"),
        "device": Markup("{}{}").format(
            plan.device_name, f", after {plural(plan.queue, 'other run')}" if plan.queue else ""
        ),
        "memory": memory,
    }
    lines = joined(Markup("<div><dt>{}</dt><dd>{}</dd></div>").format(name, value) for name, value in facts.items())
    changed = "".join(f" \\\n    --set {one}" for one in plan.overrides)
    aside = (
        "The device can't hold both: while it trains, the serving model steps aside and what it judged before still opens."
        if preset.steps_aside
        else "Labelling and judging go on while it trains."
    )
    none = "" if plan.new + plan.replay else "There is no pair to train on yet: label some first."
    return title + Markup(
        '<dl class="ds-settings train-plan">{}</dl><p class="ds-hint">{}</p>{}<p class="train-command-title">The command'
        ' <button type="button" class="ds-button" data-copy="#train-command">Copy</button></p>'
        '<pre class="train-command" id="train-command">{}</pre><p class="ds-hint">It stands for preset {}, {}{}.</p>'
    ).format(
        lines,
        aside,
        Markup('<p class="train-message is-bad">{}</p>').format(none) if none else "",
        plan.command,
        preset.name,
        stage_list(plan.stages),
        Markup('<code class="train-overrides">{}</code>').format(changed) if changed else "",
    )


def _named(seconds: Mapping[str, float]) -> list[tuple[str, float]]:
    titles = {"cold-start": "cold start", "dual-rl": "dual RL", "gate": "comparison"}
    return [(titles.get(name, name), value) for name, value in seconds.items() if value]
