"""Reward models of others as checkpoints of this program.

    exported = export_checkpoint("bundled", "exports/bundled", dtype="float32")
    folder = import_checkpoint(exported, "checkpoints/back", ImportConfig(name="back again"))

What can be imported, told apart by the files that are there:

    stock-export   what `descore export` wrote
    reward-token   a transformers folder with `<Reward>` in its tokenizer and the head in `rm_head.pth`
    weight-keys    a transformers folder whose shards hold a head and a query token, under names that are given
    adapter        a peft folder on a base model, with head and query token in one of the two ways above

The head is a product without bias, and the query token stands where its embedding would: what is imported gives the rewards
that it gave before at the same prompt and thought. Every weight has to be used; a folder with others is refused with their
names. `lineage["imported"]` in the manifest records the layout, and where head and query token were.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file

from descore.checkpoints.folder import HEAD_PICKLE, backbone_folder, locate, save_checkpoint
from descore.checkpoints.foreign_weights import (
    HEAD_KEY,
    PEFT_PREFIX,
    Tensors,
    adapter_weights,
    own_keys,
    pickled_head,
    query_token,
    read_tokenizer,
    read_weight,
    scoring_module,
    weight_names,
)
from descore.checkpoints.listed_files import MANIFEST_FILE
from descore.checkpoints.manifest import Manifest
from descore.checkpoints.stock_export import is_export, read_export, untie
from descore.errors import CheckpointError
from descore.modeling.backbone import fingerprint, load_backbone
from descore.modeling.backbone_files import WEIGHTS, WEIGHTS_INDEX, read_json, some_names
from descore.modeling.lora import ADAPTER_WEIGHTS, load_adapter
from descore.modeling.model import DeScoreModel
from descore.prompt import DEFAULT_PROMPT_VERSION
from descore.video.types import FramePolicy

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ADAPTER_CONFIG = "adapter_config.json"


@dataclass(frozen=True)
class ImportConfig:
    """What a foreign folder does not say about itself.

    Attributes:
        name: of the checkpoint; None takes the folder's, or that of the exported checkpoint.
        base: base model of a peft folder (folder or Hub id); None takes the one that the folder names.
        head_key: name of the head's weight; None looks for `rm_head.pth`, then for `rm_head.weight`.
        query_key: name of the query token's weight; None takes the input row of `<Reward>`.
        prompt_version, max_thought_tokens, frame_policy: settings of the checkpoint; None takes the defaults, or those
            of the exported checkpoint.
    """

    name: str | None = None
    base: str | None = None
    head_key: str | None = None
    query_key: str | None = None
    prompt_version: str | None = None
    max_thought_tokens: int | None = None
    frame_policy: FramePolicy | None = None


@dataclass(frozen=True)
class _Imported:
    """A foreign model, with the manifest that it has so far and where its parts were found."""

    model: DeScoreModel
    manifest: Manifest
    record: Mapping[str, Any]


def import_checkpoint(source: str | Path, out: str | Path, config: ImportConfig | None = None) -> Path:
    """Write a reward model of somebody else as a checkpoint folder; a checkpoint that is there is replaced.

    Args:
        source: a folder or a Hub id, see the top of this module.
        out: folder to write.

    Returns:
        The folder's absolute path.

    Raises:
        CheckpointError: head or query token are not found, a weight is left over or missing, or the folder can't be written.
    """
    config, out = config or ImportConfig(), Path(out).expanduser().absolute()
    folder, found = locate(source)
    if is_export(out):
        raise CheckpointError(f"{out} holds a stock export; choose another folder")
    imported = _read(folder, config)
    changed = {
        key: value
        for key in ("name", "prompt_version", "max_thought_tokens", "frame_policy")
        if (value := getattr(config, key)) is not None
    }
    # A path is of this machine alone and says nothing elsewhere.
    origin = f"{found.source}@{found.revision}" if found.revision else folder.name
    record = {"source": origin, **imported.record, "backbone": fingerprint(imported.model.backbone.state_dict())}
    lineage = {**imported.manifest.lineage, "imported": record}
    return save_checkpoint(out, imported.model, replace(imported.manifest, **changed, lineage=lineage))


def _read(folder: Path, config: ImportConfig) -> _Imported:
    if is_export(folder):
        return _read_export(folder)
    if (folder / MANIFEST_FILE).is_file():
        raise CheckpointError(f"{folder.name} is a checkpoint of this program already; use it as it is")
    if (folder / _ADAPTER_CONFIG).is_file():
        return _read_adapter(folder, config)
    if (folder / "config.json").is_file():
        return _read_full(folder, config)
    raise CheckpointError(f"{folder.name} holds neither config.json nor {_ADAPTER_CONFIG}, so there is no model to import")


def _read_export(folder: Path) -> _Imported:
    """Take query token and head out of the vocabulary; their rows become 0, and the tokens stay."""
    export = read_export(folder)
    backbone, processor = load_backbone(folder, device="cpu", dtype="auto")
    inputs, outputs = backbone.get_input_embeddings().weight, backbone.get_output_embeddings().weight
    scoring = scoring_module(outputs[export.reward_id], inputs[export.query_id], inputs.shape[1])
    with torch.no_grad():
        inputs[export.query_id], outputs[export.reward_id] = 0.0, 0.0
    record = {
        "layout": "stock-export",
        "head": f"output row {export.reward_id}",
        "query": f"input row {export.query_id}",
        "fingerprint": export.fingerprint,
    }
    return _Imported(DeScoreModel(backbone, processor, scoring).eval(), export.checkpoint, record)


def _read_full(folder: Path, config: ImportConfig) -> _Imported:
    """Read a transformers folder with all of its weights, of layout reward-token or weight-keys."""
    names = weight_names(folder)
    head_key, query_key = own_keys(config.head_key, config.query_key, names, folder)
    taken = {key for key in (head_key, query_key) if key is not None}
    backbone, processor = load_backbone(folder, device="cpu", dtype="auto", foreign_keys=taken)
    read = _read_files(folder)
    if left := sorted(key for key, file in names.items() if file not in read and key not in taken):
        raise CheckpointError(f"{folder.name} holds weights that nothing uses ({some_names(left)}); take their file out")
    own = {key: read_weight(folder / names[key], key) for key in taken}
    head = pickled_head(folder / HEAD_PICKLE) if head_key is None else own[head_key]
    matrix = backbone.get_input_embeddings().weight
    query, where = query_token(own, query_key, processor.tokenizer, matrix)
    record = {
        "layout": "weight-keys" if taken else "reward-token",
        "head": head_key or f"{HEAD_KEY} of {HEAD_PICKLE}",
        "query": where,
    }
    scoring = scoring_module(head, query, matrix.shape[1])
    return _Imported(DeScoreModel(backbone, processor, scoring).eval(), _manifest(folder), record)


def _read_files(folder: Path) -> set[str]:
    """Return the names of the files from which transformers reads a backbone's weights."""
    if (folder / WEIGHTS).is_file():
        return {WEIGHTS}
    return set(read_json(folder / WEIGHTS_INDEX)["weight_map"].values())


