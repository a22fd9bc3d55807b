"""The recipe of the bundled checkpoint, start to end: `python -m trainer.shapeworld train --work DIR --out DIR`.

    1. render      clips of the splits train and validation
    2. pretrain    a small Qwen3-VL on them: describe, then judge (stands in for the backbone's own pretraining)
    3. think       sample the backbone's own thoughts for a part of the training pairs
    4. cold start  Bradley-Terry with random CoT masking
    5. dual RL     `python -m trainer`'s own stage 2 on pairs that are hard for it (`trainer.shapeworld.recipe.dual_rl`)
    6. calibrate   both modes on validation pairs, decoded from mp4; after the cold start too
    7. evaluate    every split, before and after the RL, into the card; then save

`--from CHECKPOINT` begins at 5 with a cold-started checkpoint. Every stage keeps its state in the work folder, so an
interrupted recipe goes on where it stopped.
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen3VLProcessor

from descore.calibration import Calibration, fit_mode
from descore.checkpoints.folder import MANIFEST_FILE, Manifest
from descore.judge import DeScore
from descore.modeling.model import DeScoreModel
from descore.modeling.scoring_head import ScoringModule
from descore.modeling.vision_attention import batch_equal_frames
from descore.prompt import instruction
from trainer.shapeworld.evaluate import Evaluation, evaluate
from trainer.shapeworld.language import describe
from trainer.shapeworld.pairs import shape_pairs
from trainer.shapeworld.recipe.backbone import POLICY, build_backbone, build_processor, build_tokenizer
from trainer.shapeworld.recipe.batches import DESCRIBE, PROMPT_VERSION, Batcher
from trainer.shapeworld.recipe.before_after import compared, measured
from trainer.shapeworld.recipe.cold_start import ColdStartConfig, cold_start, collect_thoughts
from trainer.shapeworld.recipe.dual_rl import DualRLRecipe, hard_pairs, train, trained_judge
from trainer.shapeworld.recipe.pretrain import PretrainConfig, pretrain
from trainer.shapeworld.recipe.rendered_clips import clip_pool

log = logging.getLogger(__name__)

MAX_THOUGHT_TOKENS = 200
COLD_STARTED = "cold-started"
# Compared by a reader of the card; `validation` is what the calibration was fitted on, so it is not among them.
REPORTED_SPLITS = {"test": 400, "unseen-combinations": 300, "unseen-phrasings": 300, "unseen-rendering": 300}
TRAINED_ON = "knows ShapeWorld only, simple shapes that move; its judgements of real footage mean nothing"


@dataclass(frozen=True)
class Recipe:
    """Everything that makes the bundled checkpoint what it is."""

    name: str = "bundled v2"
    train_pairs: int = 14_000
    held_out_pairs: int = 250
    calibration_pairs: int = 300
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    cold_start: ColdStartConfig = field(default_factory=ColdStartConfig)
    dual_rl: DualRLRecipe = field(default_factory=DualRLRecipe)
    reported: dict[str, int] = field(default_factory=lambda: dict(REPORTED_SPLITS))


def make_checkpoint(
    recipe: Recipe, work: Path, out: Path, threads: int = 1, workers: int = 2, parent: str | None = None
) -> Path:
    """Run the recipe in `work` and save the checkpoint folder `out`.

    Args:
        threads: of torch; one is faster than two where other work runs on the machine.
        workers: processes that render.
        parent: a cold-started checkpoint to begin from, with only what follows the cold start; None: the whole recipe.

    Raises:
        SystemExit: a signal ended the RL at a step boundary; the same call goes on.
    """
    torch.set_num_threads(threads)
    cold = DeScore.from_pretrained(parent or cold_started(recipe, work, workers))
    parent = parent or str(work / COLD_STARTED)
    chosen = hard_pairs(cold, recipe.dual_rl, work, workers)
    judge = trained_judge(train(parent, chosen, recipe.dual_rl, work, workers))
    lineage = _rl_lineage(judge.manifest.lineage, recipe, len(chosen))
    manifest = replace(
        cold.manifest, name=recipe.name, base_model=None, calibration=Calibration({}), lineage=lineage, metrics={}
    )
    judge = calibrated(DeScore(_as_stored(judge.model), manifest), recipe.calibration_pairs, work)
    metrics = {}
    for split, count in recipe.reported.items():
        before, after = (measured(one, split, count, work) for one in (cold, judge))
        metrics[split] = compared(before, after)
        log.info("%s: %s", split, json.dumps(metrics[split]))
    return _save(DeScore(judge.model, replace(judge.manifest, metrics=metrics)), out)


def cold_started(recipe: Recipe, work: Path, workers: int = 2) -> Path:
    """Pretrain, think, cold start and calibrate; the checkpoint folder in `work`, made once."""
    folder = work / COLD_STARTED
    if (folder / MANIFEST_FILE).exists():
        return folder
    log.info("render %d training pairs", recipe.train_pairs)
    held_out = clip_pool("validation", recipe.held_out_pairs, work / "clips", workers)
    clips = clip_pool("train", recipe.train_pairs, work / "clips", workers)
    model, batcher = new_model(work / "backbone", recipe.pretrain.seed)
    log.info("pretrain %.2f million parameters", sum(p.numel() for p in model.backbone.parameters()) / 1e6)
    pretrain(model.backbone, batcher, clips, held_out, recipe.pretrain, work / "backbone")
    model.eval()
    thoughts = collect_thoughts(
        model, batcher, clips, recipe.cold_start.own_thoughts_pairs, work / "thoughts.jsonl", MAX_THOUGHT_TOKENS
    )
    cold_start(model, batcher, clips, thoughts, recipe.cold_start, work)
    return _save(calibrated(DeScore(_as_stored(model), _manifest(recipe)), recipe.calibration_pairs, work), folder)


def new_model(folder: Path, seed: int) -> tuple[DeScoreModel, Batcher]:
    """A randomly initialised backbone with scoring module; its tokenizer is trained once and kept in `folder`."""
    if not (folder / "tokenizer.json").exists():
        build_processor(build_tokenizer(tokenizer_texts())).save_pretrained(folder)
    processor = Qwen3VLProcessor.from_pretrained(folder)
    backbone = build_backbone(processor.tokenizer, seed)
    batch_equal_frames(backbone)
    scoring = ScoringModule(backbone.config.get_text_config().hidden_size)
    return DeScoreModel(backbone, processor, scoring), Batcher(processor)


def tokenizer_texts(count: int = 4000) -> Iterator[str]:
    """What the tokenizer is trained on: prompts, thoughts and descriptions of the training split, and time stamps."""
    rng = random.Random("tokenizer")
    for pair in shape_pairs("train", count):
        yield instruction(pair.prompt, PROMPT_VERSION)
        yield from pair.thoughts
        yield describe(pair.scenes[0])
        yield f"<{rng.uniform(0, 5):.1f} seconds>"
        yield from ("user\n", "assistant\n", DESCRIBE)


def calibrated(judge: DeScore, count: int, work: Path) -> DeScore:
    """The same judge with a calibration of both modes, fitted on validation pairs; their clips are the reference videos."""
    validation = evaluate(judge, "validation", count, folder=work / "mp4" / "validation")
    log.info("validation: %s", json.dumps(validation.to_dict()))
    manifest = replace(judge.manifest, calibration=fitted_calibration(validation))
    return DeScore(judge.model, manifest)


def fitted_calibration(validation: Evaluation) -> Calibration:
    """Mean, spread, temperature and tie threshold of each evaluated mode."""
    modes = {}
    for mode, result in validation.results.items():
        both = torch.cat([torch.from_numpy(result.rewards_a), torch.from_numpy(result.rewards_b)]).numpy()
        modes[mode] = fit_mode(result.rewards_a, result.rewards_b, result.labels, both)
    return Calibration(modes)


def _as_stored(model: DeScoreModel) -> DeScoreModel:
    """Round the backbone to bfloat16, as its file holds it (half the size); measured is what is shipped."""
    state = {name: value.to(torch.bfloat16) for name, value in model.backbone.state_dict().items()}
    model.backbone.load_state_dict(state)
    return model.eval()


def _save(judge: DeScore, folder: Path) -> Path:
    judge.model.backbone.to(torch.bfloat16)  # only to be written: this also rounds the rotary frequencies in memory
    return judge.save_pretrained(folder)


def _rl_lineage(lineage: Mapping[str, Any], recipe: Recipe, chosen: int) -> dict[str, Any]:
    """The run's own lineage, with what the recipe did around it; folders of the machine it ran on are left out."""
    config = dict(lineage["config"])
    config["model"] = {**config["model"], "checkpoint": lineage["parent"]["name"]}
    config["data"] = {**config["data"], "csv": f"{chosen} hard pairs of ShapeWorld, split train"}
    choice = {name: getattr(recipe.dual_rl, name) for name in ("first_pair", "screened_pairs")}
    return {**lineage, "recipe": {**choice, "hard_pairs": chosen}, "config": config}


def _manifest(recipe: Recipe) -> Manifest:
    settings: dict[str, Any] = asdict(recipe)
    del settings["dual_rl"]
    return Manifest(
        name=f"{recipe.name} (cold start)",
        trained_on=TRAINED_ON,
        frame_policy=POLICY,
        prompt_version=PROMPT_VERSION,
        max_thought_tokens=MAX_THOUGHT_TOKENS,
        lineage={"stage": "cold start", "parent": None, "data": "ShapeWorld, split train", "recipe": settings},
    )
