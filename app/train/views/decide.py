"""HTML of a decision between a candidate and the serving checkpoint with few labels."""

from __future__ import annotations

import math
from dataclasses import dataclass

from markupsafe import Markup

from app.train.views.runs import doing
from app.ui.markup import bar, button, count, joined, pill
from app.ui.wording import figures, plural, share, signed
from storage.training.decide import DecisionState
from storage.training.decide_pairs import Comparison, DecisionPool
from storage.training.runs import Run
from storage.training.sequential_test import ALPHA, MARGIN, Look, SequentialTest

DECIDED_AT = 1 / ALPHA
SUGGESTED_PAIRS = 300
EXAMPLES = (0.05, 0.15)  # differences of which the page says how many labels they take
TONES = {"better": "good", "worse": "bad"}


@dataclass(frozen=True)
class DecideSummary:
    """How far a decision is.

    Attributes:
        candidate_id: id of the candidate.
        candidate: its name.
        current: name of the checkpoint that it is compared with.
        serves: whether the candidate serves by now.
        pool: pairs that could decide; None once it is decided.
        comparison: the two on the pool; while people are asked, on further pairs alone. None once it is decided.
        state: what people say so far; None where nobody was asked.
        judging: runs that judge pairs with one of the two now.
        trouble: why they can't be compared.
    """

    candidate_id: int
    candidate: str
    current: str
    serves: bool
    pool: DecisionPool | None
    comparison: Comparison | None
    state: DecisionState | None
    judging: tuple[Run, ...] = ()
    trouble: str = ""


def decide_view(summary: DecideSummary, may_act: bool) -> Markup:
    """Show a decision: what it needs, how it stands, or how it ended."""
    body = _before(summary, may_act) if summary.state is None else _after_opening(summary, summary.state, may_act)
    return Markup('<h3 class="train-subtitle">Decide with few labels {}</h3>{}').format(_pill(summary.state), body)


def decision_pill(outcome: str | None) -> Markup:
    """Show a recorded outcome as a pill."""
    return pill(f"decided: {outcome}", TONES.get(outcome, "warn")) if outcome else Markup("")


def _pill(state: DecisionState | None) -> Markup:
    if state is None:
        return Markup("")
    return decision_pill(state.look.outcome) if state.look.outcome else pill("open", "warn")


# ---- before people are asked ---------------------------------------------------------------------------------------


def _before(summary: DecideSummary, may_act: bool) -> Markup:
    intro = Markup(
        "<p>People label only the pairs on which {} and {} prefer different videos, without knowing which one prefers what. "
        "After each label a test says whether it is decided; however often you look, it is wrong in at most 5 of 100 "
        "cases.</p>"
    ).format(summary.candidate, summary.current)
    if summary.pool is None or summary.comparison is None:
        return intro + Markup('<p class="ds-hint">{}.</p>').format(summary.trouble.rstrip("."))
    comparison = summary.comparison
    return joined(
        (
            intro,
            _pool_figures(summary.pool, comparison),
            _left_out(summary.pool),
            _forecast(comparison),
            _judging(summary.judging),
            _forms(summary, comparison) if may_act else "",
        )
    )


def _pool_figures(pool: DecisionPool, comparison: Comparison) -> Markup:
    judged, differing = len(comparison.sides), len(comparison.differing)
    part = Markup(" <small>{}</small>").format(share(differing / judged, 0)) if judged else ""
    return figures(
        {
            "unlabelled pairs that neither was trained on": count(len(pool.pair_ids)),
            "judged by both": count(judged),
            "they differ on": Markup("{}{}").format(count(differing), part),
        }
    )


def _left_out(pool: DecisionPool) -> Markup:
    """Say which pairs can't decide, and why."""
    reasons = [
        f"{plural(pool.known_videos, 'pair')} with a video that was trained on" if pool.known_videos else "",
        f"{plural(pool.known_prompts, 'pair')} with a prompt that was" if pool.known_prompts else "",
    ]
    said = " and ".join(filter(None, reasons))
    text = f"Left out of those without a label: {said}." if said else ""
    if not pool.pair_ids:
        text += " No pair is left that could decide: import pairs with new videos and prompts on the Lead page."
    if pool.from_elsewhere:
        names = " and ".join(pool.from_elsewhere)
        text += f" This page can't know what {names} learnt before it came here; pairs that it knows would favour it."
    return Markup('<p class="ds-hint">{}</p>').format(text.strip()) if text else Markup("")


def _forecast(comparison: Comparison) -> Markup:
    """Say how many labels differences of some sizes take."""
    if not comparison.differing:
        return Markup("")
    part = len(comparison.differing) / len(comparison.sides)
    test = SequentialTest(part)
    needed = [(size, test.labels_for(size)) for size in EXAMPLES if size <= part]
    texts = [f"{100 * size:g} points takes about {labels}" for size, labels in needed if labels]
    if not texts:
        return Markup("")
    sentence = "A difference in agreement of {} labels that are no ties."
    return Markup('<p class="ds-hint">{}</p>').format(sentence.format(", one of ".join(texts)))


def _judging(runs: tuple[Run, ...]) -> Markup:
    """Show the runs that judge pairs for it now."""
    lines = joined(
        Markup("<li>{}: {}</li>").format(run.name, "waits for its turn" if run.state == "queued" else doing(run))
        for run in runs
    )
    return (
        Markup('<ul class="train-judging" aria-label="Runs that judge pairs">{}</ul>').format(lines) if runs else Markup("")
    )


