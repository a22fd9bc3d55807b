"""The parts of the GPU report, in the order in which they are measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from benchmarks.gpu import bundled_judging, bundled_training, large_models
from benchmarks.gpu.random_models import NAMES
from benchmarks.gpu.setting import Figures, Setting


@dataclass(frozen=True)
class Part:
    """A part of the report.

    Attributes:
        name: as `--only` takes it.
        about: one clause for `--list`.
        measure: measures it and returns the figures.
    """

    name: str
    about: str
    measure: Callable[[Setting], Figures]


def _large(name: str) -> list[Part]:
    model = NAMES[name].removeprefix("Qwen/").removesuffix("-Instruct")
    return [
        Part(f"{name}-judge", f"{model}: think and quick, clips an hour", partial(large_models.judge, name=name)),
        Part(f"{name}-cold-start", f"{model}: a step of stage 1", partial(large_models.cold_start, name=name)),
        Part(f"{name}-dual-rl", f"{model}: a step of stage 2", partial(large_models.dual_rl, name=name)),
        Part(f"{name}-judge-vllm", f"{model}: the judging by vLLM", partial(large_models.judge_by_vllm, name=name)),
        Part(f"{name}-dual-rl-vllm", f"{model}: stage 2 by vLLM", partial(large_models.dual_rl_by_vllm, name=name)),
    ]


PARTS = (
    Part("judge", "bundled: both thoughts of a pair, and rewards beside a CPU's", bundled_judging.judge),
    Part("quick", "bundled: a pair without thoughts", bundled_judging.quick),
    Part("k-thoughts", "bundled: eight thoughts for each video of a pair", bundled_judging.k_thoughts),
    Part("score-table", "bundled: a small table in mode quick", bundled_judging.table),
    Part("bf16-drift", "bundled: float32 against bfloat16, rewards and log-probabilities", bundled_judging.drift),
    Part("cold-start", "bundled: some steps of stage 1", bundled_training.cold_start),
    Part("dual-rl", "bundled: some steps of stage 2", bundled_training.dual_rl),
    Part("resume", "bundled: both stages stopped and resumed", bundled_training.resume),
    Part("out-of-memory", "bundled: stage 2 under a limit of memory, on purpose", bundled_training.out_of_memory),
    Part("sampler-ratio", "bundled: the own engine's probabilities of tokens", bundled_training.sampler_ratio),
    Part("judge-vllm", "bundled: both thoughts of a pair by vLLM", bundled_judging.judge_by_vllm),
    Part("dual-rl-vllm", "bundled: some steps of stage 2 by vLLM", bundled_training.dual_rl_by_vllm),
    Part("sampler-ratio-vllm", "bundled: vLLM's probabilities of tokens", bundled_training.sampler_ratio_by_vllm),
    *(part for name in NAMES for part in _large(name)),
)  # fmt: skip
