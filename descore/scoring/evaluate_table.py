"""Evaluate a checkpoint on a table: agreement of rewards with people over all labelled rows.

    table = read_pairs(Path("pairs.csv"), labels=True)
    evaluation = evaluate_table(JudgeSource.of_checkpoint("bundled"), table, Path("scores.csv"))
    print(evaluation.text())

Rewards come from `score_table`, so that nothing is judged twice, and a run that was stopped goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from descore.calibration import higher_reward, probability_source
from descore.errors import RewardError, TableError
from descore.metrics import PreferenceReport, preference_report
from descore.scoring.published import benchmark_of_shape, published, published_benchmark
from descore.scoring.score_table import DEFAULT, score_table
from descore.tables.read_table import read_table
from descore.video import VideoError

if TYPE_CHECKING:
    from descore.scoring.config import ScoreConfig
    from descore.scoring.judge_source import JudgeSource
    from descore.tables.pairs import PairRow, PairTable

_MIRRORED = {"A": "B", "B": "A", "tie": "tie"}


@dataclass(frozen=True)
class SwapConsistency:
    """What becomes of pairs when their videos change places.

    Attributes:
        judged: pairs that were judged once more as (B, A).
        same: of them with the same outcome, mirrored.
        largest_difference: of a reward between the two judgements; 0 without one.
        labelled_both_ways: pairs that the table has in both orders with labels.
        same_labels: of them with mirrored labels.
    """

    judged: int
    same: int
    largest_difference: float
    labelled_both_ways: int
    same_labels: int


@dataclass(frozen=True)
class Evaluation:
    """Agreement of one checkpoint with the labels of a table.

    Attributes:
        table: its name.
        checkpoint, fingerprint, mode: who judged, and how.
        rows: of the table.
        unlabelled: rows without a label, which count nowhere.
        failed: labelled rows without both rewards, which count nowhere.
        report: the figures; its fitted eps is the tie threshold that the checkpoint carries from its own validation pairs.
        swaps: what becomes of swapped pairs.
        published: name of the benchmark and [(model, with ties, without ties)]; None for a table that is no known one.
        eps_source: where the tie threshold comes from, see `descore.calibration.probability_source`.
    """

    table: str
    checkpoint: str
    fingerprint: str
    mode: str
    rows: int
    unlabelled: int
    failed: int
    report: PreferenceReport
    swaps: SwapConsistency
    published: tuple[str, tuple[tuple[str, float | None, float | None], ...]] | None
    eps_source: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; the figures of the report stand at the top."""
        values = {**asdict(self), **self.report.to_dict()}
        del values["report"]
        if self.published is not None:
            rows = [{"model": name, "with_ties": tied, "without_ties": plain} for name, tied, plain in self.published[1]]
            values["published"] = {"benchmark": self.published[0], "models": rows}
        return values

    def text(self) -> str:
        """Return lines to read."""
        report, swaps = self.report, self.swaps
        lines = [
            f"{self.checkpoint}, mode {self.mode}, on {self.table}: "
            f"{report.pairs:,} labelled pairs, {report.ties:,} of them ties"
            + (f"; {self.unlabelled:,} rows have no label" if self.unlabelled else "")
            + (f"; {self.failed:,} could not be judged and are left out" if self.failed else ""),
            _figure("accuracy without ties", report.accuracy_without_ties, report.accuracy_without_ties_interval),
            _figure("accuracy with ties", report.accuracy_with_ties, report.accuracy_with_ties_interval)
            + f"   eps {report.eps:.4g}, the best one for these very pairs",
        ]
        if report.fitted_eps is not None:
            lines.append(
                _figure("accuracy with ties", report.accuracy_with_ties_at_fitted_eps, None)
                + f"   eps {report.fitted_eps:.4g}, the checkpoint's own, {self.eps_source}"
            )
        if swaps.judged:
            lines.append(
                f"swapped videos           {swaps.same} of {swaps.judged} outcomes are the same; "
                f"rewards differ by {swaps.largest_difference:.1g} at most"
            )
        if swaps.labelled_both_ways:
            lines.append(f"pairs in both orders     {swaps.same_labels} of {swaps.labelled_both_ways} have the same label")
        return "\n".join(lines + self._published_lines())

    def _published_lines(self) -> list[str]:
        if self.published is None:
            return []
        benchmark, models = self.published
        lines = [f"published on {benchmark} ({published()['source']}):   without ties   with ties"]
        lines += [f"  {name:<40} {_share(plain):>10} {_share(tied):>11}" for name, tied, plain in models]
        ours = _share(self.report.accuracy_without_ties), _share(self.report.accuracy_with_ties)
        return [*lines, f"  {'here: ' + self.checkpoint:<40} {ours[0]:>10} {ours[1]:>11}"]


