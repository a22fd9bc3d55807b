"""The gate: is a candidate better than its rival on the same held-out labels? Pure figures.

    gate = compare(candidate, rival, benchmark)      # two candidates that judged the same pairs
    gate.verdict, gate.sentence                      # "better", "not shown to be better" or "worse", and why
    gate.to_dict()                                   # all figures, as JSON

The verdict rests on accuracy without ties: pairs on which people have a preference, right where the margin has its sign. A
candidate is better where the whole 95 % interval of the paired difference lies above 0, an exact sign test says so too,
nothing is lost on the benchmark (an interval wholly below 0 is a loss) and its thoughts keep the format as often.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from descore.answer import DIMENSIONS, AnswerError, parse_tolerant
from trainer.evaluation.held_out import JudgedPair, JudgedPairs, is_strict
from trainer.evaluation.paired_tests import Difference, cross_fitted, paired_difference, sign_test, with_best_threshold

Verdict = Literal["better", "not shown to be better", "worse"]
# Below this even changes that all go one way are no evidence: an exact sign test can't reach 5 %.
LEAST_CHANGED = 6
# The bootstrap's interval is somewhat too narrow where few pairs changed; the sign test is exact there.
SIGN_TEST_LEVEL = 0.05
SCALE_NOTE = (
    "accuracy with ties, Brier score and calibration error: tie threshold and temperature of each pair are fitted on the "
    "held-out pairs of the four other folds, for both checkpoints; 'best' is the threshold fitted on the very pairs it is "
    "judged by, as published figures have it"
)


@dataclass(frozen=True)
class Candidate:
    """A checkpoint with its judgements of the held-out pairs, and its seconds for one pair."""

    name: str
    judged: JudgedPairs
    seconds_per_pair: float


@dataclass(frozen=True)
class Benchmark:
    """Margins r_A - r_B of both checkpoints on the same benchmark pairs, and the labels +1, -1, 0; (n,) each."""

    name: str
    labels: npt.NDArray[np.float64]
    rival: npt.NDArray[np.float64]
    candidate: npt.NDArray[np.float64]

    def difference(self) -> Difference | None:
        """Measure the change of accuracy without ties; None where every pair is a tie."""
        decided = self.labels != 0
        rival, candidate = (margins[decided] * self.labels[decided] > 0 for margins in (self.rival, self.candidate))
        return paired_difference(rival, candidate)


@dataclass(frozen=True)
class Gate:
    """Result of the comparison; `sentence`: the verdict with its reason, `figures`: see docs/loop.md."""

    verdict: Verdict
    sentence: str
    figures: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON types."""
        return {"verdict": self.verdict, "sentence": self.sentence, **self.figures}


def compare(
    candidate: Candidate, rival: Candidate, benchmark: Benchmark | None = None, familiar: Collection[str] = ()
) -> Gate:
    """Compare two checkpoints on the pairs that both could judge.

    Args:
        familiar: identities of pairs whose videos both occur in pairs that the candidate was trained on.

    Raises:
        descore.metrics.MetricsError: a reward is not finite.
    """
    new, old = _common(candidate, rival), _common(rival, candidate)
    with_ties = _with_ties(new), _with_ties(old)
    decided = _difference(new, old)
    checks = {
        "benchmark": None if benchmark is None else benchmark.difference(),
        "format": _format_difference(new.judged, old.judged),
    }
    verdict, sentence = judge(decided, checks["benchmark"], checks["format"], "" if benchmark is None else benchmark.name)
    seen = sum(one.identity in familiar for one in new.judged.pairs)
    figures = {
        "pairs": len(new.judged.pairs),
        "pairs_of_trained_videos": seen,
        "ties": sum(one.label == 0 for one in new.judged.pairs),
        "left_out": sorted({*candidate.judged.problems, *rival.judged.problems}),
        "candidate": _figures(new, with_ties[0]),
        "rival": _figures(old, with_ties[1]),
        "difference": None if decided is None else _with_sign_test(decided),
        "difference_with_ties": _ties_difference(with_ties[0], with_ties[1]),
        "difference_sub_scores": _sub_score_difference(new.judged, old.judged),
        "format": None if checks["format"] is None else checks["format"].to_dict(),
        "benchmark": _benchmark(benchmark, checks["benchmark"]),
        "scale_note": SCALE_NOTE,
    }
    return Gate(verdict, sentence + _familiarity(seen, len(new.judged.pairs)), figures)


