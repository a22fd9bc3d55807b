"""The share of one pair in the totals of a campaign: pure functions.

The totals of a campaign are the sum of these over its pairs. So a change to one pair is counted as what it adds now less
what it added before, and recomputing everything is the same sum from nothing.

- consensus: the choice of more than half of the current labels of kinds work and import; an adjudication overrules it.
- patterns: counts of equal answers among these labels, see `AgreementPatternRow`.
- members: labels, skips, flags, choices over kinds work, repeat, gold, qualification; compared and agreed over pairs of
  people's work labels; a repeat is compared with the same person's current first label.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import get_args

from descore.answer import DIMENSIONS, SUB_SCORES
from storage.campaigns.label_schema import SIDES
from storage.campaigns.slots import HOLDING_KINDS
from storage.schema import AssignmentState, Choice, Kind, Side

OVERALL = "overall"
# The columns of a member that are totals.
COUNTS = (
    "labels",
    "skips",
    "flags",
    "decided",
    "left_choices",
    "ties",
    "gold_total",
    "gold_right",
    "repeat_total",
    "repeat_same",
    "compared",
    "agreed",
)
_PERSONAL_KINDS = ("work", "repeat", "gold", "qualification")
_CHOICES = get_args(Choice)


@dataclass(frozen=True)
class Entry:
    """An assignment at the pair, with its current label if it is labelled. label_id orders adjudications."""

    assignment_id: int
    annotator_id: int
    kind: Kind
    state: AssignmentState
    left_video: Side
    label_id: int = 0
    choice: Choice | None = None
    sub_scores: Mapping[str, Mapping[str, str]] | None = None


@dataclass(frozen=True)
class PairTotals:
    """A pair's share of the totals. held: labels and leases that take one of its slots."""

    held: int
    labelled: int
    consensus: Choice | None
    patterns: frozenset[tuple[str, str]]
    members: Mapping[int, Mapping[str, int]]


def tally(entries: Sequence[Entry], gold_choice: Choice | None) -> PairTotals:
    """Count the assignments at one pair."""
    counted = [one for one in entries if one.state == "labelled" and one.kind in HOLDING_KINDS]
    held = sum(one.state in ("leased", "labelled") and one.kind in HOLDING_KINDS for one in entries)
    return PairTotals(
        held=held,
        labelled=len(counted),
        consensus=_consensus(entries, counted),
        patterns=frozenset(_patterns(counted)),
        members=_members(entries, gold_choice),
    )


def _consensus(entries: Iterable[Entry], counted: Sequence[Entry]) -> Choice | None:
    decisions = [one for one in entries if one.kind == "adjudication" and one.state == "labelled"]
    if decisions:
        return max(decisions, key=lambda one: one.label_id).choice
    for choice, votes in Counter(one.choice for one in counted).items():
        if 2 * votes > len(counted):
            return choice
    return None


def _patterns(counted: Sequence[Entry]) -> list[tuple[str, str]]:
    if len(counted) < 2:
        return []
    found = [(OVERALL, _counts([one.choice for one in counted], _CHOICES))]
    for dimension in DIMENSIONS:
        sides = [[(one.sub_scores or {}).get(video, {}).get(dimension) for one in counted] for video in SIDES]
        if any(len(values) - values.count(None) >= 2 for values in sides):
            found.append((dimension, "|".join(_counts(values, SUB_SCORES) for values in sides)))
    return found


def _counts(values: Sequence[str | None], known: Sequence[str]) -> str:
    return ",".join(str(values.count(value)) for value in known)


def _members(entries: Sequence[Entry], gold_choice: Choice | None) -> dict[int, dict[str, int]]:
    found: dict[int, dict[str, int]] = defaultdict(lambda: dict.fromkeys(COUNTS, 0))
    work = {one.annotator_id: one for one in entries if one.kind == "work" and one.state == "labelled"}
    for one in entries:
        if one.kind not in _PERSONAL_KINDS:
            continue
        counts = found[one.annotator_id]
        if one.state == "skipped":
            counts["skips"] += 1
        elif one.state == "flagged":
            counts["flags"] += 1
        elif one.state == "labelled":
            _count_label(counts, one, gold_choice, work.get(one.annotator_id))
    for first, second in combinations(work.values(), 2):
        for annotator_id in (first.annotator_id, second.annotator_id):
            found[annotator_id]["compared"] += 1
            found[annotator_id]["agreed"] += first.choice == second.choice
    return {annotator_id: counts for annotator_id, counts in found.items() if any(counts.values())}


def _count_label(counts: dict[str, int], one: Entry, gold_choice: Choice | None, first: Entry | None) -> None:
    counts["labels"] += 1
    counts["decided"] += one.choice in SIDES
    counts["left_choices"] += one.choice == one.left_video
    counts["ties"] += one.choice == "tie"
    if one.kind in ("gold", "qualification"):
        counts["gold_total"] += 1
        counts["gold_right"] += one.choice == gold_choice
    elif one.kind == "repeat" and first is not None:
        counts["repeat_total"] += 1
        counts["repeat_same"] += one.choice == first.choice
