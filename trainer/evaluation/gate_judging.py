"""Judging for the gate: both checkpoints on the held-out pairs of a run, and on ShapeWorld where they are of that world.

    gate = run_gate(candidate, rival, pairs.held_out, work, on_progress, stop)

Judgements are kept in the run folder, by the checkpoint's fingerprint, so an interrupted gate goes on where it
stopped; benchmark figures and clips are kept for all runs in the data folder under `training-cache`.

    run/gate/3fb6.....jsonl                                     one line a pair: rewards, thoughts, seconds
    training-cache/benchmarks/3fb6...-test-100.json             margins of a checkpoint
    training-cache/shapes-test/                                 clips
"""

from __future__ import annotations

import gc
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from descore.judge import DeScore
from descore.modeling.model import DeScoreModel
from descore.modeling.scoring_head import ScoringModule
from storage.atomic import write_atomic
from trainer.code_version import code_version
from trainer.data.frames import PairReader
from trainer.evaluation.gate import Benchmark, Candidate, Gate, compare
from trainer.evaluation.held_out import AS_STORED, JudgedPair, JudgedPairs, OnProgress, judge_pairs, load_as_served
from trainer.shapeworld.pairs import BENCHMARK_SPLIT, shape_pairs
from trainer.shapeworld.scene import SIGN
from trainer.shapeworld.write_dataset import clip_names, write_split
from trainer.sharing.accelerator import make_accelerator

if TYPE_CHECKING:
    from descore.checkpoints.manifest import Manifest
    from descore.judgement import Mode
    from trainer.data.pairs import TrainingPair
    from trainer.engine.stop_signals import StopSignals
    from trainer.paradigm import Paradigm

BENCHMARK = "ShapeWorld's test split"
FOLDER = "gate"
BENCHMARKS = Path("training-cache") / "benchmarks"  # in the data folder

Margins = npt.NDArray[np.float64]


@dataclass(frozen=True)
class JudgedCheckpoint:
    """A checkpoint that the gate judges.

    Attributes:
        checkpoint: a name, folder or Hub id.
        fingerprint: of its folder.
    """

    name: str
    checkpoint: str
    fingerprint: str


@dataclass(frozen=True)
class GateWork:
    """Settings of the judging.

    Attributes:
        run_folder: keeps the judgements.
        home: the data folder, keeps figures and clips of the benchmark.
        pairs_at_once: pairs that think at the same time.
        benchmark_pairs: of ShapeWorld's test split; 0 leaves it out.
        frame_cache: keep decoded frames.
        familiar: as in `trainer.evaluation.gate.compare`.
    """

    run_folder: Path
    home: Path
    pairs_at_once: int
    benchmark_pairs: int = 0
    frame_cache: bool = True
    familiar: frozenset[str] = frozenset()


class GateStoppedError(Exception):
    """A signal came in between; the judgements so far are kept."""


def run_gate(
    candidate: JudgedCheckpoint,
    rival: JudgedCheckpoint,
    pairs: Sequence[TrainingPair],
    work: GateWork,
    on_progress: OnProgress,
    stop: StopSignals,
) -> Gate:
    """Judge the pairs with both checkpoints and compare them.

    Args:
        on_progress: called with the number of judged pairs and of all pairs, of both checkpoints together.

    Raises:
        GateStoppedError: `stop` received a signal.
        descore.errors.CheckpointError: one of them can't be loaded.
        descore.metrics.MetricsError: a reward is not finite.
    """
    checkpoints = (rival, candidate)
    total, before = len(checkpoints) * (len(pairs) + work.benchmark_pairs), 0
    results: list[tuple[Candidate, Margins]] = []
    for checkpoint in checkpoints:
        judging = _CheckpointJudging(checkpoint, work, stop, partial(_shifted, on_progress, before, total))
        results.append(judging.run(pairs))
        before += len(pairs) + work.benchmark_pairs
        del judging
        gc.collect()
    (old, old_margins), (new, new_margins) = results
    benchmark = None
    if work.benchmark_pairs:
        labels = [SIGN[pair.label] for pair in shape_pairs(BENCHMARK_SPLIT, work.benchmark_pairs)]
        benchmark = Benchmark(BENCHMARK, np.array(labels, dtype=np.float64), old_margins, new_margins)
    return compare(new, old, benchmark, work.familiar)


