"""The columns of a pair in a table: named by the caller, or guessed from the field's usual names.

columns = pair_columns(("caption", "video_0_path", "video_1_path"), "votes.json")
columns.prompt, columns.video_a                     # ("caption", "video_0_path")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from descore.errors import TableError

ROLES = ("video_a", "video_b", "prompt", "label")
VIDEO_NAMES = (
    ("path_a", "path_b"),  # VideoAlign, VideoGen-RewardBench
    ("video_a", "video_b"),
    ("video_path_a", "video_path_b"),
    ("video_a_path", "video_b_path"),
    ("left_video", "right_video"),  # GenAI-Bench
    ("video_left", "video_right"),
    ("video_left_path", "video_right_path"),
    ("video_1", "video_2"),
    ("video1", "video2"),
    ("video_1_path", "video_2_path"),
    ("path_1", "path_2"),
    ("video_0", "video_1"),
    ("video_0_path", "video_1_path"),
    ("chosen", "rejected"),  # preferences for DPO: the first is the better one
    ("chosen_video", "rejected_video"),
)
PROMPT_NAMES = ("prompt", "caption", "text_prompt", "prompt_text", "text", "instruction")
# TA, text alignment, is what DeScore judges; the other columns of VideoAlign's labels are no label here.
LABEL_NAMES = ("ta", "label", "vote_type", "overall_preference", "preference", "human_preference", "gsb", "winner", "choice")


@dataclass(frozen=True)
class PairColumns:
    """Which column of a table says what.

    Attributes:
        video_a, video_b: the paths of the videos.
        prompt: the text that both were made from.
        label: people's preference; None where no column has it.
    """

    video_a: str
    video_b: str
    prompt: str
    label: str | None

    @property
    def ordered_by_preference(self) -> bool:
        """Whether the first video is the better one by the names of the columns (chosen, rejected)."""
        return plain_name(self.video_a).startswith("chosen") and plain_name(self.video_b).startswith("rejected")


def parse_mapping(texts: Sequence[str], roles: Sequence[str] = ROLES) -> dict[str, str]:
    """Read `prompt=caption,video_a=video_0_path`, given once or in several texts.

    Args:
        texts: as they were typed.
        roles: that may be named.

    Raises:
        ValueError: not of that form, or an unknown role.
    """
    mapping: dict[str, str] = {}
    for part in (part for text in texts for part in text.split(",")):
        role, equals, column = (piece.strip() for piece in part.partition("="))
        if not equals or role not in roles or not column or role in mapping:
            raise ValueError(f"--map takes ROLE=COLUMN with the roles {', '.join(roles)}, each once (got {part.strip()!r})")
        mapping[role] = column
    return mapping


def pair_columns(columns: Sequence[str], name: str, mapping: Mapping[str, str] | None = None) -> PairColumns:
    """Decide which columns hold a pair; case, blanks and hyphens in names don't matter.

    Args:
        columns: of the table.
        name: of the file, for messages.
        mapping: role to column, for those that are not to be guessed.

    Raises:
        TableError: columns are missing, or two could be meant; the message says how to name them.
    """
    found = found_columns(columns, name, mapping)
    missing = [role for role in ROLES[:3] if role not in found]
    if missing:
        usual = "path_A, path_B, prompt"
        has = ", ".join(columns)[:200] or "none"
        hint = f"it has {has}; usual names are {usual}, others are named by --map {missing[0]}=COLUMN"
        raise TableError(name, f"lacks the columns {', '.join(missing)}; {hint}")
    return PairColumns(found["video_a"], found["video_b"], found["prompt"], found.get("label"))


def found_columns(columns: Sequence[str], name: str, mapping: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return role -> column of those that are named or can be guessed; the others are left out.

    Args:
        columns: of the table.
        name: of the file, for messages.
        mapping: role to column, for those that are not to be guessed, "" where a role has no column; further roles are
            looked up too.

    Raises:
        TableError: a named column is missing, or two could be the videos.
    """
    by_plain = {plain_name(column): column for column in columns}
    mapping = mapping or {}
    found = {role: _mapped(column, columns, by_plain, name) for role, column in mapping.items() if column}
    if "video_a" not in mapping and "video_b" not in mapping:
        found |= _videos(by_plain, name)
    for role, names in (("prompt", PROMPT_NAMES), ("label", LABEL_NAMES)):
        if role not in mapping and (guess := next((known for known in names if known in by_plain), None)):
            found[role] = by_plain[guess]
    return found


def plain_name(column: str) -> str:
    """Return a column's name without what doesn't matter in it: case, blanks, hyphens."""
    return "_".join(column.lower().replace("-", " ").replace("_", " ").split())


def _videos(by_plain: Mapping[str, str], name: str) -> dict[str, str]:
    pairs = [(first, second) for first, second in VIDEO_NAMES if first in by_plain and second in by_plain]
    if not pairs:
        return {}
    if len({frozenset(pair) for pair in pairs}) > 1:
        listed = "; ".join(f"{by_plain[first]}, {by_plain[second]}" for first, second in pairs)
        hint = f"say which by --map video_a={by_plain[pairs[0][0]]},video_b={by_plain[pairs[0][1]]}"
        raise TableError(name, f"has several columns that could be the videos ({listed}); {hint}")
    return {"video_a": by_plain[pairs[0][0]], "video_b": by_plain[pairs[0][1]]}


def _mapped(column: str, columns: Sequence[str], by_plain: Mapping[str, str], name: str) -> str:
    if column in columns:
        return column
    if plain_name(column) in by_plain:
        return by_plain[plain_name(column)]
    raise TableError(name, f"has no column {column!r}, which --map names; it has {', '.join(columns)[:200]}")
