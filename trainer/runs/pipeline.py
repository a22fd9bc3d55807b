"""A run from settings to checkpoint folder, for `python -m trainer cold-start | dual-rl | run`.

    code = run(["cold-start", "dual-rl"], config, Path("runs/first"))

    runs/first/config.yaml, data.jsonl      settings and pairs, as they were when the run began
    runs/first/cold-start/                  a stage: metrics.jsonl, checkpoints/, LATEST, anchors.json, report.json
    runs/first/cold-start/checkpoint/       the trained checkpoint, a folder as any other
    runs/first/dual-rl/                     likewise, started from the checkpoint of the stage before

Called again with the same folder it goes on where it stopped; finished stages are not done again.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelerate.utils import DistributedDataParallelKwargs

from storage.atomic import PARTIAL
from storage.data_home import data_home
from storage.training.run_folder import CHECKPOINT, CONFIG, is_finished
from trainer.config import TrainConfig, config_to_dict, load_preset, save_config
from trainer.data.load_pairs import load_pairs
from trainer.data.run_pairs import read_pairs, save_pairs
from trainer.engine.metrics_log import trackers
from trainer.engine.stop_signals import StopSignals
from trainer.paradigm import STAGES_OF
from trainer.runs.errors import RunRefusedError
from trainer.runs.observer import RunObserver
from trainer.runs.stage import StageRun
from trainer.sharing.accelerator import make_accelerator

if TYPE_CHECKING:
    from accelerate import Accelerator

    from trainer.data.pairs import LoadedPairs
    from trainer.paradigm import StageName

log = logging.getLogger(__name__)

# How much goes through memory at a time, who samples, and what is kept and written. The objective stays what it is:
# gradients of the same rollouts differ by the order of float additions, and another engine samples other rollouts of the
# same policy.
MAY_CHANGE = frozenset({
    "save_every", "keep", "log_every", "model.gradient_checkpointing", "data.frame_cache", "data.vision_cache",
    "cold_start.micro_batch_pairs", "cold_start.forward_tokens",
    "dual_rl.micro_batch_pairs", "dual_rl.forward_tokens", "dual_rl.sampling_tokens", "dual_rl.engine",
})  # fmt: skip


def settle(config: TrainConfig, folder: Path) -> TrainConfig:
    """Return the settings of the run in `folder`, or of a new one.

    A run that has begun takes up changes of what does not change its mathematics (`MAY_CHANGE`).

    Raises:
        RunRefusedError: the run was begun with other settings, or the folder holds something else.
    """
    path = folder / CONFIG
    if path.exists():
        differences = _differences(config_to_dict(load_preset(path)), config_to_dict(config))
        if fixed := [name for name in differences if name not in MAY_CHANGE]:
            raise RunRefusedError(
                f"{folder.name} was begun with other settings ({', '.join(fixed)}); leave them out, or use another --out"
            )
        if differences:
            save_config(config, path)
            log.info("%s goes on with another %s", folder.name, ", ".join(differences))
        return config
    # A run that was killed in its first moment leaves a file that is not yet whole.
    if folder.exists() and not (folder.is_dir() and all(path.suffix == PARTIAL for path in folder.iterdir())):
        raise RunRefusedError(f"{folder} holds something else; use another --out")
    return config


def run(
    stages: Sequence[StageName],
    config: TrainConfig,
    folder: Path,
    home: Path | None = None,
    pairs: LoadedPairs | None = None,
    observer: RunObserver | None = None,
    stop: StopSignals | None = None,
) -> int:
    """Train the stages one after the other, each from the checkpoint of the one before.

    Args:
        home: the data folder, with the store and the caches of frames and features; by default the user's.
        pairs: the pairs of a new run; by default those of `config.data`.
        stop: of a caller who goes on after the stages; by default the run listens for signals itself.

    Returns:
        0, or 130 / 143 when a signal ended it at a step boundary.

    Raises:
        RunRefusedError, ValueError, descore.errors.CheckpointError, storage.StorageError: the user has to change something.
        trainer.engine.loop.TrainingFailedError: the numbers were not finite.
    """
    stages = stages_to_train(stages, config)
    accelerator = _accelerator(config, folder)
    with nullcontext(stop) if stop is not None else StopSignals() as stop, _trackers_closed(accelerator):
        pairs = _begin(config, folder, home, accelerator, pairs)
        checkpoint = _first_checkpoint(stages, folder)
        for stage in stages:
            stage_folder = folder / stage
            if not is_finished(stage_folder):
                listener = observer or RunObserver()
                work = StageRun(stage, config, stage_folder, home or data_home(), pairs, accelerator, stop, listener)
                code = work.run(checkpoint)
                accelerator.free_memory()
                if code or stop.agreed(accelerator):
                    return code or stop.exit_code
            checkpoint = str(stage_folder / CHECKPOINT)
            if accelerator.is_main_process:
                log.info("%s is finished: %s", stage, checkpoint)
    return 0


def _first_checkpoint(stages: Sequence[StageName], folder: Path) -> str | None:
    """Find the checkpoint of the first stage: stage 2 alone starts from a cold start in the same folder, if there is one.

    Raises:
        RunRefusedError: the folder's stages would not follow from each other.
    """
    cold, rl = folder / "cold-start", folder / "dual-rl"
    if stages[0] == "cold-start":
        if rl.exists() and not cold.exists():
            raise RunRefusedError(f"stage 2 in {folder.name} was begun without a cold start; use another --out for one")
        return None
    if not cold.exists():
        return None
    if not is_finished(cold):
        raise RunRefusedError(f"the cold start in {folder.name} is not finished; finish it first, or use another --out")
    return str(cold / CHECKPOINT)


def stages_to_train(stages: Sequence[StageName], config: TrainConfig) -> list[StageName]:
    """Choose the stages that a run trains: those of its paradigm that have steps; the baselines have one each.

    Raises:
        RunRefusedError: it trains none of them.
    """
    steps = {"cold-start": config.cold_start.steps, "dual-rl": config.dual_rl.steps}
    kept = [stage for stage in stages if stage in STAGES_OF[config.paradigm] and steps[stage]]
    if not kept:
        raise RunRefusedError(
            f"the {config.paradigm} paradigm has nothing to do in {' and '.join(stages)}; see docs/training.md"
        )
    return kept


def _accelerator(config: TrainConfig, folder: Path) -> Accelerator:
    sharded = any(os.environ.get(f"ACCELERATE_USE_{name}", "false").lower() == "true" for name in ("FSDP", "DEEPSPEED"))
    half = config.model.precision != "fp32"
    # Outside sharded training the loop sets autocast itself, around forwards only.
    accelerator = make_accelerator(
        [DistributedDataParallelKwargs(broadcast_buffers=False)],
        mixed_precision="bf16" if sharded and half else "no",
        log_with=trackers() or None,
        project_dir=str(folder / "trackers"),
    )
    if accelerator.state.deepspeed_plugin is not None:  # which wants to know, having no data loader of ours
        accelerator.state.deepspeed_plugin.deepspeed_config["train_micro_batch_size_per_gpu"] = 1
    return accelerator


def write_run(config: TrainConfig, folder: Path, home: Path | None, pairs: LoadedPairs | None) -> None:
    """Write settings and pairs into the run folder, once; arguments and errors as in `run`."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / CONFIG).exists():
        save_config(config, folder / CONFIG)
    if read_pairs(folder) is None:
        loaded = load_pairs(config.data, home) if pairs is None else pairs
        save_pairs(loaded, folder)
        log.info("%d pairs to train on, %d held out", len(loaded.train), len(loaded.held_out))
        for problem in loaded.problems:
            log.warning("%s", problem)


def _begin(
    config: TrainConfig, folder: Path, home: Path | None, accelerator: Accelerator, pairs: LoadedPairs | None
) -> LoadedPairs:
    """Let the main process write settings and pairs into the run folder, once; return the pairs."""
    if accelerator.is_main_process:
        write_run(config, folder, home, pairs)
    accelerator.wait_for_everyone()
    kept = read_pairs(folder)
    if kept is None:
        raise RunRefusedError(f"{folder} can't be read by every process; put --out on a disk that all machines share")
    if accelerator.log_with:
        accelerator.init_trackers(folder.name)
    return kept


@contextmanager
def _trackers_closed(accelerator: Accelerator) -> Iterator[None]:
    """Let trackers write their last lines at any end of the run."""
    try:
        yield
    finally:
        for tracker in accelerator.trackers:
            tracker.finish()


def _differences(kept: dict[str, Any], requested: dict[str, Any], where: str = "") -> list[str]:
    """Dotted names of the settings that differ."""
    names: list[str] = []
    for name in kept.keys() | requested.keys():
        a, b = kept.get(name), requested.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            names += _differences(a, b, f"{where}{name}.")
        elif a != b:
            names.append(f"{where}{name}")
    return sorted(names)
