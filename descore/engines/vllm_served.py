"""One vLLM in this process, as judging and training use it: started, asked, given new weights, put to sleep.

`ServedVllm` is driven by one thread of its own (`descore.engines.vllm_scheduler`); callers hand it requests and wait for
tokens. `ServedVllm.take` checks what comes: the prompt must be the processor's, token by token, and no token one that is
never sampled.
"""

from __future__ import annotations

import itertools
import logging
import os
import queue
import sys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from descore.engines.vllm_prompts import PLACEHOLDERS, check_prompt_tokens, request_of
from descore.engines.vllm_scheduler import Calls, Scheduler, Tokens
from descore.errors import EngineError, NotEnoughMemoryError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from descore.encode import Row
    from descore.engines.engine import Cancel

log = logging.getLogger(__name__)

# The releases that this was tried with: 0.32.0 on processors, and the interface of 0.33.0 for GPUs was read.
TRIED = ("0.32.0", "0.33.0")
_NEVER = -100.0  # as a bias of a logit: vLLM's own limit
_numbers = itertools.count()  # of load formats
_POLL_SECONDS = 0.05  # how soon a caller who waits for a token sees that it was cancelled


@dataclass
class ServedThought:
    """One thought on its way.

    Attributes:
        prompt_ids: the tokens that vLLM must make of its prompt.
        ids: its tokens so far, without an end token.
        log_probs: of the tokens and the end token, under the distribution that they were sampled from.
        end: the end token that it came to by itself; None before, and where it was cut off.
    """

    prompt_ids: list[int]
    ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    end: int | None = None


class ServedVllm:
    """One `vllm.LLM`.

    Attributes:
        label: "vllm" and its version.
    """

    def __init__(
        self,
        folder: Path,
        processor: Any,
        *,
        end_ids: Collection[int],
        never_sampled: Collection[int],
        weights: Iterable[tuple[str, torch.Tensor]] | None = None,
        **settings: Any,
    ) -> None:
        """Start vLLM.

        Args:
            folder: the model as transformers writes it; with `weights`, its configuration and processor are enough.
            processor: the backbone's.
            end_ids: tokens that end a thought.
            never_sampled: tokens that are ruled out.
            weights: all of them, by their names in a checkpoint; None: those in the folder.
            settings: of `vllm.LLM`, such as tensor_parallel_size; they come before ours.

        Raises:
            EngineError: vLLM is not installed, or can't serve the folder.
            NotEnoughMemoryError: the device has too little memory.
        """
        vllm = import_vllm()
        self.label = f"vllm {vllm.__version__}"
        self._processor = processor
        self._end_ids, self._never_sampled = frozenset(end_ids), frozenset(never_sampled)
        self._sampling = vllm.SamplingParams
        self._delta = vllm.sampling_params.RequestOutputKind.DELTA
        self._sleeps = bool(settings.get("enable_sleep_mode"))
        if weights is not None:
            settings["load_format"] = _load_format(weights)
        self._scheduler = Scheduler(_start(vllm, folder, settings))
        self._placeholder: str | None = None

    def calls(self) -> AbstractContextManager[Calls]:
        """Open the requests of one caller, and end those that still run when the block is left."""
        return self._scheduler.calls()

    def close(self) -> None:
        """Stop vLLM and free its memory."""
        self._scheduler.close()

    # requests

    def request(self, row: Row) -> tuple[dict[str, Any], list[int]]:
        """Return vLLM's request for a row, and the tokens that it must make of it.

        Raises:
            EngineError: this release makes other prompts than the processor, or the row does not hold exactly one video.
        """
        if self._placeholder is None:
            self._placeholder = self._find_placeholder(row)
        return request_of(self._processor, row, self._placeholder)

    def parameters(self, **values: Any) -> Any:
        """Return sampling parameters, by vLLM's own names."""
        return self._sampling(detokenize=False, output_kind=self._delta, **values)

    def thinking(self, max_tokens: int, seed: int | None = None, temperature: float = 1.0) -> Any:
        """Return the parameters of a thought: greedy without a seed, else sampled, with log-probabilities."""
        return self.parameters(
            temperature=0.0 if seed is None else temperature,
            seed=None if seed is None else seed & 0x7FFFFFFF,  # vLLM takes so many bits everywhere
            max_tokens=max_tokens,
            stop_token_ids=sorted(self._end_ids),
            logit_bias=dict.fromkeys(sorted(self._never_sampled), _NEVER),
            logprobs=None if seed is None else 0,
        )

    def take(self, thought: ServedThought, tokens: Tokens) -> Sequence[int]:
        """Add new tokens to a thought; return those that are not an end token.

        Raises:
            EngineError: the prompt is not the processor's, or a token is one that was ruled out.
        """
        if tokens.prompt_ids is not None:
            check_prompt_tokens(tokens.prompt_ids, thought.prompt_ids)
        new = []
        for position, token in enumerate(tokens.ids):
            if tokens.log_probs:
                thought.log_probs.append(tokens.log_probs[position][token])
            if token in self._end_ids:
                thought.end = token
                continue
            if token in self._never_sampled:
                raise EngineError(f"vLLM sampled the control token {token}, although it was ruled out")
            new.append(token)
        thought.ids += new
        return new

    # weights

    def hand_over(self, weights: Iterable[tuple[str, torch.Tensor]]) -> None:
        """Give the model new weights, by their names in a checkpoint, and forget all that the old ones computed.

        They are taken layer by layer as `weights` yields them, so that no second set of them is there at any time.

        Args:
            weights: all of them, those of a layer one after the other.
        """

        def give(llm: Any) -> None:
            llm.llm_engine.collective_rpc("reload_weights", kwargs={"weights_iterator": iter(weights)})
            llm.llm_engine.reset_encoder_cache()
            if not llm.llm_engine.reset_prefix_cache():
                raise EngineError("vLLM kept its prefix cache, so that old weights would answer; ask nothing meanwhile")

        self._scheduler.run(give)

    def sleep(self) -> None:
        """Give back the memory of weights and cache, where vLLM was started with `enable_sleep_mode`; weights are lost."""
        if self._sleeps:
            self._scheduler.run(lambda llm: llm.sleep(level=2))

    def wake_up(self, weights: Iterable[tuple[str, torch.Tensor]]) -> None:
        """Take memory again and `hand_over` all weights; the room for the cache comes last."""
        if self._sleeps:
            self._scheduler.run(lambda llm: llm.wake_up(tags=["weights"]))
        self.hand_over(weights)
        if self._sleeps:
            self._scheduler.run(lambda llm: llm.wake_up(tags=["kv_cache"]))

    def _find_placeholder(self, row: Row) -> str:
        """Find the placeholder of a video from which this release makes the processor's prompt."""
        refusal = EngineError("vLLM knows no placeholder of a video")
        for placeholder in PLACEHOLDERS:
            request, ids = request_of(self._processor, row, placeholder)
            with self.calls() as calls:
                calls.submit(0, request, self.parameters(temperature=0.0, max_tokens=1))
                try:
                    tokens = next_tokens(calls.tokens)
                    assert tokens is not None
                    check_prompt_tokens(tokens.prompt_ids or [], ids)
                    return placeholder
                except EngineError as error:
                    refusal = error
        raise refusal


