"""Benchmarks: checkpoints and other reward models on the same pairs, beside the published table.

A benchmark is a source of the store with labels. All scorers of a table are compared on the same pairs, those that every one
of them has scored. A scorer of fewer than half of the labelled pairs is named but not compared, since it would leave too few
pairs for the others. The published table (`descore.scoring.published`) stands there for comparison: its authors used pairs,
prompts and frames of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from app.analyse.figures.accuracy import Accuracy, accuracy, accuracy_at_best_eps
from app.analyse.figures.finding import Cell, Chart, Estimate, Finding
from app.analyse.figures.judged_pairs import MODES, SIGN, AnalysedCheckpoint, fitted_here_note, pair_score
from app.analyse.figures.plot_style import ACCENT, COLOURS, apply_style, dot_trace, name_rows, plain_name
from descore.scoring.published import published, published_benchmark

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
    """A checkpoint in one mode, or another reward model.

    Attributes:
        name: of the checkpoint or model.
        mode: "think" or "quick" for a checkpoint, "imported" for another model.
        rewards: (reward of A, reward of B) by pair id.
        eps: a tie threshold that was fitted on other pairs; None without one.
        fitted_here: as of `AnalysedCheckpoint`.
    """

    name: str
    mode: str
    rewards: Mapping[int, tuple[float, float]]
    eps: float | None = None
    fitted_here: bool = False

    @property
    def title(self) -> str:
        """Name in a table."""
        return f"{self.name}, {self.mode}"


@dataclass(frozen=True)
class ScorerAccuracy:
    """Accuracy of a scorer on the common pairs.

    Attributes:
        accuracy: without ties, and with ties at the scorer's own eps.
        at_best_eps: with ties, at the eps that is best on these pairs.
    """

    accuracy: Accuracy
    at_best_eps: Estimate


@dataclass(frozen=True)
class Benchmark:
    """Labelled pairs of one source, and their scorers.

    Attributes:
        source: name of the source.
        pairs: number of its pairs, labelled or not.
        labels: +1 for A, -1 for B, 0 for a tie, by pair id.
        scorers: of at least one labelled pair.
        trained_on: number of labelled pairs that are left out, since a checkpoint was trained on them.
    """

    source: str
    pairs: int
    labels: Mapping[int, int]
    scorers: tuple[Scorer, ...]
    trained_on: int = 0

    @property
    def compared(self) -> tuple[Scorer, ...]:
        """Scorers of at least half of the labelled pairs; while there is none, of at least half of what the largest has."""
        most = max((len(scorer.rewards) for scorer in self.scorers), default=0)
        whole = len(self.labels) if 2 * most >= len(self.labels) else most
        return tuple(scorer for scorer in self.scorers if 2 * len(scorer.rewards) >= whole)

    @property
    def common(self) -> tuple[int, ...]:
        """Ids of the labelled pairs that every compared scorer has scored."""
        ids = set(self.labels)
        for scorer in self.compared:
            ids &= set(scorer.rewards)
        return tuple(sorted(ids))

    def accuracy(self, scorer: Scorer) -> ScorerAccuracy:
        """Return the accuracy of one of the compared scorers on the common pairs."""
        rewards = np.array([scorer.rewards[pair] for pair in self.common], dtype=np.float64).reshape(-1, 2)
        labels = np.array([self.labels[pair] for pair in self.common], dtype=np.int64)
        margins = rewards[:, 0] - rewards[:, 1]
        return ScorerAccuracy(accuracy(margins, labels, scorer.eps), accuracy_at_best_eps(margins, labels)[0])


def collect_benchmark(
    source: str,
    checkpoints: Sequence[AnalysedCheckpoint],
    imported: Mapping[str, Mapping[int, tuple[float, float]]],
) -> Benchmark:
    """Collect the scorers of one source; those of none of its labelled pairs are left out.

    So are labelled pairs that one of the checkpoints was trained on: all scorers are compared on the same pairs.

    Args:
        source: name of the source.
        checkpoints: with the selected pairs.
        imported: other models' rewards, by name and pair id.
    """
    pairs = [pair for pair in checkpoints[0].pairs if pair.source == source] if checkpoints else []
    trained = frozenset().union(*(checkpoint.trained_on for checkpoint in checkpoints))
    fair = [pair for pair in pairs if pair.choice is not None and pair.identity not in trained]
    labels = {pair.pair_id: SIGN[pair.choice] for pair in fair if pair.choice is not None}
    scorers = []
    for checkpoint in checkpoints:
        for mode in MODES:
            labelled = ((pair.pair_id, pair_score(pair, mode)) for pair in checkpoint.pairs if pair.pair_id in labels)
            rewards = {pair_id: scores.rewards for pair_id, scores in labelled if scores is not None}
            scorers.append(Scorer(checkpoint.name, mode, rewards, checkpoint.tie_threshold(mode), checkpoint.fitted_here))
    for name, by_pair in imported.items():
        scorers.append(Scorer(name, "imported", {key: value for key, value in by_pair.items() if key in labels}))
    left_out = sum(pair.choice is not None for pair in pairs) - len(labels)
    return Benchmark(source, len(pairs), labels, tuple(scorer for scorer in scorers if scorer.rewards), left_out)


def benchmark_table(benchmark: Benchmark) -> Finding:
    """Tabulate the accuracy of each compared scorer on the common pairs; the others come last, without figures."""
    title, key = f"Measured on {benchmark.source}", f"benchmark {benchmark.source}"
    size = f"{benchmark.pairs} pairs, {len(benchmark.labels)} of them labelled"
    if benchmark.trained_on:
        size += f" and trained on by no checkpoint here ({benchmark.trained_on} more were, and are left out)"
    if not benchmark.scorers:
        return Finding(key, title, (f"{size}; no model has scored them yet.",))
    if not benchmark.common:
        counts = ", ".join(f"{scorer.title}: {len(scorer.rewards)}" for scorer in benchmark.scorers)
        return Finding(key, title, (f"No labelled pair was scored by all of them ({counts}).",))
    compared = benchmark.compared
    measured = [(scorer, benchmark.accuracy(scorer)) for scorer in compared]
    sparse = [scorer for scorer in benchmark.scorers if scorer not in compared]
    rows = [_row(scorer, result) for scorer, result in measured]
    rows += [(scorer.title, len(scorer.rewards), *[None] * (len(HEAD) - 2)) for scorer in sparse]
    notes = (
        f"{size}. All rows are computed by the same code from the same {len(benchmark.common)} pairs: those that every one "
        "of them has scored.",
        *_sparse_note(sparse),
        "An imported model has no eps of its own, so with ties it has the figure at the best eps only, which is too high.",
        *fitted_here_note(scorer.name for scorer in compared if scorer.fitted_here),
    )
    return Finding(key, title, notes, (Chart("", _figure(measured)),), HEAD, tuple(rows))


def _sparse_note(sparse: Sequence[Scorer]) -> tuple[str, ...]:
    if not sparse:
        return ()
    counts = ", ".join(f"{scorer.title} ({len(scorer.rewards)})" for scorer in sparse)
    return (f"Not compared, since they have scored fewer than half of the labelled pairs: {counts}.",)


def _row(scorer: Scorer, result: ScorerAccuracy) -> tuple[Cell, ...]:
    counted = result.accuracy
    return (
        scorer.title,
        len(scorer.rewards),
        counted.pairs,
        counted.ties,
        counted.without_ties,
        result.at_best_eps,
        counted.with_ties,
    )


def _figure(measured: Sequence[tuple[Scorer, ScorerAccuracy]]) -> go.Figure:
    figure = go.Figure()
    names = [plain_name(scorer.title) for scorer, _ in measured]
    without_ties = [result.accuracy.without_ties for _, result in measured]
    best = [result.at_best_eps for _, result in measured]
    figure.add_trace(dot_trace(names, without_ties, name="without ties", colour=ACCENT, shift=-0.14))
    figure.add_trace(
        dot_trace(names, best, name="with ties, best eps", colour=COLOURS["faint"], symbol="circle-open", shift=0.14)
    )
    apply_style(figure, 100 + 36 * len(names), x="accuracy, %")
    name_rows(figure, names)
    figure.update_xaxes(range=[0, 101])
    return figure


def published_table(benchmarks: Sequence[Benchmark]) -> Finding:
    """Tabulate the published accuracies, with those measured here below them where a source is one of these benchmarks."""
    table = published()
    columns = [(entry["key"], entry["name"], ties) for entry in table["benchmarks"] for ties in (0, 1)]
    columns = [column for column in columns if column[0] != "in_domain" or column[2] == 0]
    head = ("model", "from", *(f"{name}, {('with', 'without')[ties]} ties" for _, name, ties in columns))
    rows: list[tuple[Cell, ...]] = []
    for model in table["models"]:
        figures = [Estimate(model[key][ties], None, None, 0, percent=True) for key, _, ties in columns]
        rows.append((model["name"], "published", *figures))
    for benchmark in benchmarks:
        key = published_benchmark(benchmark.source)
        for scorer in benchmark.compared if key is not None and benchmark.common else ():
            result = benchmark.accuracy(scorer)
            both = (result.at_best_eps, result.accuracy.without_ties)
            cells = [both[ties] if key == column else None for column, _, ties in columns]
            rows.append((scorer.title, f"measured on {benchmark.source}", *cells))
    notes = (
        f"Published by {table['source']}. With ties: at the best eps. Their pairs, prompts and frames may differ from those "
        "in this store, so only figures from the same pairs (the tables above) can be compared row by row.",
        "A source of this store gets rows here if its name contains GenAI, VideoGen or VideoAlign.",
    )
    return Finding("published", "Beside the published table", notes, (), head, tuple(rows))