def rename_judgements(run_folder: Path, home: Path, before: str, after: str) -> None:
    """Let the judgements of a checkpoint follow it when its manifest changes; nothing happens where there are none.

    Args:
        run_folder, home: as in `GateWork`.
        before, after: the checkpoint's fingerprints.
    """
    if before == after:
        return
    old, new = before[:16], after[:16]
    for folder, pattern in ((run_folder / FOLDER, f"{old}.jsonl"), (home / BENCHMARKS, f"{old}-*.json")):
        for path in folder.glob(pattern):
            path.replace(folder / path.name.replace(old, new, 1))


def _shifted(on_progress: OnProgress, before: int, total: int, done: int) -> None:
    on_progress(before + done, total)


class _CheckpointJudging:
    """Judging by one checkpoint; it is loaded only if something is left to judge."""

    def __init__(
        self, checkpoint: JudgedCheckpoint, work: GateWork, stop: StopSignals, on_progress: Callable[[int], None]
    ) -> None:
        self._checkpoint, self._work, self._stop, self._on_progress = checkpoint, work, stop, on_progress
        self._loaded: tuple[DeScoreModel, Manifest] | None = None

    def run(self, pairs: Sequence[TrainingPair]) -> tuple[Candidate, Margins]:
        """Judge the pairs and the benchmark; the margins on it are empty without one."""
        path = self._work.run_folder / FOLDER / f"{self._checkpoint.fingerprint[:16]}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = _whole_lines(path)
        judged = {line["identity"] for line in lines}
        todo = [pair for pair in pairs if pair.identity not in judged]
        if todo:
            lines += self._judge(todo, path, len(pairs) - len(todo))
        candidate = self._candidate(lines, {pair.identity: pair for pair in pairs})
        margins = self._benchmark(len(pairs)) if self._work.benchmark_pairs else np.zeros(0)
        return candidate, margins

    def _judge(self, pairs: Sequence[TrainingPair], path: Path, done: int) -> list[dict[str, Any]]:
        """Judge pairs in batches and append them to the file."""
        model, manifest = self._load()
        frames = self._work.home / "training-cache" / "frames" if self._work.frame_cache else None
        reader = PairReader(model.processor, manifest.frame_policy, manifest.prompt_version, frames)
        accelerator, lines = make_accelerator(), list[dict[str, Any]]()
        size = self._work.pairs_at_once
        try:
            for first in range(0, len(pairs), size):
                self._check()
                batch, began = pairs[first : first + size], time.monotonic()
                judged = judge_pairs(
                    model,
                    reader,
                    batch,
                    accelerator,
                    AS_STORED,
                    max_tokens=manifest.max_thought_tokens,
                    paradigm=_paradigm(model, manifest),
                    pairs_at_once=size,
                )
                seconds = (time.monotonic() - began) / len(batch)
                fresh = [_line(pair, judged, seconds) for pair in batch]
                with path.open("a", encoding="utf-8") as file:
                    file.writelines(f"{json.dumps(line)}\n" for line in fresh)
                lines += fresh
                self._on_progress(done + first + len(batch))
        finally:
            reader.close()
        return lines

    def _candidate(self, lines: Sequence[dict[str, Any]], pairs: dict[str, TrainingPair]) -> Candidate:
        """Put the judgements of the file together with labels and sub-scores of the pairs, which are frozen with the run."""
        judged = []
        for line in lines:
            pair = pairs.get(line["identity"])
            if pair is not None and "problem" not in line:
                think, quick, thoughts = (tuple(line[name]) for name in ("think", "quick", "thoughts"))
                judged.append(JudgedPair(pair.identity, pair.label, think, quick, thoughts, pair.sub_scores))  # type: ignore[arg-type]
        problems = tuple(line["problem"] for line in lines if "problem" in line)
        paradigm: Paradigm = lines[0]["paradigm"] if lines else "think-then-score"
        seconds = statistics.median(line["seconds"] for line in lines) if lines else 0.0
        return Candidate(self._checkpoint.name, JudgedPairs(tuple(judged), paradigm, problems), seconds)

    def _benchmark(self, done: int) -> Margins:
        """Margins r_A - r_B on the first pairs of the split, (n,)."""
        count, cache = self._work.benchmark_pairs, self._work.home / "training-cache"
        name = f"{self._checkpoint.fingerprint[:16]}-{BENCHMARK_SPLIT}-{count}-{code_version()}.json"
        path = self._work.home / BENCHMARKS / name
        if path.exists():
            self._on_progress(done + count)
            return np.array(json.loads(path.read_text("utf-8")), dtype=np.float64)
        self._check()
        folder = cache / f"shapes-{BENCHMARK_SPLIT}"
        write_split(BENCHMARK_SPLIT, count, folder, workers=2)
        margins = self._margins(folder, done)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(margins))
        return np.array(margins, dtype=np.float64)

    def _margins(self, folder: Path, done: int) -> list[float]:
        model, manifest = self._load()
        judge, paradigm = DeScore(model, manifest), _paradigm(model, manifest)
        mode: Mode = "quick" if paradigm == "discriminative" else "think"
        pairs = tuple(shape_pairs(BENCHMARK_SPLIT, self._work.benchmark_pairs))
        margins: list[float] = []
        size = self._work.pairs_at_once
        for first in range(0, len(pairs), size):
            self._check()
            batch = pairs[first : first + size]
            paths = [folder / name for pair in batch for name in clip_names(pair)]
            prompts = [pair.prompt for pair in batch for _ in range(2)]
            judgements = judge.score(paths, prompts, mode, batch_size=2 * size)
            scores = [each.overall_score if paradigm == "generative" else each.reward for each in judgements]
            sides = zip(scores[::2], scores[1::2], strict=True)
            margins += [0.0 if a is None or b is None else a - b for a, b in sides]
            self._on_progress(done + first + len(batch))
        return margins

    def _load(self) -> tuple[DeScoreModel, Manifest]:
        if self._loaded is None:
            self._loaded = load_as_served(self._checkpoint.checkpoint)
        model, manifest = self._loaded
        if model.scoring is None:  # a bare backbone: only its written score counts
            hidden = model.backbone.config.get_text_config().hidden_size
            head = ScoringModule(hidden).to(model.backbone.device)
            head.requires_grad_(False).head.weight.zero_()
            model = DeScoreModel(model.backbone, model.processor, head).eval()
        return model, manifest

    def _check(self) -> None:
        if self._stop.received:
            raise GateStoppedError


