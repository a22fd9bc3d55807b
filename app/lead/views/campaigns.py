"""The list of campaigns, and the figures of the chosen one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from app.ui.dates import day
from app.ui.markup import bar, button, count, empty, joined, percent, pill
from storage.campaigns.campaign import Campaign
from storage.campaigns.progress import Progress
from storage.labelling.vote_labels import VotesSummary

TONES = {"open": "good", "paused": "warn", "closed": ""}
ORDERINGS = {"random": "random order", "uncertain": "uncertain pairs first", "disagreement": "disagreement first"}
OPENED = {"generators": "generator names", "thoughts": "the model's thoughts", "rewards": "the model's rewards"}


@dataclass(frozen=True)
class CampaignLine:
    """A campaign with its counts, as the list shows it."""

    campaign: Campaign
    progress: Progress


def campaign_list(lines: Sequence[CampaignLine], chosen: int | None, may_change: bool) -> Markup:
    """Return all campaigns; the chosen one is marked.

    Args:
        may_change: whether the person may open, pause and close.
    """
    if not lines:
        return empty(
            "No campaign yet. Import pairs, or take the bundled ones, and make a campaign of them under New campaign. "
            "To see first what becomes of it, start the demo store: python app.py --demo"
        )
    cards = joined(_card(line, line.campaign.id == chosen, may_change) for line in lines)
    return Markup('<div class="lead-campaigns" role="list" aria-label="Campaigns">{}</div>').format(cards)


def votes_line(summary: VotesSummary, may_change: bool) -> Markup:
    """Return how many votes the Judge page has, and whether they count, with the button that decides."""
    campaign, who = summary.campaign, []
    for number, word in ((summary.people, "person"), (summary.visitors, "visitor")):
        if number:
            many = "people" if word == "person" else f"{word}s"
            who.append(f"{count(number)} {word if number == 1 else many}")
    votes, pairs = (f"{count(n)} {w}{'' if n == 1 else 's'}" for n, w in ((summary.votes, "vote"), (summary.pairs, "pair")))
    if campaign.counted:
        state, change = pill("counted", "good"), button("Leave them out", "leave-votes", campaign.id)
        effect = "They count like labels: in new retrains, agreement over all labels and the figures of Analyse."
    else:
        state, change = pill("not counted"), button("Count them", "count-votes", campaign.id)
        effect = "They are kept as labels, and take no part in retrains, agreement and figures until you count them."
    return Markup(
        '<p class="lead-votes"><b>Votes on the Judge page</b> {} <span>{} on {}, by {}.</span> '
        '<span class="ds-hint">{}</span> {}</p>'
    ).format(state, votes, pairs, " and ".join(who) or "nobody", effect, change if may_change else "")


def _card(line: CampaignLine, is_chosen: bool, may_change: bool) -> Markup:
    campaign, progress = line.campaign, line.progress
    share = progress.finished / progress.pairs if progress.pairs else 0.0
    return Markup(
        '<article class="lead-campaign {chosen}" role="listitem">'
        '<button type="button" class="lead-choose" data-act="choose" data-id="{id}" aria-pressed="{pressed}">'
        '<span class="ds-name">{name}</span>{status}</button>'
        '<span class="lead-done"><b>{share}</b> {finished} of {pairs} pairs</span>{bar}'
        '<span class="lead-counts">{counts}</span><span class="lead-actions">{actions}</span>{gold}</article>'
    ).format(
        chosen="is-chosen" if is_chosen else "",
        id=campaign.id,
        pressed=str(is_chosen).lower(),
        name=campaign.config.name,
        status=pill(campaign.status, TONES[campaign.status]),
        share=percent(share),
        finished=count(progress.finished),
        pairs=count(progress.pairs),
        bar=bar(share, f"finished pairs of {campaign.config.name}"),
        counts=_counts(progress),
        actions=_actions(campaign) if may_change else "",
        gold=_gold_note(line) if may_change and campaign.status != "closed" else "",
    )


def _gold_note(line: CampaignLine) -> Markup:
    sentence = without_gold(line.campaign.config.gold_share, line.progress.gold)
    return Markup('<p class="lead-note" role="note">{}</p>').format(sentence) if sentence else Markup("")


def without_gold(share: float, gold: int) -> str:
    """Say that a campaign asks for gold pairs and has none; "" where it has, or asks for none."""
    if gold or not share:
        return ""
    return f"It asks for {percent(share)} gold pairs and has none, so nobody is checked: choose some under Gold pairs."


def _counts(progress: Progress) -> Markup:
    """Write the counts in a few words; those that need attention stand out."""
    counts = [
        Markup('<span title="{}">{} of {} labels</span>').format(
            in_all(progress), count(progress.given), count(progress.wanted)
        ),
        Markup("<span>{} being labelled</span>").format(count(progress.leased)),
    ]
    for number, what in ((progress.flagged, "flagged"), (progress.disputed, "disputed")):
        tone = "is-waiting" if number else ""
        counts.append(Markup('<span class="{}">{} {}</span>').format(tone, count(number), what))
    return joined(counts)


def _actions(campaign: Campaign) -> Markup:
    name = campaign.config.name
    if campaign.status == "open":
        pause = button("Pause", "pause", campaign.id)
        return pause + button("Close", "close", campaign.id, confirm=f"Close {name}? Nobody gets its pairs any more.")
    return button("Open again" if campaign.status == "closed" else "Open", "open", campaign.id)


def campaign_progress(
    line: CampaignLine, days: Sequence[tuple[str, int]], sorted_by: tuple[str, int] | None = None
) -> Markup:
    """Return the chosen campaign in figures, and its settings.

    Args:
        days: labels of each of the last days (day, count).
        sorted_by: the checkpoint that can sort the queue again, and how many of the pairs it has judged; for a lead,
            where the order depends on a checkpoint.
    """
    progress = line.progress
    figures = [
        ("finished pairs", f"{count(progress.finished)} of {count(progress.pairs)}"),
        ("labels", f"{count(progress.given)} of {count(progress.wanted)}"),
        ("labels in all", count(progress.total)),
        ("being labelled", count(progress.leased)),
        ("disputed", count(progress.disputed)),
        ("flagged", count(progress.flagged)),
        ("dropped", count(progress.dropped)),
        ("gold pairs", count(progress.gold)),
    ]
    cells = joined(Markup("<div><dt>{}</dt><dd>{}</dd></div>").format(name, value) for name, value in figures)
    sort = Markup("") if sorted_by is None else _sort_again(line.campaign, *sorted_by)
    besides = Markup("")
    if progress.total != progress.given:
        besides = Markup('<p class="ds-hint">{}</p>').format(in_all(progress))
    days_drawn, settings = _days(days), _settings(line.campaign)
    return Markup('<dl class="ds-figures">{}</dl>{}{}{}{}').format(cells, besides, days_drawn, settings, sort)


def in_all(progress: Progress) -> str:
    """Say of which labels the total is made up, as the counts of the annotators add up to it."""
    kinds = (
        (progress.labels - progress.given, "beyond that"),
        (progress.on_gold, "on pairs that became gold"),
        (progress.on_dropped, "on dropped pairs"),
        (progress.checks, "answers to gold pairs and repeats"),
    )
    besides = "".join(f", {count(number)} {what}" for number, what in kinds if number)
    return f"{count(progress.total)} labels in all: {count(progress.given)} of the {count(progress.wanted)} needed{besides}."


def _sort_again(campaign: Campaign, checkpoint: str, judged: int) -> Markup:
    """Offer to sort the queue: after a retrain other pairs are worth the next labels."""
    text = f"{checkpoint} has judged {count(judged)} of its pairs; those without a reward come last."
    sort = button("Sort the queue again", "sort", campaign.id)
    return Markup('<p class="ds-hint">{} {}</p>').format(text, sort)


def _days(days: Sequence[tuple[str, int]]) -> Markup:
    """Draw small bars, one a day."""
    most = max((number for _, number in days), default=0)
    if not most:
        return Markup("")
    bars = joined(
        Markup('<li title="{}: {}"><span style="height: {}%"></span></li>').format(
            day, count(number), round(100 * number / most)
        )
        for day, number in days
    )
    return Markup(
        '<figure class="lead-days"><figcaption>Answers saved a day, changes and skips too: at most {}</figcaption>'
        "<ol>{}</ol><p><span>{}</span><span>{}</span></p></figure>"
    ).format(count(most), bars, days[0][0], days[-1][0])


def _settings(campaign: Campaign) -> Markup:
    """Write the campaign's settings in words."""
    settings = campaign.config
    opened = ", ".join(OPENED[name] for name in settings.visible)
    entry = (
        f"{settings.qualification_pairs} pairs, {percent(settings.qualification_pass)} right to pass"
        if settings.qualification_pairs
        else "none"
    )
    in_words = {
        "asked": f"overall choice, {', '.join(settings.dimensions)}" if settings.dimensions else "overall choice only",
        "labels for each pair": str(settings.overlap),
        "order": ORDERINGS[settings.ordering],
        "gold, repeats": f"{percent(settings.gold_share)}, {percent(settings.repeat_share)}",
        "shown before saving": opened or "nothing (blind)",
        "qualification": entry,
        "lease": f"{settings.lease_seconds // 60} min",
        "guidelines": f"version {campaign.guideline_version}",
        "made": day(campaign.created_at),
    }
    lines = joined(Markup("<div><dt>{}</dt><dd>{}</dd></div>").format(name, value) for name, value in in_words.items())
    return Markup('<h3>Settings</h3><dl class="ds-settings">{}</dl>').format(lines)
