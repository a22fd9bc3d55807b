"""A thought as people read it, out of the text that the model writes."""

from __future__ import annotations

_TAGS = ("<think>", "</think>", "<answer>")


def readable_thought(raw: str) -> str:
    """Return the text inside `<think>`, also while it is still being written; it grows by appending only."""
    text = raw.lstrip().removeprefix("<think>")
    cut = min((text.find(tag) for tag in ("</think>", "<answer>") if tag in text), default=None)
    if cut is not None:
        return text[:cut].strip("\n")
    # A tag that has only begun to arrive is held back, or it would show and vanish again.
    begun = next((size for size in range(9, 0, -1) if any(tag.startswith(text[-size:]) for tag in _TAGS)), 0)
    return (text[:-begun] if begun else text).lstrip("\n")
