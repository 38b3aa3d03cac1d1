"""An examination: one model asked all items of one benchmark, as a spec that names its record in the store."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Examination:
    """Stored as a run is: ``run.json``, one measurement for each metric, and ``answers.parquet`` item by item."""

    model: str
    """A stored run's fingerprint, ``hf:owner/name``, or a reference that knows nothing or everything: ``oracle``,
    ``random``, ``longest``, ``majority``."""
    benchmark: str
    """As ``parrotlab eval --list`` names it: ``arc_easy``."""
    split: str
    """Of the data set: ``test``, ``dev``, ``train``."""
    shots: int
    """Solved examples in front of each item."""
    limit: int
    """Items asked, at most; 0 for all."""
    data_sha256: str
    """Of the benchmark's file."""
    tokenizer: str
    """What turned text into the model's tokens; empty for a reference, which reads none."""
    revision: int
    """Raised where the same items come to be asked in another way."""
