"""Features of videos from a frozen vision tower, computed once and kept on disk for rollouts, reference and epochs.

    cache = VisionFeatures(model, folder)
    vision = cache.of(rows)                      # rows of `encode_prompt`, one video each
    model.prefill(collate(rows, pad), vision)

The key is the hash of the pixels that go into the tower (so of the video's content and its frame policy together) and of
the tower itself; a feature file is written atomically, and one that can't be read is made again.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures

from descore.modeling.backbone import fingerprint

if TYPE_CHECKING:
    from descore.encode import Row
    from descore.modeling.model import DeScoreModel, VisionOutputs

_PIXELS, _GRID = "pixel_values_videos", "video_grid_thw"


class VisionFeatures:
    """Features of a frozen tower, on disk.

    Attributes:
        supported: the backbone takes ready features.
        hits: videos whose features were on disk.
        misses: videos whose features were computed.
    """

    def __init__(self, model: DeScoreModel, folder: Path) -> None:
        """Open the folder of this tower's features.

        Raises:
            ValueError: the tower is not frozen, so its features would grow old.
        """
        tower = _tower(model)
        if tower is not None and any(p.requires_grad for p in tower.parameters()):
            raise ValueError("features of a vision tower that is being trained can't be kept; freeze it or switch this off")
        self.model = model
        made = tower is not None and hasattr(model.backbone.base_model, "get_video_features")
        self.supported = made and model.takes_vision
        self.hits = self.misses = 0
        if tower is not None:
            self._folder = folder / fingerprint(tower.state_dict())
            self._folder.mkdir(parents=True, exist_ok=True)

    def of(self, rows: Sequence[Row]) -> VisionOutputs | None:
        """Return the features of the rows' videos in their order; None for a backbone that does not take ready features."""
        if not self.supported or any(_PIXELS not in row for row in rows):
            return None
        keys = [_key(row) for row in rows]
        kept = {key: self._read(key) for key in dict.fromkeys(keys)}
        for key, row in zip(keys, rows, strict=True):
            if kept[key] is None:
                kept[key] = self._compute(row)
                self._write(key, kept[key] or {})
                self.misses += 1
            else:
                self.hits += 1
        return assemble([kept[key] or {} for key in keys], self.model)

    @torch.no_grad()
    def _compute(self, row: Row) -> dict[str, torch.Tensor]:
        device = self.model.device
        base = self.model.backbone.base_model
        features = base.get_video_features(row[_PIXELS].to(device), row[_GRID].to(device), return_dict=True)
        layers = getattr(features, "deepstack_features", None) or []
        named = {f"deepstack.{index}": layer[0] for index, layer in enumerate(layers)}
        return {"pooled": features.pooler_output[0], **named}

    def _read(self, key: str) -> dict[str, torch.Tensor] | None:
        try:
            return load_file(self._folder / f"{key}.safetensors")
        except (OSError, SafetensorError):
            return None

    def _write(self, key: str, tensors: dict[str, torch.Tensor]) -> None:
        handle, temporary = tempfile.mkstemp(dir=self._folder, suffix=".partial")
        os.close(handle)
        save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, temporary)
        Path(temporary).replace(self._folder / f"{key}.safetensors")


def assemble(videos: Sequence[dict[str, torch.Tensor]], model: DeScoreModel) -> VisionOutputs:
    """Put features of several videos together as the backbone's forward takes them, on its device."""
    device = model.device
    layers = sum(name.startswith("deepstack.") for name in videos[0])
    deepstack = [tuple(one[f"deepstack.{index}"].to(device) for one in videos) for index in range(layers)]
    pooled = tuple(one["pooled"].to(device) for one in videos)
    return {"video": BaseModelOutputWithDeepstackFeatures(pooler_output=pooled, deepstack_features=deepstack)}


def _tower(model: DeScoreModel) -> torch.nn.Module | None:
    tower = getattr(model.backbone.base_model, "visual", None)
    return tower if isinstance(tower, torch.nn.Module) else None


def _key(row: Row) -> str:
    digest = hashlib.sha256()
    for name in (_PIXELS, _GRID):
        value = row[name].contiguous()
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()[:40]
