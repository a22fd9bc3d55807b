"""The checkpoint that answers now. It can be swapped for another one, or offloaded for a while, as the app runs.

    serving = Serving.open(database, None)         # the checkpoint that served last; "bundled" in a fresh store
    with serving.in_use() as served:               # one judgement: what begins on a checkpoint ends on it
        served.require_model().judge(videos, prompt)
    serving.promote(database, checkpoint_id, "promote", by=user.id)
    serving.offload("run 7 trains"); serving.restore()

Each app process has one `Serving`; pages hold it, never a `Served` of their own.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from app.serving.judging_queue import JudgingQueue
from app.serving.zero_gpu import load_judge
from descore import DeScore
from descore.calibration import ModeCalibration
from descore.checkpoints.folder import MANIFEST_FILE, folder_fingerprint, locate, read_manifest
from descore.checkpoints.manifest import Manifest
from descore.engines.engine import EngineName
from descore.engines.transformers_engine import TransformersEngine
from descore.errors import CheckpointError, EngineError, NotEnoughMemoryError
from descore.judge import release_memory
from descore.judgement import Judgement, Mode, Verdict
from descore.modeling.cpu_threads import set_threads
from descore.prompt import check_prompt
from descore.verdicts import verdict_of
from storage import Database, StorageError
from storage.schema import PromotionAction
from storage.training.model_registry import (
    BASE,
    Checkpoint,
    get_checkpoint,
    kept_location,
    promote,
    promotions,
    register_checkpoint,
    usable_location,
)
from storage.training.model_registry import serving as last_promoted
from storage.training.run_folder import is_held
from storage.training.runs import Run, is_here, runs_in

log = logging.getLogger(__name__)

# How long offloading waits for the judgements that the model has begun.
IN_FLIGHT_SECONDS = 120.0


class ModelAsideError(RuntimeError):
    """The model is offloaded, since a training run needs its memory; the message says when it comes back."""


@dataclass(frozen=True)
class Served:
    """One checkpoint as the pages know it.

    Attributes:
        name: as the registry has it.
        location: a folder, a Hub id or "bundled".
        manifest: of the checkpoint.
        has_reward: whether it has a trained scoring module.
        fingerprint: changes with anything in the checkpoint.
        model: None while it is offloaded.
        aside: why it is offloaded, "" while it is not.
    """

    name: str
    location: str
    manifest: Manifest
    has_reward: bool
    fingerprint: str
    model: DeScore | None = None
    aside: str = ""

    @classmethod
    def load(cls, checkpoint: str, engine: EngineName = "transformers") -> Served:
        """Load a checkpoint by name, folder or Hub id.

        Raises:
            descore.errors.CheckpointError: there is none, or it can't be used, or not by that engine.
        """
        folder, _ = locate(checkpoint)
        try:
            model = load_judge(checkpoint, engine)
        except EngineError as error:
            raise CheckpointError(str(error)) from error
        if isinstance(model.engine, TransformersEngine):
            set_threads(model.model)
        return cls(model.name, checkpoint, model.manifest, model.has_reward, folder_fingerprint(folder), model)

    @classmethod
    def read(cls, checkpoint: str) -> Served:
        """Read a checkpoint without its weights, with the errors of `load`."""
        folder, _ = locate(checkpoint)
        if not (folder / MANIFEST_FILE).exists():
            raise CheckpointError(f"{folder.name} is a bare backbone, which can't be read without its weights")
        manifest = read_manifest(folder)
        return cls(manifest.name, checkpoint, manifest, True, folder_fingerprint(folder))

    @property
    def knows(self) -> str:
        """The data that it was trained on, in a few words."""
        if not self.has_reward:
            return "a backbone without a trained scoring module: thoughts and sub-scores, no reward"
        return self.manifest.trained_on or "its card does not say what it was trained on"

    def scale(self, mode: Mode) -> ModeCalibration | None:
        """Return the calibration of a mode; None without a reward or a calibration."""
        return self.manifest.calibration.for_mode(mode) if self.has_reward else None

    def compare(self, mode: Mode, prompt: str, judged: tuple[Judgement, ...]) -> Verdict:
        """Compare stored judgements of one prompt."""
        return verdict_of(self.manifest, mode, prompt, judged)

    def check_prompt(self, prompt: str) -> None:
        """Refuse what can't be a prompt; special tokens and tokens are counted while the model is loaded.

        Raises:
            PromptError: see `descore.judge.DeScore.check_prompt`.
        """
        if self.model is None:
            check_prompt(prompt)
        else:
            self.model.check_prompt(prompt)

    def require_model(self) -> DeScore:
        """Return the loaded model.

        Raises:
            ModelAsideError: it is offloaded.
        """
        if self.model is None:
            raise ModelAsideError(
                f"The model is not loaded now: {self.aside}. It comes back by itself; pairs judged before still open."
            )
        return self.model


class Serving:
    """Holds the checkpoint that answers now, and the queue before it. Threads may share it.

    Attributes:
        elsewhere: other machines judge, see `app.serving.judge_servers`; this one has no model in memory.
    """

    elsewhere = False

    def __init__(self, served: Served, checkpoint_id: int | None = None, engine: EngineName = "transformers") -> None:
        self._served, self._checkpoint_id, self._engine = served, checkpoint_id, engine
        self._change = threading.Lock()  # one swap at a time; loading takes seconds
        self._users = threading.Condition()
        self._in_use = 0
        self.queue = JudgingQueue()
        self._set_queue()

    @classmethod
    def open(cls, database: Database, checkpoint: str | None, engine: EngineName = "transformers") -> Serving:
        """Load the named checkpoint, else the one promoted last, else the bundled one, and register it.

        Beside a run that needs the whole device nothing is loaded; the model comes back after it. Where the checkpoint
        promoted last can't be used now, the bundled one stands in for it and is not promoted: the other is tried again.

        Raises:
            descore.errors.CheckpointError: the named checkpoint can't be used.
            StorageError: the store can't be read or written.
        """
        with database.read() as session:
            last = last_promoted(session)
            runs = [run for run in runs_in(session, "running") if run.request.get("steps_aside")]
        here = [run for run in runs if is_here(run, database.home) and is_held(database.home / run.folder)]
        aside, stands_in = offload_reason(here[0]) if here else "", False
        if checkpoint is None and last is not None:
            try:
                loaded = _loaded(database, last, lambda location, _: Served.load(location, engine), weights=not aside)
                return cls(replace(loaded, aside=aside), last.id, engine)
            except CheckpointError as error:
                log.warning("%s, which served last, can't be used (%s); the bundled checkpoint serves", last.name, error)
                stands_in = last.location != BASE
        served = replace(Served.read(checkpoint or BASE), aside=aside) if aside else Served.load(checkpoint or BASE, engine)
        with database.write() as session:
            known = register_checkpoint(
                session,
                name=served.name,
                location=kept_location(served.location, database.home),
                fingerprint=served.fingerprint,
                metrics=dict(served.manifest.metrics),
                settings=served.manifest.lineage.get("config"),
            )
            if last is None or (last.id != known.id and not stands_in):
                promote(session, known.id, "start")
        return cls(replace(served, name=known.name), known.id, engine)

    @property
    def now(self) -> Served:
        """The checkpoint that answers now."""
        return self._served

    @property
    def checkpoint_id(self) -> int | None:
        """Its number in the registry; None for one that the store does not know."""
        return self._checkpoint_id

    def routes(self, notice: Callable[[], str] = str) -> list[BaseRoute]:
        """`GET /serving`: the checkpoint that answers now. The heads of all open pages ask for it, since it can change.

        Args:
            notice: what they say to everybody besides, such as that labels will not last; "" for nothing.
        """

        async def show(_request: Request) -> Response:
            now = self.now
            content = {"name": now.name, "knows": now.knows, "aside": now.aside, "notice": notice()}
            return JSONResponse(content, headers={"Cache-Control": "no-store"})

        return [Route("/serving", show, methods=["GET"])]

    @contextmanager
    def in_use(self) -> Iterator[Served]:
        """Keep the checkpoint that answers now in memory for the length of the block."""
        with self._users:
            served = self._served
            self._in_use += 1
        try:
            yield served
        finally:
            with self._users:
                self._in_use -= 1
                self._users.notify_all()

    def promote(self, database: Database, checkpoint_id: int, action: PromotionAction, by: int | None = None) -> Served:
        """Load a registered checkpoint beside the one that serves, note the promotion, and swap.

        Raises:
            descore.errors.CheckpointError: it can't be used; the checkpoint that serves goes on.
            StorageError: it is not in the registry any more, or the store can't be written.
        """
        with self._change:
            with database.read() as session:
                chosen = get_checkpoint(session, checkpoint_id)
            if chosen.id == self._checkpoint_id:
                raise StorageError(f"{chosen.name} serves already")
            with self._loaded_in_place(database, chosen) as served, database.write() as session:
                promote(session, chosen.id, action, by)
            self._swap(served, chosen.id)
            return self._served

    def follow(self, database: Database) -> bool:
        """Serve the checkpoint that another app on this store promoted or rolled back to.

        Returns:
            Whether there was one.

        Raises:
            descore.errors.CheckpointError: it can't be used here; the checkpoint that serves goes on.
            StorageError: the store can't be read.
        """
        with self._change:
            with database.read() as session:
                last = promotions(session, 1)
                # A checkpoint that an app was started with is that app's own choice.
                if not last or last[0].action == "start" or last[0].checkpoint_id == self._checkpoint_id:
                    return False
                chosen = get_checkpoint(session, last[0].checkpoint_id)
            with self._loaded_in_place(database, chosen) as served:
                self._swap(served, chosen.id)
            return True

    @contextmanager
    def _loaded_in_place(self, database: Database, chosen: Checkpoint) -> Iterator[Served]:
        """Load a checkpoint beside the one that serves or, where the device can't hold both, after offloading that one.

        The checkpoint that served is loaded again if the block, or the loading, fails.
        """
        before = self._served
        try:
            try:
                served = self._loaded(database, chosen, weights=not before.aside)
            except NotEnoughMemoryError:
                if before.model is None:
                    raise
                self._offload(f"{chosen.name} takes its place")
                served = self._loaded(database, chosen)
            yield replace(served, aside=before.aside)
        except Exception:
            if self._served is not before and self._served.model is None and before.model is not None:
                back = self._load(before.location, before.fingerprint)
                self._swap(replace(back, name=before.name), self._checkpoint_id)
            raise

    def offload(self, reason: str) -> None:
        """Free the model's memory, once the judgements that it has begun are done."""
        with self._change:
            self._offload(reason)

    def restore(self) -> None:
        """Load the model again after `offload`; do nothing where it is loaded.

        Raises:
            descore.errors.CheckpointError: it can't be loaded; it stays offloaded, and may be tried again.
        """
        with self._change:
            if self._served.model is not None:
                return
            loaded = Served.load(self._served.location, self._engine)
            self._swap(replace(loaded, name=self._served.name), self._checkpoint_id)

    def _offload(self, reason: str) -> None:
        self._swap(replace(self._served, model=None, aside=reason), self._checkpoint_id)
        deadline = time.monotonic() + IN_FLIGHT_SECONDS
        with self._users:
            while self._in_use and time.monotonic() < deadline:
                self._users.wait(deadline - time.monotonic())
        release_memory()

    def _load(self, location: str, _fingerprint: str) -> Served:
        """Load a checkpoint, with the errors of `Served.load`; one without that fingerprint is refused by the caller."""
        return Served.load(location, self._engine)

    def _loaded(self, database: Database, chosen: Checkpoint, weights: bool = True) -> Served:
        return _loaded(database, chosen, self._load, weights or self.elsewhere)

    def _swap(self, served: Served, checkpoint_id: int | None) -> None:
        with self._users:
            self._served, self._checkpoint_id = served, checkpoint_id
        self._set_queue()
        release_memory()

    def _set_queue(self) -> None:
        """Let as many judgements run at a time as the engine gains from."""
        if self._served.model is not None:
            self.queue.set_at_once(self._served.model.engine.at_once)


def offload_reason(run: Run) -> str:
    """Say why the model is offloaded for a run."""
    return f"{run.name} trains, and the device can't hold both"


def _loaded(database: Database, checkpoint: Checkpoint, load: Callable[[str, str], Served], weights: bool = True) -> Served:
    """Load a registered checkpoint under its name in the registry.

    Raises:
        descore.errors.CheckpointError: it can't be used, or its files have changed.
    """
    location = usable_location(checkpoint, database.home)
    served = load(location, checkpoint.fingerprint) if weights else Served.read(location)
    if served.fingerprint != checkpoint.fingerprint:
        raise CheckpointError(f"{checkpoint.name} has changed since it was registered: its files differ")
    return replace(served, name=checkpoint.name)
