"""`descore score` on a table shaped like VideoGen-RewardBench: each clip judged once, kills, memory, decoding ahead.

    python -m benchmarks.score_table [--rows 26500] [--clips 4800] [--sample 480] [--turns 3] [--folder F]

Twelve small clips of noise share a prompt, as twelve models' answers do, and rows are pairs of them in no order; mode quick,
the bundled checkpoint. Measured:

- an undisturbed run: seconds, how often each clip was judged, how much its process grew after the first batch;
- a run that is killed with SIGKILL three times, at a quarter, a half and three quarters of its clips: whether it comes to
  the same bytes;
- on `--sample` clips, in turn, medians of `--turns`: seconds of decoding alone, of the model alone, and of a whole run
  without the loading of its checkpoint. The run should take at most 1.15 times the larger of the two.

The last line is JSON.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import combinations, cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from descore.checkpoints.folder import BUNDLED, locate
from descore.engines.engine import ROWS_AT_ONCE
from descore.judge import DeScore
from descore.scoring.config import ScoreConfig
from descore.scoring.judge_source import JudgeSource
from descore.scoring.score_table import results_path, score_table
from descore.tables.pairs import PairTable, read_pairs
from descore.video import TABLE_PROCESSES, TABLES, encode_h264, read_clip

CLIPS_OF_A_PROMPT = 12
KILLS = (0.25, 0.5, 0.75)
_FRAMES, _SIDE, _FPS = 8, 64, 4
_COLUMNS = ("path_A", "path_B", "A_model", "B_model", "prompt", "VQ", "MQ", "TA", "Overall")
_STATM_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class ScoreRun:
    """One undisturbed run of the command.

    Attributes:
        seconds: of the clock, with everything.
        growth: bytes that the process grew after its first batch.
    """

    seconds: float
    growth: int


def make_table(folder: Path, rows: int, clips: int, seed: int = 0) -> Path:
    """Write clips and their table; clips that are there are kept."""
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    for number in tqdm(range(clips), desc="clips", mininterval=5):
        path = folder / "clips" / f"{number:05d}.mp4"
        if not path.exists():
            partial = path.with_name(f".{path.name}")
            encode_h264(_noise(number), partial, _FPS)
            partial.replace(path)
    rng = random.Random(seed)
    pairs = list(islice(cycle(_pairs(clips)), rows))
    rng.shuffle(pairs)
    table = folder / "VideoGen-RewardBench.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for a, b in pairs:
            models = [f"model {clip % CLIPS_OF_A_PROMPT}" for clip in (a, b)]
            prompt = f"scene {a // CLIPS_OF_A_PROMPT}: colours that move from left to right"
            labels = [rng.choice(("A", "B", "same")) for _ in range(4)]
            writer.writerow([f"clips/{a:05d}.mp4", f"clips/{b:05d}.mp4", *models, prompt, *labels])
    return table


def _pairs(clips: int) -> Iterator[tuple[int, int]]:
    """Yield all pairs of clips that share a prompt, first those that name each clip once."""
    groups = [range(first, min(first + CLIPS_OF_A_PROMPT, clips)) for first in range(0, clips, CLIPS_OF_A_PROMPT)]
    neighbours = [(group[i - 1], group[i]) for group in groups for i in range(1, len(group))]
    named = set(neighbours)
    return iter([*neighbours, *(pair for group in groups for pair in combinations(group, 2) if pair not in named)])


def _noise(seed: int) -> np.ndarray:
    """Draw blocks of colour that move; uint8 (T, H, W, 3)."""
    colours = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    picture = colours.repeat(_SIDE // 8, axis=0).repeat(_SIDE // 8, axis=1)
    return np.stack([np.roll(picture, 2 * step, axis=1) for step in range(_FRAMES)])


def undisturbed(table: Path, out: Path) -> ScoreRun:
    """Run the command once and watch its memory."""
    start, first, highest = time.perf_counter(), 0, 0
    with _started(table, out) as process:
        while process.poll() is None:
            time.sleep(0.2)
            if memory := _memory(process.pid):
                highest = max(highest, memory)
                if not first and _answers(out):
                    first = memory
    if process.returncode:
        raise SystemExit(f"descore score ended with {process.returncode}")
    return ScoreRun(time.perf_counter() - start, highest - first if first else 0)


def killed(table: Path, out: Path, clips: int) -> int:
    """Run the command to its end, killed on the way; returns how often it was."""
    for share in KILLS:
        with _started(table, out) as process:
            while process.poll() is None and _answers(out) < share * clips:
                time.sleep(0.05)
            process.send_signal(signal.SIGKILL)
    kills = len(KILLS)
    undisturbed(table, out)
    return kills


def _started(table: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "descore", "score", str(table), "--out", str(out), "--mode", "quick"]
    return subprocess.Popen(command)


def _answers(out: Path) -> int:
    """Count the answers that are kept, without reading their texts."""
    try:
        return results_path(out).read_bytes().count(b'"key": ')
    except FileNotFoundError:
        return 0


def judged_counts(out: Path) -> Counter[str]:
    """Count how often each video's content was judged, by the file of answers."""
    lines = results_path(out).read_text("utf-8").splitlines()[1:]
    return Counter(answer["video"] for line in lines for answer in json.loads(line)["answers"])