def _paradigm(model: DeScoreModel, manifest: Manifest) -> Paradigm:
    """Paradigm of a checkpoint; generative where the head is zero, as in a bare backbone."""
    if not model.require_scoring().head.weight.any():
        return "generative"
    paradigm: Paradigm = manifest.lineage.get("paradigm", "think-then-score")
    return paradigm


def _line(pair: TrainingPair, judged: JudgedPairs, seconds: float) -> dict[str, Any]:
    result = next((each for each in judged.pairs if each.identity == pair.identity), None)
    common = {"identity": pair.identity, "seconds": round(seconds, 4), "paradigm": judged.paradigm}
    if result is None:
        own_problems = (problem for problem in judged.problems if pair.identity[:12] in problem)
        return common | {"problem": next(own_problems, f"pair {pair.identity[:12]} could not be judged")}
    values = asdict(result)
    return common | {name: values[name] for name in ("think", "quick", "thoughts")}


def _whole_lines(path: Path) -> list[dict[str, Any]]:
    """Read the lines of a file of judged pairs; one that a kill cut off is dropped from the file too."""
    if not path.exists():
        return []
    lines: list[dict[str, Any]] = []
    for text in path.read_text("utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    write_atomic(path, "".join(f"{json.dumps(line)}\n" for line in lines))
    return lines
