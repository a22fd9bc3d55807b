"""Labels for tests of training: a campaign over the bundled pairs, answered by three people."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from storage.analysis.reward_margins import pair_ids_of
from storage.campaigns.campaign import Campaign, CampaignConfig, create_campaign
from storage.campaigns.guidelines import DEFAULT_GUIDELINES
from storage.campaigns.label_schema import Answer
from storage.labelling.assignments import Assignment
from storage.labelling.next_assignment import next_assignment
from storage.labelling.submit import submit
from storage.training.runs import runs_in
from tests.helpers.accounts import person

if TYPE_CHECKING:
    from tests.helpers.studios import Running

ANNOTATORS = ("Ada", "Ben", "Cleo")


def open_round(running: Running, name: str = "First round") -> Campaign:
    """A campaign over the bundled pairs that asks the overall choice alone."""
    settings = CampaignConfig(name, dimensions=(), overlap=3, gold_share=0.0, repeat_share=0.0)
    with running.studio.database.write() as session:
        ids = pair_ids_of(session, ["bundled"])
        return create_campaign(session, settings, ids, DEFAULT_GUIDELINES, created_by=None)


@contextmanager
def no_run_left(running: Running) -> Iterator[None]:
    """Ends what still runs when the block is over: runs outlive their app."""
    try:
        yield
    finally:
        running.studio.supervisor.close()
        with running.studio.database.read() as session:
            left = runs_in(session, "running")
        for run in left:
            if run.pid not in (None, os.getpid()):
                os.kill(run.pid, signal.SIGKILL)


def label_round(running: Running, campaign: Campaign) -> int:
    """Three people answer what is left, of one mind; how many labels they gave."""
    given = 0
    for name in ANNOTATORS:
        annotator = person(running, name)
        with running.studio.database.write() as session:
            while isinstance(assignment := next_assignment(session, campaign.id, annotator.id), Assignment):
                choice = Answer(choice="A" if assignment.pair.id % 2 else "B", strength="clearly", seconds=9)
                submit(session, assignment.token, annotator.id, secrets.token_hex(8), choice)
                given += 1
    return given
