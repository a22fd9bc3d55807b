"""Content of the Train page in parts, each with a version, so that a browser is sent only the parts that have changed.

    state = PageStateReader(database, clip_store, serving, preflights, places).read(may_act=True, run_id=None)
    state.run, state.parts["runs"].version, state.parts["runs"].html

Results are kept for a moment, so however many browsers ask, the store is read once a second.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

from cachetools import TLRUCache
from markupsafe import Markup

from app.clip_store import ClipStore
from app.runs.hardware import read_hardware
from app.runs.places.elsewhere import is_away
from app.runs.places.places import Places
from app.runs.preflight import Preflights
from app.serving.serving import Serving
from app.train.commands import run_command
from app.train.compare import Comparison, compare_runs
from app.train.decide import DecideReader
from app.train.run_files import figures_json, notices, samples
from app.train.summaries import (
    StoreRows,
    checkpoint_summaries,
    opened_run,
    read_store,
    run_summaries,
    serving_history,
    with_run,
)
from app.train.views.away import away_view
from app.train.views.checkpoints import checkpoint_list
from app.train.views.decide import decide_view
from app.train.views.gate import verdict_view
from app.train.views.hardware import hardware_view
from app.train.views.lineage import lineage_view
from app.train.views.note import note_view
from app.train.views.power import power_view
from app.train.views.run_form import FormDraft, new_labels_view, run_form_view
from app.train.views.runs import RunSummary, run_head, run_list
from app.train.views.thoughts import SampledPair, log_view, thoughts_view
from storage import Database, NotInStoreError
from storage.labelling.krippendorff import Alpha, krippendorff_alpha
from storage.pairs import get_pair
from storage.schema import Start
from storage.training.model_registry import usable_location
from storage.training.new_labels import NewLabels, count_new_labels
from storage.training.pack_folder import RESULT
from storage.training.power import comparison_power
from storage.training.preflight import Preflight
from storage.training.runs import Run, newest_trained_label
from storage.training.snapshot_config import SnapshotConfig
from storage.training.snapshots import with_share_in_use

SAMPLED_PAIRS = 3
BUSY = ("queued", "running")  # states of a run that is not over
BENCHMARK = "test"  # the split's name among the metrics of a checkpoint
LOG_BYTES = 8000
_MOST_KEPT = 64
FRESH_SECONDS = 1.0
HARDWARE_SECONDS = 4.0
NEW_LABELS_SHARE = 1 / 50  # of the time may go into counting new labels,
NEW_LABELS_SECONDS = 15.0  # but a count is shown no longer than this

_T = TypeVar("_T")


@dataclass(frozen=True)
class PagePart:
    """A part of the page, and a version that changes with its content."""

    html: str
    version: str

    @classmethod
    def of(cls, html: str) -> PagePart:
        """Give a content its version."""
        return cls(html, hashlib.sha256(html.encode()).hexdigest()[:10])


@dataclass(frozen=True)
class PageState:
    """The page as it is now.

    Attributes:
        run: id of the open run; None without any.
        parts: HTML by name.
        figures: curves of the open run, as JSON in place of HTML.
        busy: whether a run waits or goes on.
        live: whether the open run is one of these.
    """

    run: int | None
    parts: Mapping[str, PagePart]
    figures: PagePart
    busy: bool
    live: bool


@dataclass(frozen=True)
class _Kept:
    """A result, and the seconds for which it is kept."""

    result: Any
    seconds: float


class PageStateReader:
    """Reads the store and the folders of runs."""

    def __init__(
        self, database: Database, clip_store: ClipStore, serving: Serving, preflights: Preflights, places: Places
    ) -> None:
        self._database, self._clip_store, self._serving, self._preflights = database, clip_store, serving, preflights
        self._places, self._decide = places, DecideReader(database, serving)
        self._cache: TLRUCache[Any, _Kept] = TLRUCache(_MOST_KEPT, ttu=lambda _key, kept, now: now + kept.seconds)
        self._lock = threading.Lock()

    def forget(self) -> None:
        """Drop all kept results, after a change."""
        with self._lock:
            self._cache.clear()

    def read(self, may_act: bool, run_id: int | None) -> PageState:
        """Return the page with one run open: the one with this id, else the one that goes on, else the newest."""
        return self._cached(("page", may_act, run_id), lambda: self._read(may_act, run_id))

    def compare(self, ids: Sequence[int]) -> Comparison:
        """Put runs side by side."""
        return self._cached(("compare", tuple(ids)), lambda: compare_runs(self._database, self._folder, self._rows(), ids))

    def new_labels(self, config: SnapshotConfig, since: int) -> NewLabels:
        """Count the labels that are newer than the label `since`; the count may be some seconds old."""

        def count() -> NewLabels:
            with self._database.read() as session:
                return count_new_labels(session, with_share_in_use(session, config), since)

        return self._cached(("new labels", config, since), count, NEW_LABELS_SECONDS, NEW_LABELS_SHARE)

    def preflight(self, new_labels: NewLabels | None = None) -> Preflight | None:
        """Return the preflight of the serving checkpoint on these labels; by default on all new ones."""
        labels = self.new_labels(SnapshotConfig(), self._since()) if new_labels is None else new_labels
        return self._preflights.ask(self.location("current"), labels.new + labels.replay, labels.compared)

    def location(self, start: Start) -> str:
        """Return the checkpoint that a run would start from, as `--checkpoint` takes it."""
        checkpoints = self._rows().checkpoints
        checkpoint = checkpoints.get(self._serving.checkpoint_id or 0)
        while start == "base" and checkpoint is not None and (parent := checkpoints.get(checkpoint.parent_id or 0)):
            checkpoint = parent
        return self._serving.now.location if checkpoint is None else usable_location(checkpoint, self._database.home)

    def has_benchmark(self) -> bool:
        """Return whether the gate compares on ShapeWorld too: a checkpoint of the lineage was measured on its test pairs."""
        checkpoints, ancestor = self._rows().checkpoints, self._serving.checkpoint_id
        while ancestor is not None and ancestor in checkpoints:
            if BENCHMARK in checkpoints[ancestor].metrics:
                return True
            ancestor = checkpoints[ancestor].parent_id
        return False

    # ---- the page ------------------------------------------------------------------------------------------------

    def _read(self, may_act: bool, run_id: int | None) -> PageState:
        rows = with_run(self._database, self._rows(), run_id)
        summaries = run_summaries(rows)
        opened = opened_run(summaries, run_id)
        html: dict[str, Markup | str] = {
            "news": self._new_labels_html(rows),
            "runs": run_list(summaries, None if opened is None else opened.run.id),
            "checkpoints": checkpoint_list(
                checkpoint_summaries(rows, self._serving.checkpoint_id), may_act, serving_history(rows)
            ),
            "lineage": lineage_view(
                rows.checkpoints, self._serving.checkpoint_id, {promotion.checkpoint_id for promotion in rows.promotions}
            ),
            "hardware": self._hardware_html(summaries),
            "aside": self._offloaded_html(),
            **self._run_parts(opened, rows, may_act),
        }
        if may_act:
            html["power"] = self._power_html()
            html["form"] = run_form_view(self.preflight(), FormDraft(), rows.campaigns, self._places.choices())
        figures = ""
        if opened is not None:
            figures = figures_json(self._folder(opened.run), opened.run.stages, str(opened.run.id))
        return PageState(
            run=None if opened is None else opened.run.id,
            parts={name: PagePart.of(str(text)) for name, text in html.items()},
            figures=PagePart.of(figures),
            busy=any(summary.run.state in BUSY for summary in summaries),
            live=opened is not None and opened.run.state in BUSY,
        )

    def _run_parts(self, summary: RunSummary | None, rows: StoreRows, may_act: bool) -> dict[str, Markup | str]:
        if summary is None:
            return dict.fromkeys(("run", "note", "away", "verdict", "decide", "samples", "log"), "")
        run, place = summary.run, self._places.of(summary.run)
        folder = place.folder(run)
        gate = None
        if run.candidate_id is not None and run.candidate_id in rows.checkpoints:
            gate = rows.checkpoints[run.candidate_id].gate
        command = run_command(run, self._database.home) if may_act else ""
        open_log = run.state in ("failed", "lost") or (run.state == "running" and not run.progress.get("stage"))
        return {
            "run": run_head(summary, may_act, _rounded_now(run), notices(folder, run.stages), command),
            "note": note_view(summary, rows.notes.get(run.id), may_act),
            "away": self._away_html(run) if may_act else "",
            "verdict": verdict_view(gate, summary.candidate or "candidate", summary.rival or "rival") if gate else "",
            "decide": self._decide_html(run, rows, may_act),
            "samples": thoughts_view(self._sampled_pairs(folder)),
            "log": log_view(place.tail(run, LOG_BYTES), open_log),
        }

    def _folder(self, run: Run) -> Path:
        return self._places.of(run).folder(run)

    def _away_html(self, run: Run) -> Markup | str:
        """Show what to do with a packed run, while it is away."""
        elsewhere = self._places.elsewhere
        if not is_away(run) or run.progress.get("part") or elsewhere.is_busy(run):
            return ""
        pack = elsewhere.pack(run)
        return away_view(run, pack, (pack / RESULT).is_file(), str(run.progress.get("refused", "")))

    def _decide_html(self, run: Run, rows: StoreRows, may_act: bool) -> Markup | str:
        """Show how the candidate of a run can be decided with few labels."""
        candidate = rows.checkpoints.get(run.candidate_id or 0)
        if candidate is None:
            return ""

        def read() -> Markup | str:
            summary = self._decide.read(candidate, rows.runs)
            return "" if summary is None else decide_view(summary, may_act)

        key = ("decide", candidate.id, self._serving.checkpoint_id, may_act)
        return self._cached(key, read, NEW_LABELS_SECONDS, NEW_LABELS_SHARE)

    def _sampled_pairs(self, folder: Path) -> list[SampledPair]:
        by_pair: dict[int, list[Mapping[str, Any]]] = {}
        for sample in samples(folder):
            by_pair.setdefault(int(sample["pair_id"]), []).append(sample)
        sampled = []
        with self._database.read() as session:
            for pair_id, of_pair in list(by_pair.items())[:SAMPLED_PAIRS]:
                try:
                    pair = get_pair(session, pair_id)
                except NotInStoreError:
                    continue
                posters = self._clip_store.poster_url(pair.video_a), self._clip_store.poster_url(pair.video_b)
                sampled.append(SampledPair(pair_id, pair.prompt, posters, of_pair[0].get("label"), of_pair))
        return sampled

    def _new_labels_html(self, rows: StoreRows) -> Markup:
        labels = self.new_labels(SnapshotConfig(), self._since())
        serving_since = rows.promotions[0].created_at if rows.promotions else None
        return new_labels_view(labels, self._alpha(labels), self._serving.now.name, serving_since)

    def _alpha(self, labels: NewLabels) -> Alpha | None:
        """Return the agreement of people on pairs with news; None where no pair has two labels."""
        patterns = labels.alpha_patterns
        if not patterns:
            return None
        key = ("alpha", tuple(sorted(patterns.items())))
        return self._cached(key, lambda: krippendorff_alpha(patterns, "nominal"), NEW_LABELS_SECONDS)

    def _power_html(self) -> Markup | str:
        """Show what the next comparison can show."""
        labels = self.new_labels(SnapshotConfig(), self._since())
        if not labels.total_pairs:
            return ""

        def read() -> Markup:
            with self._database.read() as session:
                split = with_share_in_use(session, SnapshotConfig())
                power = comparison_power(session, labels.compared, split.held_out_share)
            return power_view(power, self._alpha(labels), split.held_out_by)

        return self._cached(("power", labels.compared), read, NEW_LABELS_SECONDS, NEW_LABELS_SHARE)

    def _hardware_html(self, summaries: Sequence[RunSummary]) -> Markup:
        here = [run for run in (summary.run for summary in summaries) if run.state == "running" and run.place == "here"]
        hardware = self._cached("hardware", lambda: read_hardware(self._database.home, self.preflight()), HARDWARE_SECONDS)
        now = self._serving.now
        return hardware_view(hardware, here, "" if self._serving.elsewhere or now.aside else now.name)

    def _offloaded_html(self) -> Markup | str:
        reason = self._serving.now.aside
        text = (
            '<p class="train-aside">The serving model is not loaded now: {}. Pairs that were judged before still open.</p>'
        )
        return Markup(text).format(reason) if reason else ""

    # ---- the store -----------------------------------------------------------------------------------------------

    def _since(self) -> int:
        """Return the newest label that the serving checkpoint was trained on."""
        serving_id = self._serving.checkpoint_id

        def read() -> int:
            with self._database.read() as session:
                return 0 if serving_id is None else newest_trained_label(session, serving_id)

        return self._cached(("since", serving_id), read, NEW_LABELS_SECONDS)

    def _rows(self) -> StoreRows:
        return self._cached("rows", lambda: read_store(self._database))

    def _cached(self, key: Any, compute: Callable[[], _T], longest: float = FRESH_SECONDS, share: float = 1.0) -> _T:
        """Return a kept result, or compute it.

        Args:
            key: names the result.
            compute: computes it.
            longest: seconds for which it is kept at most.
            share: of the time that computing may take; a result is kept so long that it takes no more, but not longer than
                `longest`.
        """
        with self._lock:
            kept = self._cache.get(key)
        if kept is not None:
            result: _T = kept.result
            return result
        begun = time.monotonic()
        result = compute()
        took = time.monotonic() - begun
        seconds = longest if share == 1.0 else min(longest, max(FRESH_SECONDS, took / share))
        with self._lock:
            self._cache[key] = _Kept(result, seconds)
        return result


def _rounded_now(run: Run) -> datetime:
    """Return the time in steps of 10 s, later of a minute, so that the head of a run does not change every second."""
    now = datetime.now(timezone.utc)
    if run.started_at is None or (now - run.started_at).total_seconds() < 90:
        return now.replace(second=now.second // 10 * 10, microsecond=0)
    return now.replace(second=0, microsecond=0)
