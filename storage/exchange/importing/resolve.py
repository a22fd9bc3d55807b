"""A parsed file on its way into the store: pairs known by their content, one assignment for each person, everything checked.

    hashes = {path: sha256_of(path) for path in paths}       # of the videos
    resolved = ResolvedImport(parsed, source="winter models", format="videoalign", sha256=sha256, hashes=hashes)
    batch = gather(resolved, is_stored=lambda pair: False)   # as for an empty store
    batch.pairs, batch.assignments, batch.problems

What happens here needs no more of the store than which pairs it has; `storage.exchange.importing.dry_run` looks further.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from descore.prompt import prompt_problem, text_problem
from storage.accounts.users import clean_name, name_key
from storage.errors import StorageError
from storage.exchange.parsed import (
    Clip,
    ExchangeError,
    ParsedAssignment,
    ParsedFile,
    ParsedLabel,
    ParsedPair,
    Problem,
    flipped,
)
from storage.schema import JudgementRow, LabelRow, PairRow, text_hash
from storage.text_limits import text_limit

LONGEST_SOURCE = 60
LONGEST_GENERATOR = 200
_LONGEST_CAMPAIGN = 200
_NOTE, _TOKEN = text_limit(LabelRow.note), text_limit(LabelRow.token)
_THOUGHT, _EXTRA_COLUMNS = text_limit(JudgementRow.thought), text_limit(PairRow.facts)
_ROUND_OF = {"repeat": 1, "adjudication": 2}
PREFIX = "imported: "
BETWEEN = " / "

# sha256 of A, of B, and of the prompt
PairKey = tuple[str, str, str]
# campaign, pair, name key of the annotator, round
AssignmentKey = tuple[str, PairKey, str, int]


@dataclass(frozen=True)
class ResolvedImport:
    """A parsed file with what its videos hold.

    Attributes:
        sha256: of the file itself.
        hashes: sha256 of each video file.
    """

    parsed: ParsedFile
    source: str
    format: str
    sha256: str
    hashes: Mapping[Path, str]

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", clean_source(self.source))

    def content(self, clip: Clip) -> str | None:
        """sha256 of a clip; None where neither its file nor the table tells."""
        sha256 = self.hashes.get(clip.path) if clip.path else None
        return sha256 or clip.sha256

    @property
    def nobody(self) -> str:
        """The name of the annotator of labels that name nobody."""
        return PREFIX + self.source

    def campaign(self, name: str | None) -> str:
        """Return the name of the campaign that labels of the campaign `name` go into."""
        if name is None:
            return PREFIX + self.source
        full = PREFIX + self.source + BETWEEN + " ".join(name.split())
        if len(full) <= _LONGEST_CAMPAIGN:
            return full
        return full[: _LONGEST_CAMPAIGN - 9] + "-" + hashlib.sha256(full.encode()).hexdigest()[:8]


@dataclass(frozen=True)
class KeyedAssignment:
    """An assignment with the marks of its labels, which are the file's own, or made from what the labels say."""

    key: AssignmentKey
    name: str
    parsed: ParsedAssignment
    tokens: tuple[str, ...]


@dataclass
class Batch:
    """All that a file brings, each pair and each assignment once."""

    pairs: dict[PairKey, ParsedPair] = field(default_factory=dict)
    assignments: dict[AssignmentKey, KeyedAssignment] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)


def clean_source(source: str) -> str:
    """Normalise the name of a source.

    Raises:
        ExchangeError: empty, too long, or with characters that nobody sees.
    """
    try:
        source = clean_name(source)
    except StorageError as error:
        raise ExchangeError(f"the source of an import: {error}") from None
    if len(source) > LONGEST_SOURCE or BETWEEN in source:
        raise ExchangeError(f"the source of an import has at most {LONGEST_SOURCE} characters, and no {BETWEEN!r} in it")
    return source


def gather(resolved: ResolvedImport, is_stored: Callable[[PairKey], bool]) -> Batch:
    """Put the rows of a file together by what their videos hold.

    Args:
        is_stored: whether the store has that pair; a pair without an order of its own then takes the stored one.
    """
    batch = Batch(problems=list(resolved.parsed.problems), notes=list(resolved.parsed.notes))
    tokens: dict[tuple[str, str], int | None] = {}
    for pair in resolved.parsed.pairs:
        a, b = resolved.content(pair.a), resolved.content(pair.b)
        prompt = pair.prompt.strip()
        wrong = _unstorable(pair)
        if wrong:
            batch.problems.append(Problem(resolved.parsed.file, pair.line, wrong))
        if a is None or b is None or not prompt or wrong:
            continue  # each of these is a problem already
        key = (a, b, text_hash(prompt))
        if not pair.ordered and _exchanged(key, is_stored):
            pair, key = flipped(pair), (b, a, key[2])
        if key not in batch.pairs and a == b:
            batch.notes.append(Problem(resolved.parsed.file, pair.line, "A and B are the same video"))
        _check_pair(resolved, batch, key, replace(pair, prompt=prompt))
        for assignment in pair.assignments:
            _add_assignment(resolved, batch, key, assignment, tokens)
    _check_repeats(resolved, batch)
    return batch


