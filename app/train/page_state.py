"""All that the Train page shows, in parts, each with a version: a browser that has a version is not sent the part again.

    shown = TrainState(database, clip_store, serving, preflights).shown(may_act=True, opened=None)
    shown.run, shown.parts["runs"].version, shown.parts["runs"].html

Many browsers that ask every two seconds cost one look at the store in a second.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

from markupsafe import Markup

from app.clip_store import ClipStore
from app.runs.preflight import Preflights
from app.serving.serving import Serving
from app.train.run_files import figures_json, notes, samples
from app.train.run_lines import Store, chosen_line, history, look_at, run_lines, with_run
from app.train.views.checkpoints import CheckpointLine, checkpoint_list
from app.train.views.gate import verdict_view
from app.train.views.run_form import Draft, making_form, news
from app.train.views.runs import RunLine, run_head, run_list
from app.train.views.thoughts import SampledPair, log_view, thoughts_view
from storage import Database, NotInStoreError
from storage.labelling.krippendorff import krippendorff_alpha
from storage.pairs import get_pair
from storage.training.model_registry import usable_location
from storage.training.new_labels import NewLabels, count_new_labels
from storage.training.preflight import Preflight
from storage.training.run_folder import tail
from storage.training.runs import Run, newest_trained_label
from storage.training.snapshot_config import SnapshotConfig
from storage.training.snapshots import with_share_in_use

SAMPLED_PAIRS = 3
BENCHMARK = "test"  # the split's name among the metrics of a checkpoint
LOG_BYTES = 8000
FRESH_SECONDS = 1.0
NEWS_SHARE = 1 / 50  # of the time may go into counting what is new,
NEWS_SECONDS = 15.0  # but a count is shown no longer than this

_T = TypeVar("_T")


@dataclass(frozen=True)
class Part:
    """A piece of the page; its version changes with it."""

    html: str
    version: str


@dataclass(frozen=True)
class PageState:
    """The page as it is now. run: the one that is open. figures: of that run, as JSON. busy: whether anything goes on."""

    run: int | None
    parts: Mapping[str, Part]
    figures: Part
    busy: bool


class TrainState:
    """Looks at the store and at the folders of runs."""

    def __init__(self, database: Database, clip_store: ClipStore, serving: Serving, preflights: Preflights) -> None:
        self._database, self._clip_store, self._serving, self._preflights = database, clip_store, serving, preflights
        self._kept: dict[Any, tuple[float, Any]] = {}
        self._turn = threading.Lock()

    def forget(self) -> None:
        """Look anew: something was done."""
        with self._turn:
            self._kept.clear()

    def shown(self, may_act: bool, opened: int | None) -> PageState:
        """The page with a run open: the one that is asked for, else the one that runs, else the newest."""
        return self._keep(("shown", may_act, opened), lambda: self._shown(may_act, opened))

    def news(self, settings: SnapshotConfig, since: int) -> NewLabels:
        """What is new, perhaps some seconds old."""

        def look() -> NewLabels:
            with self._database.read() as session:
                return count_new_labels(session, with_share_in_use(session, settings), since)

        return self._keep(("news", settings, since), look, NEWS_SECONDS, NEWS_SHARE)

    def preflight(self, news: NewLabels | None = None) -> Preflight | None:
        """What can be trained here from what serves now. news: what would be trained on; by default all that is new."""
        checkpoint = next((one for one in self._store().checkpoints.values() if one.id == self._serving.checkpoint_id), None)
        place = self._serving.now.location if checkpoint is None else usable_location(checkpoint, self._database.home)
        found = self.news(SnapshotConfig(), self._since()) if news is None else news
        return self._preflights.ask(place, found.new + found.replay, found.compared)

    def has_benchmark(self) -> bool:
        """Whether the comparison asks about ShapeWorld too: a checkpoint of the lineage was measured on its test split."""
        checkpoints, following = self._store().checkpoints, self._serving.checkpoint_id
        while following is not None and following in checkpoints:
            if BENCHMARK in checkpoints[following].metrics:
                return True
            following = checkpoints[following].parent_id
        return False

    # ---- the page ------------------------------------------------------------------------------------------------

    def _shown(self, may_act: bool, opened: int | None) -> PageState:
        store = with_run(self._database, self._store(), opened)
        lines = run_lines(store)
        chosen = chosen_line(lines, opened)
        html: dict[str, Markup | str] = {
            "news": self._news_html(store),
            "runs": run_list(lines, None if chosen is None else chosen.run.id),
            "checkpoints": checkpoint_list(self._checkpoint_lines(store), may_act, history(store)),
            "aside": self._aside_html(),
            **self._run_parts(chosen, store, may_act),
        }
        if may_act:
            html["form"] = making_form(self.preflight(), Draft(), store.campaigns)
        figures = ""
        if chosen is not None:
            figures = figures_json(self._database.home / chosen.run.folder, chosen.run.stages, str(chosen.run.id))
        busy = any(line.run.state in ("queued", "running") for line in lines)
        return PageState(
            None if chosen is None else chosen.run.id,
            {name: part(str(text)) for name, text in html.items()},
            part(figures),
            busy,
        )

    def _run_parts(self, line: RunLine | None, store: Store, may_act: bool) -> dict[str, Markup | str]:
        if line is None:
            return dict.fromkeys(("run", "verdict", "samples", "log"), "")
        run, folder = line.run, self._database.home / line.run.folder
        gate = None
        if run.candidate_id is not None and run.candidate_id in store.checkpoints:
            gate = store.checkpoints[run.candidate_id].gate
        open_log = run.state in ("failed", "lost") or (run.state == "running" and not run.progress.get("stage"))
        return {
            "run": run_head(line, may_act, _to_the_minute(run), notes(folder, run.stages)),
            "verdict": verdict_view(gate, line.candidate or "candidate", line.rival or "rival") if gate else "",
            "samples": thoughts_view(self._sampled(folder)),
            "log": log_view(tail(folder, LOG_BYTES), open_log),
        }

    def _sampled(self, folder: Path) -> list[SampledPair]:
        by_pair: dict[int, list[Mapping[str, Any]]] = {}
        for sample in samples(folder):
            by_pair.setdefault(int(sample["pair_id"]), []).append(sample)
        found = []
        with self._database.read() as session:
            for pair_id, some in list(by_pair.items())[:SAMPLED_PAIRS]:
                try:
                    pair = get_pair(session, pair_id)
                except NotInStoreError:
                    continue
                posters = self._clip_store.poster_url(pair.video_a), self._clip_store.poster_url(pair.video_b)
                found.append(SampledPair(pair_id, pair.prompt, posters, some[0].get("label"), some))
        return found

    def _news_html(self, store: Store) -> Markup:
        found = self.news(SnapshotConfig(), self._since())
        alpha = None
        if found.alpha_patterns:
            key = ("alpha", tuple(sorted(found.alpha_patterns.items())))
            alpha = self._keep(key, lambda: krippendorff_alpha(found.alpha_patterns or {}, "nominal"), NEWS_SECONDS)
        since = store.promotions[0].created_at if store.promotions else None
        return news(found, alpha, self._serving.now.name, since)

    def _aside_html(self) -> Markup | str:
        aside = self._serving.now.aside
        text = (
            '<p class="train-aside">The serving model has stepped aside: {}. Pairs that were judged before still open.</p>'
        )
        return Markup(text).format(aside) if aside else ""

    def _checkpoint_lines(self, store: Store) -> list[CheckpointLine]:
        serves = self._serving.checkpoint_id
        served = {one.checkpoint_id for one in store.promotions}
        runs = {run.id: run for run in store.runs}
        lines = []
        for one in sorted(store.checkpoints.values(), key=lambda one: one.id, reverse=True):
            if one.deleted_at is not None:
                continue
            run = runs.get(one.run_id or 0)
            parent = store.checkpoints.get(one.parent_id or 0)
            lines.append(
                CheckpointLine(
                    checkpoint=one,
                    parent=None if parent is None else parent.name,
                    run=f"run {one.run_id}" if one.run_id else None,
                    counts={} if run is None else run.counts,
                    serves=one.id == serves,
                    served=one.id in served,
                    is_older=serves is not None and one.id < serves,
                )
            )
        return lines

    # ---- the store -----------------------------------------------------------------------------------------------

    def _since(self) -> int:
        serves = self._serving.checkpoint_id

        def look() -> int:
            with self._database.read() as session:
                return 0 if serves is None else newest_trained_label(session, serves)

        return self._keep(("since", serves), look, NEWS_SECONDS)

    def _store(self) -> Store:
        return self._keep("store", lambda: look_at(self._database))

    def _keep(self, key: Any, look: Callable[[], _T], longest: float = FRESH_SECONDS, share: float = 1.0) -> _T:
        """What was found a moment ago, or now. Finding takes at most `share` of the time, yet is done after `longest`."""
        with self._turn:
            fresh_until, found = self._kept.get(key, (0.0, None))
        begun = time.monotonic()
        if begun < fresh_until:
            return found
        value = look()
        ended = time.monotonic()
        with self._turn:
            self._kept = {name: one for name, one in self._kept.items() if one[0] > ended}
            keep = longest if share == 1.0 else min(longest, max(FRESH_SECONDS, (ended - begun) / share))
            self._kept[key] = (ended + keep, value)
        return value


def part(html: str) -> Part:
    """A piece with its version."""
    return Part(html, hashlib.sha256(html.encode()).hexdigest()[:10])


def _to_the_minute(run: Run) -> datetime:
    """Now, in steps: the head of a run need not change every second."""
    now = datetime.now(timezone.utc)
    if run.started_at is None or (now - run.started_at).total_seconds() < 90:
        return now.replace(second=now.second // 10 * 10, microsecond=0)
    return now.replace(second=0, microsecond=0)
