"""Vision features of reference videos, of which a checkpoint's familiarity is made.

    features = reference_features(judge, ["a.mp4", "b.mp4"])                # (2, d)
    familiarity = fit_familiarity(features, groups=[0, 0])                  # None: two videos are too few
    if familiarity is not None:
        add_familiarity(folder, familiarity)

Only the vision tower runs: no prompt is read, and nothing is judged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from descore.batch_scoring import read_video
from descore.encode import collate, pad_token_id
from descore.errors import CheckpointError
from descore.modeling.prefill_pieces import mean_features, takes_pieces, video_features
from descore.video import JUDGING

if TYPE_CHECKING:
    from descore.familiarity import Features
    from descore.judge import DeScore

_ANY_PROMPT = "a video"  # the tower does not see it


def reference_features(
    judge: DeScore, videos: Sequence[str | Path], on_progress: Callable[[int, int], None] = lambda *_: None
) -> Features:
    """Return the mean vision features of videos, shape (v, d), as judging them gives them.

    Args:
        on_progress: called with the number of videos that are done, and of all.

    Raises:
        CheckpointError: the backbone does not give its vision features apart.
        descore.errors.EngineError: another engine than transformers has the weights.
        descore.video.VideoError: a video can't be read.
    """
    model, rows = judge.model, []
    for index, video in enumerate(videos):
        opened = read_video(judge.engine, video, JUDGING)
        try:
            inputs = collate([judge.engine.encode(opened.clip, _ANY_PROMPT)], pad_token_id(model.processor))
        finally:
            opened.close()
        if not takes_pieces(model.backbone, inputs):
            raise CheckpointError(f"{judge.name} has a backbone that does not give its vision features apart")
        with torch.inference_mode():
            feature = mean_features(video_features(model.backbone, inputs))
        assert feature is not None
        rows.append(feature[0].numpy())
        on_progress(index + 1, len(videos))
    return np.stack(rows) if rows else np.zeros((0, 0), dtype=np.float32)
