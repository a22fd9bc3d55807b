"""The settings of a training run: frozen dataclasses, and YAML presets of them.

    config = load_preset("tiny-cpu", ["cold_start.steps=100", "seed=3"])
    save_config(config, run_folder / "config.yaml")     # `load_preset` of this file gives the same again

Presets lie in `trainer/presets`. A run and the checkpoint that comes out of it keep the resolved settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from descore.video.types import FramePolicy
from storage.atomic import write_atomic
from trainer.config_tree import OLD_NAME, ConfigError, from_mapping, to_mapping, with_override
from trainer.objectives.dual_objective_config import DualObjectiveConfig
from trainer.objectives.rollout_reward import self_check
from trainer.paradigm import Paradigm

__all__ = [
    "AdapterConfig",
    "ColdStartConfig",
    "ConfigError",
    "DataConfig",
    "DualRLConfig",
    "ModelConfig",
    "OptimConfig",
    "TrainConfig",
    "Vision",
    "config_from_dict",
    "config_to_dict",
    "load_preset",
    "preset_names",
    "save_config",
]

PRESETS = Path(__file__).parent / "presets"

# Trained vision weights. frozen: none; merger: the modules that join the tower to the language model; tuned: all.
Vision = Literal["frozen", "merger", "tuned"]


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """A LoRA adapter on the linear layers of the language model (never on the vision tower or the output layer).

    Attributes:
        dropout: of stage 1; in stage 2 the policy that is trained is the one that sampled, so there it is 0.
    """

    r: int = 64
    alpha: int = 128
    dropout: float = 0.05

    def __post_init__(self) -> None:
        _at_least(1, r=self.r, alpha=self.alpha)
        _within(0, 1, dropout=self.dropout)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The model that a run trains.

    Attributes:
        checkpoint: "bundled", a folder, or a Hub id; a checkpoint, or a bare backbone, which gets a fresh scoring module.
        lora: the adapter; None trains the whole language model.
        gradient_checkpointing: save memory by a second forward.
        precision: of forward passes; "auto" is bf16 on CUDA and on a CPU that computes in it, else fp32. Trained weights
            are fp32.
        frames: which frames the model sees; None: as the checkpoint says.
    """

    checkpoint: str = "bundled"
    lora: AdapterConfig | None = None
    gradient_checkpointing: bool = False
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    frames: FramePolicy | None = None


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Optimizer and learning rates.

    Attributes:
        lr: peak rate of the backbone, or of its adapter.
        scoring_lr: peak rate of query token and head.
        vision_lr: peak rate of the trained vision weights; None: as `lr`.
        weight_decay: of weight matrices outside the scoring module.
        warmup_share: share of the steps over which the rates rise from 0.
        schedule: after the warm-up; "linear" and "cosine" fall to 0 at the last step.
        max_grad_norm: gradients are scaled down to this norm.
        optimizer: "muon" is Muon for matrices inside the blocks and AdamW for the rest.
    """

    lr: float
    scoring_lr: float
    vision_lr: float | None = None
    weight_decay: float = 0.0
    warmup_share: float = 0.05
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    max_grad_norm: float = 1.0
    optimizer: Literal["adamw", "muon"] = "adamw"

    def __post_init__(self) -> None:
        _at_least(0, lr=self.lr, scoring_lr=self.scoring_lr, vision_lr=self.vision_lr or 0.0)
        _at_least(0, weight_decay=self.weight_decay)
        _within(0, 1, warmup_share=self.warmup_share)
        if self.max_grad_norm <= 0:
            raise ValueError(f"max_grad_norm must be above 0, not {self.max_grad_norm}")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The labelled pairs of a run, and the caches of their videos.

    Attributes:
        held_out_share: share of the pairs that no run trains on, chosen by a stable hash.
        held_out_by: whether single pairs or whole prompts are held out; by prompts, pairs to train on that share a video
            with a held-out pair are left out.
        min_labels: people who must have labelled a pair.
        consensus: how several labels of a pair become one.
        campaigns: names of campaigns; empty means all.
        csv: a file of labelled pairs instead of the store.
        videos: the folder that the paths in `csv` start from, by default its own.
        thoughts: a file of `python -m trainer collect-thoughts`, for pairs that have none.
        frame_cache: keep decoded frames on disk.
        vision_cache: keep the features of a frozen vision tower on disk.
    """

    held_out_share: float = 0.2
    min_labels: int = 1
    consensus: Literal["majority", "weighted"] = "majority"
    campaigns: tuple[str, ...] = ()
    csv: str | None = None
    videos: str | None = None
    thoughts: str | None = None
    frame_cache: bool = True
    vision_cache: bool = True
    held_out_by: Literal["pairs", "prompts"] = "pairs"

    def __post_init__(self) -> None:
        if not 0 <= self.held_out_share < 1:
            raise ValueError(f"held_out_share must be at least 0 and below 1, not {self.held_out_share}")
        _at_least(1, min_labels=self.min_labels)
        if self.videos is not None and self.csv is None:
            raise ValueError("videos is the folder of a csv's videos; without csv it means nothing")


