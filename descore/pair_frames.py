"""Tables of pairs in memory: which columns hold what, and the DataFrame of results.

    rows = read_rows([{"path_A": "a.mp4", "path_B": "b.mp4", "prompt": "a red circle"}])
    rows.videos                                         # [("a.mp4", "b.mp4")]

Files of pairs are scored by `descore score`. pandas is imported only here, and only for the result.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from descore.answer import DIMENSIONS
from descore.errors import MissingLibraryError, TableError
from descore.metrics import PreferenceReport, preference_report
from descore.tables.labels import LabelReader
from descore.tables.pair_columns import PairColumns, pair_columns

if TYPE_CHECKING:
    import pandas  # noqa: TC004 - annotations are never evaluated, and pandas may be missing

    from descore.batch_scoring import BatchSize, Progress
    from descore.checkpoints.manifest import Manifest
    from descore.judgement import Judgement, Mode, Verdict

_NAME = "the table"
_OF_PAIR = ("p_first_preferred", "verdict", "p_source")
_NUMBERS = {"1": 1, "1.0": 1, "0": 0, "0.0": 0, "-1": -1, "-1.0": -1}


class Judge(Protocol):
    """What is needed of `descore.DeScore`."""

    manifest: Manifest

    def score(
        self,
        videos: Sequence[Any],
        prompts: Sequence[str],
        mode: Mode,
        k: int,
        seed: int,
        batch_size: BatchSize,
        *,
        on_error: Literal["return"],
        progress: Progress,
    ) -> list[Judgement | Exception]:
        """Judge videos, each with its prompt."""
        ...

    def verdict(self, mode: Mode, prompt: str, judged: tuple[Judgement, ...]) -> Verdict:
        """Compare judgements."""
        ...


@dataclass(frozen=True)
class PairRows:
    """The rows of a table of pairs.

    Attributes:
        records: each row as the caller gave it, by column.
        columns: which column says what.
        videos: the two videos of each row.
        prompts: one a row.
        index: of the DataFrame that the rows came from; None for other tables.
    """

    records: Sequence[Mapping[str, Any]]
    columns: PairColumns
    videos: Sequence[tuple[Any, Any]]
    prompts: Sequence[str]
    index: Any = None

    def labels(self) -> list[int | None]:
        """Return people's preference of each row: 1 (A), -1 (B), 0 (tie), None where the row has none.

        Raises:
            TableError: there is no column of preferences, or a value whose meaning is not known.
        """
        column = self.columns.label
        if column is None:
            raise TableError(_NAME, "has no column of preferences, such as label or TA; name it in columns={'label': ...}")
        reader = LabelReader(_NAME, column, (self.columns.video_a, self.columns.video_b), _NUMBERS)
        return [reader.read(record[column], row) for row, record in enumerate(self.records, start=1)]


@dataclass(frozen=True)
class Evaluation:
    """Agreement of a checkpoint with people's preferences.

    Attributes:
        report: accuracies with and without ties, with intervals; of the pairs that were judged.
        pairs: the table of `judge_pairs`.
        failed: pairs that could not be judged; their reasons stand in the table's column `error`.
    """

    report: PreferenceReport
    pairs: pandas.DataFrame
    failed: int


def read_rows(
    table: Any, columns: Mapping[str, str] | None = None, folder: str | os.PathLike[str] | None = None
) -> PairRows:
    """Read a pandas DataFrame, or an iterable of one mapping a row.

    Args:
        columns: names of the columns by role (video_a, video_b, prompt, label); the field's usual names are found without.
        folder: where relative paths start; by default the working directory.

    Raises:
        TableError: a column is missing, or there is no row.
    """
    is_frame = hasattr(table, "to_dict") and hasattr(table, "columns")
    records = table.to_dict("records") if is_frame else [dict(row) for row in _iterable(table)]
    if not records:
        raise TableError(_NAME, "has no rows")
    chosen = pair_columns([str(column) for column in records[0]], _NAME, columns)
    needed = (chosen.video_a, chosen.video_b, chosen.prompt, *([] if chosen.label is None else [chosen.label]))
    for row, record in enumerate(records, start=1):
        if missing := [name for name in needed if name not in record]:
            raise TableError(_NAME, f"this row has no {', '.join(missing)}", row)
    videos = [(_under(folder, record[chosen.video_a]), _under(folder, record[chosen.video_b])) for record in records]
    prompts = [record[chosen.prompt] for record in records]
    return PairRows(records, chosen, videos, prompts, table.index if is_frame else None)


def judge_pairs(
    judge: Judge,
    rows: PairRows,
    mode: Mode = "think",
    k: int = 8,
    seed: int = 0,
    batch_size: BatchSize = "auto",
    progress: Progress = False,
) -> pandas.DataFrame:
    """Judge the pairs and put the results beside the rows; see `descore.judge.DeScore.judge_pairs`.

    A video with its prompt is judged once, in however many pairs it stands.
    """
    load_pandas()  # before anything is judged
    keys = [[_key(video, prompt) for video in pair] for pair, prompt in zip(rows.videos, rows.prompts, strict=True)]
    each = zip(keys, rows.videos, rows.prompts, strict=True)
    items = {key: (video, prompt) for both, pair, prompt in each for key, video in zip(both, pair, strict=True)}
    videos, prompts = zip(*items.values(), strict=True)
    judged = judge.score(videos, prompts, mode, k, seed, batch_size, on_error="return", progress=progress)
    results = dict(zip(items, judged, strict=True))
    pairs = [[results[key] for key in both] for both in keys]
    cells = [_cells(judge, mode, prompt, pair) for prompt, pair in zip(rows.prompts, pairs, strict=True)]
    return _results_frame(rows, cells)


def evaluate(
    judge: Judge,
    table: pandas.DataFrame | Iterable[Mapping[str, Any]],
    mode: Mode = "think",
    k: int = 8,
    seed: int = 0,
    batch_size: BatchSize = "auto",
    *,
    columns: Mapping[str, str] | None = None,
    folder: str | os.PathLike[str] | None = None,
    progress: Progress = False,
) -> Evaluation:
    """Measure how well a checkpoint agrees with people's preferences between the pairs of a table.

    Args:
        judge: a loaded checkpoint, `descore.DeScore`.
        table: as in `descore.judge.DeScore.judge_pairs`, with a column of preferences (A, B, tie and the like, or 1, -1, 0);
            rows without one are left out. Further arguments as there.

    Raises:
        descore.errors.TableError: columns or rows are missing, a preference can't be read, or no pair could be judged.
        descore.errors.MissingLibraryError, RewardError: as `judge_pairs`.
    """
    rows = read_rows(table, columns, folder)
    labels = rows.labels()
    frame = judge_pairs(judge, rows, mode, k, seed, batch_size, progress)
    judged = (frame["reward_A"].notna() & frame["reward_B"].notna()).to_numpy()
    if not judged.any():
        reasons = [reason for reason in frame["error"] if reason] or ["the checkpoint gives no reward"]
        raise TableError(_NAME, f"none of its {len(frame)} pairs could be judged: {reasons[0]}")
    failed = int((~judged).sum())
    judged = judged & [label is not None for label in labels]
    chosen = [label for label, there in zip(labels, judged, strict=True) if there and label is not None]
    if not chosen:
        raise TableError(_NAME, "no pair that could be judged has a preference")
    a, b = (frame[f"reward_{side}"].to_numpy()[judged] for side in "AB")
    scale = judge.manifest.calibration.for_mode(mode)
    report = preference_report(a, b, chosen, fitted_eps=None if scale is None else scale.tie_threshold)
    return Evaluation(report, frame, failed)


def load_pandas() -> Any:
    """Import pandas.

    Raises:
        MissingLibraryError: it is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise MissingLibraryError("a table of results is a pandas DataFrame: run `pip install pandas`") from error
    return pandas


