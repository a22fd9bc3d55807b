"""Votes of the Judge page become labels of a campaign of their own, which does not count until a lead says so."""

from __future__ import annotations

import hashlib
import secrets
from collections import Counter, defaultdict
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_NAME = "votes on the Judge page"
_VISITORS = "visitors of the Judge page"
_VISIBLE = ["thoughts", "rewards"]  # before this version, the model's answer could stand there
_SPACING = 1 << 20
_CHOICES = ("A", "B", "tie", "both_bad")


def upgrade() -> None:
    """Add what a vote's page showed, and which campaigns count; take over the votes that are there."""
    op.add_column("campaigns", sa.Column("holds_votes", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("campaigns", sa.Column("counted", sa.Boolean(), nullable=False, server_default=sa.true()))
    op.add_column("votes", sa.Column("shown", sa.JSON(), nullable=True))
    bind = op.get_bind()
    names = ("users", "campaigns", "campaign_pairs", "assignments", "labels", "agreement_patterns", "votes")
    metadata = sa.MetaData()
    votes = bind.execute(sa.select(_table(metadata, "votes", bind)).order_by(sa.text("id"))).all()
    if votes:
        _TakeOver(bind, {name: _table(metadata, name, bind) for name in names}).run(votes)


def _table(metadata: sa.MetaData, name: str, bind: sa.Connection) -> sa.Table:
    return sa.Table(name, metadata, autoload_with=bind)


class _TakeOver:
    """Writes the votes as labels, oldest first; see `storage.labelling.vote_labels` for the same with each new vote."""

    def __init__(self, bind: sa.Connection, tables: dict[str, sa.Table]) -> None:
        self._bind, self._tables = bind, tables
        self._visitors: dict[str, int] = {}
        self._pairs: dict[int, int] = {}
        self._assignments: dict[tuple[int, int, str], int] = {}
        self._last: dict[int, int] = {}  # assignment -> its last label
        self._choices: dict[int, tuple[int, str]] = {}  # assignment -> its campaign pair and its choice, if it has one
        self._campaign = 0

    def run(self, votes: Any) -> None:
        """Write campaign, assignments, labels and totals."""
        self._campaign = self._make_campaign(votes[0].created_at)
        by_id = {vote.id: vote for vote in votes}
        for vote in votes:
            assignment = self._assignment(vote)
            former = by_id.get(vote.replaces_id)
            if former is not None:
                self._take_back(former, assignment, vote)
            label = {"action": "label", "choice": vote.choice, "note": vote.note, "visible": _VISIBLE, "token": vote.token}
            self._label(assignment, vote, label)
            finished = {} if assignment in self._choices else {"finished_at": vote.created_at}
            self._choices[assignment] = (self._pairs[vote.pair_id], vote.choice)
            self._update(assignment, state="labelled", seconds=0.0, **finished)
        self._write_totals()

    def _insert(self, table: str, **values: Any) -> int:
        statement = self._tables[table].insert().values(**values).returning(self._tables[table].c.id)
        return int(self._bind.execute(statement).scalar_one())

    def _update(self, assignment: int, **values: Any) -> None:
        table = self._tables["assignments"]
        self._bind.execute(table.update().where(table.c.id == assignment).values(**values))

    def _make_campaign(self, moment: Any) -> int:
        names = self._tables["campaigns"].c.name
        taken = set(self._bind.execute(sa.select(names).where(names.startswith(_NAME))).scalars())
        name = next(name for number in range(1, len(taken) + 2) if (name := _numbered(number)) not in taken)
        return self._insert(
            "campaigns",
            name=name,
            status="closed",
            origin="import",
            dimensions=[],
            overlap=1,
            gold_share=0.0,
            repeat_share=0.0,
            ordering="random",
            visible=_VISIBLE,
            lease_seconds=1800,
            qualification_pairs=0,
            qualification_pass=0.0,
            seed=secrets.token_hex(16),
            order_version=1,
            created_at=moment,
            holds_votes=True,
            counted=False,
        )

    def _annotator(self, vote: Any) -> int:
        if vote.user_id is not None:
            return int(vote.user_id)
        if vote.voter not in self._visitors:
            subject = hashlib.sha256(f"visitor {vote.voter}".encode()).hexdigest()
            keys = self._tables["users"].c.name_key
            names = [f"visitor {subject[:digits]}" for digits in range(10, len(subject) + 1)]
            taken = set(self._bind.execute(sa.select(keys).where(keys.in_(names))).scalars())
            name = next(name for name in names if name not in taken)
            self._visitors[vote.voter] = self._insert(
                "users",
                name=name,
                name_key=name,
                role="annotator",
                active=True,
                created_at=vote.created_at,
                issuer=_VISITORS,
                subject=subject,
            )
        return self._visitors[vote.voter]

    def _assignment(self, vote: Any) -> int:
        if vote.pair_id not in self._pairs:
            position = _SPACING * (len(self._pairs) + 1)
            values = {"campaign_id": self._campaign, "pair_id": vote.pair_id, "position": position, "state": "open"}
            self._pairs[vote.pair_id] = self._insert(
                "campaign_pairs", **values, is_gold=False, open_slots=1, labelled=0, disputed=False
            )
        annotator = self._annotator(vote)
        key = (vote.pair_id, annotator, vote.left_video)
        if key not in self._assignments:
            self._assignments[key] = self._insert(
                "assignments",
                token=secrets.token_urlsafe(16),
                campaign_id=self._campaign,
                campaign_pair_id=self._pairs[vote.pair_id],
                pair_id=vote.pair_id,
                annotator_id=annotator,
                kind="import",
                round=0 if vote.left_video == "A" else 1,
                left_video=vote.left_video,
                state="returned",
                guideline_version=0,
                leased_at=vote.created_at,
                expires_at=vote.created_at,
            )
        return self._assignments[key]

    def _take_back(self, former: Any, assignment: int, vote: Any) -> None:
        """Take the label of a replaced vote back, unless the vote is its next revision."""
        theirs = self._assignments[former.pair_id, self._annotator(former), former.left_video]
        if theirs == assignment or theirs not in self._choices:
            return
        token = hashlib.sha256(f"taken back by {vote.token}".encode()).hexdigest()
        self._label(theirs, former, {"action": "withdraw", "note": "", "visible": _VISIBLE, "token": token}, vote.created_at)
        del self._choices[theirs]
        self._update(theirs, state="returned", seconds=None)

    def _label(self, assignment: int, vote: Any, label: dict[str, Any], moment: Any = None) -> None:
        self._last[assignment] = self._insert(
            "labels",
            **label,
            assignment_id=assignment,
            campaign_id=self._campaign,
            campaign_pair_id=self._pairs[vote.pair_id],
            pair_id=vote.pair_id,
            annotator_id=self._annotator(vote),
            sub_scores={},
            marks=[],
            reason="",
            left_video=vote.left_video,
            guideline_version=0,
            seconds=0.0,
            playback={},
            replaces_id=self._last.get(assignment),
            created_at=moment or vote.created_at,
        )

    def _write_totals(self) -> None:
        by_pair: dict[int, list[str]] = defaultdict(list)
        for campaign_pair, choice in self._choices.values():
            by_pair[campaign_pair].append(choice)
        pairs, patterns = self._tables["campaign_pairs"], Counter[str]()
        for campaign_pair, choices in by_pair.items():
            choice, votes = Counter(choices).most_common(1)[0]
            consensus = choice if 2 * votes > len(choices) else None
            totals = {"open_slots": 0, "labelled": len(choices), "consensus": consensus, "disputed": consensus is None}
            self._bind.execute(pairs.update().where(pairs.c.id == campaign_pair).values(**totals))
            if len(choices) > 1:
                patterns[",".join(str(choices.count(known)) for known in _CHOICES)] += 1
        kept = self._tables["agreement_patterns"].insert()
        for pattern, number in patterns.items():
            self._bind.execute(kept.values(campaign_id=self._campaign, item="overall", pattern=pattern, pairs=number))


def _numbered(number: int) -> str:
    return _NAME if number == 1 else f"{_NAME} {number}"
