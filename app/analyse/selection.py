"""Selection of checkpoints and pairs on the Analyse page, and its data, read once for all tabs and the report.

selection = context.select(sent)            # from a form or the browser's memory: everything is checked
selected = context.load(selection)          # the pairs by checkpoint, kept as long as the store does not change
selected.first.pairs
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from cachetools import LRUCache

from app.analyse.figures.judged_pairs import MODES, AnalysedCheckpoint, Mode
from app.clip_store import ClipStore
from app.serving.serving import Served, Serving
from app.web.auth import Auth
from app.web.form_data import FormError
from descore.calibration import ModeCalibration
from descore.errors import CheckpointError
from storage import Database
from storage.analysis.cache_key import Stamp, last_changes
from storage.analysis.judged_pairs import AnalysedPair, analysed_pairs
from storage.analysis.reward_margins import pair_sources
from storage.campaigns.campaign import list_campaigns
from storage.training.model_registry import BASE, Checkpoint, list_checkpoints, usable_location
from storage.training.model_registry import serving as serving_checkpoint
from storage.training.snapshots import held_out_by_in_use, held_out_share_in_use
from storage.training.trained_pairs import trained_identities

log = logging.getLogger(__name__)
Result = TypeVar("Result")

_KEPT_PAIRS, _KEPT_FINDINGS = 6, 24
NO_CHECKPOINT = "No checkpoint is known yet; one appears here as soon as the app serves it."


@dataclass(frozen=True)
class SelectionOptions:
    """What a selection can consist of.

    Attributes:
        checkpoints: the serving one first.
        sources: number of pairs by source.
        campaigns: name by id.
    """

    checkpoints: tuple[Checkpoint, ...]
    sources: Mapping[str, int]
    campaigns: Mapping[int, str]

    @property
    def scopes(self) -> dict[str, str]:
        """Text by value of the form's choice of pairs."""
        scopes = {"all": "all pairs"}
        scopes |= {f"campaign:{key}": f"campaign {name}" for key, name in self.campaigns.items()}
        return scopes | {f"source:{name}": f"source {name} ({pairs} pairs)" for name, pairs in self.sources.items()}


@dataclass(frozen=True)
class Selection:
    """What the page shows.

    Attributes:
        checkpoint: id of the checkpoint that all tabs are about.
        beside: ids of others to compare it with.
        scope: which pairs, a key of `SelectionOptions.scopes`.
        held_out: whether only held-out pairs count.
        mode: "think" or "quick".
    """

    checkpoint: int
    beside: tuple[int, ...] = ()
    scope: str = "all"
    held_out: bool = False
    mode: Mode = "think"

    @classmethod
    def of(cls, sent: Any, options: SelectionOptions) -> Selection | None:
        """Read the selection of a browser or form, with defaults for unknown values; None where there is no checkpoint."""
        if not options.checkpoints:
            return None
        fields = sent if isinstance(sent, Mapping) else {}
        ids = {str(checkpoint.id): checkpoint.id for checkpoint in options.checkpoints}
        scope, beside = fields.get("scope"), fields.get("beside")
        checkpoint_id = ids.get(str(fields.get("checkpoint")), options.checkpoints[0].id)
        others = [ids[str(key)] for key in (beside if isinstance(beside, (list, tuple)) else ()) if str(key) in ids]
        return cls(
            checkpoint=checkpoint_id,
            beside=tuple(dict.fromkeys(key for key in others if key != checkpoint_id)),
            scope=scope if isinstance(scope, str) and scope in options.scopes else "all",
            held_out=fields.get("held_out") in (True, "yes", ["yes"]),
            mode="quick" if fields.get("way") == "quick" else "think",
        )

    def to_value(self) -> dict[str, Any]:
        """Return the selection as JSON types, for the browser's memory."""
        return {
            "checkpoint": self.checkpoint,
            "beside": list(self.beside),
            "scope": self.scope,
            "held_out": self.held_out,
            "way": self.mode,
        }

    @property
    def sources(self) -> tuple[str, ...] | None:
        """The selected source, None for all."""
        kind, _, name = self.scope.partition(":")
        return (name,) if kind == "source" else None

    @property
    def campaign_ids(self) -> tuple[int, ...] | None:
        """The selected campaign's id, None for all."""
        kind, _, key = self.scope.partition(":")
        return (int(key),) if kind == "campaign" else None


@dataclass(frozen=True)
class SelectedPairs:
    """Data of a selection.

    Attributes:
        selection: what was selected.
        checkpoints: with their pairs, the one in detail first.
        registered: the same checkpoints as the registry has them.
        scope: which pairs, in words.
        stamp: state of the store at which they were read.
    """

    selection: Selection
    checkpoints: tuple[AnalysedCheckpoint, ...]
    registered: tuple[Checkpoint, ...]
    scope: str
    stamp: Stamp

    @property
    def first(self) -> AnalysedCheckpoint:
        """The checkpoint that all tabs are about."""
        return self.checkpoints[0]

    @property
    def labelled(self) -> int:
        """Number of pairs in which people chose."""
        return sum(pair.choice is not None for pair in self.first.pairs)