def _read_adapter(folder: Path, config: ImportConfig) -> _Imported:
    """Read a peft folder on its base model, which is referred to unless the adapter changes its vocabulary."""
    settings = read_json(folder / _ADAPTER_CONFIG)
    named = config.base or settings.get("base_model_name_or_path")
    if not isinstance(named, str) or not named:
        raise CheckpointError(f"{folder.name} does not say which base model it belongs to; name it with --base")
    base_folder, base = locate(named)
    inside = backbone_folder(base_folder, Manifest(folder.name, base_model=base))
    weights = {key.removeprefix(PEFT_PREFIX): value for key, value in adapter_weights(folder).items()}
    head_key, query_key = own_keys(config.head_key, config.query_key, weights, folder)
    own = {key: weights.pop(key) for key in (head_key, query_key) if key is not None}
    backbone, processor = load_backbone(inside, device="cpu", dtype="auto", trained_here=inside != base_folder)
    head = pickled_head(folder / HEAD_PICKLE) if head_key is None else own[head_key]
    tokenizer = processor.tokenizer
    if query_key is None and (folder / "tokenizer.json").is_file():
        tokenizer = read_tokenizer(folder)
    matrices = _take_matrices(backbone, weights)
    matrix = matrices.get("input", backbone.get_input_embeddings().weight)
    query, where = query_token(own, query_key, tokenizer, matrix)
    _refuse_leftovers(backbone, weights, folder)
    changed = _put_matrices(backbone, matrices)
    _load_cleaned(backbone, settings, weights)
    record = {
        "layout": "adapter",
        "base": base.source if base.revision else Path(base.source).name,
        "head": head_key or f"{HEAD_KEY} of {HEAD_PICKLE}",
        "query": where,
    }
    manifest = replace(_manifest(folder), base_model=None if changed else base)
    scoring = scoring_module(head, query, backbone.config.get_text_config().hidden_size)
    return _Imported(DeScoreModel(backbone, processor, scoring).eval(), manifest, record)


