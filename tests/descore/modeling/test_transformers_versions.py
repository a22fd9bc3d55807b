"""What a backbone's forward takes is asked, since one that does not know an argument ignores it in silence."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import nn

from descore.encode import encode
from descore.modeling.model import DeScoreModel
from descore.modeling.transformers_versions import cache_argument, takes_vision_outputs
from tests.helpers.tiny import POLICY, tiny_backbone, tiny_clip, tiny_processor


class Older(nn.Module):
    """A forward as transformers had it before 5.20."""

    def forward(self, input_ids: Any = None, past_key_values: Any = None, **kwargs: Any) -> None:
        """Ignore everything."""


class Newer(nn.Module):
    """A forward that knows both arguments."""

    def forward(self, input_ids: Any = None, cache: Any = None, mm_encoder_outputs: Any = None, **kwargs: Any) -> None:
        """Ignore everything."""


def test_the_signature_decides() -> None:
    assert (cache_argument(Older()), takes_vision_outputs(Older())) == ("past_key_values", False)
    assert (cache_argument(Newer()), takes_vision_outputs(Newer())) == ("cache", True)


def test_a_wrapper_on_the_instance_hides_nothing() -> None:
    module = Newer()
    module.forward = lambda *_args, **_kwargs: None  # type: ignore[method-assign]
    assert cache_argument(module) == "cache"


def test_the_installed_backbone_names_its_cache() -> None:
    backbone = tiny_backbone()
    assert cache_argument(backbone) in inspect.signature(type(backbone).forward).parameters


def test_vision_features_that_would_be_ignored_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = DeScoreModel(tiny_backbone(), tiny_processor())
    inputs = encode(model.processor, [tiny_clip(1)], ["a circle"], policy=POLICY, prompt_version="compact-1")
    monkeypatch.setattr(model, "takes_vision", False)
    with pytest.raises(ValueError, match="takes no ready vision features"):
        model.prefill(inputs, vision={"video": torch.zeros(1)})
