"""The recipe of the bundled checkpoint, start to end, resumable: `python -m trainer.shapes train --work DIR --out DIR`.

    1. render   clips of the splits train and validation
    2. pretrain a small Qwen3-VL on them (stands in for the backbone's own pretraining)
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from pathlib import Path

import torch
from transformers import Qwen3VLForConditionalGeneration, Qwen3VLProcessor

from descore.prompt import instruction
from descore.vision_attention import batch_equal_frames
from trainer.shapes.backbone import build_backbone, build_processor, build_tokenizer
from trainer.shapes.batches import DESCRIBE, PROMPT_VERSION, Batcher
from trainer.shapes.clips import clip_pool
from trainer.shapes.language import describe
from trainer.shapes.pairs import pairs
from trainer.shapes.pretrain import PretrainConfig, pretrain

log = logging.getLogger(__name__)

TRAIN_PAIRS = 14_000
VALIDATION_PAIRS = 250


def tokenizer_texts(count: int = 4000) -> Iterator[str]:
    """What the tokenizer is trained on: prompts, thoughts and descriptions of the training split, and time stamps."""
    rng = random.Random("tokenizer")
    for known in pairs("train", count):
        yield instruction(known.prompt, PROMPT_VERSION)
        yield from known.thoughts
        yield describe(known.scenes[0])
        yield f"<{rng.uniform(0, 5):.1f} seconds>"
        yield from ("user\n", "assistant\n", DESCRIBE)


def pretrained_backbone(
    work: Path, config: PretrainConfig, threads: int
) -> tuple[Qwen3VLForConditionalGeneration, Qwen3VLProcessor]:
    """Render, build and pretrain inside `work`; whatever an earlier run finished there is taken up."""
    torch.set_num_threads(threads)
    log.info("rendering %d pairs of clips", TRAIN_PAIRS)
    held_out = clip_pool("validation", VALIDATION_PAIRS, work / "clips")
    clips = clip_pool("train", TRAIN_PAIRS, work / "clips")
    folder = work / "backbone"
    if not (folder / "tokenizer.json").exists():
        build_processor(build_tokenizer(tokenizer_texts())).save_pretrained(folder)
    processor = Qwen3VLProcessor.from_pretrained(folder)
    backbone = build_backbone(processor.tokenizer, config.seed)
    batch_equal_frames(backbone)
    log.info("pretraining %.2f million parameters", sum(p.numel() for p in backbone.parameters()) / 1e6)
    pretrain(backbone, Batcher(processor), clips, held_out, config, work / "backbone")
    return backbone.eval(), processor
