"""Text of a table in the encodings that spreadsheets write.

    decode(b"\\xef\\xbb\\xbfpath_A;path_B;prompt", "pairs.csv").text      # "path_A;path_B;prompt"

UTF-8 with or without a byte order mark; UTF-16 with one ("Unicode text" of Excel), or without one where every other byte
is zero; else Windows-1252, with a note, since nothing in a file says so.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

from descore.errors import TableError

_UTF_16 = ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_HEAD = 200  # bytes that show which bytes of a character are zero
_LETTERS_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]")


@dataclass(frozen=True)
class Note:
    """Something to know about a line, which does not stand in the way."""

    line: int
    reason: str


@dataclass(frozen=True)
class DecodedText:
    """The text of a file.

    Attributes:
        text: without a byte order mark, line ends as they were.
        encoding: Python's name of it.
        note: what the reader should know, with its line, or None.
    """

    text: str
    encoding: str
    note: Note | None = None


def decode(data: bytes, name: str) -> DecodedText:
    """Decode a file's bytes.

    Args:
        name: of the file, for messages.

    Raises:
        TableError: the bytes are no text in an encoding that is known; with the line.
    """
    for mark, encoding in _UTF_16:
        if data.startswith(mark):
            return DecodedText(_strict(data[len(mark) :], encoding, name), encoding)
    if unmarked := _unmarked_utf_16(data[:_HEAD]):
        return DecodedText(_strict(data, unmarked, name), unmarked)
    try:
        return DecodedText(data.decode("utf-8-sig"), "utf-8")
    except UnicodeDecodeError as error:
        return _windows_1252(data, error, name)


def _unmarked_utf_16(head: bytes) -> str | None:
    """Recognise UTF-16 of mostly Latin letters, as a header is: every other byte is zero."""
    even, odd = head[::2].count(0), head[1::2].count(0)
    if max(even, odd) <= len(head) / 4 or min(even, odd) > len(head) / 8:
        return None
    return "utf-16-be" if even > odd else "utf-16-le"


def _strict(data: bytes, encoding: str, name: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].decode(encoding, errors="replace").count("\n") + 1
        raise TableError(
            name, f"not {encoding.upper()} from here on; save the table as UTF-8 and try again", line
        ) from error


def _windows_1252(data: bytes, error: UnicodeDecodeError, name: str) -> DecodedText:
    line = data[: error.start].count(b"\n") + 1
    byte = f"byte 0x{data[error.start]:02x} is not UTF-8"
    # Whole UTF-8 letters elsewhere: a damaged UTF-8 file, which Windows-1252 would turn into other letters without a word.
    if _LETTERS_BEYOND_ASCII.search(data.decode("utf-8", errors="ignore")):
        raise TableError(name, f"{byte}, though other letters are; the file is damaged, save it anew as UTF-8", line)
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError as other:
        line = data[: other.start].count(b"\n") + 1
        byte = f"byte 0x{data[other.start]:02x} is neither UTF-8 nor Windows-1252"
        raise TableError(name, f"{byte}; save the table as UTF-8 and try again", line) from error
    reason = f"{byte}; the table is read as Windows-1252, check the prompts or save it as UTF-8"
    return DecodedText(text, "cp1252", Note(line, reason))
