"""Statistics of a clip without a model: does a reward follow them instead of the prompt?

stats = measure(read_clip(path, POLICY))
stats.sharpness, stats.brightness, stats.motion
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from descore.video import FramePolicy, VideoClip

# The same frames for every checkpoint: a video has its statistics once.
POLICY = FramePolicy(fps=4.0, min_frames=8, max_frames=32, max_pixels_per_frame=448 * 448, min_pixels_per_frame=64 * 64)
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601


@dataclass(frozen=True)
class ClipStats:
    """Statistics of a clip's frames.

    Attributes:
        sharpness: variance of the Laplacian of luma (0..255), mean over frames.
        brightness: mean luma, 0..1.
        motion: mean absolute difference of luma between neighbouring frames, 0..1; 0 of a single frame.
        frames: number of measured frames.
    """

    sharpness: float
    brightness: float
    motion: float
    frames: int


def measure(clip: VideoClip) -> ClipStats:
    """Measure the frames of a clip."""
    luma = clip.frames.astype(np.float32) @ _LUMA  # (T, H, W)
    moves = np.abs(np.diff(luma, axis=0)).mean() if len(luma) > 1 else 0.0
    return ClipStats(
        sharpness=float(np.mean([_laplacian(frame).var() for frame in luma])),
        brightness=float(luma.mean() / 255),
        motion=float(moves / 255),
        frames=len(luma),
    )


def _laplacian(luma: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Laplacian of the inner pixels; a frame without any gives one value, 0."""
    if min(luma.shape) < 3:
        return np.zeros((1, 1), dtype=np.float32)
    inner = luma[1:-1, 1:-1]
    return luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * inner
