"""The running totals: right after whatever people do, in whatever order, also at the same moment."""

from __future__ import annotations

import random
import threading
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select, text

from descore.answer import DIMENSIONS, SUB_SCORES
from storage.campaigns.campaign import Gold
from storage.campaigns.members import member, members, set_paused
from storage.campaigns.progress import progress
from storage.errors import LeaseLostError
from storage.labelling.assignments import Assignment, history, save_draft
from storage.labelling.campaign_pairs import flagged_pairs, resolve_flag
from storage.labelling.gold import set_gold
from storage.labelling.labels import Label, revisions
from storage.labelling.next_assignment import next_assignment
from storage.labelling.pair_totals import Entry, tally
from storage.labelling.submit import submit, undo
from storage.labelling.totals import agreement_patterns, differences, rebuild
from storage.schema import AssignmentRow, CampaignPairRow
from tests.helpers.labelling import (
    NOW,
    SCORES,
    Team,
    answer,
    flag,
    label_next,
    later,
    make_team,
    new_submission,
    save,
    skip,
)

if TYPE_CHECKING:
    from storage import Database
    from storage.campaigns.label_schema import Answer

OVERLAP = 2


def entry(person: int, choice: str | None = "A", **fields: Any) -> Entry:
    """A labelled assignment."""
    values = {"kind": "work", "state": "labelled", "left_video": "A", "label_id": person} | fields
    return Entry(assignment_id=person, annotator_id=person, choice=choice, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("choices", "consensus", "pattern"),
    [
        ("A", "A", None),
        ("AA", "A", "2,0,0,0"),
        ("AB", None, "1,1,0,0"),
        ("AAB", "A", "2,1,0,0"),
        ("AABB", None, "2,2,0,0"),
        ("ABT", None, "1,1,1,0"),
        ("TTXA", None, "1,0,2,1"),
    ],
)
def test_the_consensus_needs_more_than_half(choices: str, consensus: str | None, pattern: str | None) -> None:
    names = {"A": "A", "B": "B", "T": "tie", "X": "both_bad"}
    found = tally([entry(person, names[one]) for person, one in enumerate(choices)], None)
    assert found.consensus == consensus
    assert found.patterns == (frozenset() if pattern is None else {("overall", pattern)})
    assert found.labelled == found.held == len(choices)


def test_a_lead_overrules_and_repeats_do_not_count_for_the_pair() -> None:
    entries = [
        entry(1, "A"),
        entry(1, "B", kind="repeat", left_video="B"),
        entry(2, "A"),
        entry(3, None, state="skipped"),
        entry(4, None, state="leased"),
        entry(5, "tie", kind="adjudication", label_id=8),
        entry(6, "B", kind="adjudication", label_id=9),
    ]
    found = tally(entries, None)
    assert (found.consensus, found.labelled, found.held) == ("B", 2, 3)
    assert found.patterns == {("overall", "2,0,0,0")}
    assert set(found.members) == {1, 2, 3}
    first = found.members[1]
    assert (first["labels"], first["repeat_total"], first["repeat_same"]) == (2, 1, 0)
    assert (first["decided"], first["left_choices"], first["compared"], first["agreed"]) == (2, 2, 1, 1)
    assert found.members[3] == dict.fromkeys(first, 0) | {"skips": 1}


def test_sub_scores_are_counted_for_each_video() -> None:
    low = {"A": SCORES["A"] | {"style": "0"}, "B": SCORES["B"] | {"style": "N/A"}}
    found = dict(tally([entry(1, sub_scores=SCORES), entry(2, sub_scores=low), entry(3, sub_scores=None)], None).patterns)
    assert found["style"] == "1,0,1,0|1,0,0,1"
    assert found["camera"] == "2,0,0,0|2,0,0,0"
    assert found["overall"] == "3,0,0,0"


