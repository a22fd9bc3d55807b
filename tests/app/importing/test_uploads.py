"""Uploads on their way into an import: unpacked in one private folder, and nowhere else."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from app.importing import uploads as staging
from app.importing.uploads import import_folders, import_path, stage
from storage.exchange.parsed import ExchangeError
from tests.helpers.mutations import EXAMPLES, holds_for, mutated


def write(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def packed(path: Path, **files: str) -> Path:
    """A zip; names have their dots and slashes written out by `DOT` and `SLASH`."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name.replace("SLASH", "/").replace("DOT", "."), text)
    return path


def test_table_and_videos_are_moved_together(tmp_path: Path) -> None:
    files = [write(tmp_path / "up" / "one" / "pairs.csv"), write(tmp_path / "up" / "two" / "a.mp4")]
    staged = stage(files, tmp_path / "home", owner=7)
    assert staged.path.name == "pairs.csv"
    assert staged.path.with_name("a.mp4").is_file()
    assert staged.names == ("pairs.csv", "a.mp4")
    assert not any(file.exists() for file in files)
    assert staged.folder.stat().st_mode & 0o077 == 0 or staged.folder.parent.stat().st_mode & 0o077 == 0
    again = stage([write(tmp_path / "up" / "other.jsonl")], tmp_path / "home", owner=7)
    assert again.path.is_file()
    assert not staged.folder.exists()
    again.discard()
    assert not again.folder.exists()


def test_archive_is_unpacked_and_its_one_folder_is_looked_into(tmp_path: Path) -> None:
    archive = packed(tmp_path / "set.zip", setSLASHpairsDOTcsv="t", setSLASHclipsSLASHaDOTmp4="v")
    staged = stage([archive], tmp_path / "home", owner=1)
    assert staged.path.relative_to(staged.folder).as_posix() == "set/pairs.csv"
    clips = packed(tmp_path / "clips.zip", soraSLASHaDOTmp4="1", klingSLASHaDOTmp4="2", promptsDOTcsv="p")
    assert stage([clips], tmp_path / "home", owner=2).path.is_dir()


def test_archive_can_write_nowhere_else(tmp_path: Path) -> None:
    archive = packed(tmp_path / "evil.zip", DOTDOTSLASHDOTDOTSLASHevilDOTcsv="t", SLASHtmpSLASHevilDOTmp4="v")
    staged = stage([archive], tmp_path / "home", owner=1)
    inside = [path for path in tmp_path.rglob("evil*") if path.is_file()]
    assert inside
    assert all(path.is_relative_to(staged.folder) for path in inside)


def test_what_can_not_be_unpacked_is_refused_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    with pytest.raises(ExchangeError, match="can't be unpacked"):
        stage([write(tmp_path / "broken.zip", "no archive")], home, owner=1)
    with zipfile.ZipFile(tmp_path / "nameless.zip", "w") as archive:
        archive.writestr(zipfile.ZipInfo(""), "x")
    with pytest.raises(ExchangeError, match=r"nameless\.zip can't be unpacked"):
        stage([tmp_path / "nameless.zip"], home, owner=1)
    with pytest.raises(ExchangeError, match=r"Upload one table at a time \(got a\.csv, b\.csv\)"):
        stage([write(tmp_path / "a.csv"), write(tmp_path / "b.csv")], home, owner=1)
    with pytest.raises(ExchangeError, match=r"Two files are named x\.mp4"):
        stage([write(tmp_path / "1" / "x.mp4"), write(tmp_path / "2" / "x.mp4")], home, owner=1)
    monkeypatch.setattr(staging, "LARGEST_UNPACKED", 100)
    with pytest.raises(ExchangeError, match="too large when unpacked"):
        stage([packed(tmp_path / "bomb.zip", aDOTcsv="x" * 101)], home, owner=1)
    assert not any((home / "incoming").iterdir())


def test_folder_for_imports_is_listed_and_nothing_else_is_reached(tmp_path: Path) -> None:
    for name in ("one/pairs.csv", "two.jsonl", "notes.txt", ".hidden/x.csv"):
        write(tmp_path / "imports" / name)
    assert import_folders(tmp_path) == ("one", "two.jsonl")
    assert import_path(tmp_path, "one") == tmp_path / "imports" / "one" / "pairs.csv"
    for name in ("..", "../..", "one/pairs.csv", "three", ""):
        with pytest.raises(ExchangeError):
            import_path(tmp_path, name)


def zipped(method: int, name: str = "set/pairs.csv") -> bytes:
    """An archive of a table."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as archive:
        archive.writestr(name, "path_A,path_B,prompt\n" * 50)
    return content.getvalue()


METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


@EXAMPLES
def test_a_damaged_archive_is_unpacked_or_refused_and_leaves_nothing(tmp_path: Path, examples: int) -> None:
    incoming = tmp_path / "home" / staging.INCOMING

    def check(data: bytes) -> None:
        archive = tmp_path / "set.zip"
        archive.write_bytes(data)
        try:
            stage([archive], tmp_path / "home", owner=1).discard()
        except ExchangeError as error:
            assert 0 < len(str(error)) < 1000  # noqa: PT017 - random input: an error is allowed, not required
        assert not list(incoming.iterdir())

    holds_for(mutated([zipped(method) for method in METHODS], [b"PK\1\2", b"PK\3\4", b"\xff\xff", b"../"]), examples, check)


def test_a_refusal_does_not_repeat_a_name_of_kilobytes(tmp_path: Path) -> None:
    data = bytearray(zipped(zipfile.ZIP_STORED))
    data[26:28] = (1000).to_bytes(2, "little")  # the length of the name before the file, other than in the directory
    (tmp_path / "set.zip").write_bytes(data)
    with pytest.raises(ExchangeError, match=r"^set\.zip can't be unpacked: File name in directory .{200,300}$"):
        stage([tmp_path / "set.zip"], tmp_path / "home", owner=1)


@pytest.mark.parametrize("method", METHODS[1:])
def test_an_archive_with_damage_inside_of_a_file_is_refused(tmp_path: Path, method: int) -> None:
    data = bytearray(zipped(method))
    start = data.index(b"pairs.csv") + len(b"pairs.csv")
    data[start + 4 : start + 24] = b"\xff" * 20
    (tmp_path / "set.zip").write_bytes(data)
    with pytest.raises(ExchangeError, match=r"set\.zip can't be unpacked"):
        stage([tmp_path / "set.zip"], tmp_path / "home", owner=1)


def test_an_archive_with_a_name_that_is_not_text_is_refused(tmp_path: Path) -> None:
    """A name that says to be UTF-8, and is not."""
    (tmp_path / "set.zip").write_bytes(zipped(zipfile.ZIP_STORED, "é.csv").replace("é".encode(), b"\xff\xff"))
    with pytest.raises(ExchangeError, match=r"set\.zip can't be unpacked"):
        stage([tmp_path / "set.zip"], tmp_path / "home", owner=1)