def _memory(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/statm").read_text("ascii").split()[1]) * _STATM_PAGE
    except (OSError, IndexError):
        return 0


def overlap(judge: DeScore, table: PairTable, folder: Path, turns: int, leave: int = 0) -> dict[str, float]:
    """Compare decoding alone, the model alone and a whole run, in turn; medians of seconds.

    Args:
        leave: cores that the model leaves to decoding.
    """
    torch.set_num_threads(max(1, (os.cpu_count() or 1) - leave))
    videos = list(dict.fromkeys((table.folder / p, row.prompt) for row in table.rows for p in (row.path_a, row.path_b)))
    whole: list[float] = []
    decoding: list[float] = []
    model: list[float] = []
    for turn in range(turns):
        decoding.append(_seconds(lambda: _decode(judge, [path for path, _ in videos])))
        model.append(_model_seconds(judge, videos))
        out, start = folder / f"turn-{turn}-{leave}.csv", time.perf_counter()
        summary = score_table(JudgeSource.of_folder(locate(BUNDLED)[0], lambda: judge), table, out, ScoreConfig("quick"))
        whole.append(time.perf_counter() - start)
        assert summary.judged == len(videos)
    ratios = [wall / max(a, b) for wall, a, b in zip(whole, decoding, model, strict=True)]
    return {
        "clips": len(videos),
        "threads": torch.get_num_threads(),
        "decoding_seconds": round(statistics.median(decoding), 2),
        "model_seconds": round(statistics.median(model), 2),
        "run_seconds": round(statistics.median(whole), 2),
        "run_over_larger": round(statistics.median(ratios), 3),
        "one_after_the_other_over_larger": round(
            statistics.median((a + b) / max(a, b) for a, b in zip(decoding, model, strict=True)), 3
        ),
    }


def _decode(judge: DeScore, paths: Sequence[Path]) -> None:
    """Decode as a run does, and do nothing else."""
    policy = judge.manifest.frame_policy
    with ThreadPoolExecutor(TABLE_PROCESSES) as threads:
        for _ in threads.map(lambda path: read_clip(path, policy, lane=TABLES).frames.shape, paths):
            pass


def _model_seconds(judge: DeScore, videos: Sequence[tuple[Path, str]]) -> float:
    """Return the seconds of the model on clips that are decoded already, in a run's batches."""
    total = 0.0
    for first in range(0, len(videos), ROWS_AT_ONCE):
        paths, prompts = zip(*videos[first : first + ROWS_AT_ONCE], strict=True)
        clips = [judge.engine.read(path, TABLES) for path in paths]
        total += _seconds(partial(judge.score_clips, clips, paths, prompts, "quick"))
    return total


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Make the table and measure everything."""
    table = make_table(folder, options.rows, options.clips)
    outs = [folder / "whole.csv", folder / "killed.csv"]
    for out in outs:
        results_path(out).unlink(missing_ok=True)
    run = undisturbed(table, outs[0])
    kills = killed(table, outs[1], options.clips)
    counts = judged_counts(outs[0])
    pairs = read_pairs(make_table(folder / "sample", 5 * options.sample, options.sample))
    for turn in range(options.turns):
        for leave in (0, 1):
            results_path(folder / f"turn-{turn}-{leave}.csv").unlink(missing_ok=True)
    return {
        "rows": options.rows,
        "clips": len(counts),
        "judged": sum(counts.values()),
        "judged_more_than_once": sum(count > 1 for count in counts.values()),
        "seconds": round(run.seconds, 1),
        "rows_per_second": round(options.rows / run.seconds, 1),
        "memory_growth_mb": round(run.growth / 1e6),
        "kills": kills,
        "same_file_after_kills": outs[0].read_bytes() == outs[1].read_bytes(),
        "judged_more_than_once_after_kills": sum(count > 1 for count in judged_counts(outs[1]).values()),
        "overlap": overlap(DeScore.from_pretrained(BUNDLED), pairs, folder, options.turns),
        # All threads for the model leave no core for decoding: only beside fewer can the two overlap.
        "overlap_with_a_core_left": overlap(DeScore.from_pretrained(BUNDLED), pairs, folder, options.turns, leave=1),
        "decoding_processes": TABLE_PROCESSES,
        "cores": os.cpu_count(),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=26_500)
    parser.add_argument("--clips", type=int, default=4_800)
    parser.add_argument("--sample", type=int, default=480, help="clips that decoding, model and run are compared on")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where clips and outputs are kept (default: a temporary one)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        print(json.dumps(measure(options, options.folder or Path(temporary))))


if __name__ == "__main__":
    main()
