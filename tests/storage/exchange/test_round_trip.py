"""What is exported imports again to the same thing: store, folder, another store, another folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from storage.exchange.exporting.export import export
from storage.exchange.formats.detect import COMPLETE, EXPORT_ONLY, EXPORTS, FORMATS, ROUND_TRIP, detect_format
from storage.labelling.consensus import consensus
from storage.maintenance.integrity import check_store
from storage.pairs import get_pair
from tests.helpers.exchange_world import bring, lively_store

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from storage import Database
    from storage.exchange.exporting.stored_pairs import Labels


@pytest.fixture(scope="module")
def lively(shared_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Database:
    """A store with everything that can be exported; the tests only read it."""
    lively_store(shared_database, tmp_path_factory.mktemp("lively"))
    return shared_database


def files(folder: Path) -> dict[str, bytes]:
    """Every file of a folder with its content."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _said(session: Session) -> list[tuple[object, ...]]:
    """What all labels of a store say together, without its ids."""
    found = []
    for one in consensus(session):
        pair = get_pair(session, one.pair_id)
        answer = (one.choice, one.strength, str(one.sub_scores), one.labels, one.support, one.adjudicated)
        found.append((pair.video_a.sha256, pair.video_b.sha256, pair.prompt, *answer))
    return sorted(found)


def test_an_export_imports_again_unless_it_says_that_it_only_goes_out() -> None:
    assert set(EXPORTS) - set(FORMATS) == set(EXPORT_ONLY)


@pytest.mark.slow
@pytest.mark.parametrize("labels", ["raw", "consensus"])
@pytest.mark.parametrize("format", ROUND_TRIP)
def test_a_second_store_writes_the_same_files(
    lively: Database, other: Database, tmp_path: Path, format: str, labels: Labels
) -> None:
    first = export(lively, tmp_path / "one", format, labels=labels, copy_videos=True)
    assert first.rows >= 4
    assert first.videos == 28
    main = tmp_path / "one" / first.files[0]
    path = tmp_path / "one" if format == "hf-dataset" else main
    assert detect_format(path) == format

    taken = bring(other, path, source="from a friend")
    assert taken.pairs >= 4
    assert taken.labels >= 4

    export(other, tmp_path / "two", format, labels=labels, source="from a friend", copy_videos=True)
    one, two = files(tmp_path / "one"), files(tmp_path / "two")
    assert [name for name in two if one.get(name) != two[name]] == []
    assert {name for name in one if not name.startswith("videos/")} <= set(two)
    assert check_store(other) == ()

    with lively.read() as session, other.read() as second:
        here, there = _said(session), _said(second)
    if format in COMPLETE and labels == "raw":
        assert here == there
        assert len(here) > 8

    again = bring(other, path, source="from a friend")
    assert (again.pairs, again.labels, again.thoughts, again.videos) == (0, 0, 0, 0)
