"""Which pairs of which checkpoints the Analyse page looks at, and their data, read once.

    selection = Selection.of(sent, known)          # from a form or the browser's memory: everything is checked
    chosen = context.chosen(selection)                # the pairs by checkpoint, from memory as long as nothing is new
    chosen.first.pairs

The tabs and the report get the same findings from the same place.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

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
from storage.training.snapshots import held_out_share_in_use

log = logging.getLogger(__name__)
Made = TypeVar("Made")

_KEPT_PAIRS, _KEPT_FINDINGS = 6, 24
NO_CHECKPOINT = "No checkpoint is known yet; one appears here as soon as the app serves it."


@dataclass(frozen=True)
class SelectionOptions:
    """What can be chosen: checkpoints (the one that serves first), sources with their pairs, campaigns by id."""

    checkpoints: tuple[Checkpoint, ...]
    sources: Mapping[str, int]
    campaigns: Mapping[int, str]

    @property
    def scopes(self) -> dict[str, str]:
        """Which pairs can be looked at: value of the form -> text."""
        found = {"all": "all pairs"}
        found |= {f"campaign:{key}": f"campaign {name}" for key, name in self.campaigns.items()}
        return found | {f"source:{name}": f"source {name} ({pairs} pairs)" for name, pairs in self.sources.items()}


@dataclass(frozen=True)
class Selection:
    """What the page shows. checkpoint: the one in detail; beside: others to compare with; scope: a key of
    `SelectionOptions.scopes`."""

    checkpoint: int
    beside: tuple[int, ...] = ()
    scope: str = "all"
    held_out: bool = False
    mode: Mode = "think"

    @classmethod
    def of(cls, sent: Any, known: SelectionOptions) -> Selection | None:
        """Read what a browser or a form sent; what is unknown gives way to the defaults. None without any checkpoint."""
        if not known.checkpoints:
            return None
        said = sent if isinstance(sent, Mapping) else {}
        ids = {str(one.id): one.id for one in known.checkpoints}
        scope, beside = said.get("scope"), said.get("beside")
        chosen = ids.get(str(said.get("checkpoint")), known.checkpoints[0].id)
        others = [ids[str(one)] for one in (beside if isinstance(beside, (list, tuple)) else ()) if str(one) in ids]
        return cls(
            checkpoint=chosen,
            beside=tuple(dict.fromkeys(one for one in others if one != chosen)),
            scope=scope if isinstance(scope, str) and scope in known.scopes else "all",
            held_out=said.get("held_out") in (True, "yes", ["yes"]),
            mode="quick" if said.get("way") == "quick" else "think",
        )

    def to_value(self) -> dict[str, Any]:
        """As JSON types, for the browser's memory."""
        return {
            "checkpoint": self.checkpoint,
            "beside": list(self.beside),
            "scope": self.scope,
            "held_out": self.held_out,
            "way": self.mode,
        }

    @property
    def sources(self) -> tuple[str, ...] | None:
        """The source that is looked at, None for all."""
        kind, _, name = self.scope.partition(":")
        return (name,) if kind == "source" else None

    @property
    def campaign_ids(self) -> tuple[int, ...] | None:
        """The campaign that is looked at, None for all."""
        kind, _, key = self.scope.partition(":")
        return (int(key),) if kind == "campaign" else None


@dataclass(frozen=True)
class SelectedPairs:
    """The data of a selection. checkpoints: with their pairs, the one in detail first; registered: the same in the registry.

    scope: which pairs, in words. stamp: of the store.
    """

    selection: Selection
    checkpoints: tuple[AnalysedCheckpoint, ...]
    registered: tuple[Checkpoint, ...]
    scope: str
    stamp: Stamp

    @property
    def first(self) -> AnalysedCheckpoint:
        """The checkpoint in detail."""
        return self.checkpoints[0]

    @property
    def labelled(self) -> int:
        """Pairs that people chose in."""
        return sum(pair.choice is not None for pair in self.first.pairs)