def judge(
    decided: Difference | None, benchmark: Difference | None, format_: Difference | None, benchmark_name: str = ""
) -> tuple[Verdict, str]:
    """Decide the verdict and write its sentence.

    Args:
        decided: difference (candidate minus rival) of accuracy on pairs with a preference.
        benchmark: of accuracy on the benchmark.
        format_: of the share of thoughts in strict format.
    """
    if decided is None:
        return (
            "not shown to be better",
            "Not shown to be better: no held-out pair on which people have a preference was judged.",
        )
    summary = (
        f"right on {_percent(decided.after)} of the held-out pairs with a preference instead of {_percent(decided.before)}"
    )
    summary = f"{summary}, {_points(decided)}"
    doubt = _doubt(decided)
    if not doubt and decided.interval[1] < 0:
        return "worse", f"Worse: {summary}."
    lost = _losses(benchmark, format_, benchmark_name)
    if not doubt:
        if not lost:
            return "better", f"Better: {summary}."
        return "not shown to be better", f"Not shown to be better: {summary}, but {lost}."
    return "not shown to be better", f"Not shown to be better: {summary}; {doubt}{f', and {lost}' if lost else ''}."


def _doubt(decided: Difference) -> str:
    """Why the difference may be chance; "" where it isn't."""
    changed = decided.better + decided.worse
    if changed < LEAST_CHANGED:
        return f"{f'only {changed}' if changed else 'none'} of them came out differently, too few to tell"
    if decided.interval[0] <= 0 <= decided.interval[1]:
        return "the interval holds 0"
    p = sign_test(decided.better, decided.worse)
    if p >= SIGN_TEST_LEVEL:
        most = max(decided.better, decided.worse)
        return f"{most} of the {changed} that came out differently went one way, which can be chance (sign test p = {p:.2f})"
    return ""


def _familiarity(seen: int, pairs: int) -> str:
    if 2 * seen <= pairs:
        return ""
    return (
        f" Both videos of {seen} of the {pairs} held-out pairs also occur in pairs that it was trained on, which favours it;"
        " on new videos less may remain."
    )


def _losses(benchmark: Difference | None, format_: Difference | None, name: str) -> str:
    lost = []
    if benchmark is not None and benchmark.interval[1] < 0:
        lost.append(f"{name} fell from {_percent(benchmark.before)} to {_percent(benchmark.after)}, {_points(benchmark)}")
    if format_ is not None and format_.interval[1] < 0:
        lost.append(
            f"its thoughts keep the format less often, {_percent(format_.after)} instead of {_percent(format_.before)}"
        )
    return " and ".join(lost)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _points(difference: Difference) -> str:
    low, high = difference.interval
    return f"{100 * difference.difference:+.1f} points (95 % interval {100 * low:+.1f} to {100 * high:+.1f})"


def _common(candidate: Candidate, other: Candidate) -> Candidate:
    """`candidate` with the pairs that both judged, by identity."""
    identities = {pair.identity for pair in other.judged.pairs}
    pairs = [pair for pair in candidate.judged.pairs if pair.identity in identities]
    kept = tuple(sorted(pairs, key=lambda pair: pair.identity))
    return replace(candidate, judged=replace(candidate.judged, pairs=kept))


@dataclass(frozen=True)
class _WithTies:
    """Figures with ties, where the pairs suffice for a scale; `right`: (n,), whether the class of each pair is the label."""

    right: npt.NDArray[np.bool_]
    figures: dict[str, float]


def _with_ties(candidate: Candidate) -> _WithTies | None:
    judged = candidate.judged
    if not judged.pairs:
        return None
    a, b, labels = judged.scores(judged.mode)
    fitted = cross_fitted(a, b, labels, [pair.identity for pair in judged.pairs])
    if fitted is None:
        return None
    eps, best = with_best_threshold(a - b, labels)
    figures = {
        "accuracy_with_ties": float(fitted.right.mean()),
        "eps": fitted.eps,
        "accuracy_with_ties_best": best,
        "eps_best": eps,
        "brier": fitted.brier,
        "ece": fitted.ece,
    }
    return _WithTies(fitted.right, figures)


