"""How many threads of the CPU model calls get in an app, where each judgement runs in a thread of its own.

    set_threads(model)

OpenMP gives each thread that calls it a team of its own. As soon as there are more threads than cores, the teams put each
other to sleep at every small operation: the bundled checkpoint is then no quicker with two threads than with one, which
leaves a core to the pages and the decoders besides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from descore.modeling.model import DeScoreModel

SMALL = 100_000_000  # parameters; a matrix of a larger model is worth sharing
_ALL = torch.get_num_threads()  # as the machine, or OMP_NUM_THREADS, has it


def set_threads(model: DeScoreModel) -> None:
    """Choose the number for the whole process, from the model that serves."""
    parameters = sum(weight.numel() for weight in model.parameters())
    torch.set_num_threads(1 if parameters < SMALL else _ALL)
