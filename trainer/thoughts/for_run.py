"""Thoughts for the pairs of a run that have none: the backbone's own, sampled once before stage 1.

    run/thoughts-00000.jsonl      of process 0, pair by pair; an interrupted run goes on behind its last line

`python -m trainer collect-thoughts` does the same ahead of a run, or asks a teacher.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from trainer.data.thought_file import PairThoughts, ThoughtFile, read_thoughts
from trainer.thoughts.collect import own_thoughts

if TYPE_CHECKING:
    from accelerate import Accelerator

    from descore.checkpoints.manifest import Manifest
    from descore.modeling.model import DeScoreModel
    from trainer.data.frames import PairReader
    from trainer.data.pairs import TrainingPair
    from trainer.engine.precision import Precision
    from trainer.engine.stop_signals import StopSignals

log = logging.getLogger(__name__)


def with_own_thoughts(
    pairs: Sequence[TrainingPair],
    model: DeScoreModel,
    manifest: Manifest,
    reader: PairReader,
    run_folder: Path,
    accelerator: Accelerator,
    precision: Precision,
    stop: StopSignals,
    *,
    pairs_at_once: int,
    seed: int,
    on_progress: Callable[[int, int], None] = lambda *_: None,
) -> tuple[TrainingPair, ...]:
    """Add thoughts to the pairs that have none and can be read; to fewer of them when a signal came in between.

    Args:
        on_progress: called with the number of finished pairs of this process, and of all of them.
    """
    missing = [pair for pair in pairs if pair.thoughts is None]
    if not missing:
        return tuple(pairs)
    log.info("%d of %d pairs have no thoughts; the backbone thinks about them first", len(missing), len(pairs))
    mine = missing[accelerator.process_index :: accelerator.num_processes]
    with ThoughtFile(run_folder / f"thoughts-{accelerator.process_index:05d}.jsonl") as file, precision.sampling():
        known = {thoughts.identity for thoughts in file.known}
        todo = [pair for pair in mine if pair.identity not in known]
        source = own_thoughts(model, manifest, todo, reader, pairs_at_once, seed)
        bar = tqdm(source, total=len(todo), desc="thoughts", mininterval=5, disable=not accelerator.is_main_process)
        for done, result in enumerate(bar, len(mine) - len(todo) + 1):
            if isinstance(result, PairThoughts):
                file.add(result)
            on_progress(done, len(mine))
            if stop.received:
                break
    accelerator.wait_for_everyone()
    collected: dict[str, PairThoughts] = {}
    for path in run_folder.glob("thoughts-*.jsonl"):
        collected |= read_thoughts(path)
    return tuple(
        replace(pair, thoughts=collected[pair.identity].about(pair.contents))
        if pair.thoughts is None and pair.identity in collected
        else pair
        for pair in pairs
    )
