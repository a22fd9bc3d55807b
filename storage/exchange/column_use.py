"""Which columns of a table were read as what, which were not read, and what those may be.

use = column_use(("path_A", "path_B", "prompt", "winner"), {"video_a": "path_A", "video_b": "path_B", "prompt": "prompt"})
use.unused, use.guesses                     # ("winner",), {"winner": "label"}
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from descore.tables.pair_columns import LABEL_NAMES, PROMPT_NAMES, plain_name
from descore.tables.pair_columns import ROLES as ROLES_OF_PAIRS

ROLES = (*ROLES_OF_PAIRS, "generator_a", "generator_b", "annotator")
ROLE_WORDS = {
    "video_a": "video A",
    "video_b": "video B",
    "prompt": "prompt",
    "label": "label",
    "generator_a": "generator of A",
    "generator_b": "generator of B",
    "annotator": "annotator",
}
GENERATOR_NAMES = (
    ("a_model", "b_model"),
    ("model_a", "model_b"),
    ("generator_a", "generator_b"),
    ("left_model", "right_model"),
    ("model_left", "model_right"),
    ("chosen_model", "rejected_model"),
    ("model_1", "model_2"),
    ("model1", "model2"),
    ("generator_1", "generator_2"),
    ("model_0", "model_1"),
)
ANNOTATOR_NAMES = ("annotator", "annotator_id", "rater", "rater_id", "labeler", "labeller", "worker", "worker_id")
_USUAL = {
    "prompt": PROMPT_NAMES,
    "label": LABEL_NAMES,
    "generator_a": tuple(first for first, _ in GENERATOR_NAMES),
    "generator_b": tuple(second for _, second in GENERATOR_NAMES),
    "annotator": ANNOTATOR_NAMES,
}


@dataclass(frozen=True)
class ColumnUse:
    """What an import takes a table's columns for.

    Attributes:
        names: of all columns, in order; () where the file is no table.
        roles: role -> column, of those that were found.
        unused: columns that were not read as anything.
        guesses: unused column -> the role that its name speaks for, and that no column has.
        kept: whether unused columns stay with the pairs; else they are left out.
    """

    names: tuple[str, ...] = ()
    roles: Mapping[str, str] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    guesses: Mapping[str, str] = field(default_factory=dict)
    kept: bool = True

    def sentences(self) -> tuple[str, ...]:
        """Say it in words: what was read, what was not, and what that may be."""
        if not self.names:
            return ()
        read = ", ".join(f"{ROLE_WORDS[role]} from {self.roles[role]}" for role in ROLES if role in self.roles)
        said = [f"columns: {read}"] if read else []
        if self.unused:
            fate = "kept with the pairs" if self.kept else "left out"
            said.append(f"columns that are not used, and {fate}: {', '.join(self.unused)}")
        said += [f"column {column} may be the {ROLE_WORDS[role]}, and is not used" for column, role in self.guesses.items()]
        return tuple(said)


def column_use(names: Iterable[str], roles: Mapping[str, str], own: Collection[str] = (), *, kept: bool = True) -> ColumnUse:
    """Sort a table's columns.

    Args:
        names: of all columns, in order.
        roles: role -> column; those that the table does not have are left out.
        own: further columns that have a meaning in the format.
        kept: whether unused columns stay with the pairs.
    """
    names = tuple(names)
    found = {role: roles[role] for role in ROLES if roles.get(role) in names}
    used = {*found.values(), *own}
    unused = tuple(name for name in names if name not in used)
    guesses = {name: role for name in unused if (role := _role_of(name)) is not None and role not in found}
    return ColumnUse(names, found, unused, guesses, kept)


def together(parts: Sequence[ColumnUse]) -> ColumnUse:
    """Put the columns of several tables of one folder together."""
    names = dict.fromkeys(name for part in parts for name in part.names)
    roles = {role: column for part in parts for role, column in part.roles.items()}
    unused = {name for part in parts for name in part.unused}
    return column_use(names, roles, set(names) - unused, kept=all(part.kept for part in parts))


def guessed_generators(columns: Iterable[str]) -> dict[str, str]:
    """Return the columns of both generators by their usual names; {} where none or several could be meant."""
    by_plain = {plain_name(column): column for column in columns}
    pairs = [(first, second) for first, second in GENERATOR_NAMES if first in by_plain and second in by_plain]
    if len({frozenset(pair) for pair in pairs}) != 1:
        return {}
    return {"generator_a": by_plain[pairs[0][0]], "generator_b": by_plain[pairs[0][1]]}


def guessed_annotator(columns: Iterable[str]) -> dict[str, str]:
    """Return the column that names who labelled, by its usual names; {} where there is none."""
    by_plain = {plain_name(column): column for column in columns}
    found = next((by_plain[name] for name in ANNOTATOR_NAMES if name in by_plain), None)
    return {} if found is None else {"annotator": found}


def _role_of(column: str) -> str | None:
    return next((role for role, names in _USUAL.items() if plain_name(column) in names), None)