def _exchanged(key: PairKey, is_stored: Callable[[PairKey], bool]) -> bool:
    """Whether a pair without an order is to be exchanged: to how it is stored, else to the order of the hashes."""
    other = (key[1], key[0], key[2])
    if is_stored(key) or is_stored(other):
        return not is_stored(key)
    return key > other


def _check_pair(resolved: ResolvedImport, batch: Batch, key: PairKey, pair: ParsedPair) -> None:
    first = batch.pairs.setdefault(key, pair)
    if first is pair:
        return
    for name in ("generator_a", "generator_b", "extra_columns", "thought_a", "thought_b"):
        if getattr(first, name) != getattr(pair, name):
            message = f"{name} of this pair differs from line {first.line}, which counts"
            batch.notes.append(Problem(resolved.parsed.file, pair.line, message))


def _add_assignment(
    resolved: ResolvedImport,
    batch: Batch,
    pair: PairKey,
    parsed: ParsedAssignment,
    tokens: dict[tuple[str, str], int | None],
) -> None:
    file, line = resolved.parsed.file, parsed.line
    try:
        name = resolved.nobody if parsed.annotator is None else clean_name(parsed.annotator)
    except StorageError as error:
        batch.problems.append(Problem(file, line, f"annotator: {error}"))
        return
    wrong = _wrong_assignment(parsed)
    if wrong:
        batch.problems.append(Problem(file, line, wrong))
        return
    key = (resolved.campaign(parsed.campaign), pair, name_key(name), parsed.round)
    assignment = KeyedAssignment(
        key, name, parsed, tuple(_token(key, index, label) for index, label in enumerate(parsed.labels))
    )
    first = batch.assignments.setdefault(key, assignment)
    if first is assignment:
        for token in assignment.tokens:
            if tokens.setdefault((key[2], token), line) != line:
                batch.problems.append(Problem(file, line, f"token {token} of {name} is used twice"))
    elif first.tokens == assignment.tokens:
        batch.notes.append(Problem(file, line, f"repeats line {first.parsed.line} and was left out"))
    else:
        message = f"another label of the same pair by the same annotator ({name}) than in line {first.parsed.line}"
        batch.problems.append(Problem(file, line, message))


def _wrong_assignment(assignment: ParsedAssignment) -> str | None:
    expected_round = _ROUND_OF.get(assignment.kind, 0)
    if assignment.round != expected_round:
        return f"a label of the kind {assignment.kind} stands in round {expected_round}, not {assignment.round}"
    if len({label.left_video for label in assignment.labels}) > 1:
        return "left_video differs between the revisions of one label"
    if assignment.kind in ("gold", "qualification") and assignment.gold is None:
        return f"a label of the kind {assignment.kind} needs the known answer in gold"
    texts: list[tuple[str, str, int | None]] = [("campaign", assignment.campaign or "", _LONGEST_CAMPAIGN)]
    for label in assignment.labels:
        texts += [("note", label.note, _NOTE), ("reason", label.reason, _NOTE), ("token", label.token or "", _TOKEN)]
    return _first_problem(texts)


def _first_problem(texts: Iterable[tuple[str, str, int | None]]) -> str | None:
    """Say which of some named texts, each with its limit, can't be kept."""
    for name, text, limit in texts:
        problem = text_problem(text, limit)
        if problem is not None:
            return f"{name} {problem}"
    return None


def _check_repeats(resolved: ResolvedImport, batch: Batch) -> None:
    for campaign, pair, name, round_ in list(batch.assignments):
        if round_ == 1 and (campaign, pair, name, 0) not in batch.assignments:
            assignment = batch.assignments[campaign, pair, name, round_]
            message = f"a planned repeat by {assignment.name} without their first label of the pair"
            batch.problems.append(Problem(resolved.parsed.file, assignment.parsed.line, message))


def _token(key: AssignmentKey, index: int, label: ParsedLabel) -> str:
    """Return the label's own token, else one made from its position and content, so that it is known again."""
    if label.token is not None:
        return label.token
    content: list[Any] = [
        label.action,
        label.choice,
        label.strength,
        label.sub_scores,
        label.marks,
        label.note,
        label.reason,
    ]
    text = json.dumps([key, index, content], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _unstorable(pair: ParsedPair) -> str | None:
    """Why the store can't hold the texts of a pair."""
    problem = prompt_problem(pair.prompt) if pair.prompt else None  # a missing one is a problem of the reader already
    if problem is not None:
        return f"prompt {problem}"
    problem = _first_problem(
        (
            ("generator_a", pair.generator_a or "", LONGEST_GENERATOR),
            ("generator_b", pair.generator_b or "", LONGEST_GENERATOR),
            ("thought_a", pair.thought_a, _THOUGHT),
            ("thought_b", pair.thought_b, _THOUGHT),
        )
    )
    if problem is not None:
        return problem
    try:
        columns = json.dumps(dict(pair.extra_columns), allow_nan=False)
    except (TypeError, ValueError) as error:
        return f"a further value of the pair can't be stored: {error}"
    return _first_problem([("all further columns together", columns, _EXTRA_COLUMNS)])
