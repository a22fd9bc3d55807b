"""Which pairs are kept from training: the same ones for ever, so that checkpoints of any time can be compared on them."""

from __future__ import annotations

import hashlib

from storage.hashing import stable_share


def pair_identity(content_a: str, content_b: str, prompt: str) -> str:
    """A name for two videos (by the sha256 of their files) and their prompt that does not depend on which one is A."""
    parts = [*sorted((content_a, content_b)), prompt.strip()]
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()


def is_held_out(identity: str, share: float) -> bool:
    """Whether a pair is kept from training: once held out, always; a larger share only adds pairs."""
    return stable_share("held-out", identity) < share
