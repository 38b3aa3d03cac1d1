"""Named randomness: every random stream is the hash of what it is for.

Neighbouring seeds share nothing, and a stream can be opened at any place without drawing the ones before it:

>>> stream("phone_book", 7, "train", 12).integers(10, size=3)
array([7, 3, 8])
"""

from __future__ import annotations

import hashlib
import operator

import numpy as np


def key(*names: str | int) -> int:
    """128 bits that belong to these names and to no others; 1 and "1" are different names."""
    plain = tuple(name if isinstance(name, str) else operator.index(name) for name in names)  # np.int64(3) is 3
    digest = hashlib.blake2b(repr(plain).encode(), digest_size=16).digest()
    return int.from_bytes(digest, "little")


def stream(*names: str | int) -> np.random.Generator:
    """A generator of its own for these names: ``stream("phone_book", seed, "train", step)``."""
    return np.random.Generator(np.random.SFC64(key(*names)))
