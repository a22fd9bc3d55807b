"""Checkpoints and other reward models on the same pairs of a benchmark, by the same code, beside what was published.

A benchmark is a source of the store with labels. Every scorer of the table answers for the same pairs: those that all of
them have scored. One that has scored fewer than half is named, but would leave too few to the others. The published table
(published.json) is there for comparison: its pairs, prompts and frames were its authors'.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go

from app.analyse.figures.accuracy import Accuracy, accuracy, at_best_eps
from app.analyse.figures.finding import Cell, Chart, Estimate, Finding
from app.analyse.figures.judged_pairs import SIGN, WAYS, AnalysedCheckpoint, fitted_here_note, scored
from app.analyse.figures.plot_style import ACCENT, COLOURS, dots, finish, plain, rows_axis

PUBLISHED = Path(__file__).with_name("published.json")
HEAD = (
    "scored by",
    "pairs it scored",
    "compared on",
    "ties",
    "accuracy without ties",
    "with ties, best eps",
    "with ties, eps from validation",
)


@dataclass(frozen=True)
class Scorer:
    """Somebody's rewards of pairs: pair id -> (reward of A, reward of B). eps: a tie threshold from elsewhere, if any.

    asked: "think" or "quick" for a checkpoint, "imported" for another model. fitted_here: as of `AnalysedCheckpoint`.
    """

    name: str
    asked: str
    rewards: Mapping[int, tuple[float, float]]
    eps: float | None = None
    fitted_here: bool = False

    @property
    def title(self) -> str:
        """Its name in a table."""
        return f"{self.name}, {self.asked}"


@dataclass(frozen=True)
class Measured:
    """What a scorer gets right. at_best: with ties, at the best eps."""

    plain: Accuracy
    at_best: Estimate


@dataclass(frozen=True)
class Benchmark:
    """Labelled pairs of one source, and who scored them. labels: pair id -> +1, -1, 0. pairs: with or without a label."""

    source: str
    pairs: int
    labels: Mapping[int, int]
    scorers: tuple[Scorer, ...]

    @property
    def compared(self) -> tuple[Scorer, ...]:
        """Those that have scored half of the labelled pairs; while nobody has, half of what the most diligent has."""
        most = max((len(scorer.rewards) for scorer in self.scorers), default=0)
        whole = len(self.labels) if 2 * most >= len(self.labels) else most
        return tuple(scorer for scorer in self.scorers if 2 * len(scorer.rewards) >= whole)

    @property
    def common(self) -> tuple[int, ...]:
        """The labelled pairs that every compared scorer has scored, by id."""
        ids = set(self.labels)
        for scorer in self.compared:
            ids &= set(scorer.rewards)
        return tuple(sorted(ids))

    def measured(self, scorer: Scorer) -> Measured:
        """The accuracies of one of the compared scorers on the common pairs."""
        rewards = np.array([scorer.rewards[pair] for pair in self.common], dtype=np.float64).reshape(-1, 2)
        labels = np.array([self.labels[pair] for pair in self.common], dtype=np.int64)
        margins = rewards[:, 0] - rewards[:, 1]
        return Measured(accuracy(margins, labels, scorer.eps), at_best_eps(margins, labels)[0])


def benchmark(
    source: str,
    checkpoints: Sequence[AnalysedCheckpoint],
    imported: Mapping[str, Mapping[int, tuple[float, float]]],
) -> Benchmark:
    """One source of the selection. Scorers without a single labelled pair of it are left out.

    Args:
        imported: other models' rewards by name and pair id.
    """
    here = [pair for pair in checkpoints[0].pairs if pair.source == source] if checkpoints else []
    labels = {pair.pair_id: SIGN[pair.choice] for pair in here if pair.choice is not None}
    scorers = []
    for checkpoint in checkpoints:
        for way in WAYS:
            found = {pair.pair_id: scored(pair, way) for pair in checkpoint.pairs if pair.pair_id in labels}
            rewards = {key: (said.rewards[0], said.rewards[1]) for key, said in found.items() if said is not None}
            eps, here_too = checkpoint.tie_threshold(way), checkpoint.fitted_here
            scorers.append(Scorer(checkpoint.name, way, rewards, eps, here_too))  # type: ignore[arg-type]
    for name, known in imported.items():
        scorers.append(Scorer(name, "imported", {key: value for key, value in known.items() if key in labels}))
    return Benchmark(source, len(here), labels, tuple(scorer for scorer in scorers if scorer.rewards))


def benchmark_table(found: Benchmark) -> Finding:
    """A line for each scorer, all from the same pairs; those that are not compared come last, without figures."""
    title, key = f"Measured on {found.source}", f"benchmark {found.source}"
    if not found.scorers:
        return Finding(
            key, title, (f"{found.pairs} pairs, {len(found.labels)} of them labelled; nobody has scored them yet.",)
        )
    if not found.common:
        counts = ", ".join(f"{scorer.title}: {len(scorer.rewards)}" for scorer in found.scorers)
        return Finding(key, title, (f"No labelled pair was scored by all of them ({counts}).",))
    compared = found.compared
    measured = [(scorer, found.measured(scorer)) for scorer in compared]
    sparse = [scorer for scorer in found.scorers if scorer not in compared]
    rows: list[tuple[Cell, ...]] = [
        (scorer.title, len(scorer.rewards), *_plain(one.plain), one.at_best, one.plain.at_fitted) for scorer, one in measured
    ]
    rows += [(scorer.title, len(scorer.rewards), *[None] * (len(HEAD) - 2)) for scorer in sparse]
    notes = (
        f"{found.pairs} pairs, {len(found.labels)} of them labelled. All lines are computed by the same code from the same "
        f"{len(found.common)} pairs: those that every one of them has scored.",
        *_sparse_note(sparse),
        "An imported model has no eps of its own, so with ties it has the flattering figure only.",
        *fitted_here_note(scorer.name for scorer in compared if scorer.fitted_here),
    )
    return Finding(key, title, notes, (Chart("", _figure(measured)),), HEAD, tuple(rows))


def _sparse_note(sparse: Sequence[Scorer]) -> tuple[str, ...]:
    if not sparse:
        return ()
    counts = ", ".join(f"{scorer.title} ({len(scorer.rewards)})" for scorer in sparse)
    return (f"Not compared, having scored too few of the labelled pairs (fewer than half): {counts}.",)


def _plain(one: Accuracy) -> tuple[Cell, ...]:
    return one.pairs, one.ties, one.without_ties


def _figure(measured: Sequence[tuple[Scorer, Measured]]) -> go.Figure:
    names, figure = [plain(scorer.title) for scorer, _ in measured], go.Figure()
    figure.add_trace(
        dots(names, [one.plain.without_ties for _, one in measured], name="without ties", colour=ACCENT, shift=-0.14)
    )
    best = [one.at_best for _, one in measured]
    figure.add_trace(
        dots(names, best, name="with ties, best eps", colour=COLOURS["faint"], symbol="circle-open", shift=0.14)
    )
    finish(figure, 100 + 36 * len(names), x="accuracy, %")
    rows_axis(figure, names)
    figure.update_xaxes(range=[0, 101])
    return figure


@cache
def published() -> dict[str, Any]:
    """What published.json says: its source, its benchmarks, and [with ties, without ties] for each model."""
    found: dict[str, Any] = json.loads(PUBLISHED.read_text("utf-8"))
    return found


def published_for(source: str) -> str | None:
    """The published benchmark that a source's name speaks of, by its key."""
    letters = "".join(letter for letter in source.lower() if letter.isalnum())
    for one in published()["benchmarks"]:
        if any(name in letters for name in one["named"]):
            return str(one["key"])
    return None


