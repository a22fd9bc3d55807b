"""A checkpoint as a stock transformers folder, so that any engine that serves its backbone serves its rewards.

    folder = export_checkpoint("bundled", "exports/bundled", dtype="float32")
    export = read_export(folder)
    print(export.query_id, export.reward_id)    # after prompt, thought and query_id, the logit of reward_id is the reward

The reward is the product of a hidden state and the head, and so is a logit of the state and a row of the output matrix. The
exported vocabulary therefore has two more tokens:

    <|descore_query|>     input row: the query token      output row: 0
    <|descore_reward|>    input row: 0                    output row: the head

Input and output matrix are untied, and an adapter is merged. The ids are those that the tokenizer gives next. A backbone
whose matrices are padded beyond its tokenizer, as Qwen3-VL's are, has rows for them; other matrices become two rows longer.
Rows that no token has are 0 in the output matrix. They and both tokens stand among `never_sampled`: an engine must rule
these ids out while it thinks.

`descore.json` beside the weights holds all that a judge needs besides them. Its key `export_version` tells it from the
manifest of a checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from descore.checkpoints.export_manifest import EXPORT_KEY
from descore.checkpoints.export_manifest import ExportManifest as ExportManifest
from descore.checkpoints.folder import folder_fingerprint, load_checkpoint, locate, put_in_place, work_folder
from descore.checkpoints.listed_files import MANIFEST_FILE, check_files, list_files
from descore.encode import SEQUENCE_KEYS, encode
from descore.errors import CheckpointError
from descore.modeling.backbone import default_device, default_dtype
from descore.modeling.backbone_files import read_json
from descore.modeling.lora import merge_adapter
from descore.modeling.model import DeScoreModel
from descore.video.types import VideoClip

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from descore.checkpoints.manifest import Manifest
    from descore.modeling.scoring_head import ScoringModule

QUERY_TOKEN, REWARD_TOKEN = "<|descore_query|>", "<|descore_reward|>"
# Settings by which some families change their logits after the output matrix.
_LOGIT_SETTINGS = ("final_logit_softcapping", "logit_scale", "logits_scaling")
_SHARD = "5GB"


def export_checkpoint(path_or_hub_id: str | Path, out: str | Path, dtype: torch.dtype | str | None = None) -> Path:
    """Write a checkpoint as a stock transformers folder, atomically; an export that is there is replaced.

    Args:
        path_or_hub_id: a folder, "bundled", owner/name, or owner/name@revision.
        out: folder to write.
        dtype: of the weights, a torch dtype or its name; by default what this machine judges in (bfloat16 on a GPU, else
            float32). In bfloat16 query token and head are rounded to it, which moves a reward by about a hundredth of
            the rewards' spread.

    Returns:
        The folder's absolute path.

    Raises:
        CheckpointError: the checkpoint can't be used or has no scoring module, its backbone computes logits in a way that
            can't hold a reward, or the folder holds something that is no export.
    """
    out = Path(out).expanduser().absolute()
    _refuse_checkpoint(out)
    source, _ = locate(path_or_hub_id)
    model, manifest = load_checkpoint(path_or_hub_id, device="cpu", dtype=_dtype(dtype))
    if getattr(model.backbone, "is_quantized", False):
        raise CheckpointError(
            f"the backbone of {manifest.name} is quantised, and the two rows of the vocabulary that an export adds are not: "
            "export the checkpoint on a base model that is not, and let vLLM quantise it (quantization='fp8')"
        )
    if model.scoring is None:
        raise CheckpointError(f"{manifest.name} has no scoring module, so there is no reward to export; train it first")
    with work_folder(out) as work:
        query_id, reward_id = _put_scoring_in(model, manifest)
        model.backbone.save_pretrained(work, max_shard_size=_SHARD)
        model.processor.save_pretrained(work)
        composed = DeScoreModel(model.backbone, model.processor)  # knows the new tokens
        export = ExportManifest(
            checkpoint=replace(manifest, base_model=None),
            fingerprint=folder_fingerprint(source),
            query_id=query_id,
            reward_id=reward_id,
            end_ids=tuple(sorted(model.end_ids)),
            never_sampled=tuple(composed.never_sampled.nonzero().flatten().tolist()),
            dtype=str(model.backbone.dtype).removeprefix("torch."),
        )
        text = json.dumps({**export.to_dict(), "files": list_files(work)}, indent=2, ensure_ascii=False, allow_nan=False)
        (work / MANIFEST_FILE).write_text(text + "\n", "utf-8")
        put_in_place(work, out)
    return out


def read_export(folder: str | Path) -> ExportManifest:
    """Read the manifest of a stock export, and check that every file it lists is there and whole.

    Raises:
        CheckpointError: there is no export, or it is incomplete or damaged.
    """
    folder, _ = locate(folder)
    if not is_export(folder):
        raise CheckpointError(f"{folder} is no stock export; make one with `descore export CHECKPOINT {folder}`")
    values = read_json(folder / MANIFEST_FILE)
    export, listed = ExportManifest.from_dict(values), values.get("files")
    if not isinstance(listed, dict) or "config.json" not in listed:
        raise CheckpointError(f"{MANIFEST_FILE} does not list config.json; export the checkpoint again")
    check_files(folder, listed)
    return export


def is_export(folder: Path) -> bool:
    """Return whether a folder holds a stock export.

    Raises:
        CheckpointError: its `descore.json` can't be read.
    """
    path = folder / MANIFEST_FILE
    return path.is_file() and EXPORT_KEY in read_json(path)


def _refuse_checkpoint(out: Path) -> None:
    """Refuse to replace a checkpoint: most of all the one that is being exported."""
    if (out / MANIFEST_FILE).is_file() and not is_export(out):
        raise CheckpointError(f"{out} holds a checkpoint, which an export would replace; choose another folder")


def _dtype(dtype: torch.dtype | str | None) -> torch.dtype:
    named = getattr(torch, dtype.removeprefix("torch."), None) if isinstance(dtype, str) else dtype
    if named is None and dtype is None:
        return default_dtype(default_device())
    if not isinstance(named, torch.dtype) or not named.is_floating_point:
        raise CheckpointError(f"{dtype!r} is no dtype of weights; choose float32, bfloat16 or float16")
    return named


def _put_scoring_in(model: DeScoreModel, manifest: Manifest) -> tuple[int, int]:
    """Merge the adapter and put query token and head into the vocabulary, in place; return both ids.

    Raises:
        CheckpointError: the backbone then gives another reward than the model did.
    """
    backbone, scoring = model.backbone, model.require_scoring()
    _refuse_changed_logits(backbone)
    untie(backbone)
    merge_adapter(backbone)
    inputs = _example(model, manifest)
    with torch.inference_mode():
        forward = model(inputs)
    query_id, reward_id = _add_tokens(model.processor.tokenizer)
    _put_rows(backbone, scoring, query_id, reward_id)
    _silence_padding(backbone, model.processor.tokenizer)
    with torch.inference_mode():
        logits = backbone(**with_query(inputs, query_id)).logits[0, -1].float()
        # As far as rounding the head to the weights' dtype can move a reward, and twice that.
        size = float((forward.hidden[0, -1].float() * scoring.head.weight[0]).abs().sum())
    allowed = 1e-4 + 2 * torch.finfo(backbone.dtype).eps * size
    difference = abs(float(logits[reward_id]) - float(forward.rewards[0]))
    if not difference <= allowed:
        raise CheckpointError(
            f"the exported backbone gives a reward that differs by {difference:.2g}: {type(backbone).__name__} does more "
            "with embeddings or logits than look them up, so it can't be exported; judge with the checkpoint itself"
        )
    return query_id, reward_id


def _refuse_changed_logits(backbone: PreTrainedModel) -> None:
    config = backbone.config.get_text_config()
    changed = [name for name in _LOGIT_SETTINGS if getattr(config, name, None) not in (None, 1, 1.0)]
    if changed:
        raise CheckpointError(
            f"{type(backbone).__name__} changes its logits ({', '.join(changed)}), so they can't hold a reward; judge with "
            "the checkpoint itself"
        )


def untie(backbone: PreTrainedModel) -> None:
    """Give the output matrix weights of its own, before an adapter of one of the two is merged."""
    embedding, output = backbone.get_input_embeddings(), backbone.get_output_embeddings()
    if output.weight is embedding.weight:
        plain = output.get_base_layer() if hasattr(output, "get_base_layer") else output
        plain.weight = nn.Parameter(plain.weight.detach().clone(), requires_grad=False)
    for config in (backbone.config, backbone.config.get_text_config()):
        config.tie_word_embeddings = False


def _add_tokens(tokenizer: Any) -> tuple[int, int]:
    """Add both tokens as special tokens, unless an import left them there, and return their ids."""
    new = {"extra_special_tokens": [QUERY_TOKEN, REWARD_TOKEN]}
    tokenizer.add_special_tokens(new, replace_extra_special_tokens=False)
    query_id, reward_id = (int(tokenizer.convert_tokens_to_ids(token)) for token in (QUERY_TOKEN, REWARD_TOKEN))
    return query_id, reward_id


def _put_rows(backbone: PreTrainedModel, scoring: ScoringModule, query_id: int, reward_id: int) -> None:
    """Set the two rows of both matrices, which grow where they have no such rows."""
    embedding, output = backbone.get_input_embeddings(), backbone.get_output_embeddings()
    rows = max(len(embedding.weight), len(output.weight), query_id + 1, reward_id + 1)
    query, head = scoring.query_token.detach(), scoring.head.weight[0].detach()
    zero = torch.zeros_like(query)
    embedding.weight = _with_rows(embedding.weight, rows, {query_id: query, reward_id: zero})
    output.weight = _with_rows(output.weight, rows, {query_id: zero, reward_id: head})
    if getattr(output, "bias", None) is not None:
        output.bias = _with_rows(output.bias, rows, {query_id: zero[0], reward_id: zero[0]})
    embedding.num_embeddings = output.out_features = rows
    for config in {id(each): each for each in (backbone.config, backbone.config.get_text_config())}.values():
        if "vocab_size" in config.to_dict():
            config.vocab_size = rows


def _silence_padding(backbone: PreTrainedModel, tokenizer: Any) -> None:
    """Set the output rows that no token has to 0: engines rule ids out by a bias that a large logit would outweigh."""
    output, used = backbone.get_output_embeddings(), max(tokenizer.get_vocab().values()) + 1
    with torch.no_grad():
        output.weight[used:] = 0.0
        if getattr(output, "bias", None) is not None:
            output.bias[used:] = 0.0


def _with_rows(weight: torch.Tensor, rows: int, values: Mapping[int, torch.Tensor]) -> nn.Parameter:
    longer = weight.detach()
    if len(longer) < rows:
        longer = torch.cat([longer, longer.new_zeros(rows - len(longer), *longer.shape[1:])])
    for row, value in values.items():
        longer[row] = value.to(longer.dtype)
    return nn.Parameter(longer, requires_grad=False)


def _example(model: DeScoreModel, manifest: Manifest) -> dict[str, torch.Tensor]:
    """Return a batch of one small grey video, on which the export is compared with the model."""
    frames = np.full((2, 64, 64, 3), 96, dtype=np.uint8)
    clip = VideoClip(frames=frames, timestamps=np.array([0.25, 0.75]), duration=1.0, reader="pyav")
    policy, version = manifest.frame_policy, manifest.prompt_version
    return encode(model.processor, [clip], ["a grey wall"], policy=policy, prompt_version=version)


def with_query(inputs: Mapping[str, torch.Tensor], query_id: int) -> dict[str, torch.Tensor]:
    """Append the query token to a batch of `descore.encode`, as keyword arguments of the exported backbone.

    The logit of the reward's id at the last slot, (B, S + 1, V)[:, -1, reward_id], is then each row's reward.
    """
    values = {"input_ids": query_id, "attention_mask": 1}
    return {
        key: nn.functional.pad(value, (0, 1), value=values.get(key, 0)) if key in SEQUENCE_KEYS else value
        for key, value in inputs.items()
        if key != "thought_mask"
    }
