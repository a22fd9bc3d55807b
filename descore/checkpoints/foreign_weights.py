"""Head and query token of a foreign reward model, and its weights by name: what an import reads."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from transformers import AutoTokenizer

from descore.checkpoints.folder import HEAD_PICKLE
from descore.errors import CheckpointError
from descore.modeling.backbone_files import one_line, read_json, refuse_pickles, some_names
from descore.modeling.lora import ADAPTER_WEIGHTS
from descore.modeling.scoring_head import ScoringModule

REWARD_TOKEN, HEAD_KEY = "<Reward>", "rm_head.weight"
# In front of all names in a peft folder.
PEFT_PREFIX = "base_model.model."
_LARGEST_HEAD = 64 * 1024 * 1024

Tensors = dict[str, torch.Tensor]


def own_keys(
    head_key: str | None, query_key: str | None, names: Collection[str], folder: Path
) -> tuple[str | None, str | None]:
    """Return the names of the head's and the query token's weights; None where they come from `rm_head.pth`, `<Reward>`.

    Args:
        head_key, query_key: the names that were given.
        names: of all weights in the folder.

    Raises:
        CheckpointError: a given name is not there, or no name is given for the head and nothing else has it.
    """
    for key in (head_key, query_key):
        if key is not None and key.removeprefix(PEFT_PREFIX) not in names:
            others = sorted(name for name in names if not name.startswith("model.")) or sorted(names)
            raise CheckpointError(f"{folder.name} holds no weight {key!r}; it has {some_names(others)}")
    head, query = (key and key.removeprefix(PEFT_PREFIX) for key in (head_key, query_key))
    if head is None and not (folder / HEAD_PICKLE).is_file():
        if HEAD_KEY not in names:
            raise CheckpointError(
                f"{folder.name} holds neither {HEAD_PICKLE} nor a weight {HEAD_KEY}; name the head's weight with --head-key"
            )
        head = HEAD_KEY
    return head, query


def query_token(own: Tensors, key: str | None, tokenizer: Any, matrix: torch.Tensor) -> tuple[torch.Tensor, str]:
    """Return the query token, and in words where it was: the weight `key`, or the input row of `<Reward>`.

    Raises:
        CheckpointError: the tokenizer has no such token, or the matrix no such row.
    """
    if key is not None:
        return own[key], key
    index = tokenizer.get_vocab().get(REWARD_TOKEN)
    if index is None:
        raise CheckpointError(f"the tokenizer has no token {REWARD_TOKEN}; name the query token's weight with --query-key")
    if index >= len(matrix):
        raise CheckpointError(f"{REWARD_TOKEN} has the id {index}, and the embedding matrix only {len(matrix)} rows")
    return matrix[index].detach(), f"input row {index} ({REWARD_TOKEN})"


def scoring_module(head: torch.Tensor, query: torch.Tensor, hidden: int) -> ScoringModule:
    """Compose the scoring module in float32.

    Raises:
        CheckpointError: another number of channels than the backbone has, or values that are not finite.
    """
    for name, value in (("head", head), ("query token", query)):
        if value.numel() != hidden or value.squeeze().ndim != 1:
            raise CheckpointError(f"the {name} has the shape {tuple(value.shape)}; this backbone needs {hidden} values")
        if not torch.isfinite(value).all():
            raise CheckpointError(f"the {name} holds values that are not finite")
    module = ScoringModule(hidden)
    module.load_state_dict({"query_token": query.float().reshape(-1), "head.weight": head.float().reshape(1, -1)})
    return module


def pickled_head(path: Path) -> torch.Tensor:
    """Read the head's weight out of a pickle of tensors, the only pickle that this program opens.

    torch builds nothing but tensors here (`weights_only`), and only an import gets here, which somebody asked for.

    Raises:
        CheckpointError: it can't be read so, lacks `rm_head.weight`, or holds more than that.
    """
    if path.stat().st_size > _LARGEST_HEAD:
        raise CheckpointError(f"{path.name} has more than {_LARGEST_HEAD >> 20} MB; that is no head")
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever torch's reader meets in files of others
        raise CheckpointError(f"{path.name} can't be read as weights: {one_line(error)}") from error
    if not isinstance(tensors, dict) or not isinstance(tensors.get(HEAD_KEY), torch.Tensor):
        raise CheckpointError(f"{path.name} holds no {HEAD_KEY}; save the head's state_dict under that name")
    if others := sorted(str(key) for key in tensors if key != HEAD_KEY):
        raise CheckpointError(f"{path.name} holds weights that nothing uses: {some_names(others)}")
    return tensors[HEAD_KEY]


def weight_names(folder: Path) -> dict[str, str]:
    """Return name -> file of all weights in a folder's safetensors files.

    Raises:
        CheckpointError: there are none, or one can't be read.
    """
    names: dict[str, str] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, "pt") as file:
                names |= dict.fromkeys(file.keys(), path.name)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path.name} can't be read: {one_line(error)}") from error
    if not names:
        refuse_pickles(folder)
        raise CheckpointError(f"{folder.name} holds no safetensors weights; copy or download the whole folder again")
    return names


def read_weight(path: Path, name: str) -> torch.Tensor:
    """Read one weight out of a safetensors file."""
    with safe_open(path, "pt") as file:
        return file.get_tensor(name)


def adapter_weights(folder: Path) -> Tensors:
    """Read the weights of a peft folder.

    Raises:
        CheckpointError: there are none, or they are damaged or pickled.
    """
    if not (folder / ADAPTER_WEIGHTS).is_file():
        refuse_pickles(folder)
        raise CheckpointError(f"{folder.name} holds no {ADAPTER_WEIGHTS}; copy or download the whole folder again")
    try:
        return load_file(folder / ADAPTER_WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{ADAPTER_WEIGHTS} can't be read: {one_line(error)}") from error


def read_tokenizer(folder: Path) -> Any:
    """Load the tokenizer of a folder without a processor.

    Raises:
        CheckpointError: it can't be loaded.
    """
    for name in ("tokenizer.json", "tokenizer_config.json"):
        read_json(folder / name)
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # whatever transformers' code meets in settings that don't belong together
        raise CheckpointError(f"no tokenizer could be loaded from {folder.name}: {one_line(error)}") from error
