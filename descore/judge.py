"""The judge: one video, a pair, or many.

    judge = DeScore.from_pretrained("bundled")
    for event in judge.stream(["a.mp4", "b.mp4"], "a red circle bounces"):
        ...                                       # ThoughtDelta, ..., Judged, Judged, Verdict
    verdict = judge.judge(["a.mp4", "b.mp4"], "a red circle bounces", mode="quick")

The videos of a call are thought about in one batch, and none of them depends on which others are beside it.
"""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, overload

import torch

from descore.batch_scoring import (
    BatchScoring,
    BatchSize,
    Progress,
    ReadVideo,
    items_at_once,
    read_video,
    read_videos,
    refused_prompts,
    rows_of,
)
from descore.checkpoints.folder import load_checkpoint, load_located, locate, save_checkpoint
from descore.engines.engine import ROWS_AT_ONCE, Cancel, Engine, EngineName, FinishedThought, Thinking
from descore.engines.transformers_engine import TransformersEngine
from descore.errors import EngineError, RewardError
from descore.judgement import MODES, Event, Judged, Judgement, Mode, Verdict
from descore.modeling.backbone import check_device
from descore.pair_frames import judge_pairs, read_rows
from descore.verdicts import judgement_of, verdict_of
from descore.video import JUDGING, Lane, Video
from descore.video.memory_frames import as_videos, video_name

if TYPE_CHECKING:
    import os

    import pandas

    from descore.checkpoints.hub import Pushed
    from descore.checkpoints.manifest import Manifest
    from descore.modeling.model import DeScoreModel

