"""Tab of benchmarks: checkpoints and imported reward models on the same pairs, beside the published table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from markupsafe import Markup

from app.analyse.external_scores import LARGEST, ScoreFileError, read_scores
from app.analyse.figures.benchmarks import benchmark_table, collect_benchmark, published_table
from app.analyse.figures.finding import Finding
from app.analyse.score_matching import MatchedScore, MatchedScores, match_scores
from app.analyse.section import AnalyseSection
from app.analyse.selection import AnalyseContext, SelectedPairs, Selection
from app.analyse.views.benchmarks import import_form, import_report, imported_list
from app.analyse.views.findings import findings_view
from app.web.form_data import STALE_BUTTON, FormData, FormError
from app.web.panel import QUIET, Reply
from app.web.plain_errors import PLAIN_ERRORS
from storage.accounts.users import User
from storage.analysis.external_scores import ExternalScore, external_scores, save_external, scorers
from storage.pairs import Pair, list_pairs


class BenchmarksTab(AnalyseSection):
    """A table for each source with labels, and the import of other models' scores."""

    name, title = "benchmarks", "Benchmarks"

    def __init__(self, context: AnalyseContext) -> None:
        super().__init__(context)
        self._uploaded: dict[int, tuple[str, str]] = {}  # name and text of each person's file

    def build(self) -> None:
        """Lay out the button for uploads above the panel."""
        self.file = gr.UploadButton("Upload scores of another model", type="filepath", elem_id="analyse-upload")
        super().build()
        self.file.upload(self.take_upload, [self.file], [self.panel, self.file], **QUIET)

    def take_upload(self, path: str | None, request: gr.Request) -> list[Any]:
        """Read a lead's file; its scores are stored only after the lead has named their model."""
        try:
            person = self.context.auth.require(request, "lead")
            if path is None:
                raise FormError("No file arrived. Upload it again.")
            name, text = Path(path).name, _text(Path(path))
            Path(path).unlink(missing_ok=True)  # else it would stay among Gradio's files
            table = read_scores(text)
            self._uploaded[person.id] = (name, text)
            reply = Reply(import_form(name, len(table.rows), table.problems))
        except (*PLAIN_ERRORS, ScoreFileError) as error:
            reply = Reply(None, str(error), bad=True)
        return [reply.value(), None]

    def view(self, person: User, selection: Selection) -> Reply:
        """Show all tables, and the models whose scores were imported."""
        with self.context.database.read() as session:
            imported = scorers(session)
        tables = findings_view(self.findings(self.context.load(selection)))
        return Reply(tables + imported_list(imported, person.role == "lead"))

    def act(self, form: FormData, person: User, selection: Selection) -> Reply:
        """Import the uploaded scores, or discard them."""
        if form.act == "leave":
            self._uploaded.pop(person.id, None)
            return self.view(person, selection)
        if form.act != "import":
            raise FormError(STALE_BUTTON)
        if person.id not in self._uploaded:
            raise FormError("Upload the file again.")
        scorer = form.text("scorer")
        if not scorer:
            raise FormError("Enter which model gave these scores.")
        name, text = self._uploaded[person.id]
        matched = match_scores(read_scores(text), self._pairs())
        if not matched.scores:
            raise FormError(_no_match_text(matched))
        with self.context.database.write() as session:
            save_external(session, scorer, [_external_score(score) for score in matched.scores])
        del self._uploaded[person.id]
        report = import_report(name, scorer, len(matched.scores), matched.unknown, matched.problems)
        return Reply(report + (self.view(person, selection).html or Markup("")), "Imported.")

    def findings(self, selected: SelectedPairs) -> tuple[Finding, ...]:
        """Return a table for each source with labels, the published one last."""
        return self.context.cached(selected, self.name, lambda: self._tables(selected))

    def _tables(self, selected: SelectedPairs) -> tuple[Finding, ...]:
        with self.context.database.read() as session:
            imported = {
                name: {key: (score.reward_a, score.reward_b) for key, score in external_scores(session, name).items()}
                for name in scorers(session)
            }
        sources = sorted({pair.source for pair in selected.first.pairs if pair.choice is not None})
        benchmarks = [collect_benchmark(source, selected.checkpoints, imported) for source in sources]
        return (*map(benchmark_table, benchmarks), published_table(benchmarks))

    def _pairs(self) -> Sequence[Pair]:
        with self.context.database.read() as session:
            return [pair for source in self.context.options().sources for pair in list_pairs(session, source)]


def _text(path: Path) -> str:
    """Read the text of a file.

    Raises:
        ScoreFileError: the file is too large, or not text.
    """
    if path.stat().st_size > LARGEST:
        raise ScoreFileError(f"the file is larger than {LARGEST // 1024**2} MB; split it")
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise ScoreFileError("the file is not text in UTF-8; expected CSV, JSON or JSON Lines") from None


def _no_match_text(matched: MatchedScores) -> str:
    first = f" First problem: {matched.problems[0]}." if matched.problems else ""
    return (
        f"None of the file's rows belongs to a pair of this store ({matched.unknown} unknown). Import the benchmark's pairs "
        f"first, with the file names that the scores use.{first}"
    )


def _external_score(score: MatchedScore) -> ExternalScore:
    a, b = score.rewards
    dimensions = {"A": dict(a.dimensions), "B": dict(b.dimensions)} if a.dimensions or b.dimensions else None
    return ExternalScore(score.pair_id, a.value, b.value, dimensions)
