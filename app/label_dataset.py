"""Labels that survive the restart of a Hugging Face Space, whose disk is empty after each one.

    kept = keep_labels(database)            # DESCORE_DATASET=owner/name: reads back what is there, then pushes what is new
    kept.database                           # the store to work with
    kept.notice()                           # a sentence for all pages where labels will not last, else ""
    kept.close()                            # pushes what is left

The dataset is private and holds the journal of each start and the clips that it names (`storage.journal`). huggingface-hub's
`CommitScheduler` pushes what is new every two minutes.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub import CommitScheduler, HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from app.web.deployment import on_space
from descore.checkpoints.hub import refusal
from storage import Database, StorageError
from storage.journal.journal import JOURNAL, PLAYABLE, VIDEOS, keep_journal
from storage.journal.journal_file import SUFFIX
from storage.journal.read_back import ReadBack, read_back, read_records
from storage.video_files import playable_path, store_video

log = logging.getLogger(__name__)

VARIABLE = "DESCORE_DATASET"
PUSH_MINUTES = 2.0
# The Hub may be away for a moment just when the app starts.
PATIENCE_SECONDS, PAUSE_SECONDS = 300.0, 10.0
LAST_PUSH_SECONDS = 25.0  # a Space that is stopped has 30
_PUSHED, _READ = "dataset", "dataset-read"  # in the data folder
_LOST = "Labels and votes of this Space are lost when it restarts"
_Result = TypeVar("_Result")


class LabelDatasetError(StorageError):
    """The dataset of labels can't be read or written."""


@dataclass(frozen=True)
class KeptLabels:
    """How long labels last.

    Attributes:
        database: the store.
        dataset: where they are pushed to; None without one.
        warning: why they will not last, in a sentence, else "".
    """

    database: Database
    dataset: LabelDataset | None = None
    warning: str = ""

    def notice(self) -> str:
        """Return what all pages say now: that labels will not last, or that they can't be pushed at the moment; else ""."""
        if self.dataset is not None and self.dataset.is_behind():
            return (
                "New labels can't be copied to their dataset at the moment, and would be lost if this app restarted now. "
                "Its log says why."
            )
        return self.warning

    def close(self) -> None:
        """Push what is left, as far as the Hub can be reached."""
        if self.dataset is not None:
            self.dataset.close()


def keep_labels(database: Database, api: HfApi | None = None) -> KeptLabels:
    """Find out where labels are kept, and read back those of a dataset.

    Args:
        database: as it was opened, before anything is written to it.
        api: of another Hub than the one of the environment.

    Raises:
        LabelDatasetError: the dataset can't be read, or is public. Nothing may be written then: labels would be missing.
        StorageError: its journal is damaged or contradicts itself.
    """
    name = os.environ.get(VARIABLE, "").strip()
    if not name:
        warning = f"{_LOST}: it has neither {VARIABLE} nor a volume." if on_space() and not _outlasts(database) else ""
        return KeptLabels(database, warning=warning)
    if database.engine.dialect.name != "sqlite":
        raise LabelDatasetError(f"{VARIABLE} and DATABASE_URL are both set: choose one place for the labels")
    if api is None and get_token() is None:
        return KeptLabels(database, warning=f"{_LOST}: HF_TOKEN is missing, so the dataset can't be written.")
    dataset = LabelDataset(name, database.home, api or HfApi(), PATIENCE_SECONDS)
    return KeptLabels(dataset.attach(database), dataset)


def _outlasts(database: Database) -> bool:
    """Tell whether the store outlasts the container: on a database server, or on a disk that is mounted into it."""
    return database.engine.dialect.name != "sqlite" or _is_mounted(database.home)


def _is_mounted(folder: Path) -> bool:
    return folder.stat().st_dev != Path("/").stat().st_dev


