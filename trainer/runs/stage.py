"""One stage of a run in its folder: load, measure, train, measure again, save.

StageRun("cold-start", config, run_folder / "cold-start", home, pairs, accelerator, stop).run(checkpoint=None)
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from accelerate import Accelerator, DistributedType

from descore.errors import EngineError
from storage.atomic import write_atomic
from storage.training.alarms import alarms
from storage.training.run_folder import BEFORE, CHECKPOINT, REPORT, read_metrics
from trainer.config import TrainConfig
from trainer.data.frames import PairReader
from trainer.data.loader import PairLoader
from trainer.data.pairs import LoadedPairs, TrainingPair
from trainer.data.vision_features import VisionFeatures
from trainer.engine.loop import RunResult, TrainingFailedError, train
from trainer.engine.precision import Precision
from trainer.engine.save_trained import save_trained
from trainer.engine.stop_signals import StopSignals
from trainer.engine.train_state import whole_weights
from trainer.engine.trainable import TrainableModel, experts_left_out, load_for_training, set_trainable
from trainer.evaluation.early_stopping import EarlyStopping, split_validation
from trainer.evaluation.held_out import JudgedPairs, JudgingStoppedError, OnProgress, ParentScale, judge_pairs
from trainer.evaluation.monitors import AnchorMonitor, HeldOutMonitor, anchor_rows
from trainer.paradigm import StageName
from trainer.rollouts.choose_engine import choose_engine
from trainer.rollouts.whole_copy import WholeCopy
from trainer.runs.errors import RunRefusedError
from trainer.runs.observer import Part, RunObserver
from trainer.stages.baselines import GenerativeStage, without_scoring, without_thoughts
from trainer.stages.cold_start import ColdStartStage
from trainer.stages.dual_rl import NO_TRUTH, RLStage
from trainer.thoughts.for_run import with_own_thoughts

if TYPE_CHECKING:
    from descore.familiarity import Familiarity

log = logging.getLogger(__name__)


@dataclass
class StageRun:
    """One stage of a run in its folder."""

    stage: StageName
    config: TrainConfig
    folder: Path
    home: Path
    pairs: LoadedPairs
    accelerator: Accelerator
    stop: StopSignals
    observer: RunObserver = field(default_factory=RunObserver)
    validation: tuple[TrainingPair, ...] = ()
    _best_step: int | None = None

    def run(self, checkpoint: str | None) -> int:
        """Load, measure, train, measure again, save."""
        self._hold_validation()
        config, accelerator = self.config, self.accelerator
        trained = load_for_training(config, accelerator.device, checkpoint)
        set_trainable(trained.model, config, self.stage)
        if accelerator.is_main_process and (note := experts_left_out(trained.model.backbone)):
            log.warning(note)
        self.folder.mkdir(parents=True, exist_ok=True)
        manifest, cache = trained.manifest, self.home / "training-cache"
        frames = cache / "frames" if config.data.frame_cache else None
        reader = PairReader(trained.model.processor, manifest.frame_policy, manifest.prompt_version, frames)
        frozen = (config.cold_start if self.stage == "cold-start" else config.dual_rl).vision == "frozen"
        # In pieces over the processes, a tower computes in the common forward alone.
        sharded = accelerator.distributed_type == DistributedType.FSDP
        kept = frozen and config.data.vision_cache and not sharded
        vision = VisionFeatures(trained.model, cache / "vision") if kept else None
        try:
            return self._trained(trained, reader, vision, checkpoint)
        except JudgingStoppedError:  # the pairs are judged again when the run goes on
            self.stop.agreed(self.accelerator)
            return self.stop.exit_code
        finally:
            reader.close()

    def _trained(
        self, trained: TrainableModel, reader: PairReader, vision: VisionFeatures | None, checkpoint: str | None
    ) -> int:
        config = self.config
        precision = Precision.of(config.model.precision, self.accelerator.device)
        settings = config.cold_start if self.stage == "cold-start" else config.dual_rl
        self._think(trained, reader, precision)
        if self.stop.agreed(self.accelerator):
            return self.stop.exit_code
        data: PairLoader[Any] = PairLoader(
            self.pairs.train,
            reader,
            self.accelerator,
            pairs_per_step=settings.pairs_per_step,
            micro_batch_pairs=settings.micro_batch_pairs,
            seed=config.seed,
            notes=self.folder,
        )
        before = self._before(trained, reader, precision, vision)
        stage = self._stage(trained, data, precision, vision)
        early = self._early_stopping(trained, reader, precision, vision, stage.steps)
        after_step = self._monitors(trained, reader, precision, vision, stage.steps, early)
        is_over = (lambda: False) if early is None else early.is_over
        try:
            result = train(stage, config, self.folder, self.accelerator, self.stop, after_step, is_over)
        except TrainingFailedError as error:
            failed = {"status": "failed", "stage": self.stage, "error": str(error), "alarms": self._alarms()}
            write_json(self.folder / REPORT, failed, self.accelerator)
            raise
        problems = [*self.pairs.problems, *data.problems()]
        if result.exit_code:
            self._report("stopped", result, problems, before, {})
            return result.exit_code
        self._best_step = None if early is None else early.restore_best()
        if self.accelerator.distributed_type == DistributedType.FSDP:
            trained = self._whole(trained, checkpoint)
        judged = self._judge(trained, reader, precision, vision, "after")
        after = judged.report()
        if self.accelerator.is_main_process:
            metrics = {"held-out": {**after, "before": before}} if after else {}
            # A run that an earlier version began does not know how far the parent's rewards spread.
            parent = ParentScale(trained.parent.name, trained.manifest.calibration, before.get("reward_std", {}))
            save_trained(
                trained,
                config,
                self.stage,
                self.pairs.train,
                metrics,
                judged.calibration(parent),
                self.folder / CHECKPOINT,
                judged.familiarity(self._known_before(trained)),
            )
        self._report("finished", result, [*problems, *judged.problems], before, after)
        self.accelerator.wait_for_everyone()
        return 0

    def _known_before(self, trained: TrainableModel) -> Familiarity | None:
        """Return the videos that the parent knows, where this stage leaves their features as they are."""
        settings = self.config.cold_start if self.stage == "cold-start" else self.config.dual_rl
        same = settings.vision == "frozen" and trained.manifest.frame_policy == trained.parent.frame_policy
        return trained.model.familiarity if same else None

    def _whole(self, trained: TrainableModel, checkpoint: str | None) -> TrainableModel:
        """Gather the weights in one piece on each process: sharded ones can neither judge nor be saved as a checkpoint."""
        weights = whole_weights(trained.model)
        fresh = load_for_training(self.config, self.accelerator.device, checkpoint)
        set_trainable(fresh.model, self.config, self.stage)
        with torch.no_grad():
            for name, parameter in fresh.model.named_parameters():
                if name in weights:
                    parameter.copy_(weights[name])
        return fresh

    def _think(self, trained: TrainableModel, reader: PairReader, precision: Precision) -> None:
        """Thoughts for the pairs that have none, where stage 1 is to learn from some."""
        config = self.config
        if self.stage == "dual-rl" or config.paradigm != "think-then-score" or config.cold_start.mask_probability == 1:
            return
        train = with_own_thoughts(
            self.pairs.train,
            trained.model,
            trained.manifest,
            reader,
            self.folder,
            self.accelerator,
            precision,
            self.stop,
            pairs_at_once=self._pairs_at_once,
            seed=config.seed,
            on_progress=lambda done, total: self._tell("thoughts", done, total),
        )
        self.pairs = replace(self.pairs, train=train)

    @property
    def _pairs_at_once(self) -> int:
        """Pairs that think at the same time: as many rows as in a micro-batch of rollouts."""
        return self.config.dual_rl.micro_batch_pairs * self.config.dual_rl.objective.num_generations

    def _stage(
        self, trained: TrainableModel, data: PairLoader[Any], precision: Precision, vision: VisionFeatures | None
    ) -> ColdStartStage | RLStage:
        config, accelerator, model = self.config, self.accelerator, trained.model
        if self.stage == "cold-start":
            cold = config.cold_start if config.paradigm != "discriminative" else without_thoughts(config.cold_start)
            return ColdStartStage(model, cold, data, accelerator, precision, vision, config.seed)
        for warning in self._warnings():
            log.warning(warning)
        settings = config.dual_rl if config.paradigm != "generative" else without_scoring(config.dual_rl)
        kind = RLStage if config.paradigm != "generative" else GenerativeStage
        limits = {"max_prompt_tokens": settings.max_prompt_tokens, "max_tokens": settings.objective.max_tokens}
        try:
            whole = WholeCopy(model) if accelerator.distributed_type == DistributedType.FSDP else None
            engine = choose_engine(model if whole is None else whole.model, settings.engine, **limits)
        except EngineError as error:
            raise RunRefusedError(str(error)) from error
        return kind(model, settings, data, accelerator, precision, vision, config.seed, engine, whole)

    def _warnings(self) -> list[str]:
        """Warnings for the log and the report: why this stage teaches less than it could."""
        without_truth = self.stage == "dual-rl" and self.config.paradigm == "think-then-score" and not self._with_sub_scores
        return [NO_TRUTH] if without_truth else []

    def _alarms(self) -> list[dict[str, Any]]:
        """Alarms for the report: figures of the log that left their bounds."""
        return [asdict(alarm) for alarm in alarms(self.stage, read_metrics(self.folder))]

    @property
    def _with_sub_scores(self) -> int:
        return sum(any(pair.sub_scores) for pair in self.pairs.train)

    def _monitors(
        self,
        trained: TrainableModel,
        reader: PairReader,
        precision: Precision,
        vision: VisionFeatures | None,
        steps: int,
        early: EarlyStopping | None,
    ) -> Callable[[int], dict[str, float]]:
        """Build the function that is called after each step: it tells the observer and runs the monitors."""
        monitors: list[Callable[[int], dict[str, float]]] = [] if early is None else [early]
        if self.accelerator.distributed_type != DistributedType.FSDP:  # sharded weights can't judge
            watched = [pair for pair in self.pairs.held_out if pair.label][: self.config.watched_pairs]
            if watched:
                judge = partial(self._judged, watched, trained, reader, precision, vision)
                monitors.append(HeldOutMonitor(judge, steps))
            if self.config.anchors and self.config.paradigm != "generative":
                rows = anchor_rows(reader, self.pairs.held_out or self.pairs.train, self.config.anchors)
                path = self.folder / "anchors.json"
                monitors.append(AnchorMonitor(trained.model, rows, path, self.accelerator, precision, steps, vision))

        def after_step(step: int) -> dict[str, float]:
            self._tell("training", step + 1, steps)
            return {name: value for monitor in monitors for name, value in monitor(step).items()}

        return after_step

    def _hold_validation(self) -> None:
        """Take the validation pairs out of the training pairs, where the stage may stop early."""
        if not self.config.early_stopping:
            return
        if self.accelerator.distributed_type == DistributedType.FSDP:
            log.warning("weights in pieces can't be kept for an early stop: the stage trains all its steps")
            return
        train, self.validation = split_validation(self.pairs.train, self.config.validation_share)
        if not train or not self.validation:
            log.warning("too few pairs to validate on: the stage trains all its steps")
            self.validation = ()
            return
        self.pairs = replace(self.pairs, train=train)

    def _early_stopping(
        self, trained: TrainableModel, reader: PairReader, precision: Precision, vision: VisionFeatures | None, steps: int
    ) -> EarlyStopping | None:
        if not self.validation:
            return None
        judge = partial(self._judged, self.validation, trained, reader, precision, vision)
        patience = self.config.early_stopping
        return EarlyStopping(judge, trained.model, self.folder, self.accelerator, steps=steps, patience=patience)

    def _before(
        self, trained: TrainableModel, reader: PairReader, precision: Precision, vision: VisionFeatures | None
    ) -> dict[str, Any]:
        """Measure the parent on the held-out pairs, once; a resumed run reads the figures."""
        path, earlier = self.folder / BEFORE, self.folder.parent / "cold-start" / REPORT
        if path.exists():
            return _read_json(path)
        if self.stage == "dual-rl" and earlier.exists():
            after: dict[str, Any] = _read_json(earlier)["after"]
            return after
        report = self._judge(trained, reader, precision, vision, "before").report()
        write_json(path, report, self.accelerator)
        return report

    def _judge(
        self,
        trained: TrainableModel,
        reader: PairReader,
        precision: Precision,
        vision: VisionFeatures | None,
        when: Literal["before", "after"],
    ) -> JudgedPairs:
        def on_progress(done: int, total: int) -> None:
            self._tell(when, done, total)

        judged = self._judged(
            self.pairs.held_out, trained, reader, precision, vision, on_progress, lambda: self.stop.received
        )
        if self.accelerator.is_main_process:
            self.observer.judged(self.stage, when, judged)
        return judged

    def _judged(
        self,
        pairs: Sequence[TrainingPair],
        trained: TrainableModel,
        reader: PairReader,
        precision: Precision,
        vision: VisionFeatures | None,
        on_progress: OnProgress = lambda *_: None,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> JudgedPairs:
        everyone_has_some = -(-len(pairs) // self.accelerator.num_processes) or 1
        return judge_pairs(
            trained.model,
            reader,
            pairs,
            self.accelerator,
            precision,
            max_tokens=trained.manifest.max_thought_tokens,
            paradigm=self.config.paradigm,
            vision=vision,
            pairs_at_once=min(self._pairs_at_once, everyone_has_some),
            on_progress=on_progress,
            is_stopped=is_stopped,
        )

    def _tell(self, part: Part, done: int, total: int) -> None:
        if self.accelerator.is_main_process:
            self.observer.progress(self.stage, part, done, total)

    def _report(
        self, status: str, result: RunResult, problems: Sequence[str], before: dict[str, Any], after: dict[str, Any]
    ) -> None:
        report = {
            "status": status,
            "stage": self.stage,
            "paradigm": self.config.paradigm,
            "train_pairs": len(self.pairs.train),
            "held_out_pairs": len(self.pairs.held_out),
            "validation_pairs": len(self.validation),
            "best_step": self._best_step,
            "with_thoughts": sum(pair.thoughts is not None for pair in self.pairs.train),
            "with_sub_scores": self._with_sub_scores,
            "warnings": self._warnings(),
            "alarms": self._alarms(),
            **asdict(result),
            "before": before,
            "after": after,
            "problems": list(problems),
        }
        write_json(self.folder / REPORT, report, self.accelerator)


def _read_json(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return values


def write_json(path: Path, value: dict[str, Any], accelerator: Accelerator) -> None:
    """Write a file atomically, on the main process."""
    if accelerator.is_main_process:
        write_atomic(path, json.dumps(value, indent=1, ensure_ascii=False))