def next_tokens(tokens: queue.Queue[Tokens | BaseException], cancel: Cancel | None = None) -> Tokens | None:
    """Wait for the next tokens; None once cancelled.

    Raises:
        EngineError: vLLM failed.
    """
    while True:
        if cancel is not None and cancel.is_set():
            return None
        try:
            got = tokens.get(timeout=_POLL_SECONDS if cancel is not None else None)
        except queue.Empty:
            continue
        if isinstance(got, BaseException):
            raise EngineError(f"vLLM failed: {got}") from got
        return got


def import_vllm() -> Any:
    """Import vLLM as `ServedVllm` needs it: its core in this process, so that one thread can drive it.

    Raises:
        EngineError: it is not installed, or can't be imported.
    """
    if "vllm" not in sys.modules:
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    try:
        import vllm
        import vllm.sampling_params
    except Exception as error:  # ImportError, and what its compiled parts raise on an old processor
        raise EngineError(
            f'vLLM can\'t be imported ({error}): pip install "descore-studio[vllm]" on a machine with a GPU, or choose '
            "the transformers engine"
        ) from error
    if vllm.__version__ not in TRIED:
        log.warning(
            "vLLM %s was not tried with this engine (%s were); check a few rewards", vllm.__version__, ", ".join(TRIED)
        )
    return vllm


def _load_format(weights: Iterable[tuple[str, torch.Tensor]]) -> str:
    """Make a load format of vLLM's that takes the weights as they are given.

    Its "dummy", after which all weights could be handed over, also overwrites what is in no checkpoint, such as the mean and
    standard deviation of pixels.
    """
    from vllm.model_executor.model_loader import register_model_loader
    from vllm.model_executor.model_loader.base_loader import BaseModelLoader

    class GivenWeights(BaseModelLoader):
        def download_model(self, model_config: Any) -> None:
            """Do nothing: they are here."""

        def load_weights(self, model: Any, model_config: Any) -> None:  # noqa: ARG002 - vLLM's signature
            model.load_weights(iter(weights))

    name = f"descore_given_{next(_numbers)}"
    register_model_loader(name)(GivenWeights)
    return name


def _start(vllm: Any, folder: Path, settings: dict[str, Any]) -> Any:
    defaults = {
        "limit_mm_per_prompt": {"video": 1, "image": 0},
        "generation_config": "vllm",
        "enable_prefix_caching": True,
        "logprobs_mode": "processed_logprobs",
        "max_logprobs": 2,
    }
    if not torch.cuda.is_available():
        defaults |= {"enforce_eager": True, "kv_cache_memory_bytes": 2**30}
    try:
        return vllm.LLM(model=str(folder), **{**defaults, **settings})
    except Exception as error:  # whatever vLLM meets in the checkpoint, on the device, or in its own libraries
        if "less than desired GPU memory utilization" in str(error):
            raise NotEnoughMemoryError(f"the GPU has too little free memory for {folder.name} in vLLM: {error}") from error
        raise EngineError(f"vLLM can't serve {folder.name}: {error}") from error
