"""The lineage of checkpoints as a picture: an SVG of boxes, each joined to the checkpoint that it was trained from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from app.ui.markup import joined
from app.ui.wording import share
from storage.training.model_registry import Checkpoint

BOX_WIDTH, BOX_HEIGHT = 176, 40  # of the drawing's units, which are CSS pixels
COLUMN, ROW, MARGIN = 226, 52, 4
LONGEST_NAME = 22  # characters that a box holds
EDGES = {"better": "is-better", "worse": "is-worse"}


@dataclass(frozen=True)
class _Box:
    """A checkpoint at its place: generation counted from the first, row from the top."""

    checkpoint: Checkpoint
    generation: int
    row: int

    @property
    def left(self) -> int:
        return MARGIN + self.generation * COLUMN

    @property
    def top(self) -> int:
        return MARGIN + self.row * ROW


def lineage_view(checkpoints: Mapping[int, Checkpoint], serving_id: int | None, served: set[int]) -> Markup:
    """Draw the lineage; nothing for fewer than two checkpoints.

    Args:
        checkpoints: by id, deleted ones too, since others descend from them.
        serving_id: the one that serves now.
        served: ids of those that have ever served.
    """
    if len(checkpoints) < 2:
        return Markup("")
    boxes = _placed(checkpoints)
    width = 2 * MARGIN + BOX_WIDTH + COLUMN * max(box.generation for box in boxes.values())
    height = 2 * MARGIN + BOX_HEIGHT + ROW * max(box.row for box in boxes.values())
    text = "; ".join(_sentence(box.checkpoint, checkpoints, serving_id) for box in boxes.values())
    return Markup(
        '<figure class="train-lineage"><div class="ds-scroll" tabindex="0" role="group" aria-label="Picture of the lineage">'
        '<svg width="{0}" height="{1}" viewBox="0 0 {0} {1}" role="img" aria-label="{2}">{3}{4}</svg></div>'
        "<figcaption>Each checkpoint stands right of the one that it was trained from. Filled: serves now. Thick edge: has "
        "served. Line: better (solid), worse or not shown to be better (dashed).</figcaption></figure>"
    ).format(
        width,
        height,
        f"Lineage of checkpoints: {text}.",
        joined(_edge(box, boxes) for box in boxes.values()),
        joined(_node(box, checkpoints, serving_id, served) for box in boxes.values()),
    )


def _placed(checkpoints: Mapping[int, Checkpoint]) -> dict[int, _Box]:
    """Give each checkpoint its place: the first child goes on in its parent's row, each other one begins a new row."""
    children: dict[int | None, list[Checkpoint]] = {}
    for checkpoint in sorted(checkpoints.values(), key=lambda checkpoint: checkpoint.id):
        parent = checkpoint.parent_id if checkpoint.parent_id in checkpoints else None
        children.setdefault(parent, []).append(checkpoint)
    boxes: dict[int, _Box] = {}
    last_row = -1
    # Depth first, without recursion: a lineage of many retrains is deep. None: a row of its own.
    waiting: list[tuple[Checkpoint, int, int | None]] = [(root, 0, None) for root in reversed(children.get(None, []))]
    while waiting:
        checkpoint, generation, row = waiting.pop()
        if row is None:
            row = last_row = last_row + 1
        boxes[checkpoint.id] = _Box(checkpoint, generation, row)
        following = children.get(checkpoint.id, [])
        waiting += [(child, generation + 1, None) for child in reversed(following[1:])]
        waiting += [(child, generation + 1, row) for child in following[:1]]
    return boxes


def _edge(box: _Box, boxes: Mapping[int, _Box]) -> Markup:
    parent = boxes.get(box.checkpoint.parent_id or 0)
    if parent is None:
        return Markup("")
    left, right, middle = parent.left + BOX_WIDTH, box.left, (parent.left + BOX_WIDTH + box.left) // 2
    above, below = parent.top + BOX_HEIGHT // 2, box.top + BOX_HEIGHT // 2
    return Markup('<path class="{}" d="M{} {}C{} {} {} {} {} {}"/>').format(
        EDGES.get(_verdict(box.checkpoint), ""), left, above, middle, above, middle, below, right, below
    )


def _node(box: _Box, checkpoints: Mapping[int, Checkpoint], serving_id: int | None, served: set[int]) -> Markup:
    checkpoint = box.checkpoint
    kinds = (
        ("is-serving", checkpoint.id == serving_id),
        ("has-served", checkpoint.id in served),
        ("is-deleted", checkpoint.deleted_at is not None),
    )
    name = checkpoint.name
    if len(name) > LONGEST_NAME:
        name = f"{name[: LONGEST_NAME - 1]}\N{HORIZONTAL ELLIPSIS}"
    return Markup(
        '<g class="{}" transform="translate({} {})"><title>{}</title><rect width="{}" height="{}" rx="5"/>'
        '<text x="10" y="17">{}</text><text x="10" y="32" class="is-small">{}</text></g>'
    ).format(
        " ".join(kind for kind, applies in kinds if applies),
        box.left,
        box.top,
        _sentence(checkpoint, checkpoints, serving_id),
        BOX_WIDTH,
        BOX_HEIGHT,
        name,
        _facts(checkpoint, serving_id),
    )


def _facts(checkpoint: Checkpoint, serving_id: int | None) -> str:
    """Say in a few words what a box has room for."""
    candidate = (checkpoint.gate or {}).get("candidate")
    accuracy = candidate.get("accuracy_without_ties") if isinstance(candidate, Mapping) else None
    words: Sequence[str] = (
        "deleted" if checkpoint.deleted_at is not None else "",
        "serves now" if checkpoint.id == serving_id else "",
        f"{share(accuracy)} right" if accuracy is not None else "",
    )
    return ", ".join(filter(None, words))


def _sentence(checkpoint: Checkpoint, checkpoints: Mapping[int, Checkpoint], serving_id: int | None) -> str:
    parent = checkpoints.get(checkpoint.parent_id or 0)
    origin = f" from {parent.name}" if parent is not None else ""
    return ", ".join(filter(None, (f"{checkpoint.name}{origin}", _verdict(checkpoint), _facts(checkpoint, serving_id))))


def _verdict(checkpoint: Checkpoint) -> str:
    return str((checkpoint.gate or {}).get("verdict") or "")
