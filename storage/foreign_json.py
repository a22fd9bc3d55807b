"""JSON of others, read so that what comes out can be compared, printed, stored and sent on.

    read_json('{"note": "two squares"}')

Python's own reader lets through what breaks a later step: numbers without bounds, half characters ("\\ud800"), and depths at
which `repr`, `==` or `json.dumps` run out of stack, since they are called from deeper down than the reader was.
"""

from __future__ import annotations

import json
import math
import sys
from typing import Any

from descore.prompt import text_problem

# Finite numbers are not larger. `math.isfinite` itself raises for a whole number of some hundred digits.
LARGEST_FLOAT = sys.float_info.max
DEEPEST = 64  # levels; the deepest thing that anybody here writes has six
_LARGEST_WHOLE = 2**64  # seeds and ids have up to 64 bits
_SHOWN = 40  # characters of a key in a message


def read_json(text: str | bytes | bytearray) -> Any:
    """Read one JSON value.

    Raises:
        ValueError: it is no JSON, or holds what can't be kept; the message says which, without the words of the text.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _not_json(error) from None
    check_json(value)
    return value


def read_json_at(text: str, position: int) -> tuple[Any, int]:
    """Read the JSON value that begins at a position of a text; return it, and where it ends.

    Raises:
        ValueError: as `read_json`.
    """
    try:
        value, end = _DECODER.raw_decode(text, position)
    except (ValueError, RecursionError) as error:
        raise _not_json(error) from None
    check_json(value)
    return value, end


def check_json(value: Any) -> None:
    """Refuse a value that was read from JSON and can't be kept.

    Raises:
        ValueError: it is too deep, holds a number out of bounds, or a text with a character that can't be stored.
    """
    waiting: list[tuple[str, Any, int]] = [("it", value, 0)]
    while waiting:
        name, one, depth = waiting.pop()
        if depth > DEEPEST:
            raise ValueError(_TOO_DEEP)
        if isinstance(one, dict):
            for key, inner in one.items():
                problem = text_problem(key)
                if problem is not None:
                    raise ValueError(f"a key {problem}")
                waiting.append((key[:_SHOWN], inner, depth + 1))
        elif isinstance(one, list):
            waiting += [(name, inner, depth + 1) for inner in one]
        elif isinstance(one, str):
            problem = text_problem(one)
            if problem is not None:
                raise ValueError(f"{name} {problem}")
        elif isinstance(one, float) and not math.isfinite(one):
            raise ValueError(f"{name} is no finite number")
        elif isinstance(one, int) and abs(one) >= _LARGEST_WHOLE:
            raise ValueError(f"{name} is a whole number of more than 64 bits")


def _not_json(error: Exception) -> ValueError:
    if isinstance(error, RecursionError):
        return ValueError(_TOO_DEEP)
    if isinstance(error, json.JSONDecodeError):
        return ValueError(f"not JSON: {error}")
    if isinstance(error, UnicodeDecodeError):
        return ValueError(f"not JSON: byte {error.start} is not {error.encoding.upper()}")
    return ValueError("not JSON that can be kept: it holds a number of thousands of digits")  # Python's own limit


_TOO_DEEP = f"not JSON that can be kept: it is nested more than {DEEPEST} levels deep"
_DECODER = json.JSONDecoder()
