"""The recipe of the bundled checkpoint: `python -m trainer.shapeworld train --work DIR --out DIR`.

    1. pretrain     a small Qwen3-VL on drawn clips: describe, then judge (stands in for the backbone's own pretraining)
    2. cold start   `python -m trainer`'s stage 1, half of the pairs with reference thoughts; about the others the backbone
                    thinks itself first, errors included, since it will read its own
    3. screen       choose pairs that are hard for the cold-started model
    4. dual RL      `python -m trainer`'s stage 2 on those
    5. evaluate     calibrate both modes on validation pairs, measure every split before and after the RL, save

Both stages train on mp4 files and their table, with the settings in `shapeworld.yaml`. `--from CHECKPOINT` begins at step
3 with a cold-started checkpoint. Every step keeps its state in the work folder, so an interrupted recipe goes on where it
stopped.
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import Qwen3VLProcessor

from descore.calibration import Calibration, fit_mode
from descore.checkpoints.folder import MANIFEST_FILE
from descore.checkpoints.manifest import Manifest
from descore.familiarity import fit_familiarity
from descore.judge import DeScore
from descore.modeling.model import DeScoreModel
from descore.modeling.scoring_head import ScoringModule
from descore.modeling.vision_attention import batch_equal_frames
from descore.prompt import instruction
from descore.reference_videos import reference_features
from storage.training.run_folder import CHECKPOINT
from trainer.config import TrainConfig, load_preset
from trainer.recipe.backbone import POLICY, build_backbone, build_processor, build_tokenizer
from trainer.recipe.batches import DESCRIBE, PROMPT_VERSION, Batcher
from trainer.recipe.card_figures import compared, split_result
from trainer.recipe.pretrain import PretrainConfig, pretrain
from trainer.recipe.rendered_clips import clip_pool
from trainer.recipe.screening import hard_pairs
from trainer.runs.pipeline import run
from trainer.shapeworld.evaluate import Evaluation, evaluate
from trainer.shapeworld.language import describe
from trainer.shapeworld.pairs import ShapePair, shape_pairs
from trainer.shapeworld.write_dataset import clip_names, write_pairs

if TYPE_CHECKING:
    from trainer.paradigm import StageName

log = logging.getLogger(__name__)

PRESET = Path(__file__).with_name("shapeworld.yaml")
MAX_THOUGHT_TOKENS = 200
PRETRAINED, COLD_STARTED = "pretrained", "cold-started"
# Compared by a reader of the card; `validation` is what the calibration was fitted on, so it is not among them.
REPORTED_SPLITS = {"test": 400, "unseen-combinations": 300, "unseen-phrasings": 300, "unseen-rendering": 300}
TRAINED_ON = "knows ShapeWorld only, simple shapes that move; its judgements of real footage mean nothing"


@dataclass(frozen=True)
class Recipe:
    """All that makes the bundled checkpoint what it is. Pairs come from split train, one part behind the other.

    Attributes:
        name: of the checkpoint.
        pretrain_pairs: pairs whose clips the pretraining sees.
        pretrain_held_out_pairs: validation pairs that show how well the pretraining sees.
        cold_start_pairs: labelled pairs of stage 1; every second one has reference thoughts.
        screened_pairs: pairs of which stage 2 gets the hard ones.
        calibration_pairs: validation pairs that the calibration is fitted on.
        pretrain: settings of the pretraining.
        training: settings of both stages; the recipe fills in checkpoint and table.
        reported: split -> number of pairs that the card reports.
    """

    name: str = "bundled v2"
    pretrain_pairs: int = 14_000
    pretrain_held_out_pairs: int = 250
    cold_start_pairs: int = 1_200
    screened_pairs: int = 2_750
    calibration_pairs: int = 300
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    training: TrainConfig = field(default_factory=lambda: load_preset(PRESET))
    reported: dict[str, int] = field(default_factory=lambda: dict(REPORTED_SPLITS))


def make_checkpoint(
    recipe: Recipe, work: Path, out: Path, threads: int = 1, workers: int = 2, parent: str | None = None
) -> Path:
    """Run the recipe in `work` and save the checkpoint folder `out`.

    Args:
        threads: of torch; one is faster than two where other work runs on the machine.
        workers: processes that draw.
        parent: a cold-started checkpoint to begin from; None runs the whole recipe.

    Raises:
        SystemExit: a signal ended a stage at a step boundary; the same call goes on.
    """
    torch.set_num_threads(threads)
    parent = parent or str(cold_started(recipe, work, workers))
    cold = DeScore.from_pretrained(parent)
    first = recipe.pretrain_pairs + recipe.cold_start_pairs
    hard = hard_pairs(cold, list(shape_pairs("train", recipe.screened_pairs, first)), work / "screening", workers)
    table = write_pairs(hard, work / "mp4" / "train-hard", workers)
    judge = run_stage("dual-rl", recipe, parent, table, work)
    about = {"first_pair": first, "screened_pairs": recipe.screened_pairs, "hard_pairs": len(hard)}
    judge = as_shipped(judge, cold.manifest, recipe.name, f"{len(hard)} hard pairs of ShapeWorld, split train", about)
    judge = calibrated(judge, recipe.calibration_pairs, work)
    metrics = {}
    for split, count in recipe.reported.items():
        before, after = (split_result(checkpoint, split, count, work) for checkpoint in (cold, judge))
        metrics[split] = compared(before, after)
        log.info("%s: %s", split, json.dumps(metrics[split]))
    return _save(DeScore(judge.model, replace(judge.manifest, metrics=metrics)), out)


def cold_started(recipe: Recipe, work: Path, workers: int = 2) -> Path:
    """Return the cold-started and calibrated checkpoint folder in `work`; made once.

    Raises:
        SystemExit: a signal ended the stage at a step boundary; the same call goes on.
    """
    folder = work / COLD_STARTED
    if (folder / MANIFEST_FILE).exists():
        return folder
    parent = pretrained(recipe, work, workers)
    table = write_pairs(cold_start_pairs(recipe), work / "mp4" / "train", workers)
    judge = run_stage("cold-start", recipe, str(parent), table, work)
    about = {"first_pair": recipe.pretrain_pairs, "pairs": recipe.cold_start_pairs}
    data = f"{recipe.cold_start_pairs} pairs of ShapeWorld, split train, every second one with reference thoughts"
    manifest = DeScore.from_pretrained(parent).manifest
    judge = as_shipped(judge, manifest, f"{recipe.name} (cold start)", data, about)
    return _save(calibrated(judge, recipe.calibration_pairs, work), folder)


def cold_start_pairs(recipe: Recipe) -> list[ShapePair]:
    """Return the pairs of stage 1, behind those of the pretraining; every second one without its reference thoughts."""
    pairs = shape_pairs("train", recipe.cold_start_pairs, recipe.pretrain_pairs)
    return [replace(pair, thoughts=("", "")) if index % 2 else pair for index, pair in enumerate(pairs)]


def pretrained(recipe: Recipe, work: Path, workers: int = 2) -> Path:
    """Return the pretrained checkpoint folder in `work`, its scoring module untrained; made once."""
    folder = work / PRETRAINED
    if (folder / MANIFEST_FILE).exists():
        return folder
    log.info("draw the clips of %d pairs", recipe.pretrain_pairs)
    held_out = clip_pool("validation", recipe.pretrain_held_out_pairs, work / "clips", workers)
    clips = clip_pool("train", recipe.pretrain_pairs, work / "clips", workers)
    model, batcher = new_model(work / "backbone", recipe.pretrain.seed)
    log.info("pretrain %.2f million parameters", sum(p.numel() for p in model.backbone.parameters()) / 1e6)
    pretrain(model.backbone, batcher, clips, held_out, recipe.pretrain, work / "backbone")
    settings: dict[str, Any] = asdict(recipe)
    del settings["training"]  # each stage's own lineage holds its settings
    manifest = Manifest(
        name=f"{recipe.name} (pretrained)",
        trained_on=TRAINED_ON,
        frame_policy=POLICY,
        prompt_version=PROMPT_VERSION,
        max_thought_tokens=MAX_THOUGHT_TOKENS,
        lineage={"stage": "pretraining", "parent": None, "data": "ShapeWorld, split train", "recipe": settings},
    )
    return DeScore(model.eval(), manifest).save_pretrained(folder)


def new_model(folder: Path, seed: int) -> tuple[DeScoreModel, Batcher]:
    """Build a randomly initialised backbone with its scoring module; the tokenizer is trained once and kept in `folder`."""
    if not (folder / "tokenizer.json").exists():
        build_processor(build_tokenizer(tokenizer_texts())).save_pretrained(folder)
    processor = Qwen3VLProcessor.from_pretrained(folder, trust_remote_code=False)
    backbone = build_backbone(processor.tokenizer, seed)
    batch_equal_frames(backbone)
    scoring = ScoringModule(backbone.config.get_text_config().hidden_size)
    return DeScoreModel(backbone, processor, scoring), Batcher(processor)


def tokenizer_texts(count: int = 4000) -> Iterator[str]:
    """Yield the training texts of the tokenizer: prompts, thoughts and descriptions of split train, and time stamps."""
    rng = random.Random("tokenizer")
    for pair in shape_pairs("train", count):
        yield instruction(pair.prompt, PROMPT_VERSION)
        yield from pair.thoughts
        yield describe(pair.scenes[0])
        yield f"<{rng.uniform(0, 5):.1f} seconds>"
        yield from ("user\n", "assistant\n", DESCRIBE)


def run_stage(stage: StageName, recipe: Recipe, parent: str, table: Path, work: Path) -> DeScore:
    """Train one stage as `python -m trainer` does, from the checkpoint `parent` on the pairs of `table`.

    Returns:
        The checkpoint that the stage ended with.

    Raises:
        SystemExit: a signal ended the stage at a step boundary, with the exit code that it asks for.
    """
    config = replace(
        recipe.training,
        model=replace(recipe.training.model, checkpoint=parent),
        data=replace(recipe.training.data, csv=str(table)),
    )
    folder = work / stage
    code = run([stage], config, folder, home=work / "home")
    if code:
        raise SystemExit(code)
    return DeScore.from_pretrained(folder / stage / CHECKPOINT)


def as_shipped(trained: DeScore, parent: Manifest, name: str, data: str, about: Mapping[str, Any]) -> DeScore:
    """Round the backbone to bfloat16, as its file holds it (half the size), and give the checkpoint the recipe's manifest.

    What is measured afterwards is what is shipped. Folders of the machine are left out of the lineage.

    Args:
        data: one line about the pairs, in the place of the table's path.
        about: what the recipe did around the stage, for the lineage.
    """
    state = {name: value.to(torch.bfloat16) for name, value in trained.model.backbone.state_dict().items()}
    trained.model.backbone.load_state_dict(state)
    lineage = dict(trained.manifest.lineage)
    config = dict(lineage["config"])
    config["model"] = {**config["model"], "checkpoint": lineage["parent"]["name"]}
    config["data"] = {**config["data"], "csv": data}
    lineage |= {"recipe": dict(about), "config": config}
    manifest = replace(parent, name=name, base_model=None, calibration=Calibration({}), lineage=lineage, metrics={})
    return DeScore(trained.model.eval(), manifest)


def calibrated(judge: DeScore, count: int, work: Path) -> DeScore:
    """Fit calibration and familiarity on validation pairs, whose clips are the reference videos of both."""
    folder = work / "mp4" / "validation"
    validation = evaluate(judge, "validation", count, folder=folder)
    log.info("validation: %s", json.dumps(validation.to_dict()))
    videos = [folder / name for pair in validation.pairs for name in clip_names(pair)]
    groups = [index for index in range(count) for _ in "AB"]
    judge.model.familiarity = fit_familiarity(reference_features(judge, videos), groups)
    return DeScore(judge.model, replace(judge.manifest, calibration=fitted_calibration(validation)))


def fitted_calibration(validation: Evaluation) -> Calibration:
    """Fit mean, spread, temperature and tie threshold of each evaluated mode."""
    modes = {}
    for mode, result in validation.results.items():
        both = torch.cat([torch.from_numpy(result.rewards_a), torch.from_numpy(result.rewards_b)]).numpy()
        modes[mode] = fit_mode(result.rewards_a, result.rewards_b, result.labels, both)
    return Calibration(modes)


def _save(judge: DeScore, folder: Path) -> Path:
    judge.model.backbone.to(torch.bfloat16)  # only to be written: this also rounds the rotary frequencies in memory
    return judge.save_pretrained(folder)
