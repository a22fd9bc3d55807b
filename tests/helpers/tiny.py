"""A tiny random model of the real Qwen3-VL architecture with its own tokenizer, processor and chat template.

    backbone, processor = tiny_backbone(), tiny_processor()

Everything is made in the test process, nothing is downloaded. The deepstack indices lie INSIDE the vision
depth, so the deepstack mergers run. Weights are drawn large enough that a random model reacts visibly to its
inputs.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2VLImageProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from descore.answer import DIMENSIONS, SUB_SCORES, render_answer
from descore.calibration import Calibration, ModeCalibration
from descore.checkpoints.folder import Manifest
from descore.judge import DeScore
from descore.modeling.model import DeScoreModel
from descore.modeling.scoring_head import ScoringModule
from descore.modeling.transformers_versions import takes_vision_outputs
from descore.video.h264_writer import encode_h264
from descore.video.types import FramePolicy, VideoClip

PATCH, MERGE, SIDE = 8, 2, 32
POLICY = FramePolicy(fps=2.0, min_frames=4, max_frames=8, max_pixels_per_frame=SIDE * SIDE, min_pixels_per_frame=SIDE * SIDE)
# A prompt is read in pieces, between which a judgement may end, where vision features can be handed over.
reads_in_pieces = pytest.mark.skipif(
    not takes_vision_outputs(Qwen3VLForConditionalGeneration),
    reason="this version of transformers takes no ready vision features, so a prompt is one piece",
)
SPECIAL = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>",
    "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>",
]  # fmt: skip
CHAT_TEMPLATE = (
    "{%- for message in messages -%}<|im_start|>{{ message.role }}{{ '\\n' }}"
    "{%- if message.content is string -%}{{ message.content }}{%- else -%}{%- for part in message.content -%}"
    "{%- if part.type == 'video' -%}<|vision_start|><|video_pad|><|vision_end|>"
    "{%- elif part.type == 'text' -%}{{ part.text }}{%- endif -%}{%- endfor -%}{%- endif -%}"
    "<|im_end|>{{ '\\n' }}"
    "{%- endfor -%}{%- if add_generation_prompt -%}<|im_start|>assistant{{ '\\n' }}{%- endif -%}"
)
_CORPUS = [
    "A red circle bounces on a checkerboard while the camera pans left, in sepia. Judge the video.",
    render_answer("I expect a blue square; I see one.", dict(zip(DIMENSIONS, SUB_SCORES * 2, strict=False)), 3.67),
]


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Train a byte-level BPE, a little over 300 tokens; all bytes are in the alphabet, so any text has tokens."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, show_progress=False)
    core.train_from_iterator(_CORPUS, trainer)
    core.add_special_tokens(SPECIAL)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=SPECIAL,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


@cache
def tiny_processor() -> Qwen3VLProcessor:
    """Make a processor of the real classes at patch 8, merge 2."""
    size = {"shortest_edge": SIDE * SIDE, "longest_edge": 64 * SIDE * SIDE}
    pieces = {"patch_size": PATCH, "merge_size": MERGE, "temporal_patch_size": 2, "size": size}
    video = Qwen3VLVideoProcessor(**pieces, cap_pixels_per_frame=False)
    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(**pieces, image_mean=video.image_mean, image_std=video.image_std),
        tokenizer=tiny_tokenizer(),
        video_processor=video,
        chat_template=CHAT_TEMPLATE,
    )


def tiny_config() -> Qwen3VLConfig:
    """Configure three layers each; deepstack features of the first two vision layers enter the first two text layers."""
    tokenizer = tiny_processor().tokenizer
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL}
    return Qwen3VLConfig(
        text_config={
            "vocab_size": len(tokenizer) + 5,  # padded, as real vocabularies are
            "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4,
            "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 4096,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2],
                                "mrope_interleaved": True},
            "eos_token_id": ids["<|im_end|>"], "pad_token_id": ids["<|endoftext|>"],
        },
        vision_config={
            "depth": 3, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "patch_size": PATCH,
            "spatial_merge_size": MERGE, "temporal_patch_size": 2, "out_hidden_size": 64,
            "num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1],
        },
        image_token_id=ids["<|image_pad|>"], video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"], vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )  # fmt: skip


def tiny_backbone(seed: int = 0) -> Qwen3VLForConditionalGeneration:
    """Make a random backbone in eval mode, float32, SDPA."""
    torch.manual_seed(seed)
    backbone = Qwen3VLForConditionalGeneration._from_config(tiny_config(), attn_implementation="sdpa")
    with torch.no_grad():
        for name, parameter in backbone.named_parameters():
            if parameter.ndim > 1 and "pos_embed" not in name:
                parameter.normal_(0.0, 1.5 / parameter.shape[-1] ** 0.5 if "embed_tokens" not in name else 0.5)
    backbone.generation_config.eos_token_id = backbone.config.text_config.eos_token_id
    return backbone.eval()


def tiny_clip(seed: int, frames: int = 4, height: int = SIDE, width: int = SIDE) -> VideoClip:
    """Make a clip of smooth random colours that move, two frames a second."""
    rng = np.random.default_rng(seed)
    colours = rng.integers(0, 255, (frames, 4, 4, 3), dtype=np.uint8)
    pixels = colours.repeat(-(-height // 4), axis=1).repeat(-(-width // 4), axis=2)[:, :height, :width]
    times = (np.arange(frames) + 0.5) / 2.0
    return VideoClip(frames=np.ascontiguousarray(pixels), timestamps=times, duration=frames / 2.0, reader="pyav")


def tiny_judge(thought_tokens: int = 24) -> DeScore:
    """Make a random judge, ready to use, whose thoughts are at most `thought_tokens` long.

    With this seed greedy thoughts vary; many random models repeat one token.
    """
    torch.manual_seed(1)
    scoring = ScoringModule(64)
    torch.nn.init.normal_(scoring.query_token)
    manifest = Manifest(
        name="tiny",
        trained_on="nothing: random weights",
        frame_policy=POLICY,
        prompt_version="compact-1",
        max_thought_tokens=thought_tokens,
    )
    return DeScore(DeScoreModel(tiny_backbone(1), tiny_processor(), scoring).eval(), manifest)


def calibrated(judge: DeScore) -> DeScore:
    """The same judge with a made-up scale in both modes, so that it gives P(A preferred)."""
    scale = ModeCalibration(0.0, 1.0, 1.0, 0.0, reference_videos=8, validation_pairs=8)
    return DeScore(judge.model, replace(judge.manifest, calibration=Calibration({"think": scale, "quick": scale})))


def tiny_video(path: Path, seed: int, frames: int = 8, height: int = SIDE, width: int = SIDE) -> Path:
    """Write a small real H.264 file, four frames a second."""
    return encode_h264(tiny_clip(seed, frames, height, width).frames, path, fps=4)
