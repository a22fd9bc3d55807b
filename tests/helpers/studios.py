"""A real running app for tests: tiny random checkpoint, small gallery, temporary data folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from app.studio import Studio
from descore.calibration import Calibration, ModeCalibration
from descore.checkpoints.folder import Manifest
from descore.judge import DeScore
from descore.modeling.model import DeScoreModel
from descore.modeling.scoring_head import ScoringModule
from descore.video import encode_h264
from tests.helpers.tiny import POLICY, tiny_backbone, tiny_processor

if TYPE_CHECKING:
    from app.judge.access import Access
    from app.serving.judge_servers import JudgeServers

PROMPTS = {"red": "A red square moves right.", "blue": "A blue square stays still on a dark ground."}
LONG_THOUGHT, SHORT_THOUGHT = 1500, 40  # tokens; a long one can be watched and cancelled while it streams


@dataclass(frozen=True)
class Running:
    """A served app: its address and its parts."""

    url: str
    studio: Studio


def make_clip(path: Path, colour: tuple[int, int, int], seconds: float = 2.0, fps: int = 12, size: int = 128) -> Path:
    """An H.264 file of a coloured square that moves to the right on a dark ground."""
    frames = np.full((round(seconds * fps), size, size, 3), 24, dtype=np.uint8)
    for index, frame in enumerate(frames):
        left = 4 + index * (size // 2) // len(frames)
        frame[size // 3 : 2 * size // 3, left : left + size // 3] = colour
    encode_h264(frames, path, fps)
    return path


def make_gallery(folder: Path) -> Path:
    """Two bundled pairs; in the first one the clips differ in length and frame rate."""
    folder.mkdir(parents=True)
    make_clip(folder / "red_kling_v2.mp4", (220, 40, 40), seconds=2.0, fps=24)
    make_clip(folder / "red_sora.mp4", (200, 80, 60), seconds=3.0, fps=12)
    make_clip(folder / "blue_kling_v2.mp4", (40, 60, 220))
    make_clip(folder / "blue_sora.mp4", (60, 200, 220))
    rows = [
        {"id": name, "prompt": prompt, "a": f"{name}_kling_v2.mp4", "b": f"{name}_sora.mp4"}
        for name, prompt in PROMPTS.items()
    ]
    (folder / "pairs.json").write_text(json.dumps(rows), "utf-8")
    return folder


def talkative_checkpoint(folder: Path, with_head: bool = True, thought_tokens: int = SHORT_THOUGHT) -> Path:
    """Make a random checkpoint that thinks in letters until its limit.

    The logits of the end token and of every piece that is not plain text are 0, and some others are always above it:
    half characters would be held back, and the text would not grow with each token.
    """
    backbone, processor = tiny_backbone(), tiny_processor()
    silent = [
        index
        for piece, index in processor.tokenizer.get_vocab().items()
        if not piece.strip("Ġ").isalpha() or not piece.isascii()
    ]
    with torch.no_grad():
        backbone.get_input_embeddings().weight[[backbone.generation_config.eos_token_id, *silent]] = 0.0
    if not with_head:
        backbone.save_pretrained(folder)
        processor.save_pretrained(folder)
        return folder
    torch.manual_seed(0)
    scoring = ScoringModule(backbone.config.get_text_config().hidden_size)
    scale = ModeCalibration(0.0, 0.5, 0.4, 0.001, reference_videos=8, validation_pairs=8)
    manifest = Manifest(
        name="tiny random",
        trained_on="nothing: its weights are random",
        frame_policy=POLICY,
        prompt_version="compact-1",
        max_thought_tokens=thought_tokens,
        calibration=Calibration({"think": scale, "quick": scale}),
    )
    return DeScore(DeScoreModel(backbone, processor, scoring), manifest).save_pretrained(folder)


@contextmanager
def running_studio(
    folder: Path,
    checkpoint: str | Path | None = None,
    gallery: Path | None = None,
    access: Access | None = None,
    servers: JudgeServers | None = None,
) -> Iterator[Running]:
    """Serve an app on a free port until the block ends; its data lie in `folder`.

    gallery: the folder of the bundled pairs, two small ones by default.
    servers: that judge, in the place of a checkpoint.
    """
    studio = Studio.open(
        None if servers is not None else str(checkpoint or talkative_checkpoint(folder / "checkpoint")),
        home=folder / "home",
        gallery=gallery or make_gallery(folder / "gallery"),
        access=access,
        servers=servers,
    )
    _, url, _ = studio.launch(prevent_thread_lock=True, quiet=True)
    try:
        yield Running(url.rstrip("/"), studio)
    finally:
        studio.close()
