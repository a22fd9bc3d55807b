"""One normalisation of pixels for both processors of a backbone: its image processor's and its video processor's.

This program reads videos with the video processor, as transformers does. Other engines don't: vLLM normalises the frames
of a video by the numbers of the image processor, without a word. Where the two differ, one checkpoint gives two sets of
thoughts and rewards. So they may not differ, in anything that is loaded, saved or exported.

    settle_normalisation(processor, "the backbone", trained_here=True)

Which numbers are right is known for a checkpoint of this program: the trainer feeds the backbone by its video processor
alone, so those are the numbers that it was trained with. Checkpoints made before both were kept equal, from the bundled
backbone of that time, still open: the image processor gets the video processor's numbers in memory, a log line says so,
and what is saved or exported from there has them. For a backbone of somebody else it can't be known which numbers its
weights have seen; it is refused, until its owner has said so by setting both.
"""

from __future__ import annotations

import logging
from typing import Any

from descore.errors import CheckpointError

log = logging.getLogger(__name__)

_SETTINGS = ("do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std")


def differing_settings(processor: Any) -> dict[str, tuple[Any, Any]]:
    """Return setting -> (of the image processor, of the video processor), where both have it and they differ."""
    pair = (getattr(processor, "image_processor", None), getattr(processor, "video_processor", None))
    found = {name: tuple(_plain(getattr(each, name, None)) for each in pair) for name in _SETTINGS}
    return {name: (image, video) for name, (image, video) in found.items() if None not in (image, video) and image != video}


def settle_normalisation(processor: Any, source: str, trained_here: bool) -> None:
    """Give both processors one normalisation, or refuse, see the top of this module.

    Args:
        processor: of a backbone; it is changed in place.
        source: what it belongs to, for messages.
        trained_here: it belongs to a checkpoint of this program, which has trained on the video processor's numbers.

    Raises:
        CheckpointError: the two differ, and which is right can't be known.
    """
    differing = differing_settings(processor)
    if not differing:
        return
    written = "; ".join(f"{name} {image} for images, {video} for videos" for name, (image, video) in differing.items())
    if not trained_here:
        raise CheckpointError(
            f"{source} normalises images and videos differently ({written}), and engines such as vLLM read videos by the "
            f"numbers for images: set {', '.join(differing)} of its image_processor and its video_processor to the values "
            "that it was trained with, in processor_config.json or the preprocessor's configuration"
        )
    for name, (_, video) in differing.items():
        setattr(processor.image_processor, name, video)
    log.warning(
        "%s: its image processor gets the video processor's %s, which it was trained with", source, ", ".join(differing)
    )


def _plain(value: Any) -> Any:
    return [float(each) for each in value] if isinstance(value, (list, tuple)) else value