class AnalyseContext:
    """Reads and keeps what the sections need."""

    def __init__(self, database: Database, clip_store: ClipStore, serving: Serving, auth: Auth) -> None:
        self.database, self.clip_store, self.serving, self.auth = database, clip_store, serving, auth
        self._pairs: OrderedDict[Hashable, tuple[AnalysedPair, ...]] = OrderedDict()
        self._made: OrderedDict[Hashable, Any] = OrderedDict()
        self._read: dict[int, Served] = {}
        self._lock = threading.Lock()

    def known(self) -> SelectionOptions:
        """What can be chosen now."""
        with self.database.read() as session:
            serving = serving_checkpoint(session)
            first = None if serving is None else serving.id
            checkpoints = sorted(list_checkpoints(session), key=lambda one: (one.id != first, -one.id))
            campaigns = {one.id: one.config.name for one in list_campaigns(session)}
            return SelectionOptions(tuple(checkpoints), pair_sources(session), campaigns)

    def select(self, sent: Any) -> Selection:
        """The selection that a browser or form asks for.

        Raises:
            FormError: there is no checkpoint yet.
        """
        selection = Selection.of(sent, self.known())
        if selection is None:
            raise FormError(NO_CHECKPOINT)
        return selection

    def chosen(self, selection: Selection) -> SelectedPairs:
        """The pairs of a selection, of each checkpoint."""
        known = self.known()
        by_id = {one.id: one for one in known.checkpoints}
        with self.database.read() as session:
            stamp = (*last_changes(session), str(held_out_share_in_use(session)))
        rows = tuple(by_id[one] for one in (selection.checkpoint, *selection.beside) if one in by_id)
        found = tuple(self._analysed(row, selection, stamp) for row in rows)
        return SelectedPairs(selection, found, rows, known.scopes.get(selection.scope, selection.scope), stamp)

    def once(self, chosen: SelectedPairs, name: str, make: Callable[[], Made]) -> Made:
        """What `make` gives, made once for a selection as long as nothing in the store changes."""
        return self._remembered(self._made, (name, chosen.selection, chosen.stamp), make, _KEPT_FINDINGS)

    def served(self, checkpoint: Checkpoint) -> Served | None:
        """A checkpoint's manifest, and what follows from it; None where it can't be read here, or is another one by now."""
        now = self.serving.now
        if now.fingerprint == checkpoint.fingerprint:
            return replace(now, name=checkpoint.name)
        if checkpoint.id not in self._read:
            place = usable_location(checkpoint, self.database.home)
            if place != BASE and not Path(place).is_dir():
                return None  # on the Hub, which is not asked for the sake of a figure
            try:
                found = Served.read(place)
            except CheckpointError as error:
                log.warning("the manifest of %s can't be read: %s", checkpoint.name, error)
                return None
            if found.fingerprint != checkpoint.fingerprint:
                return None
            self._read[checkpoint.id] = replace(found, name=checkpoint.name)
        return self._read[checkpoint.id]

    def _analysed(self, checkpoint: Checkpoint, selection: Selection, stamp: Stamp) -> AnalysedCheckpoint:
        def read() -> tuple[AnalysedPair, ...]:
            with self.database.read() as session:
                return analysed_pairs(
                    session,
                    checkpoint.fingerprint,
                    sources=selection.sources,
                    campaign_ids=selection.campaign_ids,
                    held_out_share=held_out_share_in_use(session) if selection.held_out else None,
                )

        key = (checkpoint.fingerprint, selection.scope, selection.held_out, stamp)
        served = self.served(checkpoint)
        scales = {mode: None if served is None else served.scale(mode) for mode in MODES}
        pairs = self._remembered(self._pairs, key, read, _KEPT_PAIRS)
        calibrations: dict[str, ModeCalibration] = {mode: scale for mode, scale in scales.items() if scale is not None}
        # What a run of this store makes has its scales from the held-out pairs (trainer/evaluation/held_out.py).
        fitted_here = checkpoint.snapshot_hash is not None and bool(calibrations)
        return AnalysedCheckpoint(checkpoint.name, checkpoint.fingerprint, pairs, calibrations, fitted_here)

    def _remembered(self, kept: OrderedDict[Hashable, Any], key: Hashable, make: Callable[[], Made], most: int) -> Made:
        with self._lock:
            if key in kept:
                kept.move_to_end(key)
                found: Made = kept[key]
                return found
        found = make()
        with self._lock:
            kept[key] = found
            while len(kept) > most:
                kept.popitem(last=False)
        return found
