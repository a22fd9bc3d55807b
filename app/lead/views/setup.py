"""The forms of a new campaign, of its guidelines and of its gold pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from app.lead.views.adjudication import stills
from app.lead.views.campaigns import OPENED, ORDERINGS
from app.ui.markup import button, checkboxes, count, empty, joined, options, table
from descore.answer import DIMENSIONS
from storage.campaigns.campaign import Gold
from storage.campaigns.guidelines import Guidelines
from storage.labelling.gold import GoldChoice
from storage.pairs import Pair

ANSWERS = {"": "not gold", "A": "A is better", "B": "B is better", "tie": "tie", "both_bad": "both bad"}


@dataclass(frozen=True)
class Judged:
    """The number of chosen pairs, and of those with a reward of the checkpoint that answers."""

    checkpoint: str
    judged: int
    pairs: int


@dataclass(frozen=True)
class Draft:
    """The fields of the form of a new campaign; its defaults are the first values. Shares in percent."""

    name: str = ""
    sources: tuple[str, ...] = ()
    dimensions: tuple[str, ...] = DIMENSIONS
    visible: tuple[str, ...] = ()
    ordering: str = "random"
    numbers: Mapping[str, str] = field(default_factory=dict)
    gold: Mapping[int, tuple[str, str]] = field(default_factory=dict)  # pair id -> answer, explanation


# name -> title, first value, lowest, highest, hint
NUMBERS = {
    "overlap": ("Labels for each pair", 3, 1, 100, "people who label the same pair"),
    "gold_share": ("Gold pairs, %", 5, 0, 50, "pairs with a known answer among all"),
    "repeat_share": ("Repeats, %", 5, 0, 50, "pairs given to the same person again, sides exchanged"),
    "lease_minutes": ("Lease, minutes", 30, 1, 10080, "until an abandoned pair returns"),
    "qualification_pairs": ("Qualification pairs", 0, 0, 100, "gold pairs with feedback first; 0: none"),
    "qualification_pass": ("Right to pass, %", 70, 0, 100, "of the qualification pairs"),
}


def campaign_form(
    sources: Mapping[str, int],
    draft: Draft,
    judged: Judged,
    candidates: Sequence[Pair],
    known: Mapping[int, Gold],
    posters: Mapping[int, tuple[str, str]],
) -> Markup:
    """Return the form of a new campaign.

    Args:
        sources: name -> number of pairs.
        candidates: pairs of the chosen sources to choose gold pairs from.
        known: the answers that earlier campaigns know, by pair id.
        posters: addresses of both stills by pair id.
    """
    if not sources:
        return empty("There are no pairs yet. Bring some in under Import.")
    texts = {name: f"{name} ({count(pairs)} pairs)" for name, pairs in sources.items()}
    name = Markup('<input name="name" required maxlength="200" autocomplete="off" value="{}">').format(draft.name)
    pairs = Markup('<p class="lead-count"><b>{}</b> {}</p>').format(count(judged.pairs), "pairs chosen")
    parts = [
        _field("Name", name, wide=True),
        _group("Pairs from", checkboxes("sources", texts, draft.sources, change="count") + pairs),
        _group(
            "Sub-scores asked (none: the overall choice alone)",
            checkboxes("dimensions", {name: name for name in DIMENSIONS}, draft.dimensions),
        ),
        *(_number(key, draft) for key in NUMBERS),
        _ordering(draft, judged),
        _group("Shown before a label is saved (none: blind)", checkboxes("visible", OPENED, draft.visible) + _HIDES),
        _gold_choice(draft, candidates, known, posters),
        Markup('<p class="ds-submit"><button class="ds-button is-main">Create the campaign</button></p>'),
    ]
    return Markup('<form class="ds-form ds-columns" id="lead-new-form" data-act="create">{}</form>').format(joined(parts))


# Also of bundled pairs: a model's reward that everybody can read on the Judge page would tell annotators what to say.
_HIDES = Markup(
    '<p class="ds-hint">Unless rewards are shown, only leads can have these pairs judged until the campaign is closed, and '
    "annotators see only the clips that they label. Bundled pairs leave the Judge page meanwhile.</p>"
)


def _ordering(draft: Draft, judged: Judged) -> Markup:
    missing = judged.pairs - judged.judged
    said = f"{count(judged.judged)} of these pairs have a reward of {judged.checkpoint}; pairs without one come last."
    judge = button(f"Judge the other {count(missing)}", "judge", fields_of="#lead-new-form") if missing else ""
    return Markup(
        '<div class="ds-field ds-wide"><label>Order <select name="ordering">{}</select></label><small>{}</small> {}</div>'
    ).format(options(ORDERINGS, draft.ordering), said, judge)


def _gold_choice(
    draft: Draft, candidates: Sequence[Pair], known: Mapping[int, Gold], posters: Mapping[int, tuple[str, str]]
) -> Markup:
    """Return a table of pairs that may become gold; closed at first, since most campaigns choose them later."""
    rows = []
    for pair in candidates:
        answer, why = draft.gold.get(pair.id, ("", ""))
        control = Markup(
            '<span class="ds-inline"><select name="gold-{0}" aria-label="Known answer">{1}</select>'
            '<input name="why-{0}" maxlength="1000" placeholder="Explanation" aria-label="Explanation" value="{2}"></span>'
        ).format(pair.id, options(ANSWERS, answer), why)
        earlier = f"earlier: {ANSWERS[known[pair.id].choice]}" if pair.id in known else ""
        prompt = Markup('<span class="ds-prompt">{}</span><small>{}</small>').format(pair.prompt, earlier)
        rows.append([stills(*posters[pair.id]), prompt, control])
    chosen = sum(answer != "" for answer, _ in draft.gold.values())
    return Markup(
        '<details class="ds-field ds-wide"{}><summary>Gold pairs: {} chosen</summary><p class="ds-hint">Pairs with a '
        "known answer check annotators, and a qualification needs some from the start. More can be chosen later, under "
        "Gold pairs.</p>{}</details>"
    ).format(Markup(" open") if chosen else "", chosen, table(("pair", "prompt", "known answer"), rows, "lead-gold"))


def _field(title: str, control: Markup, hint: str = "", wide: bool = False) -> Markup:
    """Return one labelled control."""
    return Markup('<label class="ds-field {}">{}{}<small>{}</small></label>').format(
        "ds-wide" if wide else "", title, control, hint
    )


def _number(key: str, draft: Draft) -> Markup:
    title, value, low, high, hint = NUMBERS[key]
    control = Markup('<input type="number" name="{}" value="{}" min="{}" max="{}" required>').format(
        key, draft.numbers.get(key, str(value)), low, high
    )
    return _field(title, control, hint)


def _group(title: str, controls: Markup) -> Markup:
    return Markup('<fieldset class="ds-field ds-wide"><legend>{}</legend>{}</fieldset>').format(title, controls)


def guidelines_form(
    guidelines: Guidelines, dimensions: Sequence[str], shown: int, versions: Sequence[tuple[int, str]]
) -> Markup:
    """Return the form of the text that annotators read.

    Args:
        shown: the version in the form.
        versions: of each version its number, author and time.
    """
    guides = joined(
        Markup(
            '<fieldset class="ds-field"><legend>{0}</legend><label>Definition<textarea name="definition-{0}" rows="3" '
            'required>{1}</textarea></label><label>Example<textarea name="example-{0}" rows="3">{2}</textarea></label>'
            "</fieldset>"
        ).format(name, guidelines.dimensions[name].definition, guidelines.dimensions[name].example)
        for name in dimensions
        if name in guidelines.dimensions
    )
    history = joined(
        Markup("<li>{} <small>{}</small></li>").format(
            Markup("<b>Version {}</b>").format(number)
            if number == shown
            else button(f"Version {number}", "version", number),
            said,
        )
        for number, said in versions
    )
    return Markup(
        '<form class="ds-form lead-guides" data-act="revise"><label class="ds-field ds-wide">Introduction'
        '<textarea name="intro" rows="8" required>{}</textarea></label>{}<p class="ds-submit">'
        '<button class="ds-button is-main">Save as a new version</button><span class="ds-hint">It counts from the next '
        "pair on; every label keeps the version that its author read.</span></p></form>"
        '<h3>Versions</h3><ol class="lead-versions">{}</ol>'
    ).format(guidelines.intro, guides, history)


FILTERS = {
    "gold": "gold pairs",
    "unanimous": "unanimous pairs",
    "adjudicated": "decided by a lead",
    "all": "all pairs",
}


def gold_table(
    kind: str, pairs: Sequence[GoldChoice], posters: Mapping[int, tuple[str, str]], after: int, more: bool
) -> Markup:
    """Return pairs of the campaign with their known answer, or the suggested one.

    Args:
        kind: which pairs are shown, a key of `FILTERS`.
        after: where this page of the list starts.
        more: whether another page follows.
    """
    which = Markup(
        '<form class="ds-inline" data-act="filter"><label>Show <select name="kind" data-change="filter">{}</select>'
        "</label></form>"
    ).format(options(FILTERS, kind))
    if not pairs:
        return which + empty(_NOTHING[kind] if not after else "No more pairs.")
    rows = [[stills(*posters[one.pair.id]), _prompt(one), _gold_form(one, kind, after)] for one in pairs]
    pages = [button("First page", "page", f"{kind} 0") if after else ""]
    pages.append(button("Next page", "page", f"{kind} {pairs[-1].campaign_pair_id}") if more else "")
    return joined([which, table(("pair", "prompt", "known answer"), rows, "lead-gold"), *pages])


_NOTHING = {
    "unanimous": "No pair has all its labels with one answer yet.",
    "adjudicated": "No pair was decided by a lead yet.",
    "gold": "No gold pairs yet: gold accuracy stays empty. Unanimous pairs, or those that a lead decided, make good ones.",
    "all": "This campaign has no pairs.",
}


def _prompt(one: GoldChoice) -> Markup:
    said = Markup("<small>{}</small>").format(one.summary) if one.summary else ""
    return Markup('<span class="ds-prompt">{}</span>{}').format(one.pair.prompt, said)


def _gold_form(one: GoldChoice, kind: str, after: int) -> Markup:
    known = one.gold
    answer = known.choice if known else (one.suggested or "")
    return Markup(
        '<form class="ds-inline" data-act="gold" data-id="{}"><input type="hidden" name="list" value="{} {}">'
        '<select name="choice" aria-label="Known answer">{}</select>'
        '<input name="explanation" maxlength="1000" placeholder="Explanation, shown in the qualification" '
        'aria-label="Explanation" value="{}"><button class="ds-button">{}</button></form>'
    ).format(
        one.pair.id,
        kind,
        after,
        options(ANSWERS, answer),
        known.explanation if known else "",
        "Save" if known else "Make gold",
    )