@dataclass
class LabelDataset:
    """A private dataset on the Hub with the journals of all starts and the clips that they name.

    Attributes:
        repository: owner/name; it is made where it does not exist.
        home: the data folder.
        patience: seconds to wait for a Hub that can't be reached.
    """

    repository: str
    home: Path
    api: HfApi
    patience: float
    _scheduler: CommitScheduler | None = field(default=None, repr=False)

    def attach(self, database: Database) -> Database:
        """Read everything back into the store; return the store whose changes are pushed from now on.

        Raises:
            LabelDatasetError: the Hub can't be reached, refuses, or has another dataset than this one has to be.
            StorageError: the journal is damaged or contradicts itself.
        """
        outcome = self._read(database)
        for note in outcome.notes:
            log.warning("reading labels back: %s", note)
        self._scheduler = self._ask(self._start_to_push)
        known = outcome.records
        log.info("%s: %d labels and %d votes were read back", self.repository, outcome.labels, outcome.votes)
        return keep_journal(database, self.home / _PUSHED, known, at_rest=self._scheduler.lock)

    def is_behind(self) -> bool:
        """Tell whether the last push failed; the next one comes by itself."""
        last: Future[Any] | None = getattr(self._scheduler, "last_future", None)
        return last is not None and last.done() and last.exception() is not None

    def close(self) -> None:
        """Push what is left."""
        if self._scheduler is None:
            return
        try:
            self._scheduler.trigger().result(LAST_PUSH_SECONDS)
        except Exception as error:
            log.error("the newest labels were not pushed to %s: %s", self.repository, error)
        self._scheduler.stop()
        self._scheduler = None

    def _start_to_push(self) -> CommitScheduler:
        return CommitScheduler(
            repo_id=self.repository,
            repo_type="dataset",
            folder_path=self.home / _PUSHED,
            every=PUSH_MINUTES,
            private=True,
            allow_patterns=[f"{JOURNAL}/*{SUFFIX}", f"{VIDEOS}/*", f"{PLAYABLE}/*"],
            ignore_patterns=["*/.*"],  # copies that are not complete yet
            hf_api=self.api,
        )

    def _read(self, database: Database) -> ReadBack:
        """Fetch the journals, the clips that they name, and bring both into the store."""
        folder = self.home / _READ
        shutil.rmtree(folder, ignore_errors=True)  # of a start that was killed; a stale copy must not pass for the dataset
        try:
            commit, files = self._ask(self._listing)
            journals = [name for name in files if name.startswith(f"{JOURNAL}/") and name.endswith(SUFFIX)]
            self._fetch(folder, commit, journals)
            read = read_records(self._longest([folder / name for name in journals]))
            missing = self._fetch_clips(folder, commit, set(files), read)
            done = read_back(database, read)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return ReadBack(done.records, done.labels, done.votes, (*done.notes, *missing))

    def _longest(self, fetched: Sequence[Path]) -> list[Path]:
        """Return the journals of the dataset, and those of this disk that were not pushed or not to their end."""
        by_name = {path.name: path for path in fetched}
        for path in (self.home / _PUSHED / JOURNAL).glob(f"*{SUFFIX}"):
            other = by_name.get(path.name)
            if other is None or path.stat().st_size >= other.stat().st_size:
                by_name[path.name] = path
        return list(by_name.values())

    def _listing(self) -> tuple[str, list[str]]:
        """Return the newest commit and its files; the dataset is made where there is none.

        Raises:
            LabelDatasetError: it is public.
        """
        # Asked for after it was made: one that this token may not see must not be taken for a new one.
        self.api.create_repo(self.repository, repo_type="dataset", private=True, exist_ok=True)
        info = self.api.dataset_info(self.repository)
        if not info.private:
            raise LabelDatasetError(
                f"the dataset {self.repository} is public and would show everybody who labelled what: make it private"
            )
        return str(info.sha), [file.rfilename for file in info.siblings or ()]

    def _fetch(self, folder: Path, commit: str, names: Sequence[str]) -> None:
        """Download files of the dataset.

        Raises:
            LabelDatasetError: not all of them came.
        """
        if not names:
            return
        self._ask(
            lambda: self.api.snapshot_download(
                self.repository, repo_type="dataset", revision=commit, local_dir=folder, allow_patterns=list(names)
            )
        )
        left_out = [name for name in names if not (folder / name).is_file()]
        if left_out:
            raise LabelDatasetError(f"{left_out[0]} of the dataset {self.repository} did not come: start the app again")

    def _fetch_clips(self, folder: Path, commit: str, files: set[str], read: ReadBack) -> tuple[str, ...]:
        """Fetch the clips that are not in the data folder; return a sentence about those that the dataset lacks."""
        wanted = {
            str(record["row"]["file"]): str(record["key"]) for record in read.records.values() if record["in"] == VIDEOS
        }
        new = {file: sha256 for file, sha256 in wanted.items() if not (self.home / VIDEOS / file).is_file()}
        there = {file: sha256 for file, sha256 in new.items() if f"{VIDEOS}/{file}" in files}
        playable = {sha256: f"{PLAYABLE}/{sha256[:2]}/{sha256}.mp4" for sha256 in there.values()}
        playable = {sha256: name for sha256, name in playable.items() if name in files}
        self._fetch(folder, commit, [*(f"{VIDEOS}/{file}" for file in there), *playable.values()])
        for file, sha256 in there.items():
            clip = folder / VIDEOS / file
            if store_video(clip, self.home).sha256 != sha256:
                raise LabelDatasetError(
                    f"{VIDEOS}/{file} of the dataset {self.repository} is not the clip that was labelled"
                )
            clip.unlink()
        for sha256, name in playable.items():
            shutil.move(folder / name, playable_path(sha256, self.home))
        lacking = len(new) - len(there)
        return (f"{lacking} clips that people labelled are not in the dataset",) if lacking else ()

    def _ask(self, ask: Callable[[], _Result]) -> _Result:
        """Return what the Hub answers; wait for one that can't be reached.

        Raises:
            LabelDatasetError: it refuses, or can't be reached for long.
        """
        deadline = time.monotonic() + self.patience
        while True:
            try:
                return ask()
            except LabelDatasetError:
                raise
            except Exception as error:  # of the library that the Hub's client happens to use, too
                if _is_refusal(error) or time.monotonic() > deadline:
                    raise LabelDatasetError(
                        f"labels can't be read back from the dataset {self.repository}, so the app does not start without "
                        f"them: {refusal(self.repository, error)}"
                    ) from error
                log.warning("the Hub can't be reached; trying again: %s", error)
                time.sleep(PAUSE_SECONDS)


def _is_refusal(error: Exception) -> bool:
    """Tell whether asking again would be answered alike."""
    if isinstance(error, HFValidationError):
        return True
    response = getattr(error, "response", None) if isinstance(error, HfHubHTTPError) else None
    return response is not None and response.status_code < 500 and response.status_code != 429