def test_the_totals_of_a_small_campaign(database: Database) -> None:
    team = make_team(database, pairs=2, people=3, overlap=3, dimensions=("style",))
    scores = {video: {"style": "1"} for video in ("A", "B")}
    with database.write() as session:
        for person, choices in zip(team.people, (("A", "A"), ("A", "B"), ("B", "tie")), strict=True):
            for choice, seconds in zip(choices, (10, 30), strict=True):
                label_next(session, team, person, answer(choice, seconds=seconds, sub_scores=scores))
        counts = progress(session, team.campaign.id)
        assert (counts.labels, counts.finished, counts.disputed) == (6, 2, 1)
        assert agreement_patterns(session, team.campaign.id) == {
            "overall": {"1,1,1,0": 1, "2,1,0,0": 1},
            "style": {"0,3,0,0|0,3,0,0": 2},
        }
        found = members(session, team.campaign.id)
        assert [one.annotator.id for one in found] == list(team.people)
        assert [(one.compared, one.agreed) for one in found] == [(4, 1), (4, 1), (4, 0)]
        assert [(one.decided, one.ties, one.median_seconds) for one in found] == [(2, 0, 20), (2, 0, 20), (1, 1, 20)]
        assert member(session, team.campaign.id, 99) is None


def test_a_pair_that_becomes_gold_keeps_its_labels(database: Database) -> None:
    team = make_team(database, pairs=2, people=4, overlap=2, gold_share=0.5)
    with database.write() as session:
        for person in team.people[:2]:
            assignment = label_next(session, team, person)
        late = label_next(session, team, team.people[2], skip())
        set_gold(session, team.campaign.id, assignment.pair.id, Gold("B"))
        assert differences(session, team.campaign.id) == []
        label = history(session, team.campaign.id, team.people[1])[0].label
        assert label is not None
        save(session, assignment, answer("B"), edits=label.id)
        assert late.pair.id != assignment.pair.id
        for _ in range(3):
            next_assignment(session, team.campaign.id, team.people[3], NOW)
        assert agreement_patterns(session, team.campaign.id) == {"overall": {"1,1,0,0": 1}}
        assert differences(session, team.campaign.id) == []


def test_differences_are_found_and_rebuilt(database: Database) -> None:
    team = make_team(database, pairs=3)
    with database.write() as session:
        for person in team.people:
            label_next(session, team, person)
        assert differences(session, team.campaign.id) == []
        patterns = agreement_patterns(session, team.campaign.id)
        session.execute(text("UPDATE members SET labels = labels + 1, agreed = 0"))
        session.execute(text("UPDATE campaign_pairs SET labelled = 0, open_slots = 7, consensus = 'tie'"))
        session.execute(text("UPDATE agreement_patterns SET pattern = '9,9,9,9' WHERE pairs > 0"))
        found = differences(session, team.campaign.id)
        assert len([one for one in found if "open_slots is 7" in one]) == 3
        assert [one for one in found if "labels is 2, should be 1" in one]
        assert [one for one in found if "9,9,9,9: 1 pairs, should be 0" in one]
        rebuild(session, team.campaign.id)
        assert differences(session, team.campaign.id) == []
        assert agreement_patterns(session, team.campaign.id) == patterns


