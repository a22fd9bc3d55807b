"""A tiny random model for the tests of this folder."""

from __future__ import annotations

import pytest
import torch

from descore.modeling.model import DeScoreModel
from descore.modeling.scoring_head import ScoringModule
from tests.helpers.tiny import tiny_backbone, tiny_processor


@pytest.fixture
def model() -> DeScoreModel:
    torch.manual_seed(3)
    scoring = ScoringModule(64)
    torch.nn.init.normal_(scoring.query_token)
    return DeScoreModel(tiny_backbone(1), tiny_processor(), scoring).eval()
