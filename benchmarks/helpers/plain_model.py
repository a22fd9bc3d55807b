"""The same model with transformers' own layers, for measurements against the plain way."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from descore.modeling.model import DeScoreModel


def as_transformers_has_it(model: DeScoreModel) -> DeScoreModel:
    """Copy the model with a backbone that runs transformers' own vision and text attention."""
    plain = copy.deepcopy(model)
    for module in plain.backbone.modules():
        module.__dict__.pop("forward", None)
    plain.backbone.config.get_text_config()._attn_implementation = "sdpa"
    return plain