def evaluate_table(
    source: JudgeSource,
    table: PairTable,
    out: Path,
    config: ScoreConfig = DEFAULT,
    swaps: int = 0,
    name: str | None = None,
    progress: TextIO | None = None,
) -> Evaluation:
    """Judge the labelled rows of a table and measure how well rewards agree with the labels.

    Args:
        source, out, config, progress: as in `descore.scoring.score_table.score_table`.
        table: pairs that were read with their labels.
        swaps: pairs that are judged once more as (B, A), spread over the table.
        name: of the benchmark; by default the table's name and shape say whether it is a published one.

    Raises:
        TableError: no row has a label.
        RewardError: no labelled row has both rewards.
        ValueError, descore.errors.CheckpointError: as `score_table`.
    """
    labelled = replace(table, rows=tuple(row for row in table.rows if row.label is not None))
    if not labelled.rows:
        raise TableError(table.path.name, "has no labelled row", column=table.columns.label)
    score_table(source, labelled, out, config, progress)
    scores = _scores(out)
    judged = [(row, *scores[row.row]) for row in labelled.rows if row.row in scores]
    if not judged:
        raise RewardError(
            f"none of the {len(labelled.rows):,} labelled rows has rewards; {out} says why in its column error"
        )
    manifest = source.manifest
    scale = manifest.calibration.for_mode(config.mode)
    labels = np.array([row.label for row, _, _ in judged], dtype=np.int64)
    report = preference_report(
        [a for _, a, _ in judged], [b for _, _, b in judged], labels, None if scale is None else scale.tie_threshold
    )
    return Evaluation(
        table=table.path.name,
        checkpoint=manifest.name,
        fingerprint=_fingerprint(out),
        mode=config.mode,
        rows=len(table.rows),
        unlabelled=len(table.rows) - len(labelled.rows),
        failed=len(labelled.rows) - len(judged),
        report=report,
        swaps=_swap_consistency(source, table, judged, config, swaps),
        published=_published(table, name),
        eps_source=probability_source(scale),
    )


def _scores(out: Path) -> dict[int, tuple[float, float]]:
    """Read the rewards of the rows that have both, by row."""
    rows = ((int(row.text("row")), row.text("reward_A"), row.text("reward_B")) for row in read_table(out).rows)
    return {number: (float(a), float(b)) for number, a, b in rows if a and b}


def _fingerprint(out: Path) -> str:
    return next(read_table(out).rows).text("checkpoint_fingerprint")


def _swap_consistency(
    source: JudgeSource,
    table: PairTable,
    judged: Sequence[tuple[PairRow, float, float]],
    config: ScoreConfig,
    swaps: int,
) -> SwapConsistency:
    both_ways = _both_ways([row for row, _, _ in judged])
    step = max(1, len(judged) // swaps) if swaps > 0 else 0
    same, differences = 0, [0.0]
    count = 0
    for row, a, b in judged[::step][:swaps] if step else []:
        judge = source.load()
        try:
            videos = [table.folder / row.path_b, table.folder / row.path_a]
            swapped = judge.judge(videos, row.prompt, config.mode, config.k, config.seed)
        except VideoError:
            continue  # it went away after it was judged
        count += 1
        new_b, new_a = (video.reward for video in swapped.videos)
        assert new_a is not None
        assert new_b is not None
        outcome = judge.manifest.calibration.for_mode(config.mode)
        before = higher_reward(a, b) if outcome is None else outcome.outcome(a, b)
        same += swapped.verdict is not None and _MIRRORED[swapped.verdict] == before
        differences += [abs(new_a - a), abs(new_b - b)]
    return SwapConsistency(count, same, max(differences), len(both_ways), sum(a == -b for a, b in both_ways))


def _both_ways(rows: Sequence[PairRow]) -> list[tuple[int, int]]:
    """Return the labels of each pair that stands in both orders: of (A, B) and of (B, A)."""
    first: dict[tuple[str, str, str], int] = {}
    found: list[tuple[int, int]] = []
    for row in rows:
        assert row.label is not None
        swapped = first.get((row.path_b, row.path_a, row.prompt))
        if swapped is not None and row.path_a != row.path_b:
            found.append((swapped, row.label))
        first.setdefault((row.path_a, row.path_b, row.prompt), row.label)
    return found


def _published(table: PairTable, name: str | None) -> tuple[str, tuple[tuple[str, float | None, float | None], ...]] | None:
    key = published_benchmark(name if name is not None else table.path.stem)
    if key is None and name is None:
        key = benchmark_of_shape(table.table_columns, len(table.rows))
    if key is None:
        return None
    content: Mapping[str, Any] = published()
    title = next(benchmark["name"] for benchmark in content["benchmarks"] if benchmark["key"] == key)
    return title, tuple((model["name"], model[key][0], model[key][1]) for model in content["models"])


def _figure(name: str, value: float | None, interval: tuple[float, float] | None) -> str:
    spread = "" if interval is None else f"  [{interval[0]:.3f}, {interval[1]:.3f}]"
    return f"{name:<24} {_share(value)}{spread}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
