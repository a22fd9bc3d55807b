"""What the examples of `descore` take as given."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from descore.answer import DIMENSIONS, render_answer
from descore.checkpoints.folder import locate, read_manifest
from descore.scoring.answering import Answering
from descore.scoring.config import ScoreConfig
from descore.scoring.questions import QuestionConfig, Questions
from descore.scoring.results_file import ResultsFile
from descore.tables.pairs import read_pairs
from tests.helpers.example_world.base import ExampleWorld
from tests.helpers.tiny import tiny_clip, tiny_judge

if TYPE_CHECKING:
    from descore.modeling.model import Thinking

GROUP = 2  # rows of own tokens for each row of prefix


class DescoreWorld(ExampleWorld):
    """A tiny model with a batch."""

    group = GROUP

    @property
    def manifest(self) -> Any:
        """Of the bundled checkpoint, which was trained in stages."""
        return read_manifest(locate("bundled")[0])

    @property
    def reference_rewards(self) -> Any:
        return self.rewards_b

    @property
    def frames(self) -> Any:
        return tiny_clip(1, frames=12).frames

    @property
    def scoring(self) -> Any:
        return self.model.scoring

    @property
    def thoughts(self) -> Any:
        return [render_answer(f"I see {what}.", dict.fromkeys(DIMENSIONS, "2"), 5.0) for what in ("a circle", "a square")]

    @property
    def embeds(self) -> torch.Tensor:
        """Of four tokens a row, for two rows of each row of the batch."""
        rows = len(self.inputs["input_ids"]) * GROUP
        return self.backbone.get_input_embeddings()(torch.full((rows, 4), 7))


class BackboneWorld(DescoreWorld):
    """A backbone in a folder."""

    @property
    def folder(self) -> Path:  # type: ignore[override]
        return self.home / "base" / "backbone"


class DecodeWorld(DescoreWorld):
    """A batch whose prompts have been read, and a token for each row."""

    @cached_property
    def state(self) -> Thinking:
        return self.model.prefill(self.inputs)

    @property
    def cache(self) -> Any:
        return self.state.cache

    @property
    def position(self) -> torch.Tensor:
        return self.state.next_position

    @property
    def mask(self) -> torch.Tensor:
        return torch.nn.functional.pad(self.state.mask, (0, 1), value=1)

    @property
    def embeds(self) -> torch.Tensor:
        return self.backbone.get_input_embeddings()(torch.full((len(self.state.mask),), 7))


class ScoringWorld(DescoreWorld):
    """A table of one pair, a judge, and what a scoring is made of."""

    @cached_property
    def judge(self) -> Any:
        return tiny_judge(thought_tokens=6)

    @cached_property
    def results(self) -> Any:
        return self.stack.enter_context(ResultsFile(self.here / "results.jsonl"))

    @cached_property
    def questions(self) -> Any:
        """Those of the table, which a run has answered."""
        questions = Questions(read_pairs(self.path), QuestionConfig(self.fingerprint, "quick"))
        Answering(lambda: self.judge, questions, self.results, ScoreConfig("quick"), None).compute()
        return questions


class EngineWorld(DescoreWorld):
    """An engine, and videos beside the working directory."""

    @cached_property
    def engine(self) -> Any:
        return tiny_judge(thought_tokens=6).engine


WORLDS: dict[str, type[ExampleWorld]] = {
    "descore": DescoreWorld,
    "descore.engines": EngineWorld,
    "descore.modeling.backbone": BackboneWorld,
    "descore.modeling.decode_step": DecodeWorld,
    "descore.scoring": ScoringWorld,
}
