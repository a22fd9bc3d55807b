"""Inputs of about 2,000 prompt tokens for the bundled backbone: what an 8B gets from a real clip, on a small model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from descore.encode import Row, encode_prompt
from descore.video import FramePolicy, VideoClip

if TYPE_CHECKING:
    from descore.judge import DeScore

PROMPT = "a red circle bounces in front of a brick wall while the camera pans left"


def long_policy(frames: int, side: int) -> FramePolicy:
    """Every frame of `frames`, `side` x `side` pixels: (side / 16)^2 tokens for each two frames."""
    return FramePolicy(
        fps=8.0, min_frames=frames, max_frames=frames, min_pixels_per_frame=side**2, max_pixels_per_frame=side**2
    )


def noise_clip(seed: int, frames: int, side: int) -> VideoClip:
    """Random colours: what the model thinks of them does not matter to its speed."""
    pixels = np.random.default_rng(seed).integers(0, 255, (frames, side, side, 3), dtype=np.uint8)
    times = (np.arange(frames) + 0.5) / 8.0
    return VideoClip(frames=pixels, timestamps=times, duration=frames / 8.0, reader="pyav")


def long_row(judge: DeScore, seed: int, frames: int = 60, side: int = 128) -> Row:
    """One encoded prompt; 60 frames of 128 x 128 pixels are 1,920 tokens of video."""
    version = judge.manifest.prompt_version
    clip = noise_clip(seed, frames, side)
    return encode_prompt(judge.model.processor, clip, PROMPT, long_policy(frames, side), version)
