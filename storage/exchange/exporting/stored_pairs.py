"""Pairs of the store with their labels, as the writers of the formats take them.

    pairs = StoredPairs(session, Selection(source="winter models"), labels="raw")
    for pair in pairs: ...        # as often as needed, always in the same order

The order hangs on what prompts and videos hold, never on ids: two stores with the same contents write the same files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import PurePosixPath
from typing import Any, Literal

from sqlalchemy import ColumnElement, Row, or_, select
from sqlalchemy.orm import Session, aliased

from storage.errors import StorageError
from storage.exchange.importing.dry_run import chunks, unnamed_annotators
from storage.exchange.importing.resolve import BETWEEN, PREFIX
from storage.exchange.parsed import Clip, ParsedAssignment, ParsedLabel, ParsedPair
from storage.labelling.consensus import COUNTED, Consensus, iterate_consensus
from storage.schema import AssignmentRow, CampaignPairRow, CampaignRow, JudgementRow, LabelRow, PairRow, UserRow, VideoRow

Labels = Literal["raw", "consensus", "weighted"]
VIDEOS = "videos"
DIGITS = 16
_PAIRS_AT_ONCE = 500
_A, _B = aliased(VideoRow), aliased(VideoRow)


@dataclass(frozen=True)
class Selection:
    """Which pairs, and whose labels: those of a source, of a campaign, or all.

    A source means the pairs that came with it first and those that its imported labels belong to.
    """

    source: str | None = None
    campaign_id: int | None = None

    def __post_init__(self) -> None:
        if self.source is not None and self.campaign_id is not None:
            raise StorageError("choose a source or a campaign, not both")


class StoredPairs:
    """The chosen pairs, read from the store each time they are walked through.

    labels: "raw" for what each person said, "consensus" for the common answer as one label without a person (by majority;
    "weighted" by reliability). revisions:
    with every revision, assignment and detail; else each person's label in force that a consensus counts.
    """

    def __init__(self, session: Session, selection: Selection, labels: Labels = "raw", revisions: bool = False) -> None:
        self._session = session
        self._selection = selection
        self._revisions = revisions
        self.ids: Sequence[int] = self._ordered_ids()
        campaign_ids = None if selection.campaign_id is None else [selection.campaign_id]
        selected = set(self.ids)
        self._consensus: Mapping[int, Consensus] | None = None
        if labels != "raw":
            answers = iterate_consensus(session, campaign_ids, "weighted" if labels == "weighted" else "majority")
            self._consensus = {consensus.pair_id: consensus for consensus in answers if consensus.pair_id in selected}
        self._unnamed = self._names_nobody()

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[ParsedPair]:
        for start in range(0, len(self.ids), _PAIRS_AT_ONCE):
            ids = self.ids[start : start + _PAIRS_AT_ONCE]
            pairs = {row.id: row for row in self._session.execute(_pairs().where(PairRow.id.in_(ids)))}
            thoughts = self._thoughts(pairs)
            assignments = self._assignments(ids)
            for pair_id in ids:
                yield _parsed_pair(pairs[pair_id], assignments.get(pair_id, ()), thoughts)

    def _ordered_ids(self) -> list[int]:
        # Hashes have digits and lower-case letters only, which all collations order alike.
        statement = (
            select(PairRow.id)
            .join(_A, _A.id == PairRow.video_a_id)
            .join(_B, _B.id == PairRow.video_b_id)
            .order_by(PairRow.prompt_hash, _A.sha256, _B.sha256)
        )
        return list(self._session.scalars(statement.where(*self._selected())))

    def _selected(self) -> list[ColumnElement[bool]]:
        """List the conditions on the rows of the selected pairs."""
        source, campaign_id = self._selection.source, self._selection.campaign_id
        if source is not None:
            return [or_(PairRow.source == source, _labelled_in(_of_source(source)))]
        return [] if campaign_id is None else [_labelled_in(CampaignRow.id == campaign_id)]

    def _names_nobody(self) -> str | None:
        """Return the annotator who stands for an import without names, if exactly one has labels in the selection."""
        names = unnamed_annotators(self._session)
        labels = select(LabelRow.annotator_id).join(PairRow, PairRow.id == LabelRow.pair_id)
        theirs = labels.where(LabelRow.annotator_id.in_(names), *self._selected(), *self._in_campaign())
        annotator_ids = self._session.scalars(theirs.distinct()).all() if names else []
        return names[annotator_ids[0]] if len(annotator_ids) == 1 else None

    def _in_campaign(self) -> list[ColumnElement[bool]]:
        campaign_id = self._selection.campaign_id
        return [] if campaign_id is None else [LabelRow.campaign_id == campaign_id]

    def _assignments(self, ids: Sequence[int]) -> dict[int, tuple[ParsedAssignment, ...]]:
        if self._consensus is not None:
            common = {pair_id: self._consensus[pair_id] for pair_id in ids if pair_id in self._consensus}
            return {
                pair_id: (_common_assignment(consensus),)
                for pair_id, consensus in common.items()
                if consensus.choice is not None
            }
        statement = (
            _labels().where(LabelRow.pair_id.in_(ids)).order_by(LabelRow.pair_id, LabelRow.assignment_id, LabelRow.id)
        )
        if self._selection.campaign_id is not None:
            statement = statement.where(LabelRow.campaign_id == self._selection.campaign_id)
        by_pair: dict[int, tuple[ParsedAssignment, ...]] = {}
        for pair_id, rows in groupby(self._session.execute(statement), key=lambda row: row.pair_id):
            assignments = [self._assignment(list(group)) for _, group in groupby(rows, key=lambda row: row.assignment_id)]
            by_pair[pair_id] = tuple(sorted(assignments if self._revisions else _counted(assignments), key=_sort_key))
        return by_pair

    def _assignment(self, rows: list[Row[Any]]) -> ParsedAssignment:
        first = rows[0]
        return ParsedAssignment(
            labels=tuple(map(_parsed_label, rows)),
            annotator=None if first.annotator == self._unnamed else first.annotator,
            campaign=_campaign_name(first.campaign, first.origin, first.holds_votes),
            kind=first.kind,
            round=first.round,
            gold=first.gold,
            pair_state=first.pair_state,
        )

    def _thoughts(self, pairs: Mapping[int, Row[Any]]) -> dict[tuple[int, str, str], str]:
        """(video, prompt hash, source) -> thought: that source's own, else another import's, else the newest of a model."""
        videos = {video_id for row in pairs.values() for video_id in (row.id_a, row.id_b)}
        hashes = {row.prompt_hash for row in pairs.values()}
        sources = {row.source for row in pairs.values()}
        ranked: dict[tuple[int, str, str], tuple[tuple[bool, bool, int], str]] = {}
        statement = select(JudgementRow).where(JudgementRow.mode == "think", JudgementRow.video_id.in_(videos))
        for row in self._session.scalars(statement.execution_options(yield_per=_PAIRS_AT_ONCE)):
            if (
                row.prompt_hash not in hashes
                or not row.thought
                or not (row.strict_format or row.checkpoint.startswith(PREFIX))
            ):
                continue
            for source in sources:
                rank = (row.checkpoint == PREFIX + source, row.checkpoint.startswith(PREFIX), row.id)
                key = (row.video_id, row.prompt_hash, source)
                if key not in ranked or ranked[key][0] < rank:
                    ranked[key] = (rank, row.thought)
        return {key: thought for key, (_, thought) in ranked.items()}


def selected_videos(session: Session, pairs: StoredPairs) -> list[tuple[str, str]]:
    """sha256 and stored file of every video of the chosen pairs, each once."""
    files: dict[str, str] = {}
    for chunk in chunks(pairs.ids):
        for row in session.execute(_pairs().where(PairRow.id.in_(chunk))):
            files |= {row.sha256_a: row.file_a, row.sha256_b: row.file_b}
    return sorted(files.items())


def clip_name(sha256: str, file: str) -> str:
    """How an exported table names a video: by its content, so that nothing in it tells the generator."""
    return f"{VIDEOS}/{sha256[:DIGITS]}{PurePosixPath(file).suffix}"


def _labelled_in(campaigns: ColumnElement[bool]) -> ColumnElement[bool]:
    campaign_pairs = select(CampaignPairRow.pair_id).join(CampaignRow, CampaignRow.id == CampaignPairRow.campaign_id)
    return PairRow.id.in_(campaign_pairs.where(campaigns))


def _of_source(source: str) -> ColumnElement[bool]:
    name = PREFIX + source
    named = or_(CampaignRow.name == name, CampaignRow.name.startswith(name + BETWEEN, autoescape=True))
    return (CampaignRow.origin == "import") & named


def _pairs() -> Any:
    sides = []
    for side, video in (("a", _A), ("b", _B)):
        columns = {"id": video.id, "sha256": video.sha256, "file": video.file, "fps": video.fps, "duration": video.duration}
        sides += [column.label(f"{name}_{side}") for name, column in columns.items()]
    return select(PairRow.__table__, *sides).join(_A, _A.id == PairRow.video_a_id).join(_B, _B.id == PairRow.video_b_id)


def _labels() -> Any:
    assignment = (
        AssignmentRow.kind,
        AssignmentRow.round,
        UserRow.name.label("annotator"),
        CampaignRow.name.label("campaign"),
        CampaignRow.origin,
        CampaignRow.holds_votes,
        CampaignPairRow.gold,
        CampaignPairRow.state.label("pair_state"),
    )
    return (
        select(LabelRow.__table__, *assignment)
        .join(AssignmentRow, AssignmentRow.id == LabelRow.assignment_id)
        .join(UserRow, UserRow.id == LabelRow.annotator_id)
        .join(CampaignRow, CampaignRow.id == LabelRow.campaign_id)
        .join(CampaignPairRow, CampaignPairRow.id == LabelRow.campaign_pair_id)
    )


def _parsed_pair(
    row: Any, assignments: Sequence[ParsedAssignment], thoughts: Mapping[tuple[int, str, str], str]
) -> ParsedPair:
    return ParsedPair(
        line=None,
        a=_clip(row.sha256_a, row.file_a, row.fps_a, row.duration_a),
        b=_clip(row.sha256_b, row.file_b, row.fps_b, row.duration_b),
        prompt=row.prompt,
        generator_a=row.generator_a,
        generator_b=row.generator_b,
        extra_columns=row.facts,
        assignments=tuple(assignments),
        thought_a=thoughts.get((row.id_a, row.prompt_hash, row.source), ""),
        thought_b=thoughts.get((row.id_b, row.prompt_hash, row.source), ""),
    )


def _clip(sha256: str, file: str, fps: float, duration: float) -> Clip:
    return Clip(clip_name(sha256, file), None, sha256, fps, round(fps * duration))


def _parsed_label(row: Row[Any]) -> ParsedLabel:
    created_at: datetime = row.created_at
    return ParsedLabel(
        choice=row.choice,
        action=row.action,
        strength=row.strength,
        sub_scores=row.sub_scores,
        marks=tuple(row.marks),
        note=row.note,
        reason=row.reason,
        left_video=row.left_video,
        visible=tuple(row.visible),
        guideline_version=row.guideline_version,
        seconds=row.seconds,
        playback=row.playback,
        created_at=created_at,
        token=row.token,
    )


def _campaign_name(name: str, origin: str, holds_votes: bool) -> str | None:
    """Return the campaign as a file names it: None for an import's own campaign; the source is not part of the name."""
    if origin != "import" or holds_votes:
        return name
    _, between, rest = name.partition(BETWEEN)
    return rest if between else None


