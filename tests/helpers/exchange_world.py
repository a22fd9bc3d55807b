"""A small store with everything that can be exported, and the way of a file into a store without decoding its videos."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import select

from descore.answer import DIMENSIONS
from storage.accounts.users import add_user
from storage.campaigns.campaign import CampaignConfig, Gold, create_campaign
from storage.campaigns.guidelines import DEFAULT_GUIDELINES
from storage.campaigns.slots import SPACING
from storage.exchange.formats.detect import read_file
from storage.exchange.importing.insert import ImportCounts, insert_import
from storage.exchange.importing.resolve import ResolvedImport
from storage.labelling.adjudication import adjudicate, disputed
from storage.labelling.assignments import Assignment
from storage.labelling.campaign_pairs import resolve_flag
from storage.labelling.labels import Answer
from storage.labelling.next_assignment import next_assignment
from storage.labelling.submit import submit, undo
from storage.pairs import NewVideo, list_pairs
from storage.schema import CampaignPairRow, CampaignRow
from storage.video_files import store_video

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from storage import Database
    from storage.exchange.parsed import Clip, ParsedFile

VIDEOALIGN = ("path_A", "path_B", "A_model", "B_model", "prompt", "VQ", "MQ", "TA")


def make_files(folder: Path, names: Sequence[str]) -> None:
    """Files that stand for videos: the content of each is its name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(name.encode())


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Path:
    """A CSV as Python writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
    return path


def videoalign_file(folder: Path, pairs: int = 3) -> Path:
    """A table of pairs with labels A, B, same by turns, beside its files."""
    make_files(folder, [f"{number}{side}.mp4" for number in range(pairs) for side in "ab"])
    rows = [
        (
            f"{n}a.mp4",
            f"{n}b.mp4",
            "sora",
            "kling",
            f"prompt {n}, with a comma\nand a line",
            "A",
            "same",
            ("A", "B", "same")[n % 3],
        )
        for n in range(pairs)
    ]
    return write_csv(folder / "pairs.csv", VIDEOALIGN, rows)


def _is_file(path: Path) -> bool:
    """False too for a damaged name that is longer than a name may be."""
    try:
        return path.is_file()
    except OSError:
        return False


def arrive(database: Database, parsed: ParsedFile, format: str, source: str) -> tuple[ResolvedImport, dict[str, NewVideo]]:
    """The parsed file with the hashes of its videos, which are kept in the store's folder."""
    clips: list[Clip] = [clip for pair in parsed.pairs for clip in (pair.a, pair.b)]
    hashes, videos = {}, {}
    for path in {clip.path for clip in clips if clip.path is not None and _is_file(clip.path)}:
        stored = store_video(path, database.home)
        hashes[path] = stored.sha256
        videos[stored.sha256] = NewVideo(stored.sha256, stored.file, path.name, 64, 48, 12.0, 2.5)
    sha256 = hashlib.sha256(parsed.file.encode()).hexdigest()
    return ResolvedImport(parsed, source, format, sha256, hashes), videos


def bring(database: Database, path: Path, source: str = "test", format: str | None = None) -> ImportCounts:
    """Import a file, taking its videos for sound."""
    name, parsed = read_file(path, format)
    resolved, videos = arrive(database, parsed, name, source)
    with database.write() as session:
        return insert_import(session, resolved, videos, created_by=None)


def cells(value: str) -> dict[str, str]:
    """The same sub-score in every dimension."""
    return dict.fromkeys(DIMENSIONS, value)


def lively_store(database: Database, folder: Path) -> int:
    """Imported pairs and a campaign in which two people labelled, repeated, corrected, skipped; returns its id."""
    bring(database, videoalign_file(folder / "in", pairs=14), source="winter")
    with database.write() as session:
        ids = [pair.id for pair in list_pairs(session, "winter")]
        settings = CampaignConfig("spring / blind", overlap=2, gold_share=0.3, repeat_share=0.4, visible=("generators",))
        gold = {ids[0]: Gold("A", {"A": cells("2")}, "the circle bounces"), ids[1]: Gold("tie")}
        campaign = create_campaign(session, settings, ids, DEFAULT_GUIDELINES, created_by=None, gold=gold)
        _without_chance(session, campaign.id)
        people = [add_user(session, name, "annotator").id for name in ("Anna", "Björn")]
    for person in people:
        for number in range(14):
            with database.write() as session:
                assignment = next_assignment(session, campaign.id, person)
                if not isinstance(assignment, Assignment):
                    break
                saved = submit(session, assignment.token, person, f"{person}-{number}", _answer(number + person))
                if number % 4 == 1:
                    again = _answer(number + person + 1)
                    submit(session, assignment.token, person, f"{person}-{number}-again", again, edits=saved.label.id)
    with database.write() as session:
        undo(session, campaign.id, people[1], "undone")
        first, second = [dispute.pair.id for dispute in disputed(session, campaign.id)][:2]
        lead = add_user(session, "Lea", "lead").id
        adjudicate(session, campaign.id, first, lead, "decided", _answer(3))
        flagged = session.scalars(select(CampaignPairRow).where(CampaignPairRow.pair_id == second)).all()[-1]
        flagged.state = "flagged"
        session.flush()
        resolve_flag(session, campaign.id, second, put_back=False)
    return campaign.id


def _without_chance(session: Session, campaign_id: int) -> None:
    """The same seed and order in each run: who gets what then depends on the numbers of pairs and people alone."""
    row = session.get_one(CampaignRow, campaign_id)
    row.seed = "7" * 32
    for place in session.scalars(select(CampaignPairRow).where(CampaignPairRow.campaign_id == campaign_id)):
        place.position = place.pair_id * SPACING
    session.flush()


def _answer(number: int) -> Answer:
    if number % 7 == 5:
        return Answer(action="skip", reason="can't tell\nreally", seconds=3.25)
    choice = ("A", "B", "tie", "both_bad", "A")[number % 5]
    return Answer(
        choice=choice,  # type: ignore[arg-type]
        strength=("slightly", "clearly")[number % 2] if choice in ("A", "B") else None,  # type: ignore[arg-type]
        sub_scores={"A": cells("2" if number % 2 else "N/A"), "B": cells("1") | {"style": "0"}},
        marks=({"video": "B", "time": 1.25},) if number % 3 == 0 else (),
        note="“odd”, said she; 10 %" if number % 2 else "",
        seconds=12.5 + number / 3,
        playback={"A": {"watched": 0.75, "plays": number}, "B": {"watched": 1.0, "plays": 1}},
    )
