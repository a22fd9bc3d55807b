"""The settings of a training run: frozen dataclasses, and YAML presets of them.

    config = load_preset("tiny-cpu", ["cold_start.steps=100", "seed=3"])
    save_config(config, run / "config.yaml")            # `load_preset(run / "config.yaml")` gives the same again

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
from trainer.config_tree import SettingsError, from_mapping, to_mapping, with_override
from trainer.objectives.dual_objective import DualRLConfig
from trainer.objectives.rollout_reward import self_check

__all__ = [
    "ColdStartSettings",
    "DataSettings",
    "LoraSettings",
    "ModelSettings",
    "OptimSettings",
    "RLSettings",
    "SettingsError",
    "TrainConfig",
    "Vision",
    "config_from_dict",
    "config_to_dict",
    "load_preset",
    "preset_names",
    "save_config",
]

PRESETS = Path(__file__).parent / "presets"

# frozen: nothing of the vision part is trained; merger: only what joins it to the language model; tuned: all of it.
Vision = Literal["frozen", "merger", "tuned"]
Paradigm = Literal["think-then-score", "discriminative", "generative"]


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """A LoRA adapter on the linear layers of the language model (never on the vision tower or the output layer)."""

    r: int = 64
    alpha: int = 128
    dropout: float = 0.05

    def __post_init__(self) -> None:
        _at_least(1, r=self.r, alpha=self.alpha)
        _within(0, 1, dropout=self.dropout)


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """What is trained.

    checkpoint: "bundled", a folder, or a Hub id; a checkpoint, or a bare backbone, which gets a fresh scoring module.
    lora: None trains the whole language model. gradient_checkpointing: less memory for a second forward.
    precision: of forward passes; "auto" is bf16 on CUDA and on a CPU that computes in it, else fp32. What trains is fp32.
    frames: which frames the model sees; None: as the checkpoint says.
    """

    checkpoint: str = "bundled"
    lora: LoraSettings | None = None
    gradient_checkpointing: bool = False
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    frames: FramePolicy | None = None


@dataclass(frozen=True, kw_only=True)
class OptimSettings:
    """How weights move.

    lr: of the backbone, or its adapter. scoring_lr: of query token and head. vision_lr: of what is trained of the vision
    part; None: as `lr`. warmup_share: share of the steps over which the rates rise from 0; then `schedule`, where "linear"
    and "cosine" fall to 0 at the last step. max_grad_norm: gradients are scaled down to this norm. optimizer "muon":
    Muon for matrices inside the blocks, AdamW for the rest.
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
class DataSettings:
    """Which labelled pairs, and what is kept of their videos.

    csv: a table in a format of the field instead of the store; videos: the folder that its paths start from, by default
    the table's own. thoughts: a file of `python -m trainer collect-thoughts`, for pairs that have none. campaigns: names;
    none means all. min_labels: people who labelled a pair. held_out_share: of the pairs, by a stable hash. frame_cache,
    vision_cache: keep decoded frames, and features of a frozen vision tower, on disk.
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

    def __post_init__(self) -> None:
        if not 0 <= self.held_out_share < 1:
            raise ValueError(f"held_out_share must be at least 0 and below 1, not {self.held_out_share}")
        _at_least(1, min_labels=self.min_labels)
        if self.videos is not None and self.csv is None:
            raise ValueError("videos is the folder of a csv's videos; without csv it means nothing")


@dataclass(frozen=True, kw_only=True)
class ColdStartSettings:
    """Stage 1.

    steps: 0 leaves the stage out. pairs_per_step: over all processes. pairs_per_pass: at the same time in one process; the
    rest is gradient accumulation. mask_probability: of a pair, to lose both thoughts. strength_margin: by how much, in
    reward, a clearly preferred video is to lead (a slightly preferred one by half of it). anchor_weight: of a
    language-model loss on the thoughts, 0 for none. max_length: tokens of prompt, video and thought; a longer pair is
    left out.
    """

    steps: int
    pairs_per_step: int
    pairs_per_pass: int
    optim: OptimSettings
    mask_probability: float = 0.5
    loss: Literal["bradley-terry", "ties"] = "bradley-terry"
    strength_margin: float = 0.0
    anchor_weight: float = 0.0
    vision: Vision = "frozen"
    max_length: int = 6144

    def __post_init__(self) -> None:
        _check_batch(self.steps, self.pairs_per_step, self.pairs_per_pass)
        _within(0, 1, mask_probability=self.mask_probability)
        _at_least(0, strength_margin=self.strength_margin, anchor_weight=self.anchor_weight)
        _at_least(1, max_length=self.max_length)


@dataclass(frozen=True, kw_only=True)
class RLSettings:
    """Stage 2; `objective` holds the losses' own settings.

    steps: 0 leaves the stage out. pairs_per_step, pairs_per_pass: as in stage 1. updates_per_step: optimizer steps on the
    rollouts of one step. engine: what samples them. max_prompt_tokens: a pair with a longer prompt (video included) is left
    out.
    """

    steps: int
    pairs_per_step: int
    pairs_per_pass: int
    optim: OptimSettings
    objective: DualRLConfig = field(default_factory=DualRLConfig)
    updates_per_step: int = 1
    engine: Literal["own", "vllm"] = "own"
    vision: Vision = "frozen"
    max_prompt_tokens: int = 6200

    def __post_init__(self) -> None:
        _check_batch(self.steps, self.pairs_per_step, self.pairs_per_pass)
        _at_least(1, updates_per_step=self.updates_per_step, max_prompt_tokens=self.max_prompt_tokens)
        reward, limit = self.objective.reward, self.objective.max_tokens
        if reward.length_weight > 0 and reward.length_high > limit:
            raise ValueError(
                f"objective.reward.length_high must be at most objective.max_tokens: no thought of {limit} tokens "
                f"reaches {reward.length_high}"
            )
        self_check(reward)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A whole run.

    preset: the name it started from. paradigm: "think-then-score" is the method, the others are baselines. save_every,
    log_every: in steps. keep: how many checkpoints of a run stay. anchors: fixed videos whose rewards are watched for drift.
    watched_pairs: held-out pairs that are judged a few times while a stage trains; 0 for none.
    """

    preset: str
    cold_start: ColdStartSettings
    dual_rl: RLSettings
    paradigm: Paradigm = "think-then-score"
    seed: int = 0
    model: ModelSettings = field(default_factory=ModelSettings)
    data: DataSettings = field(default_factory=DataSettings)
    save_every: int = 50
    keep: int = 3
    anchors: int = 8
    watched_pairs: int = 16
    log_every: int = 1

    def __post_init__(self) -> None:
        _at_least(0, anchors=self.anchors, watched_pairs=self.watched_pairs, seed=self.seed)
        _at_least(1, save_every=self.save_every, keep=self.keep, log_every=self.log_every)


