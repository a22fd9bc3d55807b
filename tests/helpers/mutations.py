"""Damaged inputs for readers of what others send: valid ones with random edits, and how many of them a test tries.

@EXAMPLES
def test_any_table_is_read_or_refused(examples: int) -> None:
    holds_for(mutated([b"a,b\\n1,2\\n"]), examples, lambda data: check(data))
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

Value = TypeVar("Value")
Data = TypeVar("Data", str, bytes)

# `make test` tries some hundred examples, `make endurance` many more.
EXAMPLES = pytest.mark.parametrize("examples", [300, pytest.param(10_000, marks=pytest.mark.endurance)])
FEWER_EXAMPLES = pytest.mark.parametrize("examples", [80, pytest.param(3_000, marks=pytest.mark.endurance)])
_MOST_EDITS = 4


def holds_for(values: st.SearchStrategy[Value], examples: int, check: Callable[[Value], None]) -> None:
    """Try a property with so many random values; the smallest one that breaks it is shown.

    The values of `make test` are the same in each run, so that it fails for what was changed; others are new each time.
    """

    @settings(max_examples=examples, derandomize=examples < 1000, database=None, suppress_health_check=list(HealthCheck))
    @given(values)
    def each(value: Value) -> None:
        check(value)

    each()


@st.composite
def mutated(draw: st.DrawFn, seeds: Sequence[Data], pieces: Sequence[Data] = ()) -> Data:
    """Draw one of the seeds with some parts cut, doubled, moved or overwritten.

    Args:
        seeds: valid inputs.
        pieces: what is written into them, beside random bytes or letters.
    """
    data = draw(st.sampled_from(seeds))
    anything: st.SearchStrategy[Data] = st.binary(max_size=8) if isinstance(data, bytes) else st.text(max_size=4)
    inserted = st.one_of(st.sampled_from(pieces), anything) if pieces else anything
    for _ in range(draw(st.integers(1, _MOST_EDITS))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.sampled_from((0, 1, 1, 2, 4, 16, 200))))
        match draw(st.sampled_from(("write", "write", "write", "cut", "double", "end", "move"))):
            case "write":
                data = data[:start] + draw(inserted) + data[end:]
            case "cut":
                data = data[:start] + data[end:]
            case "double":
                data = data[:end] + data[start:end] + data[end:]
            case "end":
                data = data[:start]
            case _:
                data = data[:start] + data[end:] + data[start:end]
    return data


def strange_values() -> st.SearchStrategy[Any]:
    """JSON values that a reader may not expect: huge and odd numbers, half characters, NUL, other types."""
    numbers = [0, -1, 1, 2**31, 2**63, 10**30, 10**400, -(10**400), 1.5, -0.0, 1e308, float("inf"), float("nan")]
    texts = ["", " ", "\0", "\ud800", "a\udfff", "\u202e", "left", "A", "label", "x" * 5000, "0001-01-01T00:00:00+23:59"]
    plain = st.one_of(st.none(), st.booleans(), st.sampled_from(numbers), st.sampled_from(texts), st.text(max_size=4))
    few_keys = st.sampled_from(("left", "right", "A", "B", "subject", "time", "video", "\ud800", "\0"))
    return st.recursive(
        plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(few_keys, inner, max_size=3), max_leaves=6
    )


@st.composite
def mutated_json(draw: st.DrawFn, seeds: Sequence[Any]) -> str:
    """Draw the JSON text of one of the seeds with some of its values exchanged, and sometimes one that is nested deeply."""
    value = copy.deepcopy(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, _MOST_EDITS))):
        places = _places(value)
        holder, key = draw(st.sampled_from(places))
        match draw(st.sampled_from((*["exchange"] * 4, "drop", "drop", "swap", "swap", "deep"))):
            case "exchange":
                holder[key] = draw(strange_values())
            case "drop":
                del holder[key]
            case "swap":
                other, other_key = draw(st.sampled_from(places))
                holder[key] = copy.deepcopy(other[other_key])
            case _:
                holder[key] = _DEEP
        if not _places(value):
            break
    levels = draw(st.sampled_from((20, 63, 64, 65, 300, 900, 960, 980, 990, 1000, 1500)))
    kind = draw(st.sampled_from(("[]", '{"":}', '{"left":}')))
    middle = len(kind) - 1
    return json.dumps(value).replace(f'"{_DEEP}"', kind[:middle] * levels + "1" + kind[middle:] * levels)


_DEEP = "something that is nested deeply"


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Find each value inside of a JSON value, as what holds it and its key or index there."""
    found: list[tuple[Any, Any]] = []
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in list(keys):
        found += [(value, key), *_places(value[key])]
    return found
