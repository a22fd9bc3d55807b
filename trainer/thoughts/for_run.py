"""Thoughts for the pairs of a run that have none: the backbone's own, sampled once before stage 1.

    run/thoughts-00000.jsonl      of process 0, pair by pair; an interrupted run goes on behind its last line

Several processes share the pairs by a queue; a pair's thoughts are the same whichever process samples them.
`python -m trainer collect-thoughts` does the same ahead of a run, or asks a teacher.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from trainer.data.pairs import expected_cost
from trainer.data.thought_file import PairThoughts, ThoughtFile, read_lines, read_thoughts
from trainer.sharing.work_queue import WorkQueue, from_main, longest_first
from trainer.thoughts.collect import OwnThoughts

if TYPE_CHECKING:
    from accelerate import Accelerator

    from descore.checkpoints.manifest import Manifest
    from descore.modeling.model import DeScoreModel
    from trainer.data.frames import PairReader
    from trainer.data.pairs import TrainingPair
    from trainer.engine.precision import Precision
    from trainer.engine.stop_signals import StopSignals

log = logging.getLogger(__name__)

_FILES = "thoughts-*.jsonl"


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
        on_progress: called with the number of finished pairs of all processes, and of all pairs without thoughts.
    """
    missing = {pair.identity: pair for pair in pairs if pair.thoughts is None}
    if not missing:
        return tuple(pairs)
    if accelerator.is_main_process:
        log.info("%d of %d pairs have no thoughts; the backbone thinks about them first", len(missing), len(pairs))
    order = from_main(accelerator, lambda: _unfinished(list(missing.values()), run_folder))
    size = max(1, min(pairs_at_once, -(-len(order) // accelerator.num_processes)))
    batches = [[missing[identity] for identity in order[first : first + size]] for first in range(0, len(order), size)]
    known, sizes = len(missing) - len(order), [len(batch) for batch in batches]
    path = run_folder / f"thoughts-{accelerator.process_index:05d}.jsonl"
    with (
        ThoughtFile(path) as file,
        precision.sampling(),
        tqdm(total=len(order), desc="thoughts", mininterval=5, disable=not accelerator.is_main_process) as bar,
    ):

        def tell(done: int, _total: int) -> None:
            bar.update(done - bar.n)
            on_progress(known + done, len(missing))

        own = OwnThoughts(model, manifest, reader, seed)
        with WorkQueue([len(batches) - place for place in range(len(batches))], accelerator, sizes, tell) as queue:
            for index in queue:
                upcoming = () if queue.upcoming is None else batches[queue.upcoming]
                for result in own.about(batches[index], upcoming):
                    if isinstance(result, PairThoughts):
                        file.add(result)
                if stop.received:
                    queue.close()
    collected: dict[str, PairThoughts] = {}
    for path in sorted(run_folder.glob(_FILES)):
        collected |= read_thoughts(path)
    return tuple(
        replace(pair, thoughts=collected[pair.identity].about(pair.contents))
        if pair.thoughts is None and pair.identity in collected
        else pair
        for pair in pairs
    )


def _unfinished(missing: Sequence[TrainingPair], run_folder: Path) -> list[str]:
    """Return the identities of the pairs that no process has thought about, the longest first."""
    known = {thoughts.identity for path in run_folder.glob(_FILES) for thoughts in read_lines(path)}
    left = [pair for pair in missing if pair.identity not in known]
    return [left[index].identity for index in longest_first([expected_cost(pair) for pair in left])]
