"""What judging by the bundled checkpoint takes on a device, and what it comes to there.

The thoughts and rewards of a device are compared with those of the CPU in float32, which the other documents are about.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from benchmarks import bf16_drift
from benchmarks.gpu.setting import Figures, PeakMemory, Setting, dtype_name, needs_vllm, timed
from benchmarks.judgement_time import GALLERY, judgement_seconds
from benchmarks.score_table import make_table
from descore.checkpoints.folder import BUNDLED, locate
from descore.judge import DeScore
from descore.modeling.backbone import default_dtype
from descore.scoring.config import ScoreConfig
from descore.scoring.judge_source import JudgeSource
from descore.scoring.score_table import score_table
from descore.tables.pairs import read_pairs

if TYPE_CHECKING:
    from descore.judgement import Judgement, Mode


def gallery(count: int) -> list[dict[str, str]]:
    """Return the first pairs of the gallery: paths from its folder, and the prompt."""
    pairs: list[dict[str, str]] = json.loads((GALLERY / "pairs.json").read_text("utf-8"))
    return pairs[:count]


def judge(setting: Setting) -> Figures:
    """Think about pairs: seconds to the first word and to the verdict, and thoughts and rewards beside those of a CPU."""
    return _judging(setting, "think") | _beside_cpu(setting)


def quick(setting: Setting) -> Figures:
    """Judge pairs without a thought."""
    return _judging(setting, "quick")


def k_thoughts(setting: Setting) -> Figures:
    """Sample eight thoughts for each video of a pair."""
    return _judging(setting, "k")


def judge_by_vllm(setting: Setting) -> Figures:
    """Think about pairs by vLLM; beside the transformers engine's thoughts and rewards in the same dtype."""
    needs_vllm()
    dtype = default_dtype(setting.device)
    own = DeScore.from_pretrained("bundled", setting.device, dtype)
    expected = _score(own, setting)
    with DeScore.from_pretrained("bundled", dtype=dtype, engine="vllm") as served:
        figures = _verdicts(served, setting, "think")
        return figures | {"engine": served.engine.label, "dtype": dtype_name(dtype)} | _compared(
            _score(served, setting), expected, "the_transformers_engine"
        )  # fmt: skip


def table(setting: Setting) -> Figures:
    """Score a small table of pairs in mode quick: seconds of a whole run, decoding included, each clip judged once."""
    clips = setting.size(240, 4)
    pairs = read_pairs(make_table(setting.folder / "table", 5 * clips, clips))
    loaded = DeScore.from_pretrained("bundled", setting.device)
    judged: list[int] = []

    def run() -> None:
        out = setting.folder / f"scores-{len(judged)}.csv"
        source = JudgeSource.of_folder(locate(BUNDLED)[0], lambda: loaded)
        judged.append(score_table(source, pairs, out, ScoreConfig("quick")).judged)

    figures = timed(setting.seconds(run))
    return {
        **figures,
        "rows": len(pairs.rows),
        "clips": clips,
        "each_clip_judged_once": set(judged) == {clips},
        "clips_per_second": round(clips / figures["seconds"], 1),
        "dtype": dtype_name(loaded.model.backbone.dtype),
    }


def drift(setting: Setting) -> Figures:
    """Compare float32 and bfloat16: how far rewards and log-probabilities of the same thoughts move."""
    (pair, *_) = gallery(1)
    more = gallery(setting.size(4, 1))
    videos = [str(GALLERY / each[side]) for each in more for side in "ab"]
    return {**bf16_drift.measure("bundled", videos, pair["prompt"]), "dtype": "float32 and bfloat16", "repeats": 1}


def _judging(setting: Setting, mode: Mode) -> Figures:
    loaded = DeScore.from_pretrained("bundled", setting.device)
    with PeakMemory(setting.device) as memory:
        figures = _verdicts(loaded, setting, mode)
    dtype = dtype_name(loaded.model.backbone.dtype)
    return {**figures, **memory.figures(), "engine": loaded.engine.label, "dtype": dtype}


def _verdicts(loaded: DeScore, setting: Setting, mode: Mode) -> Figures:
    """Time each of some pairs; the median over the pairs counts, and of that the median over the repeats."""
    pairs = gallery(setting.size(6, 1))
    judgement_seconds(loaded, pairs[0], mode)
    first_words: list[float] = []
    verdicts: list[float] = []
    for _ in range(setting.repeats):
        times = [judgement_seconds(loaded, pair, mode) for pair in pairs]
        verdicts.append(statistics.median(verdict for _, verdict in times))
        if words := [first for first, _ in times if first is not None]:
            first_words.append(statistics.median(words))
    figures = {**timed(verdicts), "pairs": len(pairs)}
    return figures | ({"first_word_seconds": round(statistics.median(first_words), 4)} if first_words else {})


def _beside_cpu(setting: Setting) -> Figures:
    """Judge in float32 on the device and on the CPU."""
    there, here = (
        _score(DeScore.from_pretrained("bundled", device, torch.float32), setting) for device in (setting.device, "cpu")
    )
    return _compared(there, here, "a_cpu")


def _score(judge: DeScore, setting: Setting) -> list[Judgement]:
    pairs = gallery(setting.size(6, 1))
    videos = [str(GALLERY / pair[side]) for pair in pairs for side in "ab"]
    return judge.score(videos, [pair["prompt"] for pair in pairs for _ in "ab"])


def _compared(found: Sequence[Judgement], expected: Sequence[Judgement], whose: str) -> Figures:
    """Compare thoughts, and the rewards of equal thoughts; those of others are no measure of the arithmetic."""
    both = list(zip(found, expected, strict=True))
    same = [(one, other) for one, other in both if one.thought == other.thought]
    differences: list[Any] = [abs((one.reward or 0.0) - (other.reward or 0.0)) for one, other in same]
    return {
        f"same_thoughts_as_{whose}": f"{len(same)} of {len(both)}",
        f"largest_reward_difference_to_{whose}": max(differences, default=None),
    }
