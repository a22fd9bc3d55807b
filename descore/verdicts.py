"""From the thoughts and rewards of an engine to judgements and verdicts, the same for every engine. Imports no torch."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from descore.answer import read_thoughts
from descore.calibration import higher_reward, probability_source
from descore.judgement import Judgement, Mode, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from descore.checkpoints.manifest import Manifest
    from descore.engines.engine import Engine, FinishedThought


def judgement_of(engine: Engine, path: str, mode: Mode, thoughts: Sequence[FinishedThought], seconds: float) -> Judgement:
    """Make one video's judgement of its finished thoughts, kept ones too.

    Args:
        engine: that finished them.
        path: the video as the caller named it.
        mode: how it was judged.
        thoughts: all of the video.
        seconds: from the call to the thoughts.
    """
    rewards = [thought.reward for thought in thoughts if thought.reward is not None]
    reward = statistics.fmean(rewards) if rewards else None
    scale = engine.manifest.calibration.for_mode(mode)
    reading = None if mode == "quick" else read_thoughts([thought.text for thought in thoughts])
    return Judgement(
        path=path,
        mode=mode,
        thought=thoughts[0].text,
        sub_scores=reading.sub_scores if reading else None,
        overall_score=reading.overall_score if reading else None,
        parse_note=reading.note if reading else None,
        strict_format=reading is not None and reading.strict,
        reward=reward,
        standardised_reward=None if reward is None or scale is None else scale.standardise(reward),
        reward_spread=statistics.stdev(rewards) if mode == "k" and rewards else None,
        sub_score_votes=reading.votes if reading and mode == "k" else None,
        truncated=any(thought.truncated for thought in thoughts),
        seconds=seconds,
        engine=engine.label,
        thoughts=[_kept(thought) for thought in thoughts] if mode == "k" else None,
        distance=thoughts[0].distance,
    )


def _kept(thought: FinishedThought) -> dict[str, Any]:
    return {"text": thought.text, "reward": thought.reward, "truncated": thought.truncated}


def verdict_of(manifest: Manifest, mode: Mode, prompt: str, judged: tuple[Judgement, ...]) -> Verdict:
    """Compare judgements of one prompt, stored ones too; a pair gets P(A preferred) and an outcome.

    Without a calibration of the mode there is no P, and the outcome is which reward is higher.
    """
    rewards = [judgement.reward for judgement in judged if judgement.reward is not None]
    if len(judged) != 2 or len(rewards) != 2:
        return Verdict(manifest.name, mode, prompt, judged, None, None)
    scale = manifest.calibration.for_mode(mode)
    if scale is None:
        return Verdict(manifest.name, mode, prompt, judged, None, higher_reward(*rewards), probability_source(None))
    p, outcome = scale.p_first(*rewards), scale.outcome(*rewards)
    return Verdict(manifest.name, mode, prompt, judged, p, outcome, probability_source(scale))
