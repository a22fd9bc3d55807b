"""A large store for measurements: pairs, people and labels as a campaign of months would leave them.

    filled = fill(database, pairs=500, labels=5_000, people=50)      # 100,000 pairs are a large store

Rows go in by the thousand past the functions of the store, which would take hours; the running totals are then computed
from them by `storage.labelling.totals.rebuild`, and `python -m storage check` finds nothing wrong.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, select, text

from descore.answer import DIMENSIONS
from storage.accounts.users import User, add_user
from storage.campaigns.campaign import CampaignConfig, Gold, create_campaign
from storage.campaigns.guidelines import DEFAULT_GUIDELINES
from storage.labelling import totals
from storage.schema import Base, CampaignPairRow

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from storage import Database

BEGIN = datetime(2026, 1, 1, tzinfo=timezone.utc)
ANSWERS = 500
SPARE_OVERLAP = 2
REPEAT_EVERY = 20
GOLD_PAIRS = 100
# How far along the queue people are, as a share of where most are: a few have just begun, one is far ahead.
REACHES = (0.02, 0.1, 0.3, 0.6, 1.2)


@dataclass(frozen=True)
class Filled:
    """What was made. people: in the order of `REACHES`, then all others, who are about equally far."""

    campaign_id: int
    people: tuple[User, ...]
    labels: int


@dataclass(frozen=True)
class _CampaignPair:
    id: int
    pair_id: int
    position: int


def fill(database: Database, pairs: int, labels: int, people: int = 50, seed: int = 0) -> Filled:
    """Fill an empty store. The last pairs of the queue are left without labels."""
    overlap = max(1, -(-labels // pairs)) + SPARE_OVERLAP
    if people < overlap + len(REACHES):
        raise ValueError(f"{labels} labels on {pairs} pairs need at least {overlap + len(REACHES)} people")
    with database.write() as session:
        users = tuple(add_user(session, f"annotator {number:02}", "annotator") for number in range(people))
        pair_ids = _pairs(session, pairs)
        gold = {pair_id: Gold(choice="A") for pair_id in pair_ids[: min(GOLD_PAIRS, pairs // 10)]}
        settings = CampaignConfig(name="measured", overlap=overlap, ordering="disagreement")
        campaign = create_campaign(session, settings, pair_ids, DEFAULT_GUIDELINES, created_by=None, gold=gold)
        rows = select(CampaignPairRow.id, CampaignPairRow.pair_id, CampaignPairRow.position, CampaignPairRow.is_gold)
        places = session.execute(
            rows.where(CampaignPairRow.campaign_id == campaign.id).order_by(CampaignPairRow.position, CampaignPairRow.id)
        ).all()
        queue = [_CampaignPair(*row[:3]) for row in places if not row.is_gold]
        golds = [_CampaignPair(*row[:3]) for row in places if row.is_gold]
        assignments = list(itertools.islice(_assignments(queue, golds, users, overlap, labels), labels))
        _labels(session, campaign.id, assignments, random.Random(seed))
        _members(session, campaign.id, assignments)
    with database.write() as session:
        totals.rebuild(session, campaign.id)
    if database.engine.dialect.name == "postgresql":
        with database.write() as session:
            session.execute(text("ANALYZE"))
    return Filled(campaign.id, users, len(assignments))


def insert(session: Session, table: str, columns: str, rows: Iterable[tuple[Any, ...]]) -> None:
    """Insert many rows by the quickest way of the database, and let its own numbers go on after them.

    columns: their names, with blanks between.
    """
    connection = session.connection()
    cursor: Any = connection.connection.cursor()
    names = ", ".join(columns.split())
    if connection.dialect.name == "sqlite":
        places = ", ".join("?" * len(columns.split()))
        cursor.executemany(f"INSERT INTO {table} ({names}) VALUES ({places})", rows)
        return
    cursor.execute("SET LOCAL TIME ZONE 'UTC'")
    with cursor.copy(f"COPY {table} ({names}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)
    _continue_numbers(connection, table)


def _continue_numbers(connection: Connection, table: str) -> None:
    if "id" in Base.metadata.tables[table].columns:
        sequence = f"pg_get_serial_sequence('{table}', 'id')"
        connection.execute(text(f"SELECT setval({sequence}, (SELECT max(id) FROM {table}))"))


def _pairs(session: Session, count: int) -> list[int]:
    """Videos (each in twenty pairs) and pairs; returns the ids of the pairs."""
    videos = max(3, count // 10)
    names = "id public_id sha256 file original_name width height fps duration created_at"
    insert(session, "videos", names, (_video(number) for number in range(1, videos + 1)))
    names = "id video_a_id video_b_id prompt prompt_hash source created_at facts"
    insert(session, "pairs", names, (_pair(number, videos) for number in range(1, count + 1)))
    return list(range(1, count + 1))


def _video(number: int) -> tuple[Any, ...]:
    sha256 = hashlib.sha256(str(number).encode()).hexdigest()
    file = f"{sha256[:2]}/{sha256}.mp4"
    return (number, f"video-{number:016}", sha256, file, f"{number}.mp4", 512, 512, 24.0, 5.0, _moment(0))


def _pair(number: int, videos: int) -> tuple[Any, ...]:
    prompt = f"Scene {number}: a red cube turns on a table while the camera moves slowly around it."
    first = number % videos
    second = (first + 1 + number // videos % (videos - 1)) % videos
    prompt_hash = hashlib.sha256(prompt.encode()).hexdigest()
    return (number, first + 1, second + 1, prompt, prompt_hash, "measured", _moment(0), "{}")


@dataclass(frozen=True)
class _Assignment:
    campaign_pair: _CampaignPair
    user: User
    kind: str

    @property
    def round(self) -> int:
        return 1 if self.kind == "repeat" else 0


def _assignments(
    queue: list[_CampaignPair], golds: list[_CampaignPair], users: tuple[User, ...], overlap: int, labels: int
) -> Iterator[_Assignment]:
    """Who labelled what, in the order of time: along the queue, each pair by `overlap` of those who got that far."""
    per_pair = overlap * (1 + 1 / REPEAT_EVERY)
    middle = min(len(queue), int((labels - len(golds) * len(users)) / per_pair))
    others = [0.97 + 0.06 * number / len(users) for number in range(len(users) - len(REACHES))]
    reach = [share * middle for share in (*REACHES, *others)]
    for gold in golds:
        yield from (_Assignment(gold, user, "gold") for user in users)
    done = 0
    for rank, campaign_pair in enumerate(queue):
        there = [user for user, limit in zip(users, reach, strict=True) if rank < limit]
        chosen = [there[(rank * overlap + step) % len(there)] for step in range(min(overlap, len(there)))]
        for user in chosen:
            yield _Assignment(campaign_pair, user, "work")
        for user in chosen:
            done += 1
            if done % REPEAT_EVERY == 0:
                yield _Assignment(campaign_pair, user, "repeat")


def _labels(session: Session, campaign_id: int, assignments: list[_Assignment], random_numbers: random.Random) -> None:
    """Insert labelled assignments, each with its one revision."""
    seconds = [round(random_numbers.lognormvariate(3, 0.5), 1) for _ in assignments]
    left = ["AB"[random_numbers.randrange(2)] for _ in assignments]
    answers = [_answer(random_numbers) for _ in range(ANSWERS)]
    names = (
        "id token campaign_id campaign_pair_id pair_id annotator_id kind round left_video state guideline_version "
        "leased_at expires_at finished_at seconds"
    )
    insert(
        session,
        "assignments",
        names,
        (
            (
                *(
                    number + 1,
                    f"turn-{number:011}",
                    campaign_id,
                    assignment.campaign_pair.id,
                    assignment.campaign_pair.pair_id,
                    assignment.user.id,
                ),
                *(assignment.kind, assignment.round, left[number], "labelled", 1),
                *(_moment(number), _moment(number + 1800), _moment(number + 20), seconds[number]),
            )
            for number, assignment in enumerate(assignments)
        ),
    )
    names = (
        "id assignment_id campaign_id campaign_pair_id pair_id annotator_id action choice strength sub_scores marks note "
        "reason left_video visible guideline_version seconds playback token created_at"
    )
    insert(
        session,
        "labels",
        names,
        (
            (
                *(
                    number + 1,
                    number + 1,
                    campaign_id,
                    assignment.campaign_pair.id,
                    assignment.campaign_pair.pair_id,
                    assignment.user.id,
                    "label",
                ),
                *(*answers[number % ANSWERS], "[]", "", "", left[number], "[]", 1, seconds[number]),
                *('{"A": {"watched": 1.0, "plays": 2}, "B": {"watched": 1.0, "plays": 2}}', f"s{number}"),
                _moment(number + 20),
            )
            for number, assignment in enumerate(assignments)
        ),
    )


def _answer(random_numbers: random.Random) -> tuple[str, str | None, str]:
    """Choice, strength and sub-scores as JSON."""
    choice = random_numbers.choices(["A", "B", "tie", "both_bad"], [5, 3, 1, 1])[0]
    strength = random_numbers.choice(["slightly", "clearly"]) if choice in "AB" else None
    scores = {
        side: {name: random_numbers.choices(["2", "1", "0", "N/A"], [6, 3, 2, 1])[0] for name in DIMENSIONS} for side in "AB"
    }
    return choice, strength, json.dumps(scores)


def _members(session: Session, campaign_id: int, assignments: list[_Assignment]) -> None:
    """Insert members: each person's place in the queue, after the last pair that they had."""
    served: dict[int, int] = {}
    work: dict[int, _CampaignPair] = {}
    gold: dict[int, _CampaignPair] = {}
    last_work: dict[int, int] = {}
    repeated: dict[int, int] = {}
    start = _CampaignPair(0, 0, -1)
    for assignment_id, assignment in enumerate(assignments, start=1):
        served[assignment.user.id] = served.get(assignment.user.id, 0) + 1
        if assignment.kind == "repeat":
            repeated[assignment.user.id] = last_work[assignment.user.id]
            continue
        (gold if assignment.kind == "gold" else work)[assignment.user.id] = assignment.campaign_pair
        if assignment.kind == "work":
            last_work[assignment.user.id] = assignment_id
    names = (
        "campaign_id annotator_id standing paused cursor_position cursor_id gold_cursor_position gold_cursor_id "
        "repeat_cursor order_version served labels skips flags decided left_choices ties gold_total gold_right "
        "repeat_total repeat_same compared agreed created_at"
    )
    insert(
        session,
        "members",
        names,
        (
            (
                *(campaign_id, user_id, "active", False, work.get(user_id, start).position, work.get(user_id, start).id),
                *(
                    gold.get(user_id, start).position,
                    gold.get(user_id, start).id,
                    repeated.get(user_id, 0),
                    1,
                    count,
                    *(0,) * 12,
                    _moment(0),
                ),
            )
            for user_id, count in served.items()
        ),
    )


def _moment(seconds: int) -> str:
    return (BEGIN + timedelta(seconds=seconds)).strftime("%Y-%m-%d %H:%M:%S.%f")