def published_table(benchmarks: Sequence[Benchmark]) -> Finding:
    """The published accuracies, with those measured here beside them where a source is one of these benchmarks."""
    said = published()
    columns = [(one["key"], one["name"], ties) for one in said["benchmarks"] for ties in (0, 1)]
    columns = [one for one in columns if one[0] != "in_domain" or one[2] == 0]
    head = ("model", "from", *(f"{name}, {('with', 'without')[ties]} ties" for _, name, ties in columns))
    rows: list[tuple[Cell, ...]] = []
    for model in said["models"]:
        said_of = [Estimate(model[key][ties], None, None, 0, percent=True) for key, _, ties in columns]
        rows.append((model["name"], "published", *said_of))
    for found in benchmarks:
        key = published_for(found.source)
        for scorer in found.compared if key is not None and found.common else ():
            one = found.measured(scorer)
            cells = [(one.at_best, one.plain.without_ties)[ties] if key == column else None for column, _, ties in columns]
            rows.append((scorer.title, f"measured on {found.source}", *cells))
    notes = (
        f"Published by {said['source']}. With ties: at the best eps. Their pairs, prompts and frames may differ from those "
        "in this store, so only figures from the same pairs (the tables above) can be compared line by line.",
        "A source of this store takes its place here by its name: GenAI-Bench, VideoGen-RewardBench (or VideoAlign).",
    )
    return Finding("published", "Beside the published table", notes, (), head, tuple(rows))
