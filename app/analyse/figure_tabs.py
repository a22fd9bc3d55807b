"""Tabs of figures on the Analyse page: agreement with people, reward hacking, and the leaderboard of generators."""

from __future__ import annotations

from abc import abstractmethod

from app.analyse.figures.accuracy import accuracy_by_checkpoint
from app.analyse.figures.calibration import calibration
from app.analyse.figures.error_tolerance import error_tolerance
from app.analyse.figures.familiarity import unfamiliar_videos
from app.analyse.figures.finding import Finding
from app.analyse.figures.leaderboard import leaderboard
from app.analyse.figures.margin_distribution import margin_distribution
from app.analyse.figures.reward_hacking import reward_hacking
from app.analyse.figures.slices import accuracy_by_slice
from app.analyse.figures.sub_scores import overall_contradictions, sub_score_agreement
from app.analyse.figures.think_vs_quick import think_vs_quick
from app.analyse.section import AnalyseSection
from app.analyse.selection import AnalyseContext, SelectedPairs, Selection
from app.analyse.views.findings import findings_view
from app.ui.markup import empty
from app.web.panel import Reply
from storage.accounts.users import User

Findings = tuple[Finding, ...]


class FigureTab(AnalyseSection):
    """A tab that shows figures, without forms."""

    @abstractmethod
    def figures(self, selected: SelectedPairs) -> Findings:
        """Compute the figures and tables of a selection."""

    def view(self, _person: User, selection: Selection) -> Reply:
        """Show the figures of a selection."""
        findings = self.findings(self.context.load(selection))
        if any(finding.charts or finding.rows for finding in findings):
            return Reply(findings_view(findings))
        return Reply(empty(f"{findings[0].notes[0]} A lead can have pairs judged: see “Score missing pairs” above."))

    def findings(self, selected: SelectedPairs) -> Findings:
        """Return the figures, computed again only after a change in the store."""
        return self.context.cached(selected, self.name, lambda: self.figures(selected))


class AgreementTab(FigureTab):
    """Agreement of model and people. The first two blocks compare all selected checkpoints."""

    name, title = "agreement", "Agreement"

    def figures(self, selected: SelectedPairs) -> Findings:
        """Compute accuracy, calibration, margins, sub-scores, error tolerance, and accuracy by kind of pair."""
        checkpoint = selected.first
        return (
            accuracy_by_checkpoint(selected.checkpoints),
            think_vs_quick(selected.checkpoints),
            *calibration(checkpoint),
            margin_distribution(checkpoint),
            sub_score_agreement(checkpoint),
            overall_contradictions(checkpoint),
            unfamiliar_videos(checkpoint),
            error_tolerance(checkpoint),
            accuracy_by_slice(checkpoint, selected.selection.mode),
        )


class HackingTab(FigureTab):
    """Reward hacking watch."""

    name, title = "hacking", "Hacking watch"

    def figures(self, selected: SelectedPairs) -> Findings:
        """Compute which features of the videos the rewards follow."""
        return reward_hacking(selected.first, selected.selection.mode)


class GeneratorsTab(FigureTab):
    """Leaderboard of generators."""

    name, title = "generators", "Generators"

    def figures(self, selected: SelectedPairs) -> Findings:
        """Rank the generators by people and by the checkpoint."""
        return (leaderboard(selected.first, selected.selection.mode),)


def figure_tabs(context: AnalyseContext) -> tuple[FigureTab, ...]:
    """Return all of them, in the order of the report."""
    return AgreementTab(context), HackingTab(context), GeneratorsTab(context)
