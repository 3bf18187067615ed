"""Secrets of accounts: drawn at random, shown once, kept as argon2id hashes only."""

import secrets

import argon2

from shared.errors import UnavailableError

SECRET_BYTES = 24
"""192 random bits: 32 characters that need no quoting in a shell or a URL."""
MEMORY_KIB = 19_456
PASSES = 2
LANES = 1

_hasher = argon2.PasswordHasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES)


def new_secret() -> str:
    """Return a fresh secret."""
    return "k" + secrets.token_urlsafe(SECRET_BYTES)[1:]  # never a leading dash, which commands take for an option


def hash_secret(secret: str) -> str:
    """Return the argon2id hash of `secret`, with its salt and parameters. Takes some 45 ms of one core."""
    return _hasher.hash(secret)


def secret_matches(secret_hash: str, secret: str) -> bool:
    """Whether `secret_hash` is that of `secret`; the same work for yes and no.

    Raises `UnavailableError` when the stored hash cannot be read: that is our fault, not the caller's.
    """
    try:
        return _hasher.verify(secret_hash, secret)
    except argon2.exceptions.VerifyMismatchError:
        return False
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        raise UnavailableError(
            "a stored secret hash is unreadable: give the account a new one with `keyway account rotate`"
        ) from None
