"""Objects of a JSON array or of JSON Lines, each with the line that it begins on.

    list(json_rows('[{"prompt": "a red square"}]', "pairs.json"))     # [(1, {"prompt": "a red square"})]

Files of arrays are read object by object, so that a fault is named by the line of its object.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from descore.errors import TableError

_BLANKS = " \t\r\n"
_DECODER = json.JSONDecoder()
Object = tuple[int, dict[str, Any]]


def json_rows(text: str, name: str) -> Iterator[Object]:
    """Yield the objects of a text that holds one array of them, or one object a line.

    Args:
        text: of the whole file.
        name: of the file, for messages.

    Raises:
        TableError: no JSON, or something else than objects; with the line.
    """
    return _array(text, name) if text.lstrip().startswith("[") else _lines(text, name)


def _lines(text: str, name: str) -> Iterator[Object]:
    for line, written in enumerate(text.split("\n"), start=1):
        if written.strip():
            try:
                value = json.loads(written)
            except (ValueError, RecursionError) as error:
                raise _no_json(
                    error, name, line, "; a table as JSON has an array of objects, or one object a line"
                ) from error
            yield line, _object(value, name, line)


def _array(text: str, name: str) -> Iterator[Object]:
    line, counted = 1, 0
    position = _after_blanks(text, text.index("[") + 1)
    while text[position : position + 1] != "]":
        line, counted = line + text.count("\n", counted, position), position
        try:
            value, position = _DECODER.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            raise _no_json(error, name, line) from error
        yield line, _object(value, name, line)
        position = _after_blanks(text, position)
        if text[position : position + 1] == ",":
            position = _after_blanks(text, position + 1)
        elif text[position : position + 1] != "]":
            raise TableError(name, "not JSON: the array neither ends nor goes on with a comma behind this object", line)


def _object(value: Any, name: str, line: int) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TableError(name, f"each row must be an object with its columns, and this is a {type(value).__name__}", line)
    return {key.strip(): cell for key, cell in value.items()}


def _no_json(error: Exception, name: str, line: int, hint: str = "") -> TableError:
    reason = error.msg if isinstance(error, json.JSONDecodeError) else "it is nested too deep, or holds too long a number"
    return TableError(name, f"not JSON: {reason}{hint}", line)


def _after_blanks(text: str, position: int) -> int:
    while position < len(text) and text[position] in _BLANKS:
        position += 1
    return position