def preset_names() -> tuple[str, ...]:
    """The names of the presets that come with the program."""
    return tuple(sorted(path.stem for path in PRESETS.glob("*.yaml")))


def load_preset(name_or_path: str | Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a preset by its name, or any YAML file of settings.

    Args:
        overrides: such as "cold_start.steps=100" or "model.lora=null"; the value is read as YAML.

    Raises:
        SettingsError: there is none, it can't be read, or it holds an unknown setting or a value out of its bounds.
    """
    named = str(name_or_path) in preset_names()
    path = PRESETS / f"{name_or_path}.yaml" if named else Path(name_or_path)
    try:
        values = yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError:
        known = ", ".join(preset_names())
        raise SettingsError(f"there is no preset or file {name_or_path}; presets are {known}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"{path.name} can't be read as YAML settings: {error}") from error
    if not isinstance(values, dict):
        raise SettingsError(f"{path.name} holds no settings")
    for override in overrides:
        values = with_override(values, override, TrainConfig)
    return config_from_dict(values)


def config_to_dict(config: TrainConfig) -> dict[str, Any]:
    """All settings as plain values, for YAML or JSON."""
    return to_mapping(config)


def config_from_dict(values: Any) -> TrainConfig:
    """Read what `config_to_dict` gave.

    Raises:
        SettingsError: unknown or missing settings (the nearest known name is told), or values out of their bounds.
    """
    return from_mapping(TrainConfig, values)


def save_config(config: TrainConfig, path: Path) -> None:
    """Write the settings as YAML, whole or not at all."""
    write_atomic(path, yaml.safe_dump(config_to_dict(config), sort_keys=False, allow_unicode=True))


def _at_least(bound: float, **values: float) -> None:
    for name, value in values.items():
        if value < bound:
            raise ValueError(f"{name} must be at least {bound}, not {value}")


def _within(low: float, high: float, **values: float) -> None:
    for name, value in values.items():
        if not low <= value <= high:
            raise ValueError(f"{name} must lie between {low} and {high}, not {value}")


def _check_batch(steps: int, pairs_per_step: int, pairs_per_pass: int) -> None:
    _at_least(0, steps=steps)
    _at_least(1, pairs_per_step=pairs_per_step, pairs_per_pass=pairs_per_pass)
    if pairs_per_step % pairs_per_pass:
        raise ValueError(f"pairs_per_step must be a multiple of pairs_per_pass, not {pairs_per_step} of {pairs_per_pass}")
