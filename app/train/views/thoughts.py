"""HTML of sampled thoughts on a few held-out pairs, before training and after each stage, and of the end of a run's log."""

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
    """A held-out pair with thoughts from several moments of a run.

    Attributes:
        pair_id: id in the store.
        prompt: of both videos.
        posters: addresses of the stills of A and B.
        label: +1 where people prefer A, -1 for B, 0 for a tie, None if unknown.
        samples: rows of the run's samples, in the order in which they were written.
    """

    pair_id: int
    prompt: str
    posters: tuple[str, str]
    label: int | None
    samples: Sequence[Mapping[str, Any]]


def thoughts_view(pairs: Sequence[SampledPair]) -> Markup:
    """Show a block for each pair: A and B in the columns, the moments of training in the rows."""
    if not pairs:
        return Markup("")
    blocks = joined(_block(pair, number == 0) for number, pair in enumerate(pairs))
    return Markup('<h3 class="train-subtitle">Sampled thoughts, before and after</h3>{}').format(blocks)


def _block(pair: SampledPair, is_first: bool) -> Markup:
    preference = {1: "people prefer A", -1: "people prefer B", 0: "a tie for people"}.get(pair.label or 0, "")
    stills = joined(Markup('<img src="{}" alt="" loading="lazy">').format(poster) for poster in pair.posters)
    rows = joined(_moment(sample) for sample in _changed(pair.samples))
    return Markup(
        '<details class="train-sample" data-keep="sample-{}"{}><summary><span class="ds-stills">{}</span>'
        '<span class="ds-prompt">{}</span><small>{}</small></summary>{}</details>'
    ).format(
        pair.pair_id,
        Markup(" open") if is_first else "",
        stills,
        pair.prompt,
        preference if pair.label is not None else "",
        rows,
    )


def _changed(samples: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Leave out samples that repeat the one before: a stage begins with the thoughts with which the last one ended."""
    contents = [(sample.get("thought_a"), sample.get("thought_b"), sample.get("rewards")) for sample in samples]
    return [sample for i, sample in enumerate(samples) if i == 0 or contents[i] != contents[i - 1]]


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
    """Show the end of the log. is_open: whether it is unfolded."""
    if not text.strip():
        return Markup("")
    return Markup(
        '<details class="train-log" data-keep="log"{}><summary>Log</summary><pre data-end>{}</pre></details>'
    ).format(Markup(" open") if is_open else "", text.strip("\n"))
