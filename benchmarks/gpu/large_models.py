"""What Qwen3-VL-2B and 8B take on a GPU, with random weights, beside what the planning says of them.

A row is a video of 16 frames with a prompt, 2,000 tokens together, and a thought of 1,000. A step of training is one pair:
two videos, with eight rollouts each in dual RL; its settings are those of preset `qwen3-vl-8b-1gpu`, LoRA with gradient
checkpointing. Frames are in memory: decoding of videos is not measured here.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator

from benchmarks.gpu.planned import ASSUMED, Planned, beside
from benchmarks.gpu.random_models import (
    NAMES,
    PROMPT_VERSION,
    WORD,
    clip_of,
    config_of,
    lengths_of,
    long_rows,
    manifest_of,
    policy_of,
    prompt_of,
    random_model,
    renewed,
)
from benchmarks.gpu.setting import Figures, PeakMemory, Setting, dtype_name, gigabytes, needs_vllm, release, timed
from descore.checkpoints.folder import save_checkpoint
from descore.checkpoints.stock_export import export_checkpoint
from descore.engines.engine import ROWS_AT_ONCE, Engine
from descore.engines.transformers_engine import TransformersEngine
from descore.engines.vllm_engine import VllmEngine
from descore.modeling.backbone import default_dtype
from descore.modeling.transformers_versions import checkpoint_activations
from trainer.config import TrainConfig, load_preset
from trainer.data.frames import FrameCache, PairReader
from trainer.data.loader import PairLoader
from trainer.data.pairs import TrainingPair
from trainer.engine.loop import train
from trainer.engine.metrics_log import read_metrics
from trainer.engine.precision import Precision
from trainer.engine.stop_signals import StopSignals
from trainer.engine.trainable import adapt, set_trainable, widest_vision
from trainer.rollouts.choose_engine import choose_engine
from trainer.stages.cold_start import ColdStartStage
from trainer.stages.dual_rl import RLStage

if TYPE_CHECKING:
    from descore.encode import Row
    from descore.engines.engine import FinishedThought
    from descore.judgement import Mode
    from descore.modeling.model import DeScoreModel
    from trainer.paradigm import StageName

_HOUR = 3600
_WARM_TOKENS = 32
_TRUTH = {"subject": "2", "dynamics": "1", "camera": "0", "environment": "N/A", "style": "2"}


def judge(setting: Setting, name: str) -> Figures:
    """Think about rows, and judge them without a thought, by the transformers engine: 8 rows, and as many as it takes."""
    lengths, dtype = lengths_of(setting), default_dtype(setting.device)
    with PeakMemory(setting.device) as loading:
        model = random_model(NAMES[name], setting, dtype)
    engine = TransformersEngine(model, manifest_of(name, lengths))
    counts = setting.size(sorted({ROWS_AT_ONCE, engine.rows_at_once()}), [2])
    figures = {f"{count} rows": _judged_where_it_fits(setting, engine, name, count) for count in counts}
    about = {**_about(setting, name), "dtype": dtype_name(dtype), "engine": engine.label}
    return {**figures, **about, "loaded": loading.figures()}


def judge_by_vllm(setting: Setting, name: str) -> Figures:
    """Think about rows, and judge them without a thought, by vLLM with a stock export of the model, 64 rows at a time."""
    needs_vllm()
    dtype = default_dtype(setting.device)
    with closing(VllmEngine(_export(setting, name, dtype))) as engine:
        count = setting.size(engine.rows_at_once(), 2)
        figures = {f"{count} rows": _judged(setting, engine, name, count)}
        return {**figures, **_about(setting, name), "dtype": dtype_name(dtype), "engine": engine.label}


def cold_start(setting: Setting, name: str) -> Figures:
    """Train steps of stage 1: both videos of a pair with their thoughts, the vision tower too."""
    return _training(setting, name, "cold-start", "own")


def dual_rl(setting: Setting, name: str) -> Figures:
    """Train steps of stage 2: rollouts of the own engine."""
    return _training(setting, name, "dual-rl", "own")


def dual_rl_by_vllm(setting: Setting, name: str) -> Figures:
    """Train steps of stage 2: rollouts of vLLM, which gets all weights after each step."""
    needs_vllm()
    return _training(setting, name, "dual-rl", "vllm")


def _about(setting: Setting, name: str) -> Figures:
    lengths = lengths_of(setting)
    return {
        "model": "a miniature of the same kinds of layers" if setting.smallest else NAMES[name],
        "weights": "random",
        "tokenizer": "the bundled checkpoint's, widened to Qwen's ids",
        "prompt_tokens": lengths.prompt,
        "thought_tokens": lengths.thought,
        "planned_for": ASSUMED,
    }


# judging


def _judged_where_it_fits(setting: Setting, engine: Engine, name: str, count: int) -> Figures:
    """Measure, or say that so many rows were too many: figures of fewer stay."""
    try:
        return _judged(setting, engine, name, count)
    except torch.OutOfMemoryError as error:
        problem = str(error).split("\n")[0]
    release()
    return {"out_of_memory": problem}


def _judged(setting: Setting, engine: Engine, name: str, count: int) -> Figures:
    """Measure both modes on some rows."""
    lengths = lengths_of(setting)
    processor: Any = engine.processor  # type: ignore[attr-defined]
    rows, calls = long_rows(processor, range(count), lengths), iter(range(1, 1_000_000, count))

    def fresh() -> list[Row]:
        """Make other rows for each call: an engine's caches would spare it what it has read before."""
        first = next(calls)
        return [renewed(row, processor.tokenizer, first + index) for index, row in enumerate(rows)]

    planned = Planned(config_of(NAMES[name], setting), lengths)
    plans: dict[Mode, float] = {"quick": planned.quick_seconds(count), "think": planned.think_seconds(count)}
    figures: Figures = {}
    for mode, plan in plans.items():
        last: list[list[FinishedThought]] = []

        def think(these: Sequence[Row], mode: Mode = mode, last: list[list[FinishedThought]] = last) -> None:
            last[:] = _thoughts(engine, these, mode)

        with PeakMemory(setting.device) as memory:
            _warm_up(engine, fresh(), mode)
            measured = timed(setting.seconds_of(think, (fresh() for _ in range(setting.repeats))))
        seconds = measured["seconds"]
        figures[mode] = {
            **measured,
            "clips_per_hour": round(count * _HOUR / seconds),
            **beside("seconds", seconds, plan),
            **memory.figures(),
        }
        if mode == "think":
            whole = sum(thought.truncated for [thought] in last)
            figures[mode] |= {
                "tokens_per_second": round(whole * lengths.thought / seconds, 1),
                "thoughts_of_full_length": f"{whole} of {count}",
            }
    return figures


