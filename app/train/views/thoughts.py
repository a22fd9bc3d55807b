"""Sampled thoughts on a few held-out pairs, before training and after each stage; the end of a run's log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from app.ui.markup import NOTHING, joined
from app.ui.wording import STAGES, signed

LONGEST_THOUGHT = 4000


@dataclass(frozen=True)
class SampledPair:
    """A held-out pair. label: +1 A preferred, -1 B, 0 a tie, None if unknown. samples: in order of writing."""

    pair_id: int
    prompt: str
    posters: tuple[str, str]
    label: int | None
    samples: Sequence[Mapping[str, Any]]


def thoughts_view(pairs: Sequence[SampledPair]) -> Markup:
    """One block a pair: A and B in the columns, the moments of training in the rows."""
    if not pairs:
        return Markup("")
    blocks = joined(_block(pair, number == 0) for number, pair in enumerate(pairs))
    return Markup('<h3 class="train-subtitle">Sampled thoughts, before and after</h3>{}').format(blocks)


def _block(pair: SampledPair, is_first: bool) -> Markup:
    said = {1: "people prefer A", -1: "people prefer B", 0: "a tie for people"}.get(pair.label or 0, "")
    stills = joined(Markup('<img src="{}" alt="" loading="lazy">').format(poster) for poster in pair.posters)
    rows = joined(_moment(sample) for sample in _changed(pair.samples))
    return Markup(
        '<details class="train-sample" data-keep="sample-{}"{}><summary><span class="ds-stills">{}</span>'
        '<span class="ds-prompt">{}</span><small>{}</small></summary>{}</details>'
    ).format(
        pair.pair_id, Markup(" open") if is_first else "", stills, pair.prompt, said if pair.label is not None else "", rows
    )


def _changed(samples: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Without the moments that are those before: a stage begins with the thoughts that the one before ended with."""
    said = [(one.get("thought_a"), one.get("thought_b"), one.get("rewards")) for one in samples]
    return [one for place, one in enumerate(samples) if place == 0 or said[place] != said[place - 1]]


def _moment(sample: Mapping[str, Any]) -> Markup:
    stage = STAGES.get(str(sample.get("stage")), str(sample.get("stage", "")))
    rewards = sample.get("rewards") or (None, None)
    sides = joined(
        Markup('<div class="side-{} train-thought"><p><span class="side-badge">{}</span> {}</p><pre>{}</pre></div>').format(
            side.lower(), side, _reward(reward), str(sample.get(f"thought_{side.lower()}", ""))[:LONGEST_THOUGHT]
        )
        for side, reward in zip(("A", "B"), rewards, strict=True)
    )
    return Markup('<section class="train-moment"><h4>{} {}</h4><div>{}</div></section>').format(
        sample.get("when", ""), stage, sides
    )


def _reward(reward: Any) -> Markup:
    return Markup("reward <b>{}</b>").format(signed(reward, 3)) if isinstance(reward, (int, float)) else NOTHING


def log_view(text: str, is_open: bool) -> Markup:
    """The end of the log, folded away unless something went wrong or nothing else is there yet."""
    if not text.strip():
        return Markup("")
    return Markup(
        '<details class="train-log" data-keep="log"{}><summary>Log</summary><pre data-end>{}</pre></details>'
    ).format(Markup(" open") if is_open else "", text.strip("\n"))