def _forms(summary: DecideSummary, comparison: Comparison) -> Markup:
    differing = len(comparison.differing)
    needed = SequentialTest(differing / len(comparison.sides)).labels_for(EXAMPLES[0]) if differing else None
    enough = differing > 0 and (not comparison.unjudged or differing >= (needed or 0))
    ask = Markup(
        '<form class="ds-form train-decide" data-act="decide_open" data-id="{}">'
        '<label class="ds-field">Difference that does not matter, in points'
        '<input type="number" name="margin" value="{:g}" min="0.5" max="50" step="0.5" required></label>'
        '<label class="ds-field">People for each pair'
        '<input type="number" name="people" value="1" min="1" max="9" step="1" required></label>'
        '<button type="submit" class="ds-button{}">Decide: ask people about {}</button></form>'
    ).format(summary.candidate_id, 100 * MARGIN, " is-main" if enough else "", plural(differing, "pair"))
    return (ask if differing else Markup("")) + _judge_form(summary, comparison, is_main=not enough)


def _judge_form(summary: DecideSummary, comparison: Comparison, is_main: bool) -> Markup:
    if not comparison.unjudged or summary.judging:
        return Markup("")
    number = min(SUGGESTED_PAIRS, len(comparison.unjudged))
    return Markup(
        '<form class="ds-form train-decide" data-act="decide_judge" data-id="{}">'
        '<label class="ds-field">Pairs that both judge next, of {}'
        '<input type="number" name="pairs" value="{}" min="1" max="{}" step="1" required></label>'
        '<button type="submit" class="ds-button{}">Let both judge them</button></form>'
    ).format(
        summary.candidate_id,
        count(len(comparison.unjudged)),
        number,
        len(comparison.unjudged),
        " is-main" if is_main else "",
    )


# ---- people are asked, or were -------------------------------------------------------------------------------------


def _after_opening(summary: DecideSummary, state: DecisionState, may_act: bool) -> Markup:
    recorded = state.decision.recorded
    parts: list[Markup | str] = [_standing(summary, state)]
    if recorded is not None:
        parts.insert(0, Markup('<p class="train-sentence">{}</p>').format(recorded["sentence"]))
        if may_act and not summary.serves and state.look.outcome == "better":
            question = f"Let {summary.candidate} judge and label from now on? People decided: it is better."
            parts.append(button("Promote, as decided", "promote", summary.candidate_id, confirm=question, kind="is-main"))
        return joined(parts)
    parts.insert(0, Markup("<p>{}</p>").format(_open_sentence(state)))
    parts.append(_judging(summary.judging))
    if may_act and summary.comparison is not None:
        parts += [_add_button(summary, summary.comparison), _judge_form(summary, summary.comparison, is_main=False)]
    return joined(parts)


def _open_sentence(state: DecisionState) -> str:
    text = "Not decided yet. "
    if not state.look.labels:
        text += f"{plural(state.unanswered, 'pair')} of the campaign “{state.campaign}” wait on the Label page."
    elif state.labels_left is None:
        text += "If it goes on like this, more labels than anybody would give decide it."
    else:
        text += f"If it goes on like this, about {plural(state.labels_left, 'more label')} decide it."
        if state.labels_left > state.unanswered:
            text += (
                f" The campaign has {state.unanswered} left: let both judge more pairs, and add those on which they differ."
            )
    if state.status != "open":
        text += f" The campaign is {state.status}; open it on the Lead page to go on."
    return text


def _standing(summary: DecideSummary, state: DecisionState) -> Markup:
    """Show the counts, the evidence and the difference."""
    look = state.look
    asked = len(state.decision.differing)
    reached = min(1.0, max(0.0, math.log(max(look.e_value, 1.0)) / math.log(DECIDED_AT)))
    low, high = look.interval
    counts = figures(
        {
            "pairs with an answer": Markup("{} <small>of {}</small>").format(count(asked - state.unanswered), count(asked)),
            f"side with {summary.candidate}": count(look.better),
            f"side with {summary.current}": count(look.worse),
            "with neither": count(look.ties),
            "agreement, points": Markup("{} <small>{} to {}</small>").format(
                signed(100 * look.difference) if look.difference is not None else "?",
                signed(100 * low),
                signed(100 * high),
            ),
        }
    )
    return counts + Markup('<p class="train-evidence">{} {}</p>').format(bar(reached, "evidence"), evidence_text(look))


def evidence_text(look: Look) -> str:
    """Say in words how strong the evidence is."""
    value = look.e_value
    odds = f"{value:,.0f}" if value >= 10 else f"{value:.1f}"
    if look.outcome == "no difference":
        return "All differences that the labels leave possible are too small to matter."
    if value >= DECIDED_AT:
        return f"Evidence {odds} to 1; {DECIDED_AT:.0f} to 1 decides."
    strength = "none yet" if value < 2 else "weak" if value < 6 else "considerable, not enough"
    return f"Evidence {odds} to 1, {strength}; {DECIDED_AT:.0f} to 1 decides."


def _add_button(summary: DecideSummary, comparison: Comparison) -> Markup:
    differing = len(comparison.differing)
    if not differing:
        return Markup("")
    return button(f"Add {plural(differing, 'pair')} that were judged since", "decide_add", summary.candidate_id)