def _warm_up(engine: Engine, rows: Sequence[Row], mode: Mode) -> None:
    """Judge with short thoughts: full ones would take as long as what is measured."""
    manifest = engine.manifest
    engine.manifest = replace(manifest, max_thought_tokens=min(_WARM_TOKENS, manifest.max_thought_tokens))
    try:
        _thoughts(engine, rows, mode)
    finally:
        engine.manifest = manifest


def _thoughts(engine: Engine, rows: Sequence[Row], mode: Mode) -> list[list[FinishedThought]]:
    thinking = engine.think(rows, mode)
    while True:
        try:
            next(thinking)
        except StopIteration as end:
            thoughts: list[list[FinishedThought]] = end.value
            return thoughts


def _export(setting: Setting, name: str, dtype: torch.dtype) -> Path:
    """Write a stock export of the random model: twice the weights on the disk while it is made."""
    checkpoint, out = setting.folder / "checkpoint", setting.folder / "export"
    save_checkpoint(checkpoint, random_model(NAMES[name], setting, dtype), manifest_of(name, lengths_of(setting)))
    release()
    export_checkpoint(checkpoint, out, dtype)
    shutil.rmtree(checkpoint)
    release()
    return out


# training


def _training(setting: Setting, name: str, stage: StageName, engine: str) -> Figures:
    """Train some steps of one pair; the first one warms up and is not counted."""
    config, lengths = _config(setting, name, stage, engine), lengths_of(setting)
    with PeakMemory(setting.device) as memory:
        model = _trainable(setting, name, config, stage)
        plan = Planned(config_of(NAMES[name], setting), lengths, config).stage(stage, model)
        _train(setting, config, stage, model)
    rows = read_metrics(setting.folder / "run")
    measured = timed([row["seconds"] for row in rows[1:]])
    kept = [each for each in rows[-1] if each.startswith(("sampler_", "forward_", "sampling_")) or each == "out_of_memory"]
    # vLLM takes memory that PyTorch does not count.
    peak = memory.device_peak if engine == "vllm" and setting.device.type == "cuda" else memory.peak
    planned_seconds = sum(plan.seconds_per_step.values())
    figures = {
        **measured,
        **_about(setting, name),
        **memory.figures(),
        **beside("seconds", measured["seconds"], planned_seconds),
        "planned_seconds_of_parts": {part: round(value, 4) for part, value in plan.seconds_per_step.items()},
        "planned_memory_gb": {part: gigabytes(value) for part, value in plan.memory.items()},
        **beside("peak_memory_gb", peak / 1e9, plan.peak_bytes / 1e9),
        "trained_weights": plan.trainable,
        "measured_thought_tokens": rows[-1]["thought_tokens"],
        "tokens_per_second": rows[-1]["tokens_per_second"],
        **{each: rows[-1][each] for each in kept},
        "rollout_engine": engine if stage == "dual-rl" else None,
        "num_generations": config.dual_rl.objective.num_generations if stage == "dual-rl" else None,
        "pairs_per_step": 1,
        "dtype": "frozen weights bfloat16, trained ones float32, forwards bfloat16",
    }
    if setting.device.type == "cpu":
        figures["dtype"] = "weights float32, forwards bfloat16"
    return figures


