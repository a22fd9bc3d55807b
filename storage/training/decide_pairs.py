"""The pairs that can decide between two checkpoints: without a label, and trained on by neither.

    pool = decision_pool(session, candidate, current)
    comparison = compare_on(session, pool, candidate, current)
    comparison.differing, comparison.sides    # sides: pair id -> +1: the candidate prefers A and the other B; -1; 0

A pair is trained on where it, one of its videos or its prompt stood in the training pairs of a run that a checkpoint
descends from. Only pairs on which the two prefer different videos carry news, so people are asked about these alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import or_, select

from storage.analysis.reward_margins import margins
from storage.errors import StorageError
from storage.pairs import OWN_SOURCE
from storage.schema import CampaignPairRow, Mode, PairRow, UploadRow
from storage.splits import stable_share
from storage.training.model_registry import BASE, Checkpoint, lineage
from storage.training.trained_pairs import trained_contents

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

# Pairs whose videos come up for the n-th time stand behind those of the (n - 1)-th; beyond this, all together.
MOST_LAYERS = 8


@dataclass(frozen=True)
class DecisionPool:
    """Pairs without a label that neither checkpoint was trained on.

    Attributes:
        pair_ids: in a random order that stays the same for the two checkpoints.
        known_videos: pairs without a label that are left out since a video of theirs was trained on.
        known_prompts: those that are left out since their prompt was, with other videos.
        from_elsewhere: names of the two, or of checkpoints that they descend from, that were trained outside this store, on
            what nobody here can know.
    """

    pair_ids: tuple[int, ...]
    known_videos: int
    known_prompts: int
    from_elsewhere: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """The two checkpoints on the pairs of a pool.

    Attributes:
        sides: of the pairs that both have judged, by id: +1 where the candidate prefers A and the other B, -1 the other way
            round, 0 where they prefer the same video.
        unjudged: pairs that one of them has not judged, in the order of the pool.
    """

    sides: Mapping[int, int] = field(hash=False)
    unjudged: tuple[int, ...]

    @property
    def differing(self) -> tuple[int, ...]:
        """The pairs on which they prefer different videos, in the order of the pool."""
        return differing_of(self.sides)


def decision_pool(session: Session, candidate: Checkpoint, current: Checkpoint) -> DecisionPool:
    """Find the pairs without a label that neither was trained on."""
    videos, prompts = trained_contents(session, (candidate.id, current.id))
    usable: list[int] = []
    seen: set[Any] = set()  # two pairs with the same videos and prompt, in either order, are one
    known_videos = known_prompts = 0
    for row in session.execute(_unlabelled()):
        content = frozenset((row.video_a_id, row.video_b_id)), row.prompt_hash
        if content in seen:
            continue
        seen.add(content)
        if row.video_a_id in videos or row.video_b_id in videos:
            known_videos += 1
        elif row.prompt_hash in prompts:
            known_prompts += 1
        else:
            usable.append(row.id)
    seed = (candidate.fingerprint, current.fingerprint)
    return DecisionPool(
        pair_ids=tuple(sorted(usable, key=lambda pair_id: stable_share("decide", *seed, pair_id))),
        known_videos=known_videos,
        known_prompts=known_prompts,
        from_elsewhere=tuple(
            dict.fromkeys(
                ancestor.name
                for checkpoint in (candidate, current)
                for ancestor in lineage(session, checkpoint.id)
                if ancestor.run_id is None and ancestor.location != BASE
            )
        ),
    )


def compare_on(session: Session, pool: DecisionPool, candidate: Checkpoint, current: Checkpoint) -> Comparison:
    """Compare what both prefer on the pairs that both have judged.

    Raises:
        StorageError: one of them gives no rewards.
    """
    new, old = (margins(session, each.fingerprint, mode=judging_mode(each)) for each in (candidate, current))
    sides = {pair_id: _side(new[pair_id], old[pair_id]) for pair_id in pool.pair_ids if pair_id in new and pair_id in old}
    return Comparison(sides, tuple(pair_id for pair_id in pool.pair_ids if pair_id not in sides))


def differing_of(sides: Mapping[int, int]) -> tuple[int, ...]:
    """List the pairs on which the two prefer different videos."""
    return tuple(pair_id for pair_id, side in sides.items() if side)


def judging_mode(checkpoint: Checkpoint) -> Mode:
    """Return the mode whose reward counts for a checkpoint.

    Raises:
        StorageError: it writes a score and gives no reward.
    """
    paradigm = (checkpoint.settings or {}).get("paradigm", "think-then-score")
    if paradigm == "generative":
        raise StorageError(f"{checkpoint.name} writes its score in words and gives no reward; compare it in the gate alone")
    return "quick" if paradigm == "discriminative" else "think"


def in_layers(session: Session, pair_ids: Sequence[int]) -> list[list[int]]:
    """Sort pairs so that those whose videos and prompt have not come up yet come first.

    A second pair of the same video tells less than one of a new video, and the test takes pairs as independent. The order
    depends on nothing that the checkpoints say, so what is labelled first stays a fair sample.
    """
    contents = _contents(session, pair_ids)
    seen: Counter[Any] = Counter()
    layers: list[list[int]] = [[] for _ in range(MOST_LAYERS)]
    for pair_id in pair_ids:
        keys = contents[pair_id]
        layers[min(max(seen[key] for key in keys), MOST_LAYERS - 1)].append(pair_id)
        seen.update(keys)
    return [layer for layer in layers if layer]


def _side(new: float, old: float) -> int:
    """Which video the candidate prefers, if the other one prefers the other video. A margin of 0 prefers none."""
    return (1 if new > 0 else -1) if new * old < 0 else 0


def _unlabelled() -> Any:
    """Select the pairs that nobody labelled, flagged or knows the answer of; visitors' own videos are nobody's to label."""
    touched = select(CampaignPairRow.pair_id).where(
        or_(
            CampaignPairRow.labelled > 0,
            CampaignPairRow.consensus.is_not(None),
            CampaignPairRow.is_gold,
            CampaignPairRow.state != "open",
        )
    )
    uploaded = select(UploadRow.video_id).where(UploadRow.video_id.is_not(None))
    return (
        select(PairRow.id, PairRow.video_a_id, PairRow.video_b_id, PairRow.prompt_hash)
        .where(
            PairRow.id.not_in(touched),
            PairRow.source != OWN_SOURCE,
            PairRow.video_a_id.not_in(uploaded),
            PairRow.video_b_id.not_in(uploaded),
        )
        .order_by(PairRow.id)
    )


def _contents(session: Session, pair_ids: Sequence[int]) -> dict[int, tuple[Any, ...]]:
    """Videos and prompt of each pair."""
    columns = (PairRow.id, PairRow.video_a_id, PairRow.video_b_id, PairRow.prompt_hash)
    contents: dict[int, tuple[Any, ...]] = {}
    for start in range(0, len(pair_ids), 1000):
        rows = session.execute(select(*columns).where(PairRow.id.in_(pair_ids[start : start + 1000])))
        contents.update({row.id: (row.video_a_id, row.video_b_id, row.prompt_hash) for row in rows})
    return contents
