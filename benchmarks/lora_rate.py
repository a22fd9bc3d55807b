"""Does stage 2 with LoRA move the policy, and how far, at a given learning rate? One JSON line a rate.

    python -m benchmarks.lora_rate [--rates 1e-6 1e-5] [--steps 20] [--pairs 2]

The bundled checkpoint gets a fresh adapter of the 8B presets' size (r 64, alpha 128) and is trained by `python -m trainer
dual-rl` with their optimizer, clip, KL and Bradley-Terry weights, from freshly drawn pairs of ShapeWorld that are of no
split. After it, on thoughts that the untrained model sampled about other such pairs:

`update`: norm of what changed in the adapter's weights. `update_of_weights`: norm of the adapter's product over that of the
weights it lies on. `logprob_change`: mean size of the change of a token's log-probability. `kl`: mean of the
estimate of KL(trained, untrained) over those tokens. `kl_last_step`: of the run's log. Figures of a tiny model: they say
whether a rate does anything in so many steps, not which rate is best for another one.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear

from benchmarks.helpers.labelled_shapes import Taste, fresh_pairs, write_table
from descore.answer import DIMENSIONS
from descore.checkpoints.folder import load_checkpoint
from trainer import train
from trainer.config import DataConfig, load_preset
from trainer.data.frames import PairReader
from trainer.data.load_pairs import load_pairs
from trainer.engine.metrics_log import read_metrics
from trainer.engine.trainable import load_for_training
from trainer.objectives.dual_objective import RLPair, RolloutBatch, batch_logprobs, collect
from trainer.objectives.losses import low_variance_kl

EVEN = Taste("even", dict.fromkeys(DIMENSIONS, 1.0))
_PRESET = "tiny-cpu"
_FIXED_PAIRS = 4
_SETTINGS = (
    "model.lora={r: 64, alpha: 128, dropout: 0.05}",
    "model.precision=fp32",
    "dual_rl.optim.optimizer=adamw",
    "dual_rl.optim.scoring_lr=1e-6",
    "dual_rl.objective.beta=1e-5",
    "data.held_out_share=0",
    "anchors=0",
)


def measure(rate: float, steps: int, pairs: int, table: Path, fixed: Path, folder: Path) -> dict[str, Any]:
    """Train at one rate and compare with the start."""
    settings = [*_SETTINGS, f"dual_rl.optim.lr={rate}", f"dual_rl.steps={steps}"]
    settings += [f"dual_rl.pairs_per_step={pairs}", f"dual_rl.micro_batch_pairs={pairs}"]
    result = train(folder, _PRESET, settings, stages="dual-rl", csv=table)
    config = load_preset(_PRESET, settings)
    start = load_for_training(config, torch.device("cpu"))
    end = load_checkpoint(result.checkpoint or "")[0]
    began, ended = (dict(model.backbone.named_parameters()) for model in (start.model, end))
    update = sum(float((ended[name] - began[name]).square().sum()) for name in began if ".lora_" in name) ** 0.5
    reader = PairReader(start.model.processor, start.manifest.frame_policy, start.manifest.prompt_version, None)
    rows = [(pair, reader.rows(pair)) for pair in load_pairs(DataConfig(csv=str(fixed), held_out_share=0)).train]
    chosen = [RLPair(pair.identity, each, pair.sub_scores, pair.label) for pair, each in rows]
    reader.close()
    objective = config.dual_rl.objective
    with torch.inference_mode():
        batch: RolloutBatch = collect(start.model.eval(), chosen, 0, objective)
        before, after = batch_logprobs(start.model, batch, objective), batch_logprobs(end, batch, objective)
    mask = batch.rollouts.mask
    tokens = mask.sum()
    return {
        "lr": rate,
        "steps": steps,
        "pairs_per_step": pairs,
        "update": update,
        "update_of_weights": _share(end.backbone),
        "logprob_change": float(((after - before).abs() * mask).sum() / tokens),
        "kl": float((low_variance_kl(after, before) * mask).sum() / tokens),
        "kl_last_step": read_metrics(folder / "dual-rl")[-1]["kl"],
        "fixed_tokens": int(tokens),
    }


def _share(backbone: torch.nn.Module) -> float:
    """Norm of the adapter's products over that of the weights beneath."""
    layers = [module for module in backbone.modules() if isinstance(module, LoraLinear)]
    added = sum(float(layer.get_delta_weight("default").square().sum()) for layer in layers)
    beneath = sum(float(layer.get_base_layer().weight.float().square().sum()) for layer in layers)
    return (added / beneath) ** 0.5


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one JSON line for each rate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-6, 1e-5])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=2, help="of a step")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        drawn = fresh_pairs(2 * options.steps + _FIXED_PAIRS)
        parts = {"fixed": drawn[:_FIXED_PAIRS], "train": drawn[_FIXED_PAIRS:]}
        tables = {
            part: write_table(known, [EVEN.label(one, 0.0) for one in known], Path(name) / part)
            for part, known in parts.items()
        }
        for rate in options.rates:
            folder = Path(name) / f"run-{rate}"
            print(
                json.dumps(measure(rate, options.steps, options.pairs, tables["train"], tables["fixed"], folder)), flush=True
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
