"""Videos and pairs for tests of the store; the files themselves play no part there."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from descore.answer import DIMENSIONS
from storage.judgements import JudgementRecord
from storage.pairs import Pair, Video, add_pair, add_video

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from storage import Database

PROMPT = "A red circle bounces on a checkerboard."
RECORD = JudgementRecord(
    checkpoint="bundled v1",
    thought="<think>I see — a circle.</think>",
    sub_scores=dict.fromkeys(DIMENSIONS, "2"),
    overall_score=4.5,
    parse_note=None,
    strict_format=True,
    reward=-1.25,
    standardised_reward=0.1,
    reward_spread=None,
    sub_score_votes=None,
    truncated=False,
    seconds=1.5,
)


def make_video(session: Session, name: str) -> Video:
    """A video whose content is its name."""
    sha256 = hashlib.sha256(name.encode()).hexdigest()
    return add_video(
        session,
        sha256=sha256,
        file=f"{sha256[:2]}/{sha256}.mp4",
        original_name=f"{name}.mp4",
        width=256,
        height=256,
        fps=12.0,
        duration=2.5,
    )


def make_pair(session: Session, first: str = "a", second: str = "b", prompt: str = PROMPT) -> Pair:
    """A pair of two such videos."""
    return add_pair(session, make_video(session, first), make_video(session, second), prompt, source="test")


def url_of(database: Database) -> str:
    """The URL under which another process opens the same store."""
    return database.engine.url.render_as_string(hide_password=False)
