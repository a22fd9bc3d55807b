"""Analyse page: benchmarks. Checkpoints and imported reward models on the same pairs, beside the published table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from markupsafe import Markup

from app.analyse.external_scores import LARGEST, ScoreFileError, read_scores
from app.analyse.figures.benchmarks import Benchmark, benchmark_table, collect_benchmark, published_table
from app.analyse.figures.finding import Finding
from app.analyse.panel import AnalyseSection
from app.analyse.score_matching import MatchedScore, MatchedScores, match_scores
from app.analyse.selection import AnalyseContext, SelectedPairs, Selection
from app.analyse.views.benchmarks import import_form, import_report, imported_list
from app.analyse.views.findings import findings
from app.web.form_data import STALE_BUTTON, FormData, FormError
from app.web.panel import QUIET, Reply
from app.web.plain_errors import PLAIN_ERRORS
from storage.accounts.users import User
from storage.analysis.external_scores import ExternalScore, external_scores, save_external, scorers
from storage.pairs import Pair, list_pairs


class BenchmarksTab(AnalyseSection):
    """The tables of every source with labels, and the import of other models' scores."""

    name, title = "benchmarks", "Benchmarks"

    def __init__(self, context: AnalyseContext) -> None:
        super().__init__(context)
        self._uploaded: dict[int, tuple[str, str]] = {}  # by person: the file's name and its text

    def build(self) -> None:
        """The button for uploads stands above the panel."""
        self.file = gr.UploadButton("Upload scores of another model", type="filepath", elem_id="analyse-upload")
        super().build()
        self.file.upload(self.take_upload, [self.file], [self.panel, self.file], **QUIET)

    def take_upload(self, path: str | None, request: gr.Request) -> list[Any]:
        """Handler: read a lead's file; nothing is stored before it is said whose scores these are."""
        try:
            person = self.context.auth.require(request, "lead")
            if path is None:
                raise FormError("no file came")
            name, text = Path(path).name, _text(Path(path))
            Path(path).unlink(missing_ok=True)  # else it would lie among Gradio's files
            table = read_scores(text)
            self._uploaded[person.id] = (name, text)
            reply = Reply(import_form(name, len(table.rows), table.problems))
        except (*PLAIN_ERRORS, ScoreFileError) as error:
            reply = Reply(None, str(error), bad=True)
        return [reply.value(), None]

    def view(self, person: User, selection: Selection) -> Reply:
        """All tables."""
        chosen = self.context.chosen(selection)
        with self.context.database.read() as session:
            known = scorers(session)
        tables = findings(self.found(chosen))
        return Reply(tables + imported_list(known, person.role == "lead"))

    def act(self, asked: FormData, person: User, selection: Selection) -> Reply:
        """Import what was uploaded, or leave it."""
        if asked.act == "leave":
            self._uploaded.pop(person.id, None)
            return self.view(person, selection)
        if asked.act != "import":
            raise FormError(STALE_BUTTON)
        if person.id not in self._uploaded:
            raise FormError("upload the file again")
        scorer = asked.text("scorer")
        if not scorer:
            raise FormError("say which model these scores are of")
        name, text = self._uploaded[person.id]
        found = match_scores(read_scores(text), self._pairs())
        if not found.scores:
            raise FormError(_nothing(found))
        with self.context.database.write() as session:
            save_external(session, scorer, [_external(one) for one in found.scores])
        del self._uploaded[person.id]
        below = import_report(name, scorer, len(found.scores), found.unknown, found.problems)
        return Reply(below + (self.view(person, selection).html or Markup("")), "Imported.")

    def found(self, chosen: SelectedPairs) -> tuple[Finding, ...]:
        """A table for each source with labels, the published one last."""
        return self.context.once(chosen, self.name, lambda: self._tables(chosen))

    def _tables(self, chosen: SelectedPairs) -> tuple[Finding, ...]:
        with self.context.database.read() as session:
            imported = {
                name: {key: (one.reward_a, one.reward_b) for key, one in external_scores(session, name).items()}
                for name in scorers(session)
            }
        sources = sorted({pair.source for pair in chosen.first.pairs if pair.choice is not None})
        measured: list[Benchmark] = [collect_benchmark(name, chosen.checkpoints, imported) for name in sources]
        return (*(benchmark_table(one) for one in measured), published_table(measured))

    def _pairs(self) -> Sequence[Pair]:
        with self.context.database.read() as session:
            return [pair for source in self.context.known().sources for pair in list_pairs(session, source)]


def _text(path: Path) -> str:
    """The text of a file.

    Raises:
        ScoreFileError: too large, or no text.
    """
    if path.stat().st_size > LARGEST:
        raise ScoreFileError(f"the file is larger than {LARGEST // 1024**2} MB; split it")
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise ScoreFileError("the file is no text in UTF-8; expected CSV, JSON or JSON Lines") from None


def _nothing(found: MatchedScores) -> str:
    first = f" First problem: {found.problems[0]}." if found.problems else ""
    return (
        f"none of the file's rows belongs to a pair of this store ({found.unknown} unknown); import the benchmark's pairs "
        f"first, with the file names that the scores use.{first}"
    )


def _external(one: MatchedScore) -> ExternalScore:
    a, b = one.rewards
    dimensions = {"A": dict(a.dimensions), "B": dict(b.dimensions)} if a.dimensions or b.dimensions else None
    return ExternalScore(one.pair_id, a.value, b.value, dimensions)
