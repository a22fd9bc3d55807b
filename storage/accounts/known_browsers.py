"""Marks of browsers that were signed in to an account before: they spare their owner the waits that strangers cause.

A mark is a random number, signed for one account with a key that only the store has: the password's own hash. It opens
nothing, it only says that the right password was typed in this browser once; so it may outlive the sign-in. Marks need no
table, and all of an account's end with its password.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from itertools import islice

# More accounts than people share a browser; also what a forged cookie can make the server compute.
MOST_MARKS = 8


def new_mark(user_id: int, password_hash: str) -> str:
    """Make the mark of a browser in which the password of this account was just typed."""
    nonce = secrets.token_urlsafe(16)
    return f"{nonce}.{_signature(user_id, password_hash, nonce)}"


def known_mark(marks: Iterable[str], user_id: int, password_hash: str) -> str | None:
    """Return the one of a browser's marks that was made for this account and this password; None without one."""
    for mark in islice(marks, MOST_MARKS):
        nonce, _, signature = mark.partition(".")
        expected = _signature(user_id, password_hash, nonce)
        if hmac.compare_digest(signature.encode("utf-8", "replace"), expected.encode()):
            return mark
    return None


def mark_fingerprint(mark: str) -> str:
    """Shorten a mark to what its failures are counted under."""
    return hashlib.sha256(mark.encode("utf-8", "replace")).hexdigest()[:32]


def _signature(user_id: int, password_hash: str, nonce: str) -> str:
    text = f"known browser {user_id} {nonce}".encode("utf-8", "replace")
    return hmac.new(password_hash.encode(), text, hashlib.sha256).hexdigest()
