"""Analyse page: agreement with people, what rewards follow, and the leaderboard of generators."""

from __future__ import annotations

from abc import abstractmethod

from app.analyse.figures.accuracy import accuracy_by_checkpoint
from app.analyse.figures.calibration import calibration
from app.analyse.figures.error_tolerance import error_tolerance
from app.analyse.figures.finding import Finding
from app.analyse.figures.leaderboard import leaderboard
from app.analyse.figures.margin_distribution import margin_distribution
from app.analyse.figures.reward_hacking import reward_hacking
from app.analyse.figures.slices import accuracy_by_slice
from app.analyse.figures.sub_scores import sub_score_agreement
from app.analyse.figures.think_vs_quick import think_vs_quick
from app.analyse.panel import AnalyseSection
from app.analyse.selection import AnalyseContext, SelectedPairs, Selection
from app.analyse.views.findings import findings
from app.ui.markup import empty
from app.web.panel import Reply
from storage.accounts.users import User

Found = tuple[Finding, ...]


class FindingsTab(AnalyseSection):
    """A tab that shows findings and asks nothing."""

    @abstractmethod
    def make(self, chosen: SelectedPairs) -> Found:
        """Work the findings of a selection out."""

    def view(self, person: User, selection: Selection) -> Reply:
        """The findings of a selection."""
        found = self.found(self.context.chosen(selection))
        if any(one.charts or one.rows for one in found):
            return Reply(findings(found))
        return Reply(empty(f"{found[0].notes[0]} A lead can have pairs judged: see “Score missing pairs” above."))

    def found(self, chosen: SelectedPairs) -> Found:
        """The findings, from memory where nothing has changed."""
        return self.context.once(chosen, self.name, lambda: self.make(chosen))


class AgreementTab(FindingsTab):
    """Model and people. The first two blocks compare all chosen checkpoints, the others are of the one in detail."""

    name, title = "agreement", "Agreement"

    def make(self, chosen: SelectedPairs) -> Found:
        """Accuracy, calibration, margins, sub-scores, error tolerance, kinds of pairs."""
        one, mode = chosen.first, chosen.selection.mode
        return (
            accuracy_by_checkpoint(chosen.checkpoints),
            think_vs_quick(chosen.checkpoints),
            *calibration(one),
            margin_distribution(one),
            sub_score_agreement(one),
            error_tolerance(one),
            accuracy_by_slice(one, mode),
        )


class HackingTab(FindingsTab):
    """Reward hacking watch."""

    name, title = "hacking", "Hacking watch"

    def make(self, chosen: SelectedPairs) -> Found:
        """What the rewards of the checkpoint in detail follow."""
        return reward_hacking(chosen.first, chosen.selection.mode)


class GeneratorsTab(FindingsTab):
    """Leaderboard."""

    name, title = "generators", "Generators"

    def make(self, chosen: SelectedPairs) -> Found:
        """Who made the better videos, by people and by the checkpoint in detail."""
        return (leaderboard(chosen.first, chosen.selection.mode),)


def tabs(context: AnalyseContext) -> tuple[FindingsTab, ...]:
    """All of them, in the order of the report."""
    return AgreementTab(context), HackingTab(context), GeneratorsTab(context)