def _result_columns() -> list[str]:
    each = ("reward", "standardised_reward", "overall_score", *DIMENSIONS, "thought", "distance")
    return [*_OF_PAIR, *(f"{name}_{side}" for name in each for side in "AB"), "error"]


def _results_frame(rows: PairRows, results: Sequence[dict[str, Any]]) -> pandas.DataFrame:
    names = _result_columns()
    before = [{key: value for key, value in record.items() if key not in names} for record in rows.records]
    numbers = [name for name in names if not name.startswith(("verdict", "p_source", "thought", "error"))]
    cells = [{**record, **dict.fromkeys(names), **result} for record, result in zip(before, results, strict=True)]
    frame: pandas.DataFrame = load_pandas().DataFrame(cells, index=rows.index)
    return frame.astype(dict.fromkeys(numbers, "float64"))


def _cells(judge: Judge, mode: Mode, prompt: str, pair: Sequence[Judgement | Exception]) -> dict[str, Any]:
    """Return the results of one pair by column; of one that failed, the reason alone."""
    judged = tuple(video for video in pair if not isinstance(video, Exception))
    if len(judged) < len(pair):
        return {"error": "; ".join(dict.fromkeys(str(video) for video in pair if isinstance(video, Exception)))}
    verdict = judge.verdict(mode, prompt, judged)
    cells: dict[str, Any] = {name: getattr(verdict, name) for name in _OF_PAIR}
    for side, video in zip("AB", judged, strict=True):
        for name in ("reward", "standardised_reward", "overall_score", "thought", "distance"):
            cells[f"{name}_{side}"] = getattr(video, name)
        cells |= {f"{name}_{side}": value for name, value in (video.sub_score_values or {}).items()}
    return cells


def _key(video: Any, prompt: str) -> tuple[Any, str]:
    """Tell videos apart: files by their path, what lies in memory by being the same object."""
    return (os.fspath(video) if isinstance(video, (str, os.PathLike)) else id(video)), prompt


def _iterable(table: Any) -> Iterable[Mapping[str, Any]]:
    if isinstance(table, (str, bytes, os.PathLike, Mapping)) or not isinstance(table, Iterable):
        raise TableError(_NAME, "must be a DataFrame or a list of one dict a row; files go through `descore score`")
    return table


def _under(folder: str | os.PathLike[str] | None, video: Any) -> Any:
    return Path(folder, video) if folder is not None and isinstance(video, (str, os.PathLike)) else video