class Crowd:
    """People who do anything at any time, and a record of what was saved."""

    def __init__(self, team: Team, seed: int) -> None:
        self.team = team
        self.random = random.Random(seed)
        self.saved: dict[int, Label] = {}
        self.hours = 0.0

    @property
    def now(self) -> Any:
        return later(hours=self.hours)

    def anything(self, session: Any) -> None:
        """One action of somebody."""
        person = self.random.choice(self.team.people)
        rare = [self.wait, self.lead, self.leave, self.leave, self.late, self.late]
        action = self.random.choice([self.work] * 10 + [self.edit, self.take_back] * 3 + rare)
        action(session, person)

    def work(self, session: Any, person: int) -> None:
        assignment = next_assignment(session, self.team.campaign.id, person, self.now)
        if isinstance(assignment, Assignment):
            self.keep(submit(session, assignment.token, person, new_submission(), self.said(), self.now).label)

    def leave(self, session: Any, person: int) -> None:
        assignment = next_assignment(session, self.team.campaign.id, person, self.now)
        if isinstance(assignment, Assignment):
            save_draft(session, assignment.token, person, {"note": "later"}, self.now)

    def wait(self, _session: Any, _person: int) -> None:
        self.hours += self.random.choice((0.1, 0.3, 2.0))

    def edit(self, session: Any, person: int) -> None:
        finished = history(session, self.team.campaign.id, person)
        if not finished:
            return
        assignment = self.random.choice(finished)
        assert assignment.label is not None
        try:
            saved = submit(
                session, assignment.token, person, new_submission(), self.said(), self.now, edits=assignment.label.id
            )
        except LeaseLostError:
            return
        self.keep(saved.label)

    def take_back(self, session: Any, person: int) -> None:
        try:
            assignment = undo(session, self.team.campaign.id, person, new_submission(), self.now)
        except LeaseLostError:
            return
        if assignment is not None:
            self.keep(revisions(session, assignment.pair.id)[-1])

    def late(self, session: Any, person: int) -> None:
        """Submit from a page that was left open."""
        returned = select(AssignmentRow.token).where(AssignmentRow.annotator_id == person, AssignmentRow.state == "returned")
        for token in session.scalars(returned).all():
            try:
                self.keep(submit(session, token, person, new_submission(), self.said(), self.now).label)
            except LeaseLostError:
                continue
            return

    def lead(self, session: Any, person: int) -> None:
        for one in flagged_pairs(session, self.team.campaign.id):
            resolve_flag(session, self.team.campaign.id, one.pair.id, put_back=self.random.random() < 0.8)
        if member(session, self.team.campaign.id, person) is not None:
            set_paused(session, self.team.campaign.id, person, self.random.random() < 0.3)

    def said(self) -> Answer:
        draw = self.random.random()
        if draw < 0.15:
            return skip()
        if draw < 0.2:
            return flag()
        scores = {video: {name: self.random.choice(SUB_SCORES) for name in DIMENSIONS} for video in ("A", "B")}
        choice: Any = self.random.choice(("A", "A", "B", "tie", "both_bad"))
        return answer(choice, sub_scores=scores, seconds=self.random.uniform(1, 99))

    def keep(self, label: Label) -> None:
        self.saved[label.id] = label

    def finish(self, session: Any) -> None:
        """Everybody goes on until nobody gets a pair any more."""
        for person in self.team.people:
            set_paused(session, self.team.campaign.id, person, False)
        for one in flagged_pairs(session, self.team.campaign.id):
            resolve_flag(session, self.team.campaign.id, one.pair.id, put_back=True)
        got = True
        while got:
            got = False
            for person in self.team.people:
                while isinstance(
                    assignment := next_assignment(session, self.team.campaign.id, person, self.now), Assignment
                ):
                    self.keep(submit(session, assignment.token, person, new_submission(), FINAL, self.now).label)
                    got = True


FINAL = answer("B", sub_scores=SCORES, seconds=5)


def check_invariants(session: Any, team: Team) -> None:
    """What must hold after any action."""
    assert differences(session, team.campaign.id) == []
    assignments = session.execute(select(AssignmentRow.__table__)).all()
    held = Counter(
        assignment.campaign_pair_id
        for assignment in assignments
        if assignment.kind == "work" and assignment.state in ("leased", "labelled")
    )
    assert max(held.values(), default=0) <= OVERLAP
    rounds = Counter((assignment.campaign_pair_id, assignment.annotator_id, assignment.round) for assignment in assignments)
    assert set(rounds.values()) <= {1}
    first = {
        (assignment.campaign_pair_id, assignment.annotator_id): assignment
        for assignment in assignments
        if assignment.round == 0
    }
    for assignment in assignments:
        if assignment.round == 1:
            assert assignment.kind == "repeat"
            assert assignment.left_video != first[assignment.campaign_pair_id, assignment.annotator_id].left_video
    leases = Counter(assignment.annotator_id for assignment in assignments if assignment.state == "leased")
    assert max(leases.values(), default=0) <= 1


