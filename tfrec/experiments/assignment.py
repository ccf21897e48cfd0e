"""Which arm a user is in: always the same one, by chance, and independent of all other experiments.

The keyed hash of the user, with the experiment and its number as the key, is a fraction that is even from 0 to 1. The arms lie
side by side on it, each as wide as its share. Users are pseudonyms, which no caller can choose.
"""
from collections.abc import Mapping
from hashlib import blake2b

BOTH = "both"  # the arm of a user who gets two arms in one answer
_DIGITS = 2.0**-64


def fraction(user: str, salt: str) -> float:
    """A number from 0 to 1 by which a user is assigned; another salt makes an independent one."""
    return int.from_bytes(blake2b(user.encode(), key=salt.encode(), digest_size=8).digest()) * _DIGITS


def arm_of(user: str, salt: str, shares: Mapping[str, float]) -> str | None:
    """The arm of a user; None if the user takes no part.

    Args:
        user: a pseudonym.
        salt: names the experiment, in at most 64 bytes.
        shares: of the arms, in their order; together at most 1.
    """
    left = fraction(user, salt)
    for arm, share in shares.items():
        if left < share:
            return arm
        left -= share
    return None
