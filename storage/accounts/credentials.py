"""Passwords: what is accepted, and how they are hashed (argon2id, by argon2-cffi).

Hashing is slow on purpose (tens of milliseconds and 64 MB), so callers do it outside the store's write lock.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import unicodedata
from functools import lru_cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from storage.errors import WeakPasswordError

# Of new passwords; those from a time with a shorter limit go on working.
SHORTEST, LONGEST = 10, 200
# zxcvbn's scale: 0 and 1 fall to less than a million guesses, such as a common password with a digit behind it.
LOWEST_SCORE = 2
_ESTIMATED = 72  # characters; zxcvbn takes no more by default, since its time grows faster than the length

# The library's own parameters (RFC 9106, low-memory profile). When they change, hashes are renewed at the next sign-in.
hasher = PasswordHasher()
# A crowd that signs in at once waits here, instead of taking 64 MB each.
_at_once = threading.BoundedSemaphore(4)


def hash_password(password: str, name: str = "") -> str:
    """Hash an acceptable new password with argon2id; salt and parameters are part of the hash.

    Args:
        name: of the account, which is no password either.

    Raises:
        WeakPasswordError: too short, too long, or easy to guess: a common one, a row of keys, a date, the name.
    """
    if not SHORTEST <= len(password) <= LONGEST:
        raise WeakPasswordError(f"A password has {SHORTEST} to {LONGEST} characters; this one has {len(password)}.")
    if _score(password, name) < LOWEST_SCORE:
        raise WeakPasswordError(
            "This password is easy to guess. Choose another, such as four words that don't belong together."
        )
    return renew_hash(password)


def renew_hash(password: str) -> str:
    """Hash the password of an account as it is, with the parameters of today."""
    with _at_once:
        return hasher.hash(_plain(password))


def _score(password: str, name: str) -> int:
    from zxcvbn import zxcvbn  # its word lists take 14 MB, which only new passwords need

    return int(zxcvbn(password[:_ESTIMATED], user_inputs=[name, *name.split()])["score"])


def is_password(password_hash: str | None, password: str) -> bool:
    """Whether this is the password. Without a hash (there is no such person) it takes as long, and the answer is no."""
    nobodys = _nobodys_hash(hasher)
    if len(password) > LONGEST:  # nobody's password, and no work for it
        password = ""
    try:
        with _at_once:
            hasher.verify(password_hash or nobodys, _plain(password))
    except (VerificationError, InvalidHashError):
        return False
    return password_hash is not None


def is_outdated(password_hash: str) -> bool:
    """Whether the hash was made with other parameters than today's."""
    return hasher.check_needs_rehash(password_hash)


def _plain(password: str) -> bytes:
    """Encode a password alike however a keyboard composes accents; lone surrogates are replaced."""
    return unicodedata.normalize("NFKC", password).encode("utf-8", "replace")


@lru_cache(maxsize=1)
def _nobodys_hash(made_by: PasswordHasher) -> str:
    return made_by.hash("the password of nobody")


def new_token() -> str:
    """256 random bits, fit for a URL and a cookie."""
    return secrets.token_urlsafe(32)


def token_hash(token: str) -> str:
    """Hash a token as it is stored. A plain sha256 will do: nobody can guess 256 bits."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
