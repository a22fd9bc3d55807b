"""Rendered clips for pretraining and screening: the frames that the model sees, at the times and the size of its policy.

They are drawn directly, which takes a tenth of the time of writing and decoding H.264: the times are the policy's own, and
each frame is drawn at twice the model's size and reduced by the processor's filter. The trainer's stages and every
evaluation read mp4 files.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tvF

from descore.video import VideoClip
from trainer.recipe.backbone import FRAME_SIDE, POLICY
from trainer.shapeworld.pairs import shape_pair
from trainer.shapeworld.render import frame_times, render

if TYPE_CHECKING:
    from trainer.shapeworld.scene import Scene

_CHUNK = 250


def sampled_times(scene: Scene) -> np.ndarray:
    """Return the moments (FRAMES,) in seconds that the frame policy samples from the scene's clip, as a reader would."""
    times = frame_times(scene)
    return times[POLICY.constant_rate_indices(len(times), scene.rendering.fps)]


def model_frames(scene: Scene) -> np.ndarray:
    """Draw the sampled frames, (FRAMES, FRAME_SIDE, FRAME_SIDE, 3) uint8."""
    drawn = torch.from_numpy(render(scene, sampled_times(scene), 2 * FRAME_SIDE)).permute(0, 3, 1, 2)
    small = tvF.resize(drawn, [FRAME_SIDE, FRAME_SIDE], InterpolationMode.BICUBIC, antialias=True)
    frames: np.ndarray = small.permute(0, 2, 3, 1).numpy()
    return frames


def drawn_clip(scene: Scene) -> VideoClip:
    """Draw the sampled frames as the clip that a reader of the scene's mp4 file would give."""
    return VideoClip(model_frames(scene), sampled_times(scene), scene.rendering.seconds, "pyav")


def clip_pool(split: str, count: int, folder: Path, workers: int = 2) -> np.ndarray:
    """Draw both clips of the first `count` pairs of a split: (count, 2, FRAMES, FRAME_SIDE, FRAME_SIDE, 3) uint8.

    Chunks that lie in `folder` are kept, so an interrupted run goes on where it stopped.
    """
    folder.mkdir(parents=True, exist_ok=True)
    starts = range(0, count, _CHUNK)
    stops = [min(start + _CHUNK, count) for start in starts]
    # One thread each: a forked process that waits for threads of its parent would hang.
    with ProcessPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as executor:
        paths = list(executor.map(_render_chunk, repeat(split), starts, stops, repeat(folder)))
    return np.concatenate([np.load(path, mmap_mode="r") for path in paths])


def _render_chunk(split: str, start: int, stop: int, folder: Path) -> Path:
    path = folder / f"{split}-{start:06d}-{stop:06d}.npy"
    if not path.exists():
        scenes = (shape_pair(split, index).scenes for index in range(start, stop))
        frames = np.stack([np.stack([model_frames(a), model_frames(b)]) for a, b in scenes])
        partial = path.with_suffix(".partial.npy")
        np.save(partial, frames)
        partial.replace(path)
    return path
