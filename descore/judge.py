"""The judge: one video, a pair, or many.

    judge = DeScore.from_pretrained("bundled")
    for event in judge.stream(["a.mp4", "b.mp4"], "a red circle bounces"):
        ...                                       # ThoughtDelta, ..., Judged, Judged, Verdict
    verdict = judge.judge(["a.mp4", "b.mp4"], "a red circle bounces", mode="quick")

The videos of a call are thought about in one batch, and none of them depends on which others are beside it.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from descore.answer import read_thoughts
from descore.calibration import ModeCalibration
from descore.checkpoints.folder import load_checkpoint, save_checkpoint
from descore.engines.engine import Cancel, Engine, EngineName, FinishedThought, Thinking
from descore.engines.transformers_engine import TransformersEngine
from descore.errors import EngineError, RewardError
from descore.judgement import MODES, Event, Judged, Judgement, Mode, Verdict
from descore.video import JUDGING, Lane

if TYPE_CHECKING:
    from descore.checkpoints.manifest import Manifest
    from descore.modeling.model import DeScoreModel

# Rows that think at the same time in `score`: enough to fill a machine, few enough for an 8B's memory.
_ROWS_AT_ONCE = 8
# Videos that are read at the same time; how many are decoded at the same time is the decoders' business.
_READERS = 8
# Without a calibration: P = sigmoid(r_A - r_B), and only equal rewards tie.
_PLAIN = ModeCalibration(mean=0.0, std=1.0, temperature=1.0, tie_threshold=0.0, reference_videos=1, validation_pairs=1)


class DeScore:
    """A checkpoint, ready to judge. Threads may share it: an engine arranges their calls.

    Attributes:
        engine: who thinks and gives the rewards.
        manifest: the checkpoint's settings.
    """

    def __init__(self, model: DeScoreModel | Engine, manifest: Manifest | None = None) -> None:
        """Judge by a model in this process, or by any engine, which has a manifest of its own."""
        if not isinstance(model, Engine):
            assert manifest is not None, "a model has no manifest of its own"
            model = TransformersEngine(model, manifest)
        self.engine: Engine = model
        self.manifest = manifest or model.manifest

    @classmethod
    def from_pretrained(
        cls,
        path_or_hub_id: str | Path,
        device: str | torch.device | None = None,
        dtype: torch.dtype | str | None = None,
        engine: EngineName = "transformers",
    ) -> DeScore:
        """Load a checkpoint folder, one on the Hub, "bundled", or a bare backbone (which has no reward).

        Args:
            device, dtype: by default CUDA in bfloat16 where there is a GPU, else the CPU in float32. A dtype may be given
                by its name, "bfloat16".
            engine: "transformers", "vllm", or "auto": vLLM where CUDA and vLLM are there, else transformers.

        Raises:
            descore.errors.CheckpointError: there is none, or it is incomplete; the message says what to do.
            descore.errors.EngineError: the engine can't run here.
        """
        if engine not in ("transformers", "vllm", "auto"):
            raise EngineError(f"unknown engine {engine!r}; choose transformers, vllm or auto")
        if engine != "transformers":
            from descore.engines.vllm_engine import VllmEngine, vllm_is_usable

            if engine == "vllm" or vllm_is_usable(device):
                return cls(VllmEngine.from_pretrained(path_or_hub_id, dtype=dtype))
        return cls(*load_checkpoint(path_or_hub_id, device=device, dtype=dtype))

    @classmethod
    def from_server(cls, urls: str | Sequence[str], token: str | None = None) -> DeScore:
        """Judge by one or more running `descore serve`; see `descore.engines.server_engine.ServerEngine`.

        Args:
            urls: addresses such as "http://gpu-box:8000"; the work is shared among them.
            token: the servers' bearer token.

        Raises:
            EngineError: none of them answers, or none takes the token.
        """
        from descore.engines.server_engine import ServerEngine

        return cls(ServerEngine(urls, token))

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write the checkpoint folder, atomically; see `descore.checkpoints.folder.save_checkpoint`."""
        return save_checkpoint(folder, self.model, self.manifest)

    @property
    def model(self) -> DeScoreModel:
        """The weights in this process.

        Raises:
            EngineError: another engine than transformers answers, and has them.
        """
        return self._own_engine().model

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    def to(self, device: str | torch.device) -> DeScore:
        """Move the model to a device, in place; do nothing where it is there."""
        if self.device != torch.device(device):
            with self._own_engine().lock:
                self.model.to(device)
        return self

    def _own_engine(self) -> TransformersEngine:
        if not isinstance(self.engine, TransformersEngine):
            raise EngineError(f"{self.engine.label} answers, so the weights are not in this process; load with transformers")
        return self.engine

    def close(self) -> None:
        """Free what the engine holds, such as a GPU or a connection; the judge can't be used any more."""
        self.engine.close()

    @property
    def name(self) -> str:
        """The checkpoint's name."""
        return self.manifest.name

    @property
    def has_reward(self) -> bool:
        """False for a backbone without a trained scoring module: thoughts and sub-scores, but no reward."""
        return self.engine.has_reward

    @property
    def prompt_tokens(self) -> int | None:
        """How many tokens a prompt may have beside the largest video; None for a backbone that does not say."""
        return self.engine.prompt_tokens

    def check_prompt(self, prompt: str) -> None:
        """Refuse what this checkpoint can't read as a prompt; no video is needed for that.

        Raises:
            PromptError: as `descore.prompt.check_prompt`; also for a special token of the tokenizer, and for more than
                `prompt_tokens` tokens.
        """
        self.engine.check_prompt(prompt)

    def stream(
        self,
        videos: Sequence[str | Path],
        prompt: str,
        mode: Mode = "think",
        k: int = 8,
        seed: int = 0,
        cancel: Cancel | None = None,
        lane: Lane = JUDGING,
    ) -> Iterator[Event]:
        """Judge the videos of one prompt: yield text as it comes and the `Verdict` last.

        Args:
            mode: "think" (greedy, deterministic), "quick" (no thought) or "k" (k sampled thoughts from one
                prefill).
            k, seed: number and seed of the sampled thoughts; a video's thoughts depend on nothing but the
                seed, the video and the prompt.
            cancel: once set, the stream ends without a verdict, within one token or one piece of the prompt (the
                vision tower is one piece too). Closing the iterator does the same. A `threading.Event`, or what else is
                asked before each call of the model.
            lane: whose decoding processes read the videos.

        Raises:
            descore.video.VideoError: a video can't be read; before any event.
            PromptError: a prompt that can't be used, see `check_prompt`; before any video is read.
            ValueError: no videos, an unknown mode or k below 2.
            RewardError: mode quick without a scoring module, or a reward that is not finite.
        """
        start = time.monotonic()
        self._check(mode, k)
        if not videos:
            raise ValueError("there is no video to judge")
        self.check_prompt(prompt)
        rows = self._encode(self._read(videos, lane), [prompt] * len(videos))
        thoughts = yield from self.engine.think(rows, mode, k, seed, cancel)
        if thoughts is None:
            return
        seconds = time.monotonic() - start
        judged = tuple(self._judgement(str(p), mode, t, seconds) for p, t in zip(videos, thoughts, strict=True))
        for index, judgement in enumerate(judged):
            yield Judged(index, judgement)
        yield self.verdict(mode, prompt, judged)

    def judge(self, videos: Sequence[str | Path], prompt: str, mode: Mode = "think", k: int = 8, seed: int = 0) -> Verdict:
        """Return the verdict of `stream`, without the events before it."""
        *_, verdict = self.stream(videos, prompt, mode, k, seed)
        assert isinstance(verdict, Verdict)
        return verdict

    def score(
        self,
        videos: Sequence[str | Path],
        prompts: Sequence[str] | str,
        mode: Mode = "think",
        k: int = 8,
        seed: int = 0,
        batch_size: int = _ROWS_AT_ONCE,
    ) -> list[Judgement]:
        """Judge many videos, each with its own prompt (or all with one), in batches.

        Args:
            batch_size: thoughts at the same time; more fill a machine better and take more memory.

        Raises:
            As `stream`; ValueError also for lists of unequal length.
        """
        self._check(mode, k)
        prompts = [prompts] * len(videos) if isinstance(prompts, str) else list(prompts)
        if len(prompts) != len(videos):
            raise ValueError(f"{len(videos)} videos need {len(videos)} prompts (or one for all), not {len(prompts)}")
        for prompt in dict.fromkeys(prompts):
            self.check_prompt(prompt)
        size = max(1, batch_size // k) if mode == "k" else batch_size
        judgements: list[Judgement] = []
        for first in range(0, len(videos), size):
            part = videos[first : first + size]
            judgements += self.score_clips(self._read(part), part, prompts[first : first + size], mode, k, seed)
        return judgements

    def score_clips(
        self,
        clips: Sequence[Any],
        videos: Sequence[str | Path],
        prompts: Sequence[str],
        mode: Mode = "think",
        k: int = 8,
        seed: int = 0,
    ) -> list[Judgement]:
        """Judge videos that were read before, as one batch; for callers that read ahead of the model.

        Args:
            clips: what `engine.read` returned, one for each video.
            videos: what the judgements call them.
            prompts: one for each video, checked by `check_prompt`.

        Raises:
            ValueError, RewardError: as `score`.
        """
        self._check(mode, k)
        start = time.monotonic()
        thoughts = self._drain(self.engine.think(self._encode(clips, prompts), mode, k, seed))
        seconds = time.monotonic() - start
        return [self._judgement(str(p), mode, t, seconds) for p, t in zip(videos, thoughts, strict=True)]

    def verdict(self, mode: Mode, prompt: str, judged: tuple[Judgement, ...]) -> Verdict:
        """Compare judgements of one prompt; see `verdict_of`."""
        return verdict_of(self.manifest, mode, prompt, judged)

    # the stages of a call

    def _check(self, mode: Mode, k: int) -> None:
        if mode not in MODES:
            raise ValueError(f"unknown mode {mode!r}; choose one of {', '.join(MODES)}")
        if mode == "k" and k < 2:
            raise ValueError(f"mode k needs at least 2 thoughts, not {k}")
        if mode == "quick" and not self.has_reward:
            raise RewardError(
                f"{self.name} has no trained scoring module, so mode quick has no reward to give; choose mode think"
            )

    def _read(self, videos: Sequence[str | Path], lane: Lane = JUDGING) -> list[Any]:
        with ThreadPoolExecutor(max_workers=max(1, min(_READERS, len(videos)))) as threads:
            return list(threads.map(partial(self.engine.read, lane=lane), videos))

    def _encode(self, clips: Sequence[Any], prompts: Sequence[str]) -> list[Any]:
        return [self.engine.encode(clip, prompt) for clip, prompt in zip(clips, prompts, strict=True)]

    @staticmethod
    def _drain(thinking: Thinking) -> list[list[FinishedThought]]:
        while True:
            try:
                next(thinking)
            except StopIteration as end:
                thoughts: list[list[FinishedThought]] = end.value
                return thoughts

    def _judgement(self, path: str, mode: Mode, thoughts: list[FinishedThought], seconds: float) -> Judgement:
        return judgement_of(self.engine, path, mode, thoughts, seconds)


def judgement_of(engine: Engine, path: str, mode: Mode, thoughts: Sequence[FinishedThought], seconds: float) -> Judgement:
    """Make one video's judgement of its finished thoughts, kept ones too.

    Args:
        engine: that finished them.
        path: the video as the caller named it.
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
    )


def verdict_of(manifest: Manifest, mode: Mode, prompt: str, judged: tuple[Judgement, ...]) -> Verdict:
    """Compare judgements of one prompt, stored ones too; a pair gets P(A preferred) and an outcome."""
    rewards = [judgement.reward for judgement in judged if judgement.reward is not None]
    if len(judged) != 2 or len(rewards) != 2:
        return Verdict(manifest.name, mode, prompt, judged, None, None)
    scale = manifest.calibration.for_mode(mode) or _PLAIN
    return Verdict(manifest.name, mode, prompt, judged, scale.p_first(*rewards), scale.outcome(*rewards))


def release_memory() -> None:
    """Free the memory of models that nothing refers to any more, on a GPU too."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