Videos = Video | Iterable[Video]


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
        self._merged_from: Path | None = None

    @classmethod
    def from_pretrained(
        cls,
        path_or_hub_id: str | Path,
        device: str | torch.device | None = None,
        dtype: torch.dtype | str | None = None,
        engine: EngineName = "transformers",
        *,
        revision: str | None = None,
        token: str | None = None,
        device_map: str | Mapping[str, Any] | None = None,
    ) -> DeScore:
        """Load a checkpoint folder, one on the Hub, "bundled", or a bare backbone (which has no reward).

        An adapter is merged into the weights, so that a token costs what it costs without one. `save_pretrained` writes
        the checkpoint with its adapter all the same.

        Args:
            device, dtype: by default CUDA in bfloat16 where there is a GPU, else the CPU in float32. A dtype may be given
                by its name, "bfloat16".
            engine: "transformers", "vllm", or "auto": vLLM where CUDA and vLLM are there, else transformers.
            revision: commit, tag or branch of a Hub id; `owner/name@revision` says the same.
            token: of the Hub; by default that of `hf auth login` or HF_TOKEN.
            device_map: spreads the backbone over several GPUs, as transformers does it: "auto".

        Raises:
            descore.errors.CheckpointError: there is none, or it is incomplete; the message says what to do.
            descore.errors.DeviceError: this machine has no such device.
            descore.errors.EngineError: the engine can't run here.
        """
        if engine not in (names := get_args(EngineName)):
            raise EngineError(f"unknown engine {engine!r}; choose one of {', '.join(names)}")
        if engine != "transformers":
            from descore.engines.vllm_engine import VllmEngine, vllm_is_usable

            if engine == "vllm" or vllm_is_usable(device):
                if revision is not None or token is not None:
                    path_or_hub_id = locate(path_or_hub_id, revision, token)[0]
                return cls(VllmEngine.from_pretrained(path_or_hub_id, dtype=dtype))
        folder, base = locate(path_or_hub_id, revision, token)
        model, manifest = load_located(folder, base, device, dtype, token, device_map)
        judge = cls(model, manifest)
        if model.merge_adapter():
            judge._merged_from = folder
        return judge

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
        if self._merged_from is not None:
            model, _ = load_checkpoint(self._merged_from, device="cpu", dtype=self.model.backbone.dtype)
            return save_checkpoint(folder, model, self.manifest)
        return save_checkpoint(folder, self.model, self.manifest)

    def push_to_hub(
        self,
        repository: str,
        *,
        private: bool = False,
        branch: str | None = None,
        message: str = "",
        token: str | None = None,
    ) -> Pushed:
        """Upload the checkpoint and its card in one commit; see `descore.checkpoints.hub.push_checkpoint`."""
        from descore.checkpoints.hub import push_checkpoint

        with tempfile.TemporaryDirectory() as room:
            folder = self.save_pretrained(Path(room) / "checkpoint")
            return push_checkpoint(folder, repository, private, branch, message, token)

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
        """Move the model to a device, in place; do nothing where it is there.

        Raises:
            descore.errors.DeviceError: this machine has no such device.
        """
        device = check_device(device)
        if self.device != device:
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

    def __enter__(self) -> DeScore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        parts = [repr(self.name), f"engine={self.engine.label!r}"]
        if isinstance(self.engine, TransformersEngine):
            parts.append(f"device={str(self.device)!r}, dtype={str(self.model.backbone.dtype).removeprefix('torch.')!r}")
        return f"DeScore({', '.join(parts)}{'' if self.has_reward else ', no reward'})"

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
        videos: Videos,
        prompt: str,
        mode: Mode = "think",
        k: int = 8,
        seed: int = 0,
        cancel: Cancel | None = None,
        lane: Lane = JUDGING,
    ) -> Iterator[Event]:
        """Judge the videos of one prompt: yield text as it comes and the `Verdict` last.

        Args:
            videos: paths, bytes of files or `Frames`; a single one is taken as a list of one.
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
        items = as_videos(videos)
        if not items:
            raise ValueError("there is no video to judge")
        self.check_prompt(prompt)
        opened: list[ReadVideo] = []
        try:
            opened += read_videos(self.engine, items, lane)
            rows = [self.engine.encode(video.clip, prompt) for video in opened]
            thoughts = yield from self.engine.think(rows, mode, k, seed, cancel)
        finally:
            for video in opened:
                video.close()
        if thoughts is None:
            return
        seconds = time.monotonic() - start
        judged = self._judgements(map(video_name, items), mode, thoughts, seconds)
        for index, judgement in enumerate(judged):
            yield Judged(index, judgement)
        yield self.verdict(mode, prompt, judged)

    def judge(self, videos: Videos, prompt: str, mode: Mode = "think", k: int = 8, seed: int = 0) -> Verdict:
        """Return the verdict of `stream`, without the events before it."""
        *_, verdict = self.stream(videos, prompt, mode, k, seed)
        assert isinstance(verdict, Verdict)
        return verdict

    @overload
    def score(
        self,
        videos: Videos,
        prompts: str | Iterable[str],
        mode: Mode = "think",
        k: int = 8,
        seed: int = 0,
        batch_size: BatchSize = ROWS_AT_ONCE,
        *,
        on_error: Literal["raise"] = "raise",
        progress: Progress = False,
    ) -> list[Judgement]: ...

    @overload
    def score(
        self,
        videos: Videos,
        prompts: str | Iterable[str],
        mode: Mode = "think",
        k: int = 8,
        seed: int = 0,
        batch_size: BatchSize = ROWS_AT_ONCE,
        *,
        on_error: Literal["return"],
        progress: Progress = False,
    ) -> list[Judgement | Exception]: ...

    def score(
        self,
        videos: Videos,
        prompts: str | Iterable[str],
        mode: Mode = "think",
        k: int = 8,
        seed: int = 0,
        batch_size: BatchSize = ROWS_AT_ONCE,
        *,
        on_error: Literal["raise", "return"] = "raise",
        progress: Progress = False,
    ) -> list[Judgement] | list[Judgement | Exception]:
        """Judge many videos, each with its own prompt (or all with one), in batches that are read ahead of the model.

        Args:
            videos: paths, bytes of files or `Frames`; a single one is taken as a list of one.
            batch_size: thoughts at the same time; more fill a machine better and take more memory. "auto" asks the engine
                how many its device holds, and halves that where it was too many.
            on_error: "raise" ends the call at the first item that can't be judged; "return" puts that item's exception in
                its place and goes on.
            progress: True shows a bar; or what is called with the number of finished items and of all.

        Raises:
            As `stream`; ValueError also for lists of unequal length and for other values of an argument.
        """
        self._check(mode, k)
        if on_error not in ("raise", "return"):
            raise ValueError(f'on_error is "raise" or "return", not {on_error!r}')
        items = as_videos(videos)
        texts = [prompts] * len(items) if isinstance(prompts, str) else list(prompts)
        if len(texts) != len(items):
            raise ValueError(f"{len(items)} videos need {len(items)} prompts (or one for all), not {len(texts)}")
        scoring = BatchScoring(
            read=lambda video: read_video(self.engine, video, JUDGING),
            encode=self.engine.encode,
            judge_rows=lambda rows, start: self._judge_rows(
                rows, [video_name(items[i]) for i, _ in rows], mode, k, seed, start
            ),
            size=items_at_once(rows_of(batch_size, self.engine), mode, k),
            shrink=batch_size == "auto",
            keep_errors=on_error == "return",
        )
        refused = refused_prompts(texts, self.check_prompt, scoring.keep_errors)
        return scoring.run(list(zip(items, texts, strict=True)), refused, progress)

    def judge_pairs(
        self,
        table: pandas.DataFrame | Iterable[Mapping[str, Any]],
        mode: Mode = "think",
        k: int = 8,
        seed: int = 0,
        batch_size: BatchSize = "auto",
        *,
        columns: Mapping[str, str] | None = None,
        folder: str | os.PathLike[str] | None = None,
        progress: Progress = False,
    ) -> pandas.DataFrame:
        """Judge the pairs of a table; a pair that can't be judged costs its row, which then has its reason in `error`.

        Args:
            table: a DataFrame, or one mapping a row, with path_A, path_B (or video_a, video_b) and prompt; other usual names
                of them are known too. Videos as in `score`.
            columns: names of the columns by role, such as {"prompt": "caption"}, where they are others.
            folder: where relative paths start; by default the working directory.
            progress: as in `score`, counted in videos.

        Returns:
            The table's own columns, and p_first_preferred, verdict (A, B or tie), of each side the reward, the standardised
            reward, the overall score, the sub-scores as numbers (reward_A, subject_A, ...) and the thought, and error.

        Raises:
            descore.errors.TableError: columns or rows are missing.
            descore.errors.MissingLibraryError: pandas is not installed; before anything is judged.
            ValueError, RewardError: as `stream`, for mode and k.
        """
        return judge_pairs(self, read_rows(table, columns, folder), mode, k, seed, batch_size, progress)

    def score_clips(
        self,
        clips: Sequence[Any],
        videos: Sequence[str | Path],
        prompts: Sequence[str],
        mode: Mode = "think",
        k: int = 8,
        seed: int = 0,
        cancel: Cancel | None = None,
    ) -> list[Judgement]:
        """Judge videos that were read before, as one batch; for callers that read ahead of the model.

        Args:
            clips: what `engine.read` returned, one for each video.
            videos: what the judgements call them.
            prompts: one for each video, checked by `check_prompt`.
            cancel: ends the call when it is set; there are no judgements then.

        Raises:
            ValueError, RewardError: as `score`.
        """
        self._check(mode, k)
        start = time.monotonic()
        rows = [self.engine.encode(clip, prompt) for clip, prompt in zip(clips, prompts, strict=True)]
        return self._judge_rows(list(enumerate(rows)), [str(video) for video in videos], mode, k, seed, start, cancel)

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

    def _judge_rows(
        self,
        rows: Sequence[tuple[int, Any]],
        names: Sequence[str],
        mode: Mode,
        k: int,
        seed: int,
        start: float,
        cancel: Cancel | None = None,
    ) -> list[Judgement]:
        thoughts = self._drain(self.engine.think([row for _, row in rows], mode, k, seed, cancel))
        if thoughts is None:
            return []
        seconds = time.monotonic() - start
        return list(self._judgements(names, mode, thoughts, seconds))

    def _judgements(
        self, names: Iterable[str], mode: Mode, thoughts: Sequence[list[FinishedThought]], seconds: float
    ) -> tuple[Judgement, ...]:
        each = zip(names, thoughts, strict=True)
        return tuple(judgement_of(self.engine, name, mode, finished, seconds) for name, finished in each)

    @staticmethod
    def _drain(thinking: Thinking) -> list[list[FinishedThought]] | None:
        while True:
            try:
                next(thinking)
            except StopIteration as end:
                thoughts: list[list[FinishedThought]] | None = end.value
                return thoughts


def release_memory() -> None:
    """Free the memory of models that nothing refers to any more, on a GPU too."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
