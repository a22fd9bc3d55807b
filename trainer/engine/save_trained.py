"""Saving a trained checkpoint with its lineage: parent, settings, data, code, measurements.

    save_trained(trained, config, "cold-start", pairs, metrics, calibration, folder)

The folder is a checkpoint like any other (`descore.checkpoints.folder`); its manifest's lineage says how it was made.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from descore.checkpoints.card_curves import PANELS
from descore.judge import DeScore
from descore.modeling.lora import adapter_config
from trainer.code_version import code_version
from trainer.config import TrainConfig, config_to_dict
from trainer.engine.metrics_log import read_metrics

if TYPE_CHECKING:
    from descore.calibration import Calibration
    from descore.familiarity import Familiarity
    from trainer.data.pairs import TrainingPair
    from trainer.engine.trainable import TrainableModel
    from trainer.paradigm import StageName

_CURVE_POINTS = 25
_ABOUT = {
    "think-then-score": "trained on {pairs} labelled pairs ({stage})",
    "discriminative": "baseline without thoughts, trained on {pairs} labelled pairs: use mode quick",
    "generative": "baseline whose score is the overall_score it writes, trained on {pairs} labelled pairs: it has no reward",
}


def save_trained(
    trained: TrainableModel,
    config: TrainConfig,
    stage: StageName,
    pairs: Sequence[TrainingPair],
    metrics: Mapping[str, Any],
    calibration: Calibration,
    folder: Path,
    familiarity: Familiarity | None = None,
) -> Path:
    """Write the checkpoint folder of a finished stage.

    Args:
        pairs: the training pairs.
        metrics: split -> name -> number.
        folder: inside the folder of the stage, beside its log.
        familiarity: the videos that the checkpoint knows; that of the parent is not kept without being named here.

    Raises:
        descore.errors.CheckpointError: the folder is taken by something else.
    """
    model, manifest = trained.model.eval(), trained.manifest
    if config.paradigm == "generative":  # an untrained head must prefer nothing
        with torch.no_grad():
            model.require_scoring().head.weight.zero_()
    about = _ABOUT[config.paradigm].format(pairs=len(pairs), stage=stage)
    lineage = {
        "stage": stage,
        "paradigm": config.paradigm,
        "parent": {"name": trained.parent.name, "fingerprint": trained.parent.fingerprint},
        "data": {"pairs": len(pairs), "sha256": data_hash(pairs)},
        "code": code_version(),
        "config": config_to_dict(config),
        "curves": curves(read_metrics(folder.parent)),
        "ancestry": {name: value for name, value in trained.parent.lineage.items() if name != "curves"},
    }
    manifest = replace(
        manifest,
        name=f"{folder.parent.name} ({stage})" if folder.name == "checkpoint" else folder.name,
        trained_on=f"{trained.manifest.trained_on}; {about}".removeprefix("; "),
        base_model=manifest.base_model if adapter_config(model.backbone) is not None else None,
        calibration=calibration,
        lineage=lineage,
        metrics=dict(metrics),
    )
    model.familiarity = familiarity
    return DeScore(model, manifest).save_pretrained(folder)


def curves(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Reduce the log of a stage to at most `_CURVE_POINTS` points: means over equal spans of steps, each at its last step.

    Args:
        rows: of `trainer.engine.metrics_log.read_metrics`.
    """
    span = -(-len(rows) // _CURVE_POINTS) or 1
    points = []
    for first in range(0, len(rows), span):
        part = rows[first : first + span]
        point: dict[str, Any] = {"step": part[-1]["step"] + 1}
        for name in PANELS:
            values = [row[name] for row in part if isinstance(row.get(name), (int, float))]
            if values:
                point[name] = round(sum(values) / len(values), 4)
        points.append(point)
    about = f"Each point is the mean over {span} steps; drift is in the unit of raw rewards."
    return {"unit": "step", "about": about, "points": points}


def data_hash(pairs: Sequence[TrainingPair]) -> str:
    """SHA-256 of all that training sees of the pairs, independent of their order and of the paths of their files."""
    digest = hashlib.sha256()
    for pair in sorted(pairs, key=lambda pair: pair.identity):
        scores = [dict(sorted(side.items())) for side in pair.sub_scores]
        seen = [pair.identity, pair.contents, pair.prompt, pair.label, pair.strength, pair.thoughts, scores]
        digest.update(json.dumps(seen, ensure_ascii=False).encode())
    return digest.hexdigest()
