"""Weights in pieces: FSDP2 over two gloo processes gives the weights of one, in both stages.

accelerate cuts weights into pieces on GPUs alone. Here its state is told that this group does; PyTorch cuts them on the CPU.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from accelerate import PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from torch.distributed.tensor import DTensor

from tests.helpers.gloo import run_together
from tests.helpers.tiny_runs import tiny_config, tiny_model, tiny_pairs, tiny_reader, tiny_run
from trainer.data.loader import PairLoader
from trainer.engine.loop import train
from trainer.engine.precision import Precision
from trainer.engine.stop_signals import StopSignals
from trainer.engine.train_state import is_sharded, whole_weights
from trainer.engine.trainable import set_trainable
from trainer.rollouts.whole_copy import WholeCopy
from trainer.sharing.accelerator import make_accelerator
from trainer.stages.cold_start import ColdStartStage
from trainer.stages.dual_rl import RLStage

if TYPE_CHECKING:
    from accelerate import Accelerator

    from trainer.config import TrainConfig
    from trainer.paradigm import StageName

STAGES: tuple[StageName, ...] = ("cold-start", "dual-rl")
_LAYERS = ["Qwen3VLTextDecoderLayer", "Qwen3VLVisionBlock"]

pytestmark = [pytest.mark.training, pytest.mark.endurance]


def two_steps() -> TrainConfig:
    config = tiny_config()
    objective = replace(config.dual_rl.objective, beta=0.1)
    return replace(
        config,
        cold_start=replace(config.cold_start, steps=2, micro_batch_pairs=2),
        dual_rl=replace(config.dual_rl, steps=2, micro_batch_pairs=2, objective=objective),
        save_every=2,
    )


def sharding_accelerator() -> Accelerator:
    accelerator = make_accelerator(cpu=True)
    # Whoever makes a state anew copies the type from the partial one.
    PartialState().distributed_type = accelerator.state.distributed_type = DistributedType.FSDP
    accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy="transformer_based_wrap",
        transformer_cls_names_to_wrap=_LAYERS,
        reshard_after_forward=True,
        state_dict_type="SHARDED_STATE_DICT",
    )
    return accelerator


def train_sharded(rank: int, folder: Path) -> None:
    accelerator, config, pairs = sharding_accelerator(), two_steps(), tiny_pairs(4)
    assert is_sharded(accelerator)
    for name in STAGES:
        model = tiny_model()
        set_trainable(model, config, name)
        settings = config.cold_start if name == "cold-start" else config.dual_rl
        sizes = {"pairs_per_step": settings.pairs_per_step, "micro_batch_pairs": settings.micro_batch_pairs}
        data: PairLoader = PairLoader(
            pairs, tiny_reader(pairs, folder / f"frames-{rank}"), accelerator, **sizes, seed=config.seed
        )
        precision = Precision.of("fp32", accelerator.device)
        stage = (
            ColdStartStage(model, config.cold_start, data, accelerator, precision, seed=config.seed)
            if name == "cold-start"
            else RLStage(model, config.dual_rl, data, accelerator, precision, seed=config.seed, whole=WholeCopy(model))
        )
        (folder / name).mkdir(exist_ok=True)
        assert train(stage, config, folder / name, accelerator, StopSignals()).steps == 2
        assert all(isinstance(parameter, DTensor) for parameter in model.parameters())
        weights = whole_weights(model)
        if rank == 0:
            torch.save(weights, folder / f"{name}.pt")
        accelerator.free_memory()


def test_weights_in_pieces_train_as_whole_ones(tmp_path: Path) -> None:
    run_together(train_sharded, 2, tmp_path / "sharded")
    started = tiny_model().state_dict()
    for name in STAGES:
        _, expected = tiny_run(name, two_steps(), tiny_pairs(4), tmp_path / f"{name} alone")
        found = torch.load(tmp_path / "sharded" / f"{name}.pt")
        assert (tmp_path / "sharded" / name / "checkpoints" / "step-000002" / "sharded").is_dir()
        change = sum(float((expected[key] - started[key]).abs().sum()) for key in found)
        apart = sum(float((expected[key] - found[key]).abs().sum()) for key in found)
        assert apart < 1e-3 * change, name
