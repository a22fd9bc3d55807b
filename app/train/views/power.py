"""HTML of what the comparison on held-out pairs can show, beside the form of a retrain."""

from __future__ import annotations

from markupsafe import Markup

from app.ui.wording import plural, share
from storage.labelling.krippendorff import Alpha
from storage.splits import SplitBy
from storage.training.power import WANTED, ComparisonPower
from storage.training.sequential_test import SequentialTest

TENTATIVE = 0.667  # below this value of alpha labels are commonly taken as unreliable
HELD_OUT: dict[SplitBy, str] = {
    "prompts": "Held out are whole prompts: no pair of theirs is trained on, and no pair with a video of theirs.",
    "pairs": "Held out are single pairs, so their videos and prompts may occur in training pairs too, which favours what is "
    "trained on them. Whole prompts are held out in stores with common answers on 30 prompts or more and no checkpoint that "
    "was trained otherwise.",
}


def power_view(power: ComparisonPower, alpha: Alpha | None, held_out_by: SplitBy) -> Markup:
    """Show how large a difference the next comparison can show, what a small one would take, and what is held out."""
    source = "as in the last comparison" if power.is_measured else "which is usual"
    assumed = f"if the two checkpoints prefer different videos on {share(power.differing_share, 0)} of the pairs, {source}"
    if power.detectable is None:
        able = f"they are too few to show any difference, however large ({assumed})"
    else:
        able = f"with a chance of 80 % they show a difference from {100 * power.detectable:.0f} points on ({assumed})"
    few = SequentialTest(power.differing_share).labels_for(WANTED) if power.differing_share >= WANTED else None
    lines = [
        f"The comparison will have about {plural(power.pairs, 'held-out pair')} on which people have a preference: {able}.",
        f"A difference of {100 * WANTED:g} points takes {plural(power.needed, 'such pair')}, so some "
        f"{plural(power.needed_labelled, 'labelled pair')} in all."
        + (f" “Decide”, on a finished run, shows it with about {plural(few, 'label')}." if few else ""),
        HELD_OUT[held_out_by],
        _agreement(alpha),
    ]
    return Markup('<h3 class="train-subtitle">What the comparison can show</h3>') + Markup("").join(
        Markup('<p class="ds-hint">{}</p>').format(line) for line in lines if line
    )


def _agreement(alpha: Alpha | None) -> str:
    """Say what a low agreement between people means for a retrain."""
    if alpha is None or alpha.value is None or alpha.value >= TENTATIVE:
        return ""
    return (
        f"People agree little with each other on the new pairs (alpha {alpha.value:.2f}; from 0.67 on labels are usable, "
        "from 0.80 on reliable). A checkpoint can't agree with them more than they do with each other: make the guidelines "
        "clearer, or let more people label each pair, before you retrain."
    )