def _figures(candidate: Candidate, with_ties: _WithTies | None) -> dict[str, Any]:
    judged = candidate.judged
    thinks = judged.paradigm != "discriminative"
    quick = _accuracy(judged, "quick") if judged.paradigm == "think-then-score" else None
    return {
        "checkpoint": candidate.name,
        "mode": judged.mode,
        "accuracy_without_ties": _accuracy(judged, judged.mode),
        **({} if with_ties is None else with_ties.figures),
        "quick_accuracy_without_ties": quick,
        "dimensions": _by_dimension(judged) if thinks else {},
        "strict_format": float(np.mean(_strict(judged))) if thinks and judged.pairs else None,
        "seconds_per_pair": candidate.seconds_per_pair,
    }


def _right(judged: JudgedPairs, mode: str) -> npt.NDArray[np.bool_]:
    """Whether the margin has the sign of the label, for each pair with a preference."""
    if not judged.pairs:
        return np.zeros(0, dtype=bool)
    a, b, labels = judged.scores(mode)
    decided = labels != 0
    right: npt.NDArray[np.bool_] = (a - b)[decided] * labels[decided] > 0
    return right


def _accuracy(judged: JudgedPairs, mode: str) -> float | None:
    right = _right(judged, mode)
    return float(right.mean()) if len(right) else None


def _difference(new: Candidate, old: Candidate) -> Difference | None:
    return paired_difference(_right(old.judged, old.judged.mode), _right(new.judged, new.judged.mode))


def _with_sign_test(difference: Difference) -> dict[str, Any]:
    return difference.to_dict() | {"sign_test_p": sign_test(difference.better, difference.worse)}


def _ties_difference(new: _WithTies | None, old: _WithTies | None) -> dict[str, Any] | None:
    if new is None or old is None:
        return None
    difference = paired_difference(old.right, new.right)
    return None if difference is None else difference.to_dict()


def _strict(judged: JudgedPairs) -> list[float]:
    """Share of strict thoughts of each pair."""
    return [sum(is_strict(text) for text in pair.thoughts) / 2 for pair in judged.pairs]


def _format_difference(new: JudgedPairs, old: JudgedPairs) -> Difference | None:
    if "discriminative" in (new.paradigm, old.paradigm):
        return None
    return paired_difference(_strict(old), _strict(new))


def _agreeing(pair: JudgedPair) -> dict[str, list[bool]]:
    """Whether the thoughts give the sub-scores that people gave, by dimension, for A and for B."""
    agreeing: dict[str, list[bool]] = {}
    for text, known in zip(pair.thoughts, pair.sub_scores, strict=True):
        try:
            sub_scores: Mapping[str, str] = parse_tolerant(text).sub_scores
        except AnswerError:
            sub_scores = {}
        for name, value in known.items():
            agreeing.setdefault(name, []).append(sub_scores.get(name) == value)
    return agreeing


def _by_dimension(judged: JudgedPairs) -> dict[str, dict[str, float]]:
    """Agreement of sub-scores by dimension, and the number of known ones."""
    by_pair = [_agreeing(pair) for pair in judged.pairs]
    values = {name: [right for pair in by_pair for right in pair.get(name, ())] for name in DIMENSIONS}
    return {name: {"known": len(right), "agreement": sum(right) / len(right)} for name, right in values.items() if right}


def _sub_score_difference(new: JudgedPairs, old: JudgedPairs) -> dict[str, Any] | None:
    """All dimensions together; the sub-scores of a pair are one observation, since they are not independent."""
    if "discriminative" in (new.paradigm, old.paradigm):
        return None
    shares = []
    for judged in (old, new):
        by_pair = [[right for values in _agreeing(pair).values() for right in values] for pair in judged.pairs]
        shares.append([sum(right) / len(right) for right in by_pair if right])
    difference = paired_difference(shares[0], shares[1])
    return None if difference is None else difference.to_dict()


def _benchmark(benchmark: Benchmark | None, difference: Difference | None) -> dict[str, Any] | None:
    if benchmark is None or difference is None:
        return None
    return {"name": benchmark.name, "pairs": len(benchmark.labels), **difference.to_dict()}
