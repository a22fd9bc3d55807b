"""What a folder of somebody else may hold before transformers reads it: safetensors and plain JSON, nothing that runs.

transformers itself would unpickle weights, ask on the console whether to run a repository's code, and end in whatever error
its own code meets. Everything here is refused in one sentence, before it gets that far.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from descore.errors import CheckpointError
from descore.modeling.quantised import check_quantisation

PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
# Vocabularies are the largest files of text in real repositories (33 MB for 262k tokens).
LARGEST_VOCABULARY, LARGEST_SETTINGS = 128 * 1024 * 1024, 16 * 1024 * 1024
_VOCABULARIES = ("tokenizer.json", "vocab.json")
_NAMED = 5
WEIGHTS, WEIGHTS_INDEX = "model.safetensors", "model.safetensors.index.json"


def check_backbone_folder(folder: Path) -> None:
    """Check a backbone's folder before it is loaded.

    Raises:
        CheckpointError: pickled weights, settings that are no JSON object, too large or too deep, an architecture that
            would need code of its own, or quantised weights that nothing here reads.
    """
    config = read_json(folder / "config.json")
    for path in sorted(folder.glob("*.json")):
        if path.name == WEIGHTS_INDEX:
            _check_index(read_json(path))
        elif path.name != "config.json":
            read_json(path)
    if not any(folder.glob("*.safetensors")):
        refuse_pickles(folder)
        raise CheckpointError(f"{folder.name} holds no safetensors weights; copy or download the whole folder again")
    check_architecture(config)
    check_quantisation(config)


def check_architecture(config: dict[str, Any]) -> None:
    """Check that a configuration names an architecture that the installed transformers brings itself.

    Raises:
        CheckpointError: it names none, or one of its own code.
    """
    from transformers import CONFIG_MAPPING  # takes seconds, and who only reads a manifest does not need it

    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        raise CheckpointError(
            f"its model_type {str(kind)[:80]!r} is none of the installed transformers, and code from a checkpoint is never "
            "run: update transformers, or choose another backbone"
        )


def refuse_pickles(folder: Path) -> None:
    """Refuse a folder whose weights are pickles.

    Raises:
        CheckpointError: there is a pickle.
    """
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in PICKLES:
            raise CheckpointError(
                f"{path.name} is a pickle, which can run code when it is opened: save the weights as safetensors"
            )


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of somebody else's.

    Raises:
        CheckpointError: it is missing, too large, too deep, no JSON or no object.
    """
    largest = LARGEST_VOCABULARY if path.name in _VOCABULARIES else LARGEST_SETTINGS
    try:
        if path.stat().st_size > largest:
            raise CheckpointError(f"{path.name} has more than {largest >> 20} MB; that is no file of a checkpoint")
        values = json.loads(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path.name} can't be read: {error.strerror or 'no such file'}") from error
    except RecursionError as error:
        raise CheckpointError(f"{path.name} is nested too deep; that is no file of a checkpoint") from error
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(f"{path.name} can't be read: {one_line(error)}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path.name} is not a JSON object")
    return values


def one_line(error: Exception) -> str:
    """Shorten a library's error to one line; some hold pages of advice."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def some_names(names: Collection[str]) -> str:
    """Return the first names and the number of the others, for a message."""
    listed = list(names)
    return ", ".join(listed[:_NAMED]) + (f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else "")


def _check_index(index: dict[str, Any]) -> None:
    shards = index.get("weight_map")
    names = set(map(str, shards.values())) if isinstance(shards, dict) else {""}
    for name in sorted(names):
        if not name.endswith(".safetensors") or Path(name).name != name:
            raise CheckpointError(f"{WEIGHTS_INDEX} names {name[:80]!r}, which is no safetensors file of this folder")
