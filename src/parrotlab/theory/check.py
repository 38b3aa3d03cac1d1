"""A check: one theorem, what was run to test it, on how many inputs, and the verdict."""

from __future__ import annotations

from typing import NamedTuple


class Check(NamedTuple):
    """One row of the table that ``theory.verify`` makes."""

    theorem: str
    """``theorem 3.5``."""
    what: str
    """What was run, in one sentence with its numbers."""
    inputs: int
    """On how many inputs."""
    passed: bool
