"""Score a table: compute what no earlier run has computed, then write a row for each pair.

    table = read_pairs(Path("pairs.csv"))
    summary = score_table(JudgeSource.of_checkpoint("bundled"), table, Path("scores.csv"))
    summary.sentence

Answers are kept beside the output in a file that only grows (`results_file.py`). The next run with the same videos, prompts,
checkpoint and mode takes them, wherever in a table they stand; a changed clip or checkpoint is another question.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from descore.scoring.answering import Answering
from descore.scoring.config import ScoreConfig
from descore.scoring.output_rows import check_out
from descore.scoring.pair_rows import write_pairs
from descore.scoring.progress import Cause
from descore.scoring.questions import QuestionConfig, Questions
from descore.scoring.results_file import ResultsFile

if TYPE_CHECKING:
    from descore.scoring.judge_source import JudgeSource
    from descore.tables.pairs import PairTable


DEFAULT = ScoreConfig()


@dataclass(frozen=True)
class ScoreSummary:
    """Result of a scoring.

    Attributes:
        out: the file of rows; of a shard its file of answers.
        rows: of the table.
        questions: distinct ones of the table.
        judged: by this run.
        failed_questions: of this run's, or left from earlier ones.
        failed_rows: with an error; 0 for a shard, which writes none.
        seconds_waited: for "decoding", for the "model", and for "loading" it.
        shard: as in the configuration.
    """

    out: Path
    rows: int
    questions: int
    judged: int
    failed_questions: int
    failed_rows: int
    seconds_waited: Mapping[Cause, float]
    shard: tuple[int, int] | None = None

    @property
    def has_failures(self) -> bool:
        """Whether a row of the output, or a question of the shard, has an error."""
        return bool(self.failed_rows if self.shard is None else self.failed_questions)

    @property
    def sentence(self) -> str:
        """For people."""
        again = "; the next run tries them again" if self.has_failures else ""
        if self.shard is not None:
            shard = f"shard {self.shard[0]} of {self.shard[1]}"
            part = f"{shard}: {self.judged:,} of {self.questions:,} distinct videos judged into {self.out}"
            return part + (f", {self.failed_questions:,} failed{again}" if again else "")
        failed = f", {self.failed_rows:,} of them with an error{again}" if again else ""
        return (
            f"{self.rows:,} pairs in {self.out}{failed} ({self.judged:,} of {self.questions:,} distinct videos judged now)"
        )


def results_path(out: Path, shard: tuple[int, int] | None = None) -> Path:
    """Return the file of answers that belongs to an output, or to a shard of it."""
    part = f".{shard[0]}-of-{shard[1]}" if shard else ""
    return out.with_name(f"{out.name}.judgements{part}.jsonl")


def score_table(
    source: JudgeSource,
    table: PairTable,
    out: Path,
    config: ScoreConfig = DEFAULT,
    progress: TextIO | None = None,
) -> ScoreSummary:
    """Score the pairs of a table into `out`.

    Args:
        source: the judge, loaded only when something is to be computed.
        table: the pairs.
        out: a file of this command, or none yet.
        config: how.
        progress: where progress is written, such as stderr.

    Raises:
        ValueError: `out` or the file of answers is another's, or a merge lacks answers.
        descore.errors.CheckpointError, RewardError: the checkpoint can't be used in this mode.
        descore.errors.EngineError: the engine can't go on; what was answered is kept.
    """
    check_out(out)
    others = _other_results(out, config)
    questions = Questions(table, QuestionConfig(source.fingerprint, config.mode, config.k, config.seed))
    with ResultsFile(results_path(out, config.shard), others) as results:
        if config.merge:
            results.take_over()
        run = Answering(source.load, questions, results, config, progress)
        run.compute()
        failed_rows = 0
        if config.shard is None:
            failed_rows = write_pairs(questions, results, run.manifest or source.manifest, out)
    return ScoreSummary(
        out=out if config.shard is None else results.path,
        rows=len(table.rows),
        questions=run.distinct,
        judged=run.judged,
        failed_questions=run.failed,
        failed_rows=failed_rows,
        seconds_waited=run.progress.seconds_waited,
        shard=config.shard,
    )


def _other_results(out: Path, config: ScoreConfig) -> list[Path]:
    if config.shard is not None:
        return [path for path in [results_path(out)] if path.exists()]
    shards = sorted(out.parent.glob(f"{_glob_escaped(out.name)}.judgements.*-of-*.jsonl"))
    if config.merge and not shards:
        raise ValueError(f"there are no shards of {out} to merge; run the command with --shard 1/N to N/N first")
    return shards if config.merge else []


def _glob_escaped(name: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", name)
