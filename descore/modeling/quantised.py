"""Quantised backbones: which library reads each method's weights, and where it runs.

transformers reads them; what it says of a missing library ranges from a sentence to a ModuleNotFoundError, and a method that
it does not know it skips, so that numbers meant for something else would be taken for weights.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from descore.errors import CheckpointError

_ANYWHERE, _GPU, _HOPPER = "a GPU or a CPU", "a GPU", "a GPU of compute capability 9.0 or more, such as an H100"
_OTHER_WAY = "choose weights that are not quantised, which vLLM quantises itself while it loads them (quantization='fp8')"


@dataclass(frozen=True)
class Reader:
    """What reads the weights of a method.

    Attributes:
        libraries: name of the module -> what to install.
        runs_on: in words.
        needs_gpu: whether it refuses to do so without one.
    """

    libraries: Mapping[str, str]
    runs_on: str
    needs_gpu: bool = False


READERS = {
    "bitsandbytes": Reader({"bitsandbytes": "bitsandbytes"}, _ANYWHERE),
    "awq": Reader({"gptqmodel": "gptqmodel"}, _GPU),
    "gptq": Reader({"optimum": "optimum", "gptqmodel": "gptqmodel"}, _GPU),
    "compressed-tensors": Reader({"compressed_tensors": "compressed-tensors"}, _ANYWHERE),
    "torchao": Reader({"torchao": "torchao"}, _ANYWHERE),
    "quanto": Reader({"optimum.quanto": "optimum-quanto"}, _ANYWHERE),
    "auto-round": Reader({"auto_round": "auto-round"}, _ANYWHERE),
    "hqq": Reader({"hqq": "hqq"}, _GPU),
    "eetq": Reader({"kernels": "kernels"}, _GPU, needs_gpu=True),
    "fbgemm_fp8": Reader({"fbgemm_gpu": "fbgemm-gpu"}, _HOPPER, needs_gpu=True),
}


def quantisation(config: Mapping[str, Any]) -> str | None:
    """Return the method that a backbone's configuration names, None where its weights are not quantised."""
    text = config.get("text_config")
    settings = config.get("quantization_config") or (text.get("quantization_config") if isinstance(text, dict) else None)
    if not isinstance(settings, dict):
        return None
    method = settings.get("quant_method")
    if method is None and (settings.get("load_in_4bit") or settings.get("load_in_8bit")):
        return "bitsandbytes"
    return str(method)


def check_quantisation(config: Mapping[str, Any]) -> None:
    """Check that what reads a quantised backbone's weights is here.

    FP8 in blocks ("fp8") needs no library; without a GPU made for it transformers turns its weights back into wider ones.

    Raises:
        CheckpointError: a library is missing, or a GPU, or the method is unknown; the message says what to do.
    """
    method = quantisation(config)
    if method is None:
        return
    reader = READERS.get(method)
    if reader is None:
        if not _known(method):
            raise CheckpointError(
                f"its weights are quantised by a method that transformers does not read ({method[:40]}): {_OTHER_WAY}"
            )
        return
    missing = " ".join(package for module, package in reader.libraries.items() if not _installed(module))
    if missing:
        raise CheckpointError(
            f"its weights are quantised ({method}), and what reads them is not installed: run `pip install {missing}` on a "
            f"machine with {reader.runs_on}, or {_OTHER_WAY}"
        )
    if reader.needs_gpu and not _has_gpu():
        raise CheckpointError(
            f"its weights are quantised ({method}) and run on {reader.runs_on}; there is none here: {_OTHER_WAY}"
        )


def _known(method: str) -> bool:
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

    return method in AUTO_QUANTIZATION_CONFIG_MAPPING


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of the package that it would be in
        return False


def _has_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())
