"""What `trainer.planning` says of the work of a large part, beside what was measured.

    planned = Planned(config, lengths)
    planned.quick_seconds(rows=8), planned.think_seconds(rows=8)
    beside("seconds", 12.1, planned.think_seconds(rows=8))      # {"planned_seconds": 8.9, "seconds_over_planned": 1.36}

The layers' costs are those of the planning, from the same configuration on the meta device; a GPU's speed is what the plan
assumes by default, an H100 at 40 %. Judging has no plan of its own: its seconds are those of docs/engines.md, the arithmetic
of prompts and the bytes that decode steps read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from benchmarks.gpu.random_models import Lengths, build_backbone
from descore.modeling.kv_cache import token_bytes
from trainer.engine.trainable import adapt, widest_vision
from trainer.planning import estimate
from trainer.planning.layer_costs import language_costs, vision_costs

if TYPE_CHECKING:
    from descore.modeling.model import DeScoreModel
    from trainer.config import TrainConfig

# As `python -m trainer plan` assumes them.
MACHINE = estimate.Machine(gpus=1, memory_bytes=80e9, flops=400e12, bandwidth=2.5e12)
ASSUMED = "400 TFLOP/s, 2.5 TB/s, 80 GB"
_META = torch.device("meta")
_HALF = 2  # bytes


class Planned:
    """Plans for rows of certain lengths.

    Attributes:
        lengths: in tokens and patches, as the planning has them.
    """

    def __init__(self, config: Any, lengths: Lengths, training: TrainConfig | None = None) -> None:
        """Cost the layers of a configuration.

        Args:
            training: adds the adapter that this run trains.
        """
        backbone = build_backbone(config, _META, torch.bfloat16)
        if training is not None:
            with torch.device("meta"):
                adapt(backbone, training.model.lora, widest_vision(training))
        self._backbone, self._training = backbone, training
        self._language, self._vision = language_costs(backbone), vision_costs(backbone)
        vision = config.vision_config
        groups, patches = lengths.frames // vision.temporal_patch_size, (lengths.side // vision.patch_size) ** 2
        self.lengths = estimate.Lengths(lengths.prompt, lengths.thought, groups * patches, patches)

    def quick_seconds(self, rows: int) -> float:
        """Return the seconds of reading prompts and videos."""
        prompt, patches = self.lengths.prompt_tokens, self.lengths.patches
        work = self._language.forward(prompt, prompt**2 / 2)
        work += self._vision.forward(patches, patches * self.lengths.patches_of_a_frame)
        return rows * work / MACHINE.flops

    def think_seconds(self, rows: int) -> float:
        """Return the seconds of that and of the thoughts, each step of which reads the weights and all keys and values."""
        prompt, thought = self.lengths.prompt_tokens, self.lengths.thought_tokens
        cached = rows * (prompt + thought / 2) * token_bytes(self._backbone.config.get_text_config(), _HALF)
        return self.quick_seconds(rows) + thought * (estimate.language_bytes(self._backbone) + cached) / MACHINE.bandwidth

    def stage(self, name: str, model: DeScoreModel) -> estimate.StageEstimate:
        """Return the estimate of a stage.

        Args:
            model: with the weights of the stage trainable.
        """
        assert self._training is not None, "a stage is planned for a run"
        costs = self._language, self._vision
        if name == "cold-start":
            return estimate.cold_start_estimate(self._training, model, *costs, self.lengths, MACHINE)
        return estimate.rl_estimate(self._training, model.backbone, model, *costs, self.lengths, MACHINE)


def beside(name: str, measured: float, planned: float) -> dict[str, float]:
    """Return a planned figure and the measured one over it."""
    return {f"planned_{name}": float(f"{planned:.4g}"), f"{name}_over_planned": float(f"{measured / planned:.4g}")}
