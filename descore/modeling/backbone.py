"""Loading of a backbone: any transformers image-text-to-text model that takes video, with its own processor.

    backbone, processor = load_backbone(folder)     # or a Hub id, such as "Qwen/Qwen3-VL-8B-Instruct"

Device and dtype follow the machine: CUDA in bfloat16 where there is a GPU, else the CPU in float32.
Attention is SDPA.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedModel

from descore.errors import CheckpointError, DeviceError, NotEnoughMemoryError
from descore.modeling.backbone_files import check_backbone_folder, one_line, some_names
from descore.modeling.normalisation import settle_normalisation
from descore.modeling.vision_attention import batch_equal_frames


def default_device() -> torch.device:
    """Return this process's CUDA GPU, else the CPU: of several processes that a launcher started, each has its own.

    `torchrun` and `accelerate launch` number them in LOCAL_RANK. A launcher that shows each process its own GPU alone has
    numbered them otherwise, and the first one is meant.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    rank = os.environ.get("LOCAL_RANK", "")
    index = int(rank) if rank.isdecimal() else 0
    return torch.device("cuda", index if index < torch.cuda.device_count() else 0)


def check_device(device: str | torch.device) -> torch.device:
    """Return a device that this machine has, with its index.

    Raises:
        DeviceError: it has none of that name.
    """
    try:
        target = torch.device(device)
    except RuntimeError as error:
        raise DeviceError(f"{device!r} is no device: use cpu, cuda or cuda:0") from error
    if target.type == "cuda":
        if not torch.cuda.is_available():
            raise DeviceError(f"{target} was asked for, and this machine has no GPU that PyTorch can use: use device='cpu'")
        count = torch.cuda.device_count()
        if (target.index or 0) >= count:
            raise DeviceError(f"{target} was asked for, and this machine has {count} GPU: use cuda:0 to cuda:{count - 1}")
        return default_device() if target.index is None else target
    return target


def default_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 for CUDA, float32 for any other device."""
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def without_cudnn_attention() -> None:
    """Keep SDPA from cuDNN's kernels on CUDA, in this process from now on.

    cuDNN builds a plan for each length of keys it has not met in this thread, some 25 ms: for each token of each thought.
    """
    torch.backends.cuda.enable_cudnn_sdp(False)


def load_backbone(
    source: str | Path,
    revision: str | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | str | None = None,
    trained_here: bool = False,
    foreign_keys: Collection[str] = (),
    device_map: str | Mapping[str, Any] | None = None,
) -> tuple[PreTrainedModel, Any]:
    """Load a backbone in eval mode, and its processor.

    Args:
        source: a local folder in transformers' format, or a Hub id.
        revision: branch, tag or commit of a Hub id.
        device, dtype: default to what the machine has (`default_device`, `default_dtype`).
        trained_here: it belongs to a checkpoint of this program, see `descore.modeling.normalisation`.
        foreign_keys: weights in its files that the caller reads itself, such as a head; any others that the backbone has no
            place for are refused, since a model that leaves out what it was saved with is another model.
        device_map: in the place of a device: "auto" spreads the weights over all GPUs, as transformers does it.

    Raises:
        DeviceError: this machine has no such device.
        CheckpointError: nothing loadable there, weights missing, of other shapes or left over, no video input, or images
            and videos that are normalised differently.
    """
    if device is not None and device_map is not None:
        raise DeviceError("device and device_map say the same thing twice; give one of them")
    target = default_device() if device is None else check_device(device)
    one_device = None if target.type == "cpu" else {"": target}
    without_cudnn_attention()
    if Path(source).is_dir():
        check_backbone_folder(Path(source))
    processor = load_processor(source, revision)
    settle_normalisation(processor, f"the backbone in {source}", trained_here)
    try:
        loaded: Any = AutoModelForImageTextToText.from_pretrained(
            source,
            revision=revision,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=dtype or default_dtype(target),
            attn_implementation="sdpa",
            device_map=one_device if device_map is None else device_map,
            output_loading_info=True,
        )
    except torch.OutOfMemoryError as error:
        raise NotEnoughMemoryError(f"{target} has no room for the backbone of {source}: {error}") from error
    except Exception as error:  # whatever transformers' code meets in settings that don't belong together
        raise CheckpointError(f"no image-text-to-text backbone could be loaded from {source}: {one_line(error)}") from error
    backbone, report = loaded
    if report["missing_keys"]:
        first_keys = ", ".join(sorted(report["missing_keys"])[:3])
        raise CheckpointError(f"the backbone in {source} lacks {len(report['missing_keys'])} weights ({first_keys} ...)")
    if left := sorted(set(report["unexpected_keys"]) - set(foreign_keys)):
        raise CheckpointError(
            f"{source} holds weights that {type(backbone).__name__} has no place for ({some_names(left)}): if they are the "
            "head and query token of a reward, turn it into a checkpoint with `descore import`, else save it without them"
        )
    batch_equal_frames(backbone)
    return backbone.eval(), processor


def load_processor(source: str | Path, revision: str | None = None) -> Any:
    """Load the backbone's own processor.

    Raises:
        CheckpointError: there is none, or it takes no video.
    """
    try:
        processor = AutoProcessor.from_pretrained(source, revision=revision, trust_remote_code=False)
    except Exception as error:  # as above
        raise CheckpointError(f"no processor could be loaded from {source}: {one_line(error)}") from error
    if getattr(processor, "video_processor", None) is None:
        raise CheckpointError(f"{source} takes no video: choose a backbone whose processor has a video processor")
    return processor


def fingerprint(weights: Mapping[str, torch.Tensor]) -> str:
    """Return a short hash that tells backbones apart: of the first values of every tensor, with its name and shape.

    Training moves every tensor, so a sample of each is enough, and an 8B takes a moment instead of minutes.
    Values are rounded to bfloat16 first, so the hash is the same whichever dtype the backbone is loaded in.
    """
    digest = hashlib.sha256()
    for name in sorted(weights):
        sample = weights[name].detach().flatten()[:64].to(torch.bfloat16).cpu()
        digest.update(f"{name}{tuple(weights[name].shape)}".encode())
        digest.update(sample.view(torch.int16).numpy().tobytes())
    return digest.hexdigest()[:16]
