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
from storage.campaigns.progress import PERSONAL_KINDS
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
    """A pair's share of the totals.

    Attributes:
        held: labels and leases that take one of its slots.
    """

    held: int
    labelled: int
    consensus: Choice | None
    patterns: frozenset[tuple[str, str]]
    members: Mapping[int, Mapping[str, int]]


def tally(entries: Sequence[Entry], gold_choice: Choice | None) -> PairTotals:
    """Count the assignments at one pair."""
    counted = [entry for entry in entries if entry.state == "labelled" and entry.kind in HOLDING_KINDS]
    held = sum(entry.state in ("leased", "labelled") and entry.kind in HOLDING_KINDS for entry in entries)
    return PairTotals(
        held=held,
        labelled=len(counted),
        consensus=_consensus(entries, counted),
        patterns=frozenset(_patterns(counted)),
        members=_members(entries, gold_choice),
    )


def _consensus(entries: Iterable[Entry], counted: Sequence[Entry]) -> Choice | None:
    decisions = [entry for entry in entries if entry.kind == "adjudication" and entry.state == "labelled"]
    if decisions:
        return max(decisions, key=lambda entry: entry.label_id).choice
    for choice, votes in Counter(entry.choice for entry in counted).items():
        if 2 * votes > len(counted):
            return choice
    return None


def _patterns(counted: Sequence[Entry]) -> list[tuple[str, str]]:
    if len(counted) < 2:
        return []
    patterns = [(OVERALL, _counts([entry.choice for entry in counted], _CHOICES))]
    for dimension in DIMENSIONS:
        sides = [[(entry.sub_scores or {}).get(video, {}).get(dimension) for entry in counted] for video in SIDES]
        if any(len(values) - values.count(None) >= 2 for values in sides):
            patterns.append((dimension, "|".join(_counts(values, SUB_SCORES) for values in sides)))
    return patterns


def _counts(values: Sequence[str | None], known: Sequence[str]) -> str:
    return ",".join(str(values.count(value)) for value in known)


def _members(entries: Sequence[Entry], gold_choice: Choice | None) -> dict[int, dict[str, int]]:
    members: dict[int, dict[str, int]] = defaultdict(lambda: dict.fromkeys(COUNTS, 0))
    work = {entry.annotator_id: entry for entry in entries if entry.kind == "work" and entry.state == "labelled"}
    for entry in entries:
        if entry.kind not in PERSONAL_KINDS:
            continue
        counts = members[entry.annotator_id]
        if entry.state == "skipped":
            counts["skips"] += 1
        elif entry.state == "flagged":
            counts["flags"] += 1
        elif entry.state == "labelled":
            _count_label(counts, entry, gold_choice, work.get(entry.annotator_id))
    for first, second in combinations(work.values(), 2):
        for annotator_id in (first.annotator_id, second.annotator_id):
            members[annotator_id]["compared"] += 1
            members[annotator_id]["agreed"] += first.choice == second.choice
    return {annotator_id: counts for annotator_id, counts in members.items() if any(counts.values())}


def _count_label(counts: dict[str, int], entry: Entry, gold_choice: Choice | None, first: Entry | None) -> None:
    counts["labels"] += 1
    counts["decided"] += entry.choice in SIDES
    counts["left_choices"] += entry.choice == entry.left_video
    counts["ties"] += entry.choice == "tie"
    if entry.kind in ("gold", "qualification"):
        counts["gold_total"] += 1
        counts["gold_right"] += entry.choice == gold_choice
    elif entry.kind == "repeat" and first is not None:
        counts["repeat_total"] += 1
        counts["repeat_same"] += entry.choice == first.choice