@dataclass(frozen=True, kw_only=True)
class ColdStartConfig:
    """Stage 1.

    Attributes:
        steps: 0 leaves the stage out.
        pairs_per_step: pairs of one optimizer update, over all processes.
        micro_batch_pairs: pairs that one process computes at a time; the rest of a step is gradient accumulation.
        mask_probability: chance of a pair to lose both thoughts in a step.
        strength_margin: lead, in reward, that a clearly preferred video is to have; half of it for a slight preference.
        anchor_weight: weight of a language-model loss on the thoughts, 0 for none.
        max_length: tokens of prompt, video and thought; a longer pair is left out.
        forward_tokens: that go forward and backward at a time, though at least a pair; halved where memory is too small.
    """

    steps: int
    pairs_per_step: int
    micro_batch_pairs: int = field(metadata={OLD_NAME: "pairs_per_pass"})
    optim: OptimConfig
    mask_probability: float = 0.5
    loss: Literal["bradley-terry", "ties"] = "bradley-terry"
    strength_margin: float = 0.0
    anchor_weight: float = 0.0
    vision: Vision = "frozen"
    max_length: int = 6144
    forward_tokens: int = 16384

    def __post_init__(self) -> None:
        _at_least(1, forward_tokens=self.forward_tokens)
        _check_batch(self.steps, self.pairs_per_step, self.micro_batch_pairs)
        _within(0, 1, mask_probability=self.mask_probability)
        _at_least(0, strength_margin=self.strength_margin, anchor_weight=self.anchor_weight)
        _at_least(1, max_length=self.max_length)


@dataclass(frozen=True, kw_only=True)
class DualRLConfig:
    """Stage 2.

    Attributes:
        steps: 0 leaves the stage out.
        pairs_per_step: as in stage 1.
        micro_batch_pairs: as in stage 1.
        objective: settings of the losses.
        updates_per_step: optimizer steps on the rollouts of one step.
        engine: samples the rollouts: this package's own code, or vLLM. "auto" is vLLM where it is installed, the device is
            CUDA and the backbone is Qwen3-VL.
        sampling_tokens: tokens that are cached at a time while sampling: prompts once for each video, thoughts for each
            rollout. It changes no sample. None: what 1 GiB holds on a CPU, and half of the free memory on a GPU.
        max_prompt_tokens: tokens of prompt and video; a longer pair is left out.
        forward_tokens: tokens of rollouts that go forward and backward at a time; halved where memory is too small. It
            changes no gradient beyond rounding.
    """

    steps: int
    pairs_per_step: int
    micro_batch_pairs: int = field(metadata={OLD_NAME: "pairs_per_pass"})
    optim: OptimConfig
    objective: DualObjectiveConfig = field(default_factory=DualObjectiveConfig)
    updates_per_step: int = 1
    engine: Literal["auto", "own", "vllm"] = "auto"
    sampling_tokens: int | None = None
    vision: Vision = "frozen"
    max_prompt_tokens: int = 6200
    forward_tokens: int = 16384

    def __post_init__(self) -> None:
        _at_least(1, forward_tokens=self.forward_tokens)
        _check_batch(self.steps, self.pairs_per_step, self.micro_batch_pairs)
        _at_least(1, updates_per_step=self.updates_per_step, max_prompt_tokens=self.max_prompt_tokens)
        if self.sampling_tokens is not None:
            _at_least(1, sampling_tokens=self.sampling_tokens)
        reward, limit = self.objective.reward, self.objective.max_tokens
        if reward.length_weight > 0 and reward.length_high > limit:
            raise ValueError(
                f"objective.reward.length_high must be at most objective.max_tokens: no thought of {limit} tokens "
                f"reaches {reward.length_high}"
            )
        self_check(reward)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """All settings of a run.

    Attributes:
        preset: name of the preset that it started from.
        paradigm: "think-then-score" is the method, the others are baselines.
        save_every: steps between two checkpoints of the run.
        keep: checkpoints of the run that stay on disk.
        anchors: number of fixed videos whose rewards are measured for drift.
        watched_pairs: held-out pairs that are judged a few times while a stage trains; 0 for none.
        early_stopping: evaluations on validation pairs that may pass without a better one before a stage ends; the weights
            of the best one are kept. 0 trains all steps and keeps the last ones.
        validation_share: share of the training pairs that are validated on, and not trained on, where a stage may stop
            early.
        log_every: steps between two lines of the log.
    """

    preset: str
    cold_start: ColdStartConfig
    dual_rl: DualRLConfig
    paradigm: Paradigm = "think-then-score"
    seed: int = 0
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    save_every: int = 50
    keep: int = 3
    anchors: int = 8
    watched_pairs: int = 16
    early_stopping: int = 0
    validation_share: float = 0.1
    log_every: int = 1

    def __post_init__(self) -> None:
        _at_least(
            0, anchors=self.anchors, watched_pairs=self.watched_pairs, seed=self.seed, early_stopping=self.early_stopping
        )
        _within(0.01, 0.5, validation_share=self.validation_share)
        _at_least(1, save_every=self.save_every, keep=self.keep, log_every=self.log_every)


