"""HTML of the gate's verdict on a candidate: one sentence, and the figures behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from app.ui.markup import NOTHING, joined, pill, table
from app.ui.wording import plural, points, share

TONES = {"better": "good", "worse": "bad"}
Gate = Mapping[str, Any]


def verdict_pill(verdict: str | None) -> Markup:
    """Show the verdict as a pill."""
    return pill(verdict, TONES.get(verdict, "warn")) if verdict else Markup("")


def verdict_view(gate: Gate, candidate: str, rival: str) -> Markup:
    """Show the whole comparison.

    Args:
        gate: what `trainer.evaluation.gate` measured, as JSON.
        candidate: name of the candidate.
        rival: name of the checkpoint that it is compared with.
    """
    new, old = _side(gate, "candidate"), _side(gate, "rival")
    rows = [
        _row("accuracy, without ties", new, old, "accuracy_without_ties", gate.get("difference"), "main"),
        _row("accuracy, with ties", new, old, "accuracy_with_ties", gate.get("difference_with_ties")),
        _row("sub-scores equal to people’s", new, old, "", gate.get("difference_sub_scores")),
        _row("thoughts in strict format", new, old, "strict_format", gate.get("format")),
        _row("accuracy without a thought", new, old, "quick_accuracy_without_ties"),
        *_benchmark_rows(gate.get("benchmark")),
        *_plain_rows(new, old),
    ]
    left_out = gate.get("left_out") or []
    remarks = [
        f"{plural(int(gate.get('pairs', 0)), 'held-out pair')}, {plural(int(gate.get('ties', 0)), 'tie')} among them; "
        "never trained on, the same for both. Differences: candidate minus the other, with 95 % paired bootstrap intervals.",
        f"{plural(len(left_out), 'pair')} could not be judged." if left_out else "",
        str(gate.get("scale_note", "")).capitalize() + ".",
    ]
    return Markup(
        '<div class="train-verdict"><p class="train-sentence">{} {}</p>{}{}<p class="ds-hint">{}</p></div>'
    ).format(
        verdict_pill(str(gate.get("verdict", ""))),
        _reasons(gate),
        table(
            ("measured on held-out pairs", candidate, rival, "difference, points"),
            [row for row in rows if row],
            "train-gate",
        ),
        _dimensions(new, old),
        " ".join(filter(None, remarks)),
    )


def _reasons(gate: Gate) -> str:
    """Return the sentence behind the verdict without the verdict itself, which stands before it as a pill."""
    verdict, sentence = str(gate.get("verdict", "")), str(gate.get("sentence", ""))
    if verdict and sentence.lower().startswith(f"{verdict}: "):
        sentence = sentence[len(verdict) + 2 :]
    return f"{sentence[:1].upper()}{sentence[1:]}"


def _side(gate: Gate, name: str) -> Mapping[str, Any]:
    figures = gate.get(name)
    return figures if isinstance(figures, Mapping) else {}


def _row(
    title: str, new: Gate, old: Gate, key: str, difference: Any = None, kind: str = ""
) -> tuple[Markup | str, ...] | None:
    """Return a row of the table; None where neither checkpoint has the figure."""
    measured = difference if isinstance(difference, Mapping) else None
    values = (new.get(key), old.get(key)) if key else (None, None)
    if values == (None, None):
        if measured is None:
            return None
        values = (measured.get("after"), measured.get("before"))
    changed = NOTHING if measured is None else points(measured["difference"], measured["interval"]) + _counts(measured)
    name = Markup("<b>{}</b>").format(title) if kind else title
    return name, share(values[0]), share(values[1]), changed


def _counts(measured: Mapping[str, Any]) -> Markup:
    if not measured.get("better") and not measured.get("worse"):
        return Markup("")
    return Markup(' <small class="train-counted">{} better, {} worse</small>').format(measured["better"], measured["worse"])


def _benchmark_rows(benchmark: Any) -> list[tuple[Markup | str, ...]]:
    if not isinstance(benchmark, Mapping):
        return []
    pairs = plural(int(benchmark["pairs"]), "pair")
    title = Markup("{} <small>{}</small>").format(benchmark.get("name", "benchmark"), pairs)
    changed = points(benchmark["difference"], benchmark["interval"]) + _counts(benchmark)
    return [(title, share(benchmark["after"]), share(benchmark["before"]), changed)]


def _plain_rows(new: Gate, old: Gate) -> list[tuple[Markup | str, ...]]:
    """Return the rows of figures whose difference is not tested."""
    rows: list[tuple[Markup | str, ...]] = []
    for title, key, digits in (
        ("Brier score (lower is better)", "brier", 3),
        ("calibration error (lower is better)", "ece", 3),
        ("seconds a pair", "seconds_per_pair", 2),
    ):
        values = new.get(key), old.get(key)
        if any(isinstance(value, (int, float)) for value in values):
            rows.append((title, *(_number(value, digits) for value in values), NOTHING))
    return rows


def _number(value: Any, digits: int) -> str | Markup:
    return f"{value:.{digits}f}" if isinstance(value, (int, float)) else NOTHING


def _dimensions(new: Gate, old: Gate) -> Markup:
    """Show the agreement of the sub-scores with people's by dimension."""
    after, before = new.get("dimensions") or {}, old.get("dimensions") or {}
    names = [name for name in after if name in before]
    if not names:
        return Markup("")
    cells = joined(
        Markup("<div><dt>{}</dt><dd>{} <small>from {}</small></dd></div>").format(
            name, share(after[name]["agreement"], 0), share(before[name]["agreement"], 0)
        )
        for name in names
    )
    return Markup('<dl class="ds-figures train-dimensions" aria-label="sub-scores equal to people’s">{}</dl>').format(cells)
