"""The pairs that stage 2 trains on: those about which the cold-started model errs.

    hard = hard_pairs(judge, candidates, work / "screening")

GRPO learns from the differences within a video's group of rollouts. After its pretraining the backbone is right about most
training pairs in every one of 8 samples; such a group has no spread and gives no advantage. So the model first writes one
sampled thought a video about pairs that it has not met, and a pair with a wrong or unreadable sub-score is a hard one.

    work/screening/frames/           drawn frames, as the trainer's frame cache
    work/screening/thoughts.jsonl    pair by pair, so that an interrupted screening goes on where it stopped
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from descore.answer import read_thoughts as read_answers
from trainer.data.frames import FrameCache, PairReader
from trainer.data.pairs import TrainingPair
from trainer.data.thought_file import PairThoughts, ThoughtFile, read_thoughts
from trainer.recipe.backbone import POLICY
from trainer.recipe.rendered_clips import drawn_clip
from trainer.shapeworld.scene import SIGN
from trainer.shapeworld.write_dataset import clip_names
from trainer.thoughts.collect import collect, own_thoughts

if TYPE_CHECKING:
    from descore.judge import DeScore
    from trainer.shapeworld.pairs import ShapePair

log = logging.getLogger(__name__)

_PAIRS_AT_ONCE = 32


def hard_pairs(judge: DeScore, candidates: Sequence[ShapePair], folder: Path, workers: int = 2) -> list[ShapePair]:
    """Return the candidates of which a sampled thought gives at least one sub-score that is not exact.

    Args:
        folder: keeps drawn frames and thoughts for an interrupted call; for these candidates and this judge alone.
        workers: processes that draw.

    Raises:
        trainer.thoughts.teacher.TeacherError: pair after pair fails, which no drawn pair should.
    """
    frames = folder / "frames"
    # One thread each: a forked process that waits for threads of its parent would hang.
    with ProcessPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as executor:
        list(executor.map(_draw, candidates, repeat(frames), chunksize=8))
    manifest, path = judge.manifest, folder / "thoughts.jsonl"
    reader = PairReader(judge.model.processor, POLICY, manifest.prompt_version, frames)
    with ThoughtFile(path) as file:
        finished = {thoughts.identity for thoughts in file.known}
        waiting = [_training_pair(pair) for pair in candidates if pair.identity not in finished]
        collect(own_thoughts(judge.model, manifest, waiting, reader, _PAIRS_AT_ONCE), file, waiting)
    reader.close()
    thoughts = read_thoughts(path)
    hard = [pair for pair in candidates if _errs(pair, thoughts.get(pair.identity))]
    log.info("%d of %d screened pairs are hard", len(hard), len(candidates))
    return hard


def _draw(pair: ShapePair, folder: Path) -> None:
    """Put both clips into the frame cache, under the names that their files would have."""
    cache = FrameCache(folder, POLICY)
    for scene, name in zip(pair.scenes, clip_names(pair), strict=True):
        if cache.get(name) is None:
            cache.put(name, drawn_clip(scene))


def _training_pair(pair: ShapePair) -> TrainingPair:
    """Describe the pair to the trainer's reader, which finds its frames in the cache and opens no file."""
    a, b = clip_names(pair)
    return TrainingPair(pair.identity, (Path(a), Path(b)), (a, b), pair.prompt, SIGN[pair.label])


def _errs(pair: ShapePair, thoughts: PairThoughts | None) -> bool:
    """Tell whether a thought is missing, since it was cut off, or gives a sub-score that is not the exact one."""
    if thoughts is None:
        return True
    return any(
        read_answers([thought]).sub_scores != scores for thought, scores in zip(thoughts.thoughts, pair.scores, strict=True)
    )
