"""The list of campaigns, and the tabs Progress, Annotators and Agreement."""

from __future__ import annotations

from collections.abc import Iterator

from app.lead.context import LeadSection
from app.lead.uncertainty_order import queue_scores
from app.lead.views.agreement import Agreement, agreement_table
from app.lead.views.campaigns import CampaignLine, campaign_list, campaign_progress, in_all, votes_line
from app.lead.views.members import member_table
from app.ui.markup import empty
from app.web.form_data import STALE_BUTTON, FormData, FormError
from app.web.panel import Reply
from storage.accounts.users import User
from storage.analysis.reward_margins import count_margins
from storage.campaigns.campaign import get_campaign, list_campaigns, set_status
from storage.campaigns.members import members, readmit, set_paused
from storage.campaigns.progress import labels_per_day, progress
from storage.labelling.campaign_pairs import reorder
from storage.labelling.krippendorff import krippendorff_alpha
from storage.labelling.totals import agreement_patterns
from storage.labelling.vote_labels import set_counted, votes_summary
from storage.schema import CampaignStatus, Role

CHOOSE_ONE = empty("Choose a campaign above.")
STATUS: dict[str, CampaignStatus] = {"open": "open", "pause": "paused", "close": "closed"}
DAYS = 30


class CampaignList(LeadSection):
    """All campaigns on top of the page; choosing one decides what the tabs show."""

    name, title = "campaigns", "Campaigns"
    readers = ("lead", "viewer")
    poll_seconds = 10

    def view(self, person: User, campaign: int | None) -> Reply:
        """Show the list with its counts."""
        with self.context.database.read() as session:
            lines = [CampaignLine(entry, progress(session, entry.id)) for entry in list_campaigns(session)]
            votes = votes_summary(session)
        html = campaign_list(lines, campaign, person.role == "lead")
        return Reply(html if votes is None else html + votes_line(votes, person.role == "lead"))

    def may_ask(self, act: str) -> tuple[Role, ...]:
        """Let readers choose; the other acts are for leads."""
        return self.readers if act == "choose" else ("lead",)

    def act(self, form: FormData, person: User, campaign: int | None) -> Reply:
        """Choose, open, pause or close a campaign; let the votes of the Judge page count, or not."""
        selected = form.id
        if form.act in ("count-votes", "leave-votes"):
            with self.context.database.write() as session:
                set_counted(session, selected, form.act == "count-votes")
            return self.view(person, campaign)
        if form.act == "choose":
            with self.context.database.read() as session:
                get_campaign(session, selected)
        elif form.act in STATUS:
            with self.context.database.write() as session:
                set_status(session, selected, STATUS[form.act])
        else:
            raise FormError(STALE_BUTTON)
        return Reply(self.view(person, selected).html, chosen=selected)


class ProgressTab(LeadSection):
    """The chosen campaign in figures."""

    name, title = "progress", "Progress"
    readers = ("lead", "viewer")
    poll_seconds = 10

    def view(self, person: User, campaign: int | None) -> Reply:
        """Show counts, labels a day, settings."""
        if campaign is None:
            return Reply(CHOOSE_ONE)
        with self.context.database.read() as session:
            line = CampaignLine(get_campaign(session, campaign), progress(session, campaign))
            days = labels_per_day(session, campaign, DAYS)
            served, sorted_by = self.context.serving.now, None
            if person.role == "lead" and line.campaign.config.ordering != "random":
                sorted_by = (served.name, count_margins(session, served.fingerprint, campaign))
        return Reply(campaign_progress(line, [(day.isoformat(), number) for day, number in days], sorted_by))

    def act(self, form: FormData, person: User, campaign: int | None) -> Reply | Iterator[Reply]:
        """Sort the queue by the rewards of the checkpoint that serves now."""
        if form.act != "sort" or campaign is None:
            raise FormError(STALE_BUTTON)
        with self.context.database.read() as session:
            ordering = get_campaign(session, campaign).config.ordering
        scores = queue_scores(self.context.database, self.context.serving.now, ordering, campaign_id=campaign)
        with self.context.database.write() as session:
            reorder(session, campaign, scores)
        return Reply(self.view(person, campaign).html, f"Sorted by {self.context.serving.now.name}, {len(scores)} pairs.")


class AnnotatorsTab(LeadSection):
    """The annotators: how much, how fast, how reliable."""

    name, title = "annotators", "Annotators"

    def view(self, _person: User, campaign: int | None) -> Reply:
        """Show one line for each annotator."""
        if campaign is None:
            return Reply(CHOOSE_ONE)
        with self.context.database.read() as session:
            pass_mark = get_campaign(session, campaign).config.qualification_pass
            return Reply(member_table(members(session, campaign), pass_mark, in_all(progress(session, campaign))))

    def act(self, form: FormData, person: User, campaign: int | None) -> Reply:
        """Pause, resume or readmit an annotator."""
        if campaign is None:
            return Reply(CHOOSE_ONE)
        with self.context.database.write() as session:
            if form.act in ("pause", "resume"):
                set_paused(session, campaign, form.id, form.act == "pause")
            elif form.act == "readmit":
                readmit(session, campaign, form.id)
            else:
                raise FormError(STALE_BUTTON)
        return self.view(person, campaign)


class AgreementTab(LeadSection):
    """Krippendorff's alpha of each question."""

    name, title = "agreement", "Agreement"
    readers = ("lead", "viewer")

    def view(self, _person: User, campaign: int | None) -> Reply:
        """Show every question of the campaign."""
        if campaign is None:
            return Reply(CHOOSE_ONE)
        with self.context.database.read() as session:
            dimensions = get_campaign(session, campaign).config.dimensions
            patterns = agreement_patterns(session, campaign)
        overall = Agreement(krippendorff_alpha(patterns.get("overall", {}), "nominal"), None)
        by_question = {"overall": overall}
        for name in dimensions:
            counted = patterns.get(name, {})
            by_question[name] = Agreement(krippendorff_alpha(counted, "nominal"), krippendorff_alpha(counted, "ordinal"))
        return Reply(agreement_table(by_question, ("overall", *dimensions)))
