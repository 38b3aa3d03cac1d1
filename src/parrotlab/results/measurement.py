"""A measurement: one number, and what it is the number of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """``value`` is the mean over ``count`` items unless the metric's name says otherwise."""

    evaluation: str
    """Who measured: ``exact_match``, ``bits``, ``training``, ``routing``..."""
    split: str
    """``train`` or ``test``."""
    metric: str
    """What: ``accuracy``, ``bits_memorized``, ``loss`` (nats a token)..."""
    value: float
    count: int
    """Items judged."""
    step: int
    """Training steps before it was taken."""
    part: str = ""
    """The part of the model or of the data that it speaks of: ``layer 1 expert 3``, ``vertices=9``."""
