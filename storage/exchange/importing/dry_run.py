"""The dry run of an import: what a file would change in the store. The import then writes just this.

    changes = compare(session, resolved)
    changes.new_pairs, changes.assignments, changes.problems

What the store has stays as it is: a label that differs from the stored one is noted and not imported.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from storage.accounts.users import name_key
from storage.exchange.importing.resolve import PREFIX, AssignmentKey, Batch, KeyedAssignment, PairKey, ResolvedImport, gather
from storage.exchange.parsed import ParsedPair, Problem
from storage.schema import AssignmentRow, CampaignRow, JudgementRow, LabelRow, PairRow, UserRow, VideoRow

Item = TypeVar("Item")
_CHUNK = 500
_A, _B = aliased(VideoRow), aliased(VideoRow)


@dataclass(frozen=True)
class StoredPair:
    """What the store says of a pair of the file."""

    id: int
    generator_a: str | None
    generator_b: str | None
    extra_columns: dict[str, Any]


@dataclass(frozen=True)
class NewAssignment:
    """The labels to add of one assignment."""

    assignment: KeyedAssignment
    # Number of the first label that is new.
    first: int = 0
    # The stored assignment and its last revision, where the labels go on from one.
    assignment_id: int | None = None
    replaces_id: int | None = None


@dataclass(frozen=True)
class Thought:
    """A chain of thought of one video on one prompt."""

    sha256: str
    prompt: str
    text: str


@dataclass
class Changes:
    """What comes in, and what is there already.

    Attributes:
        better_known: stored pairs that get a generator or further values they lacked.
    """

    new_videos: list[str] = field(default_factory=list)
    videos_known: int = 0
    new_pairs: dict[PairKey, ParsedPair] = field(default_factory=dict)
    pairs_known: int = 0
    better_known: dict[int, dict[str, Any]] = field(default_factory=dict)
    assignments: list[NewAssignment] = field(default_factory=list)
    labels_known: int = 0
    thoughts: list[Thought] = field(default_factory=list)
    annotators: tuple[str, ...] = ()
    problems: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)

    @property
    def labels_new(self) -> int:
        """How many revisions come in."""
        return sum(len(new.assignment.tokens) - new.first for new in self.assignments)


@dataclass(frozen=True)
class _Chain:
    """A stored assignment: its revisions' marks, and the last one's id."""

    assignment_id: int
    left_video: str
    tokens: list[str]
    last_id: int


def compare(session: Session, resolved: ResolvedImport) -> Changes:
    """Which of the file's pairs, labels, thoughts and videos the store does not have."""
    clips = (clip for pair in resolved.parsed.pairs for clip in (pair.a, pair.b))
    stored = stored_pairs(session, {resolved.content(clip) or "" for clip in clips})
    batch = gather(resolved, stored.__contains__)
    changes = Changes(problems=batch.problems, notes=batch.notes)
    changes.annotators = tuple(sorted({assignment.name for assignment in batch.assignments.values()}))
    _videos(session, batch, changes)
    for key, pair in batch.pairs.items():
        if key in stored:
            changes.pairs_known += 1
            _compare_pair(resolved, changes, pair, stored[key])
        else:
            changes.new_pairs[key] = pair
    _thoughts(session, resolved, batch, changes)
    _assignments(session, resolved, batch, stored, changes)
    return changes


def fingerprint(source: str) -> str:
    """Return the key that stands for a checkpoint's fingerprint at thoughts from a source."""
    return "imported:" + hashlib.sha256(source.encode()).hexdigest()