def _config(setting: Setting, name: str, stage: StageName, engine: str) -> TrainConfig:
    lengths, steps = lengths_of(setting), 1 + setting.repeats
    changes = [f"model.checkpoint={NAMES[name]}", "anchors=0", "watched_pairs=0", "save_every=1000"]
    if stage == "cold-start":
        changes += [f"cold_start.steps={steps}", "cold_start.pairs_per_step=1", "cold_start.mask_probability=0"]
        changes += ["dual_rl.steps=0"]
    else:
        changes += ["cold_start.steps=0", f"dual_rl.steps={steps}", "dual_rl.pairs_per_step=1", f"dual_rl.engine={engine}"]
        low, high = lengths.thought // 2, lengths.thought
        objective = (f"max_tokens={high}", f"reward.length_low={low}", f"reward.length_high={high}")
        changes += [f"dual_rl.objective.{each}" for each in objective]
        changes += [f"dual_rl.objective.num_generations={setting.size(8, 2)}", f"dual_rl.max_prompt_tokens={lengths.prompt}"]
    return load_preset("qwen3-vl-8b-1gpu", changes)


def _trainable(setting: Setting, name: str, config: TrainConfig, stage: StageName) -> DeScoreModel:
    """Make the model as `trainer.engine.trainable.load_for_training` has it, without files of weights."""
    dtype = Precision.of(config.model.precision, setting.device).stored(frozen=config.model.lora is not None)
    model = random_model(NAMES[name], setting, dtype)
    adapt(model.backbone, config.model.lora, widest_vision(config))
    checkpoint_activations(model.backbone)
    set_trainable(model, config, stage)
    return model


def _train(setting: Setting, config: TrainConfig, name: StageName, model: DeScoreModel) -> None:
    """Train a stage on pairs whose frames are there."""
    lengths = lengths_of(setting)
    (setting.folder / "run").mkdir()
    accelerator = Accelerator(cpu=setting.device.type == "cpu")
    reader = PairReader(model.processor, policy_of(lengths), PROMPT_VERSION, setting.folder / "frames")
    pairs = _pairs(setting, model.processor, reader.policy)
    settings = config.cold_start if name == "cold-start" else config.dual_rl
    data: PairLoader[Any] = PairLoader(pairs, reader, accelerator, pairs_per_step=1, micro_batch_pairs=1, seed=0)
    precision = Precision.of(config.model.precision, accelerator.device)
    close: Callable[[], None] = reader.close
    stage: ColdStartStage | RLStage
    if name == "cold-start":
        stage = ColdStartStage(model, config.cold_start, data, accelerator, precision)
    else:
        limits = {"max_prompt_tokens": lengths.prompt, "max_tokens": lengths.thought}
        sampler = choose_engine(model, config.dual_rl.engine, **limits)
        stage = RLStage(model, config.dual_rl, data, accelerator, precision, sampler=sampler)
        close = sampler.close
    try:
        result = train(stage, config, setting.folder / "run", accelerator, StopSignals())
    finally:
        close()
        reader.close()
        accelerator.free_memory()
    if result.steps != settings.steps or result.skipped:
        raise RuntimeError(f"{result.steps} of {settings.steps} steps were done, {result.skipped} without an update")


def _pairs(setting: Setting, processor: Any, policy: Any) -> list[TrainingPair]:
    """Make a pair for each step, with thoughts of full length; their frames lie in the cache."""
    lengths = lengths_of(setting)
    cache, prompt = FrameCache(setting.folder / "frames", policy), prompt_of(processor, lengths)
    pairs = []
    for index in range(1 + setting.repeats):
        contents = [hashlib.sha256(f"{index}{side}".encode()).hexdigest() for side in "AB"]
        for seed, content in enumerate(contents):
            cache.put(content, clip_of(2 * index + seed, lengths))
        pairs.append(
            TrainingPair(
                identity=f"pair-{index}",
                videos=(Path("A.mp4"), Path("B.mp4")),
                contents=(contents[0], contents[1]),
                prompt=prompt,
                label=1,
                thoughts=(WORD * lengths.thought, WORD * lengths.thought),
                sub_scores=(_TRUTH, _TRUTH),
            )
        )
    return pairs
