"""Judging on a ZeroGPU Space, which lends a GPU to a process of its own for the seconds of one call.

    judge = load_judge("bundled")       # there a judge whose model calls are made on the lent GPU, elsewhere a plain one

`spaces`, which app.py imports before torch, makes believe that the app's process has a GPU. Weights are loaded on the CPU
and moved "to CUDA" by the main thread, which is where that works, and `spaces` puts them aside until a call: it forks a
process, gives it the real GPU and the weights, and pipes what it yields back. Videos are decoded and prompts are encoded
before that, so that no second of the GPU goes into them.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import gradio as gr

from descore import DeScore
from descore.checkpoints.folder import load_checkpoint
from descore.engines.engine import Cancel, EngineName, FinishedThought
from descore.engines.transformers_engine import TransformersEngine
from descore.errors import RewardError
from descore.judgement import Mode, ThoughtDelta
from descore.modeling.backbone import default_device

if TYPE_CHECKING:
    from descore.checkpoints.manifest import Manifest
    from descore.encode import Row
    from descore.modeling.model import DeScoreModel

log = logging.getLogger(__name__)

Steps = Generator["ThoughtDelta | list[list[FinishedThought]] | RewardError", None, None]
Call = Callable[[str, str, "list[Row]", Mode, int, int], Steps]

# What a call may take at most, in seconds, is told before it: a short time is served sooner and asks less of a visitor's
# daily minutes, and a call that goes on beyond it is ended. A step of one layer is Python's time, whatever its width.
START_SECONDS, SECONDS_PER_GIB, SECONDS_PER_LAYER, TOKENS_PER_LAYER_SECOND = 6.0, 0.5, 0.0025, 400_000
LONGEST_SECONDS = 120


class GpuUnavailableError(RuntimeError):
    """No GPU was lent, or it was taken back; the message says why, as far as ZeroGPU does."""


def on_zero_gpu() -> bool:
    """Tell whether this is a ZeroGPU Space, or its emulation."""
    return "spaces" in sys.modules and os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def environment_of_children() -> dict[str, str]:
    """Return the environment of programs that the app starts; on ZeroGPU they have no GPU and must not look for one."""
    return {**os.environ, "CUDA_VISIBLE_DEVICES": ""} if on_zero_gpu() else dict(os.environ)


def load_judge(checkpoint: str, engine: EngineName = "transformers") -> DeScore:
    """Load a checkpoint by name, folder or Hub id, for the device that judges here.

    Args:
        engine: as for `DeScore.from_pretrained`; a lent GPU is there for seconds, too short to start vLLM.

    Raises:
        descore.errors.CheckpointError: there is none, or it can't be used.
        descore.errors.EngineError: the engine can't run here.
    """
    if not on_zero_gpu():
        return DeScore.from_pretrained(checkpoint, engine=engine)
    judge = DeScore.from_pretrained(checkpoint, device="cpu", dtype="bfloat16")
    if threading.current_thread() is threading.main_thread():
        judge.to("cuda")
    return DeScore(LentGpuEngine(judge.model, judge.manifest, checkpoint))


class LentGpuEngine(TransformersEngine):
    """An engine whose model calls are made in a process that has a GPU for their time."""

    def __init__(self, model: DeScoreModel, manifest: Manifest, location: str) -> None:
        """Take a model that stands on the CPU, or "on CUDA" as the main thread sees it, and where it was loaded from."""
        super().__init__(model, manifest)
        self._location, self._key = location, f"{location} {next(_numbers)}"
        _engines[self._key] = self

    def think(
        self, rows: Sequence[Row], mode: Mode, k: int = 8, seed: int = 0, cancel: Cancel | None = None
    ) -> Generator[ThoughtDelta, None, list[list[FinishedThought]] | None]:
        """`TransformersEngine.think` on a lent GPU; a cancellation is seen at the next piece of text.

        Raises:
            GpuUnavailableError: none was lent, or it was taken back.
            RewardError: as there.
        """
        steps = think_on_gpu(self._key, self._location, list(rows), mode, k, seed)
        try:
            for step in steps:
                if cancel is not None and cancel.is_set():
                    return None
                if isinstance(step, RewardError):
                    raise step
                if isinstance(step, list):
                    return step
                yield step
        except gr.Error as error:  # what `spaces` raises, for a page
            raise GpuUnavailableError(f"ZeroGPU lent no GPU for this judgement: {error.message}") from error
        except RewardError:
            raise
        except Exception as error:  # whatever its HTTP client raises, or its pipes to the process
            log.exception("ZeroGPU failed")
            raise GpuUnavailableError("ZeroGPU does not answer, so there is no GPU for this judgement.") from error
        finally:
            steps.close()
        raise GpuUnavailableError("The GPU was taken back before the judgement was done; try again.")


_numbers = itertools.count()
# A forked process finds the engines of its parent here.
_engines: WeakValueDictionary[str, TransformersEngine] = WeakValueDictionary()
_loaded_here: dict[str, TransformersEngine] = {}


def seconds_on_gpu(key: str, _location: str, rows: list[Row], mode: Mode, _k: int, _seed: int) -> int:
    """Return the seconds that a call may take, from mode, lengths and the backbone's layers; the arguments are a call's."""
    engine = _engines[key]
    layers = int(engine.model.backbone.config.get_text_config().num_hidden_layers)
    gib = sum(weight.numel() for weight in engine.model.parameters()) * 2 / 2**30
    reading = layers * sum(row["input_ids"].shape[-1] for row in rows) / TOKENS_PER_LAYER_SECOND
    steps = 1 if mode == "quick" else 1 + engine.manifest.max_thought_tokens
    seconds = START_SECONDS + SECONDS_PER_GIB * gib + reading + SECONDS_PER_LAYER * layers * steps
    return min(LONGEST_SECONDS, math.ceil(float(seconds)))


def _think(key: str, location: str, rows: list[Row], mode: Mode, k: int, seed: int) -> Steps:
    """Yield the texts of a batch, then its thoughts; runs in the process that has the GPU."""
    engine = _engines.get(key) or _loaded_here.get(key)
    if engine is None:  # promoted after this process was forked
        _loaded_here.clear()
        model, manifest = load_checkpoint(location)
        engine = _loaded_here[key] = TransformersEngine(model, manifest)
    engine.model.to(default_device())  # one that was promoted after the app had started is on the CPU
    try:
        thoughts = yield from TransformersEngine.think(engine, rows, mode, k, seed)
    except RewardError as error:  # a raised one would come back as its class's name only
        yield error
        return
    assert thoughts is not None
    yield thoughts


def _lend(function: Call) -> Call:
    """Have a generator function run where the GPU is; a function of this module, so that ZeroGPU finds it at the start."""
    if not on_zero_gpu():
        return function
    lent: Call = sys.modules["spaces"].GPU(duration=seconds_on_gpu)(function)
    return lent


think_on_gpu = _lend(_think)
