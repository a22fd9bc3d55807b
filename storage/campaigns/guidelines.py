"""The guidelines of a campaign: an introduction, and a definition and an example for each dimension.

Versions are only added, so that every label can say which text its author had before them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from descore.answer import DIMENSIONS
from storage.errors import CampaignError, NotInStoreError
from storage.schema import CampaignRow, GuidelineRow

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

LONGEST_GUIDELINE = 20_000


@dataclass(frozen=True)
class DimensionGuide:
    """What one sub-score means, and a case that shows it."""

    definition: str
    example: str


@dataclass(frozen=True)
class Guidelines:
    """The text of one version; `dimensions` maps names of sub-scores to their guides."""

    intro: str
    dimensions: Mapping[str, DimensionGuide]


_SCALE = "2 = as the prompt says, 1 = partly, 0 = not at all or the opposite, N/A = the prompt asks nothing about it."

DEFAULT_GUIDELINES = Guidelines(
    intro=(
        "Both videos were made from the same prompt. Read the prompt first and note what it asks for. Watch both videos "
        "in full at least once, then compare.\n\n"
        "Score each video by itself, one dimension after the other, against the prompt and not against the other video. "
        f"{_SCALE}\n\n"
        "Then say which video follows the prompt better: clearly, when one look would do to convince a colleague; "
        "slightly, when you had to look twice. Choose a tie when they follow it equally well, and both bad when neither "
        "shows what the prompt is about. Beauty alone does not decide; a flaw that hides what was asked for does.\n\n"
        "Mark the moment where a video breaks: something melts, jumps, appears or vanishes. Skip a pair that you can't "
        "judge, and flag one that does not play or does not belong here."
    ),
    dimensions={
        "subject": DimensionGuide(
            "Who or what the prompt names is there: the right things, as many as asked, with the attributes asked for, "
            "and they stay themselves to the end.",
            "“Two brown dogs on a sofa”: two brown dogs throughout is 2; two dogs of which one is white, or a second dog "
            "that fades away, is 1; a cat is 0.",
        ),
        "dynamics": DimensionGuide(
            "What happens is what the prompt says: the action, its direction, order and result, with motion that is "
            "physically possible.",
            "“A girl pours tea into a cup”: tea flows and the cup fills is 2; she tilts the pot and nothing flows is 1; "
            "she only holds the pot is 0.",
        ),
        "camera": DimensionGuide(
            "Shot, angle and camera movement are those of the prompt. N/A when it names none.",
            "“The camera slowly zooms in on a clock”: a steady zoom in is 2; a cut to a closer shot is 1; a fixed camera "
            "or a zoom out is 0.",
        ),
        "environment": DimensionGuide(
            "Place, time of day, weather, light and background are those of the prompt. N/A when it names none.",
            "“On a snowy street at night”: snow and night is 2; a street at night without snow is 1; a summer meadow at "
            "noon is 0.",
        ),
        "style": DimensionGuide(
            "The look is the one the prompt asks for: medium, palette, era, mood. N/A when it names none.",
            "“In the style of a watercolour”: washes and paper throughout is 2; a photograph with pale colours is 1; "
            "an ordinary photograph is 0.",
        ),
    },
)


def current_guidelines(session: Session, campaign_id: int) -> tuple[int, Guidelines]:
    """Return the newest version and its number.

    Raises:
        NotInStoreError: there is no such campaign.
    """
    newest = select(GuidelineRow).where(GuidelineRow.campaign_id == campaign_id).order_by(GuidelineRow.version.desc())
    row = session.scalars(newest.limit(1)).one_or_none()
    if row is None:
        raise NotInStoreError(f"there is no campaign {campaign_id}")
    return row.version, _guidelines(row.content)


def guidelines_of(session: Session, campaign_id: int, version: int) -> Guidelines:
    """One version, the newest or an older one.

    Raises:
        NotInStoreError: the campaign has no such version.
    """
    same = select(GuidelineRow).where(GuidelineRow.campaign_id == campaign_id, GuidelineRow.version == version)
    row = session.scalars(same).one_or_none()
    if row is None:
        raise NotInStoreError(f"campaign {campaign_id} has no guidelines of version {version}")
    return _guidelines(row.content)


def revise_guidelines(session: Session, campaign_id: int, guidelines: Guidelines, author_id: int | None) -> int:
    """Add a version, which counts from the next assignment on; the same text again adds none. Returns the current number.

    Raises:
        NotInStoreError: there is no such campaign.
        CampaignError: a text is missing or too long.
    """
    # The lock orders two leads who save at the same moment.
    locked = select(CampaignRow.dimensions).where(CampaignRow.id == campaign_id).with_for_update(key_share=True)
    dimensions = session.scalar(locked)
    if dimensions is None:
        raise NotInStoreError(f"there is no campaign {campaign_id}")
    check_guidelines(guidelines, tuple(dimensions))
    newest = select(func.max(GuidelineRow.version)).where(GuidelineRow.campaign_id == campaign_id)
    version = session.scalar(newest) or 0
    if version and guidelines_of(session, campaign_id, version) == guidelines:
        return version
    guides = {name: asdict(guide) for name, guide in guidelines.dimensions.items()}
    content = {"intro": guidelines.intro, "dimensions": guides}
    session.add(GuidelineRow(campaign_id=campaign_id, version=version + 1, content=content, author_id=author_id))
    session.flush()
    return version + 1


def check_guidelines(guidelines: Guidelines, dimensions: tuple[str, ...]) -> None:
    """Refuse guidelines that leave an asked dimension without a definition.

    Raises:
        CampaignError: a text is missing or too long, or a dimension is unknown.
    """
    unknown = set(guidelines.dimensions) - set(DIMENSIONS)
    if unknown:
        raise CampaignError(f"there is no dimension {', '.join(sorted(unknown))}; they are {', '.join(DIMENSIONS)}")
    for name in dimensions:
        guide = guidelines.dimensions.get(name)
        if guide is None or not guide.definition.strip():
            raise CampaignError(f"the guidelines have no definition of {name}")
    texts = [guidelines.intro, *(text for guide in guidelines.dimensions.values() for text in asdict(guide).values())]
    if any(len(text) > LONGEST_GUIDELINE for text in texts):
        raise CampaignError(f"a text of the guidelines is longer than {LONGEST_GUIDELINE} characters")


def _guidelines(content: Mapping[str, Any]) -> Guidelines:
    guides = {name: DimensionGuide(**guide) for name, guide in content["dimensions"].items()}
    return Guidelines(intro=content["intro"], dimensions=guides)
