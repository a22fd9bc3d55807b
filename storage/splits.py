"""Stable random draws: the same for the same inputs, on every machine and at any time."""

from __future__ import annotations

import hashlib
from typing import Literal

# What is held out from training: single pairs, or whole prompts with all their pairs.
SplitBy = Literal["pairs", "prompts"]

_BITS = 53  # all that a float holds exactly


def stable_share(*parts: str | int) -> float:
    """Draw a number in [0, 1) that depends on the parts alone, spread evenly over them."""
    text = "\x1f".join(map(str, parts))
    digest = hashlib.sha256(text.encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> (64 - _BITS)) / (1 << _BITS)


def pair_identity(content_a: str, content_b: str, prompt: str) -> str:
    """Hash two videos (by the sha256 of their files) and their prompt, whichever of the two is A."""
    parts = [*sorted((content_a, content_b)), prompt.strip()]
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()


def is_held_out(key: str, share: float) -> bool:
    """Whether a pair is kept from training: once held out, always; a larger share only adds pairs.

    Args:
        key: its identity, or `split_key` where whole prompts are held out.
    """
    return stable_share("held-out", key) < share


def split_key(by: SplitBy, identity: str, prompt: str) -> str:
    """Return what decides whether a pair is held out: the pair itself, or its prompt and so all pairs of it together."""
    return identity if by == "pairs" else f"prompt {hashlib.sha256(prompt.strip().encode()).hexdigest()}"
