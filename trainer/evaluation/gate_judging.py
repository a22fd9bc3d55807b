"""Judging for the gate: both checkpoints on the held-out pairs of a run, and on a split of ShapeWorld where that is theirs.

    gate = run_gate(candidate, rival, pairs.held_out, work, on_progress, stop)

What was judged is kept in the run folder, by the checkpoint's fingerprint, so a gate that was interrupted goes on where it
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
from accelerate import Accelerator

from descore.checkpoints.folder import load_checkpoint
from descore.judge import DeScore
from descore.modeling.model import DeScoreModel
from descore.modeling.scoring_head import ScoringModule
from storage.atomic import write_atomic
from trainer.data.frames import PairReader
from trainer.engine.precision import Precision
from trainer.engine.save_trained import code_version
from trainer.evaluation.gate import Benchmark, Candidate, Gate, compare
from trainer.evaluation.held_out import JudgedPair, JudgedPairs, OnProgress, judge_pairs
from trainer.shapeworld.pairs import shape_pairs
from trainer.shapeworld.scene import SIGN
from trainer.shapeworld.write_dataset import clip_names, write_split

if TYPE_CHECKING:
    from descore.checkpoints.manifest import Manifest
    from descore.judgement import Mode
    from trainer.data.pairs import TrainingPair
    from trainer.engine.stop_signals import StopSignals
    from trainer.paradigm import Paradigm

SPLIT = "test"
BENCHMARK = "ShapeWorld's test split"
FOLDER = "gate"


@dataclass(frozen=True)
class JudgedCheckpoint:
    """A checkpoint that takes part. checkpoint: what `load_checkpoint` takes; fingerprint: of its folder."""

    name: str
    checkpoint: str
    fingerprint: str


@dataclass(frozen=True)
class GateWork:
    """What is judged, and where it is kept.

    pairs_at_once: that think at the same time. benchmark_pairs: of ShapeWorld's test split; 0 leaves it out. frame_cache:
    keep decoded frames. familiar: as in `trainer.evaluation.gate.compare`.
    """

    run_folder: Path
    home: Path
    pairs_at_once: int
    benchmark_pairs: int = 0
    frame_cache: bool = True
    familiar: frozenset[str] = frozenset()


class GateStoppedError(Exception):
    """A signal came in between; what was judged so far is kept."""


def run_gate(
    candidate: JudgedCheckpoint,
    rival: JudgedCheckpoint,
    pairs: Sequence[TrainingPair],
    work: GateWork,
    on_progress: OnProgress,
    stop: StopSignals,
) -> Gate:
    """Judge the pairs with both and compare.

    Args:
        on_progress: called with what is done and how much there is to do, in pairs.

    Raises:
        GateStoppedError: `stop` received a signal.
        descore.errors.CheckpointError: one of them can't be loaded.
        descore.metrics.MetricsError: a reward is not finite.
    """
    entrants = (rival, candidate)
    total, before = len(entrants) * (len(pairs) + work.benchmark_pairs), 0
    found: list[tuple[Candidate, np.ndarray]] = []
    for entrant in entrants:
        entering = _Entering(entrant, work, stop, partial(_shifted, on_progress, before, total))
        found.append(entering.judged(pairs))
        before += len(pairs) + work.benchmark_pairs
        del entering
        gc.collect()
    (old, old_margins), (new, new_margins) = found
    benchmark = None
    if work.benchmark_pairs:
        labels = [SIGN[one.label] for one in shape_pairs(SPLIT, work.benchmark_pairs)]
        benchmark = Benchmark(BENCHMARK, np.array(labels, dtype=np.float64), old_margins, new_margins)
    return compare(new, old, benchmark, work.familiar)


def _shifted(on_progress: OnProgress, before: int, total: int, done: int) -> None:
    on_progress(before + done, total)


class _Entering:
    """One checkpoint at work; it is loaded only if something is left to judge."""

    def __init__(self, entrant: JudgedCheckpoint, work: GateWork, stop: StopSignals, told: Callable[[int], None]) -> None:
        self._entrant, self._work, self._stop, self._told = entrant, work, stop, told
        self._loaded: tuple[DeScoreModel, Manifest] | None = None

    def judged(self, pairs: Sequence[TrainingPair]) -> tuple[Candidate, np.ndarray]:
        """What it says of the pairs, and its margins on the benchmark (empty without one)."""
        path = self._work.run_folder / FOLDER / f"{self._entrant.fingerprint[:16]}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = _whole_lines(path)
        known = {line["identity"] for line in lines}
        todo = [pair for pair in pairs if pair.identity not in known]
        if todo:
            lines += self._judge(todo, path, len(pairs) - len(todo))
        contestant = self._contestant(lines, {pair.identity: pair for pair in pairs})
        margins = self._benchmark(len(pairs)) if self._work.benchmark_pairs else np.zeros(0)
        return contestant, margins

    def _judge(self, pairs: Sequence[TrainingPair], path: Path, done: int) -> list[dict[str, Any]]:
        """Judge pairs, some at a time, and append them to the file."""
        model, manifest = self._load()
        frames = self._work.home / "training-cache" / "frames" if self._work.frame_cache else None
        reader = PairReader(model.processor, manifest.frame_policy, manifest.prompt_version, frames)
        accelerator, lines = Accelerator(), list[dict[str, Any]]()
        size = self._work.pairs_at_once
        try:
            for first in range(0, len(pairs), size):
                self._check()
                some, began = pairs[first : first + size], time.monotonic()
                judged = judge_pairs(
                    model,
                    reader,
                    some,
                    accelerator,
                    Precision.of("auto", accelerator.device),
                    max_tokens=manifest.max_thought_tokens,
                    paradigm=_paradigm(model, manifest),
                    pairs_at_once=size,
                )
                seconds = (time.monotonic() - began) / len(some)
                fresh = [_line(pair, judged, seconds) for pair in some]
                with path.open("a", encoding="utf-8") as file:
                    file.writelines(f"{json.dumps(line)}\n" for line in fresh)
                lines += fresh
                self._told(done + first + len(some))
        finally:
            reader.close()
        return lines

    def _contestant(self, lines: Sequence[dict[str, Any]], pairs: dict[str, TrainingPair]) -> Candidate:
        """Labels and sub-scores come from the pairs, which are frozen with the run; the file adds what was judged."""
        judged = []
        for line in lines:
            pair = pairs.get(line["identity"])
            if pair is not None and "problem" not in line:
                think, quick, thoughts = (tuple(line[name]) for name in ("think", "quick", "thoughts"))
                judged.append(JudgedPair(pair.identity, pair.label, think, quick, thoughts, pair.sub_scores))  # type: ignore[arg-type]
        problems = tuple(line["problem"] for line in lines if "problem" in line)
        paradigm: Paradigm = lines[0]["paradigm"] if lines else "think-then-score"
        seconds = statistics.median(line["seconds"] for line in lines) if lines else 0.0
        return Candidate(self._entrant.name, JudgedPairs(tuple(judged), paradigm, problems), seconds)

    def _benchmark(self, done: int) -> np.ndarray:
        """Margins r_A - r_B on the first pairs of the split, (n,)."""
        count, cache = self._work.benchmark_pairs, self._work.home / "training-cache"
        name = f"{self._entrant.fingerprint[:16]}-{SPLIT}-{count}-{code_version()}.json"
        path = cache / "benchmarks" / name
        if path.exists():
            self._told(done + count)
            return np.array(json.loads(path.read_text("utf-8")), dtype=np.float64)
        self._check()
        folder = cache / f"shapes-{SPLIT}"
        write_split(SPLIT, count, folder, workers=2)
        margins = self._margins(folder, done)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(margins))
        return np.array(margins, dtype=np.float64)

    def _margins(self, folder: Path, done: int) -> list[float]:
        model, manifest = self._load()
        judge, paradigm = DeScore(model, manifest), _paradigm(model, manifest)
        mode: Mode = "quick" if paradigm == "discriminative" else "think"
        known = tuple(shape_pairs(SPLIT, self._work.benchmark_pairs))
        margins: list[float] = []
        size = self._work.pairs_at_once
        for first in range(0, len(known), size):
            self._check()
            some = known[first : first + size]
            paths = [folder / name for one in some for name in clip_names(one)]
            prompts = [one.prompt for one in some for _ in range(2)]
            told = judge.score(paths, prompts, mode, batch_size=2 * size)
            scores = [one.overall_score if paradigm == "generative" else one.reward for one in told]
            sides = zip(scores[::2], scores[1::2], strict=True)
            margins += [0.0 if a is None or b is None else a - b for a, b in sides]
            self._told(done + first + len(some))
        return margins

    def _load(self) -> tuple[DeScoreModel, Manifest]:
        if self._loaded is None:
            self._loaded = load_checkpoint(self._entrant.checkpoint)
        model, manifest = self._loaded
        if model.scoring is None:  # a bare backbone: only what it writes can be judged
            hidden = model.backbone.config.get_text_config().hidden_size
            head = ScoringModule(hidden).to(model.backbone.device)
            head.requires_grad_(False).head.weight.zero_()
            model = DeScoreModel(model.backbone, model.processor, head).eval()
        return model, manifest

    def _check(self) -> None:
        if self._stop.received:
            raise GateStoppedError


def _paradigm(model: DeScoreModel, manifest: Manifest) -> Paradigm:
    """What counts as its score; where the head is zero, as in a bare backbone, the overall_score that it writes."""
    if not model.require_scoring().head.weight.any():
        return "generative"
    return manifest.lineage.get("paradigm", "think-then-score")


def _line(pair: TrainingPair, judged: JudgedPairs, seconds: float) -> dict[str, Any]:
    found = next((one for one in judged.pairs if one.identity == pair.identity), None)
    common = {"identity": pair.identity, "seconds": round(seconds, 4), "paradigm": judged.paradigm}
    if found is None:
        named = (problem for problem in judged.problems if pair.identity[:12] in problem)
        return common | {"problem": next(named, f"pair {pair.identity[:12]} could not be judged")}
    told = asdict(found)
    return common | {name: told[name] for name in ("think", "quick", "thoughts")}


def _whole_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a file of judged pairs; one that a kill cut off is dropped from the file too."""
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