def _manifest(folder: Path) -> Manifest:
    return Manifest(folder.name, prompt_version=DEFAULT_PROMPT_VERSION)


def _take_matrices(backbone: PreTrainedModel, weights: Tensors) -> Tensors:
    """Take the whole input and output matrices, which peft saves where a vocabulary grew, out of an adapter's weights."""
    modules = {"input": backbone.get_input_embeddings(), "output": backbone.get_output_embeddings()}
    taken = {}
    for name, module in backbone.named_modules():
        for side, matrix in modules.items():
            if module is matrix and f"{name}.weight" in weights:
                taken[side] = weights.pop(f"{name}.weight")
    return taken


def _put_matrices(backbone: PreTrainedModel, matrices: Mapping[str, torch.Tensor]) -> bool:
    """Give the backbone an adapter's matrices, without the rows that came on top; return whether they change anything."""
    sides = {"input": backbone.get_input_embeddings(), "output": backbone.get_output_embeddings()}
    changed = False
    for side, matrix in matrices.items():
        weight = sides[side].weight
        kept = matrix[: len(weight)].to(weight.dtype)
        if kept.shape != weight.shape:
            raise CheckpointError(f"its {side} matrix has the shape {tuple(matrix.shape)}, the base's {tuple(weight.shape)}")
        if not torch.equal(kept, weight):
            untie(backbone)
            with torch.no_grad():
                sides[side].weight.copy_(kept)
            changed = True
    return changed


def _refuse_leftovers(backbone: PreTrainedModel, weights: Tensors, folder: Path) -> None:
    modules, own = {name for name, _ in backbone.named_modules()}, backbone.state_dict()
    left = [key for key in weights if (key.split(".lora_")[0] not in modules if ".lora_" in key else key not in own)]
    if left:
        raise CheckpointError(
            f"{folder.name} holds weights that nothing uses ({some_names(sorted(left))}): it belongs to another base, or "
            "they are head and query token; name those with --head-key and --query-key"
        )


def _load_cleaned(backbone: PreTrainedModel, settings: Mapping[str, Any], weights: Tensors) -> None:
    """Inject an adapter without what was taken out of it."""
    kept = [name for name in settings.get("modules_to_save") or [] if any(name in key.split(".") for key in weights)]
    cleaned = {**settings, "modules_to_save": kept or None, "base_model_name_or_path": None}
    with tempfile.TemporaryDirectory(prefix="descore-import-") as place:
        (Path(place) / _ADAPTER_CONFIG).write_text(json.dumps(cleaned), "utf-8")
        save_file({key: value.contiguous() for key, value in weights.items()}, Path(place) / ADAPTER_WEIGHTS)
        load_adapter(backbone, Path(place))