def _counted(assignments: Sequence[ParsedAssignment]) -> list[ParsedAssignment]:
    """Keep the assignments that a consensus counts or that overrule it, the last one of each person."""
    last: dict[tuple[str | None, bool], ParsedAssignment] = {}
    for assignment in sorted(assignments, key=lambda candidate: candidate.labels[-1].created_at):  # type: ignore[arg-type,return-value]
        decides = assignment.kind == "adjudication"
        if assignment.labels[-1].action == "label" and (assignment.kind in COUNTED or decides):
            last[assignment.annotator, decides] = assignment
    people = {annotator: assignment for (annotator, _), assignment in sorted(last.items(), key=lambda item: item[0][1])}
    return list(people.values())


def _sort_key(assignment: ParsedAssignment) -> tuple[str, str, int]:
    return assignment.campaign or "", assignment.annotator or "", assignment.round


def _common_assignment(consensus: Consensus) -> ParsedAssignment:
    strength = None
    if consensus.strength is not None and consensus.choice in ("A", "B"):
        strength = "clearly" if abs(consensus.strength) >= 1.5 else "slightly"
    label = ParsedLabel(choice=consensus.choice, strength=strength, sub_scores=consensus.sub_scores)  # type: ignore[arg-type]
    return ParsedAssignment((label,))