class AnalyseContext:
    """Data of the sections, read from the store and kept while nothing in it changes."""

    def __init__(self, database: Database, clip_store: ClipStore, serving: Serving, auth: Auth) -> None:
        self.database, self.clip_store, self.serving, self.auth = database, clip_store, serving, auth
        self._pairs: LRUCache[Hashable, tuple[AnalysedPair, ...]] = LRUCache(_KEPT_PAIRS)
        self._findings: LRUCache[Hashable, Any] = LRUCache(_KEPT_FINDINGS)
        self._served: dict[int, Served] = {}
        self._lock = threading.Lock()

    def options(self) -> SelectionOptions:
        """Return the checkpoints, sources and campaigns to select from."""
        with self.database.read() as session:
            serving = serving_checkpoint(session)
            first = None if serving is None else serving.id
            checkpoints = sorted(list_checkpoints(session), key=lambda row: (row.id != first, -row.id))
            campaigns = {campaign.id: campaign.config.name for campaign in list_campaigns(session)}
            return SelectionOptions(tuple(checkpoints), pair_sources(session), campaigns)

    def select(self, sent: Any) -> Selection:
        """Read the selection that a browser or form sent.

        Raises:
            FormError: there is no checkpoint yet.
        """
        selection = Selection.of(sent, self.options())
        if selection is None:
            raise FormError(NO_CHECKPOINT)
        return selection

    def load(self, selection: Selection) -> SelectedPairs:
        """Read the pairs of a selection for each of its checkpoints."""
        options = self.options()
        by_id = {checkpoint.id: checkpoint for checkpoint in options.checkpoints}
        with self.database.read() as session:
            stamp = (*last_changes(session), str(held_out_share_in_use(session)), held_out_by_in_use(session))
        rows = tuple(by_id[key] for key in (selection.checkpoint, *selection.beside) if key in by_id)
        checkpoints = tuple(self._analysed(row, selection, stamp) for row in rows)
        return SelectedPairs(selection, checkpoints, rows, options.scopes.get(selection.scope, selection.scope), stamp)

    def cached(self, selected: SelectedPairs, name: str, compute: Callable[[], Result]) -> Result:
        """Return the result of `compute`, computed once for a selection as long as nothing in the store changes."""
        return self._cached(self._findings, (name, selected.selection, selected.stamp), compute)

    def served(self, checkpoint: Checkpoint) -> Served | None:
        """Read the manifest of a checkpoint; None where it can't be read here, or now belongs to other weights."""
        now = self.serving.now
        if now.fingerprint == checkpoint.fingerprint:
            return replace(now, name=checkpoint.name)
        if checkpoint.id not in self._served:
            location = usable_location(checkpoint, self.database.home)
            if location != BASE and not Path(location).is_dir():
                return None  # on the Hub; nothing is fetched from there for a figure
            try:
                served = Served.read(location)
            except CheckpointError as error:
                log.warning("the manifest of %s can't be read: %s", checkpoint.name, error)
                return None
            if served.fingerprint != checkpoint.fingerprint:
                return None
            self._served[checkpoint.id] = replace(served, name=checkpoint.name)
        return self._served[checkpoint.id]

    def _analysed(self, checkpoint: Checkpoint, selection: Selection, stamp: Stamp) -> AnalysedCheckpoint:
        def read() -> tuple[AnalysedPair, ...]:
            with self.database.read() as session:
                return analysed_pairs(
                    session,
                    checkpoint.fingerprint,
                    sources=selection.sources,
                    campaign_ids=selection.campaign_ids,
                    held_out_share=held_out_share_in_use(session) if selection.held_out else None,
                    held_out_by=held_out_by_in_use(session),
                )

        key = (checkpoint.fingerprint, selection.scope, selection.held_out, stamp)
        served = self.served(checkpoint)
        scales = {mode: None if served is None else served.scale(mode) for mode in MODES}
        pairs = self._cached(self._pairs, key, read)
        calibrations: dict[str, ModeCalibration] = {mode: scale for mode, scale in scales.items() if scale is not None}
        # A run of this store fits the calibrations of its checkpoint on the held-out pairs (trainer/evaluation/held_out.py).
        # One that was carried over was fitted on other pairs.
        own = any(not scale.source for scale in calibrations.values())
        fitted_here = checkpoint.snapshot_hash is not None and own
        with self.database.read() as session:
            trained_on = trained_identities(session, checkpoint.id)
        return AnalysedCheckpoint(checkpoint.name, checkpoint.fingerprint, pairs, calibrations, fitted_here, trained_on)

    def _cached(self, cache: LRUCache[Hashable, Any], key: Hashable, compute: Callable[[], Result]) -> Result:
        with self._lock:
            if key in cache:
                result: Result = cache[key]
                return result
        result = compute()
        with self._lock:
            cache[key] = result
        return result