def check_revisions(session: Any, crowd: Crowd) -> None:
    """Every revision that was saved is there as it was, and each assignment has one chain of them."""
    stored = {label.id: label for pair in crowd.team.pairs for label in revisions(session, pair)}
    assert stored == crowd.saved
    chains: dict[str, list[Label]] = defaultdict(list)
    for label in sorted(stored.values(), key=lambda one: one.id):
        before = chains[label.assignment_token][-1].id if chains[label.assignment_token] else None
        assert label.replaces_id == before
        chains[label.assignment_token].append(label)


def check_nothing_is_left(session: Any, team: Team) -> None:
    """When everybody is told that there is nothing, there is no free place that somebody could have taken."""
    open_places = select(CampaignPairRow.id).where(
        CampaignPairRow.open_slots > 0, CampaignPairRow.state == "open", ~CampaignPairRow.is_gold
    )
    had = set(
        session.execute(
            select(AssignmentRow.campaign_pair_id, AssignmentRow.annotator_id).where(
                AssignmentRow.round == 0, AssignmentRow.state != "returned"
            )
        ).all()
    )
    for place in session.scalars(open_places):
        assert all((place, person) in had for person in team.people)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_people_do_the_totals_and_revisions_are_right(database: Database, seed: int) -> None:
    gold = {0: Gold("A"), 1: Gold("B"), 2: Gold("tie")}
    settings = {"overlap": OVERLAP, "gold_share": 0.15, "repeat_share": 0.3, "lease_seconds": 1000}
    settings |= {"dimensions": DIMENSIONS, "qualification_pairs": 1, "qualification_pass": 0.0}
    team = make_team(database, pairs=15, people=4, gold=gold, **settings)
    crowd = Crowd(team, seed)
    for step in range(150):
        with database.write() as session:
            crowd.anything(session)
            if step % 15 == 14:
                check_invariants(session, team)
    with database.write() as session:
        crowd.hours += 1
        crowd.finish(session)
        check_invariants(session, team)
        check_revisions(session, crowd)
        check_nothing_is_left(session, team)
        before = members(session, team.campaign.id), agreement_patterns(session, team.campaign.id)
        rebuild(session, team.campaign.id)
        assert (members(session, team.campaign.id), agreement_patterns(session, team.campaign.id)) == before
    # Which assignments become gold or repeats hangs on the tokens, which are drawn again each time.
    kinds = {label.kind for label in crowd.saved.values()}
    assert {"qualification", "work"} <= kinds <= {"qualification", "work", "gold", "repeat"}
    assert {label.action for label in crowd.saved.values()} == {"label", "skip", "flag", "withdraw"}


@pytest.mark.slow
def test_eight_threads_in_one_campaign(database: Database) -> None:
    team = make_team(database, pairs=16, people=8, overlap=OVERLAP, repeat_share=0.2)
    saved: list[Label] = []
    wrong: list[BaseException] = []
    start = threading.Barrier(8)

    def work(person: int) -> None:
        try:
            start.wait()
            while True:
                with database.write() as session:
                    assignment = next_assignment(session, team.campaign.id, person)
                if not isinstance(assignment, Assignment):
                    return
                for _ in range(2):  # every submit is sent twice
                    with database.write() as session:
                        label = submit(session, assignment.token, person, f"of {assignment.token}", answer()).label
                saved.append(label)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(person,)) for person in team.people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    with database.read() as session:
        check_invariants(session, team)
        counts = progress(session, team.campaign.id)
        assert (counts.labels, counts.finished, counts.leased) == (32, 16, 0)
        stored = [label for pair in team.pairs for label in revisions(session, pair)]
    assert sorted(label.id for label in stored) == sorted(label.id for label in saved)
    work_labels = Counter(label.pair_id for label in stored if label.kind == "work")
    assert set(work_labels.values()) == {OVERLAP}