def preset_names() -> tuple[str, ...]:
    """List the names of the presets that come with the program."""
    return tuple(sorted(path.stem for path in PRESETS.glob("*.yaml")))


def load_preset(name_or_path: str | Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a preset by its name, or any YAML file of settings.

    Args:
        overrides: such as "cold_start.steps=100" or "model.lora=null"; the value is read as YAML.

    Raises:
        ConfigError: the file is missing or unreadable, or holds an unknown setting or a value out of its bounds.
    """
    is_preset = str(name_or_path) in preset_names()
    path = PRESETS / f"{name_or_path}.yaml" if is_preset else Path(name_or_path)
    try:
        values = yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError:
        names = ", ".join(preset_names())
        raise ConfigError(f"there is no preset or file {name_or_path}; presets are {names}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path.name} can't be read as YAML settings: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path.name} holds no settings")
    for override in overrides:
        values = with_override(values, override, TrainConfig)
    return config_from_dict(values)


def config_to_dict(config: TrainConfig) -> dict[str, Any]:
    """Turn all settings into plain values, for YAML or JSON."""
    values: dict[str, Any] = to_mapping(config)
    return values


def config_from_dict(values: Any) -> TrainConfig:
    """Read the settings that `config_to_dict` gave.

    Raises:
        ConfigError: a setting is unknown or missing (the message names the nearest known one), or out of its bounds.
    """
    return from_mapping(TrainConfig, values)


def save_config(config: TrainConfig, path: Path) -> None:
    """Write the settings as YAML, atomically."""
    write_atomic(path, yaml.safe_dump(config_to_dict(config), sort_keys=False, allow_unicode=True))


def _at_least(bound: float, **values: float) -> None:
    for name, value in values.items():
        if value < bound:
            raise ValueError(f"{name} must be at least {bound}, not {value}")


def _within(low: float, high: float, **values: float) -> None:
    for name, value in values.items():
        if not low <= value <= high:
            raise ValueError(f"{name} must lie between {low} and {high}, not {value}")


def _check_batch(steps: int, pairs_per_step: int, micro_batch_pairs: int) -> None:
    _at_least(0, steps=steps)
    _at_least(1, pairs_per_step=pairs_per_step, micro_batch_pairs=micro_batch_pairs)
    if pairs_per_step % micro_batch_pairs:
        raise ValueError(
            f"pairs_per_step must be a multiple of micro_batch_pairs, not {pairs_per_step} of {micro_batch_pairs}"
        )