def chunks(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Split items into lists that a database takes as parameters of one statement."""
    rest = list(items)
    for start in range(0, len(rest), _CHUNK):
        yield rest[start : start + _CHUNK]


def video_ids(session: Session, hashes: Iterable[str]) -> dict[str, int]:
    """sha256 -> id of the videos that are stored."""
    ids: dict[str, int] = {}
    for chunk in chunks(hashes):
        ids.update(session.execute(select(VideoRow.sha256, VideoRow.id).where(VideoRow.sha256.in_(chunk))).tuples().all())
    return ids


def video_by_prefix(session: Session, prefix: str) -> str | None:
    """Find the sha256 of the one stored video whose hash begins so, as exported files are named."""
    # 'g' comes behind all hexadecimal digits.
    rows = select(VideoRow.sha256).where(VideoRow.sha256 >= prefix, VideoRow.sha256 < prefix + "g")
    hashes = session.scalars(rows.limit(2)).all()
    return hashes[0] if len(hashes) == 1 else None


def stored_pairs(session: Session, hashes: Iterable[str]) -> dict[PairKey, StoredPair]:
    """Load the stored pairs whose first video is one of these."""
    by_key: dict[PairKey, StoredPair] = {}
    columns = (PairRow.id, PairRow.generator_a, PairRow.generator_b, PairRow.facts, PairRow.prompt_hash)
    statement = (
        select(*columns, _A.sha256.label("a"), _B.sha256.label("b"))
        .join(_A, _A.id == PairRow.video_a_id)
        .join(_B, _B.id == PairRow.video_b_id)
    )
    for chunk in chunks(hashes):
        for row in session.execute(statement.where(_A.sha256.in_(chunk))):
            key = (row.a, row.b, row.prompt_hash)
            by_key[key] = StoredPair(row.id, row.generator_a, row.generator_b, row.facts)
    return by_key


def _videos(session: Session, batch: Batch, changes: Changes) -> None:
    hashes = list(dict.fromkeys(sha256 for key in batch.pairs for sha256 in key[:2]))
    ids = video_ids(session, hashes)
    changes.new_videos = [sha256 for sha256 in hashes if sha256 not in ids]
    changes.videos_known = len(ids)


def _compare_pair(resolved: ResolvedImport, changes: Changes, pair: ParsedPair, stored: StoredPair) -> None:
    missing: dict[str, Any] = {}
    for name in ("generator_a", "generator_b"):
        here, there = getattr(pair, name), getattr(stored, name)
        if here is not None and there is None:
            missing[name] = here
        elif here is not None and here != there:
            message = f"{name} is {here!r}, the store has {there!r}, which stays"
            changes.notes.append(Problem(resolved.parsed.file, pair.line, message))
    new = {name: value for name, value in pair.extra_columns.items() if name not in stored.extra_columns}
    other = sorted(name for name, value in pair.extra_columns.items() if stored.extra_columns.get(name, value) != value)
    if new:
        missing["facts"] = {**stored.extra_columns, **new}
    if other:
        message = f"the store has other values of {', '.join(other)} for this pair, which stay"
        changes.notes.append(Problem(resolved.parsed.file, pair.line, message))
    if missing:
        changes.better_known[stored.id] = missing


def _thoughts(session: Session, resolved: ResolvedImport, batch: Batch, changes: Changes) -> None:
    """One thought for each video and prompt: the store keeps thoughts of videos, not of pairs."""
    thoughts: dict[tuple[str, str], Thought] = {}
    for key, pair in batch.pairs.items():
        for sha256, text in ((key[0], pair.thought_a), (key[1], pair.thought_b)):
            if not text:
                continue
            first = thoughts.setdefault((sha256, key[2]), Thought(sha256, pair.prompt, text))
            if first.text != text:
                message = "another thought about the same video and prompt than before, which counts"
                changes.notes.append(Problem(resolved.parsed.file, pair.line, message))
    stored: dict[tuple[str, str], str] = {}
    columns = (VideoRow.sha256, JudgementRow.prompt_hash, JudgementRow.thought)
    from_source = JudgementRow.fingerprint == fingerprint(resolved.source)
    for chunk in chunks({sha256 for sha256, _ in thoughts}):
        rows = select(*columns).join(VideoRow, VideoRow.id == JudgementRow.video_id)
        for row in session.execute(rows.where(from_source, VideoRow.sha256.in_(chunk))):
            stored[row.sha256, row.prompt_hash] = row.thought
    changes.thoughts = [thought for key, thought in thoughts.items() if key not in stored]
    changed = sum(stored.get(key, thought.text) != thought.text for key, thought in thoughts.items())
    if changed:
        message = f"{changed} thoughts differ from those that came from this source before, which stay"
        changes.notes.append(Problem(resolved.parsed.file, None, message))


def _assignments(
    session: Session, resolved: ResolvedImport, batch: Batch, stored: dict[PairKey, StoredPair], changes: Changes
) -> None:
    campaigns = _campaigns(session, resolved, batch, changes)
    people = _people(session, (assignment.name for assignment in batch.assignments.values()))
    elsewhere = _known_tokens(session, batch, people)
    chains = {key: chain for campaign_id in campaigns.values() for key, chain in _chains(session, campaign_id)}
    already = 0
    for assignment in batch.assignments.values():
        campaign, pair, name, round_ = assignment.key
        stored_pair, person = stored.get(pair), people.get(name)
        chain = None
        if stored_pair is not None and person is not None and campaign in campaigns:
            chain = chains.get((campaigns[campaign], stored_pair.id, person, round_))
        if chain is not None:
            _follow(resolved, changes, assignment, chain)
        elif assignment.key in elsewhere:
            already += len(assignment.tokens)
        else:
            changes.assignments.append(NewAssignment(assignment))
    changes.labels_known += already
    if already:
        message = f"{already} labels are in the store already, in other campaigns: they keep their place there"
        changes.notes.append(Problem(resolved.parsed.file, None, message))


def _follow(resolved: ResolvedImport, changes: Changes, assignment: KeyedAssignment, chain: _Chain) -> None:
    """Add the labels of a stored assignment that go on behind its stored revisions, and none that contradict them."""
    here, there = list(assignment.tokens), chain.tokens
    changes.labels_known += min(len(here), len(there))
    if here == there[: len(here)]:
        return
    if there == here[: len(there)] and assignment.parsed.labels[0].left_video == chain.left_video:
        changes.assignments.append(NewAssignment(assignment, len(there), chain.assignment_id, chain.last_id))
        return
    message = f"the store has another label of this pair by {assignment.name} from this source, which stays"
    changes.notes.append(Problem(resolved.parsed.file, assignment.parsed.line, message))


def _campaigns(session: Session, resolved: ResolvedImport, batch: Batch, changes: Changes) -> dict[str, int]:
    ids: dict[str, int] = {}
    for name in sorted({key[0] for key in batch.assignments}):
        row = session.execute(select(CampaignRow.id, CampaignRow.origin).where(CampaignRow.name == name)).one_or_none()
        if row is not None and row.origin != "import":
            message = f"a campaign of people is named {name!r}; choose another name for the source"
            changes.problems.append(Problem(resolved.parsed.file, None, message))
        elif row is not None:
            ids[name] = row.id
    return ids


def _people(session: Session, names: Iterable[str]) -> dict[str, int]:
    ids: dict[str, int] = {}
    for chunk in chunks({name_key(name) for name in names}):
        ids.update(session.execute(select(UserRow.name_key, UserRow.id).where(UserRow.name_key.in_(chunk))).tuples().all())
    return ids


def _known_tokens(session: Session, batch: Batch, people: Mapping[str, int]) -> set[AssignmentKey]:
    """Find the assignments whose own tokens the same person has in the store already, in any campaign."""
    nobodies = unnamed_annotators(session)
    by_person: dict[int, dict[str, AssignmentKey]] = {}
    for assignment in batch.assignments.values():
        if assignment.parsed.labels[0].token is not None:
            person = people.get(assignment.key[2])
            for person_id in nobodies if assignment.parsed.annotator is None else (person,):
                if person_id is not None:
                    by_person.setdefault(person_id, {}).update(dict.fromkeys(assignment.tokens, assignment.key))
    keys: set[AssignmentKey] = set()
    for annotator_id, tokens in by_person.items():
        for chunk in chunks(tokens):
            theirs = (LabelRow.annotator_id == annotator_id, LabelRow.token.in_(chunk))
            keys.update(tokens[token] for token in session.scalars(select(LabelRow.token).where(*theirs)))
    return keys


def unnamed_annotators(session: Session) -> dict[int, str]:
    """Id -> name of those who stand for imports that name nobody."""
    rows = session.execute(select(UserRow.id, UserRow.name).where(UserRow.password_hash.is_(None))).tuples()
    return {user_id: name for user_id, name in rows if name.startswith(PREFIX)}


def _chains(session: Session, campaign_id: int) -> Iterator[tuple[tuple[int, int, int, int], _Chain]]:
    columns = (
        LabelRow.id,
        LabelRow.token,
        AssignmentRow.id.label("assignment_id"),
        AssignmentRow.pair_id,
        AssignmentRow.annotator_id,
        AssignmentRow.round,
        AssignmentRow.left_video,
    )
    rows = select(*columns).join(AssignmentRow, AssignmentRow.id == LabelRow.assignment_id)
    tokens: dict[int, list[Any]] = {}
    for row in session.execute(rows.where(LabelRow.campaign_id == campaign_id).order_by(LabelRow.id)):
        tokens.setdefault(row.assignment_id, []).append(row)
    for revisions in tokens.values():
        first = revisions[0]
        key = (campaign_id, first.pair_id, first.annotator_id, first.round)
        marks = [row.token for row in revisions]
        yield key, _Chain(first.assignment_id, first.left_video, marks, revisions[-1].id)
