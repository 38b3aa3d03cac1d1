"""Capacity: how much a model keeps in each of its parameters, and the largest book that it knows by heart."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from parrotlab.analysis._bootstrap import SAMPLES, interval, resampled_means
from parrotlab.analysis.points import Score, points
from parrotlab.seeds import stream

FACTS = 2.0
"""Bits per parameter after 1000 exposures of a fact (Physics of Language Models 3.3, arXiv:2404.05405)."""

RANDOM_STRINGS = 3.6
"""Bits per parameter on random strings (How much do language models memorize?, arXiv:2505.24832)."""

BITS = Score(evaluation="bits", split="train", metric="bits_memorized", label="bits memorized")
ENTROPY = Score(evaluation="bits", split="train", metric="entropy", label="bits there were")

KNOWN = 0.9
"""A model knows a book of which it recalls this fraction exactly (the paper's threshold is probably the same)."""

NEARLY_ALL = 0.9
"""A model that holds this fraction of a book's entropy may have had room for more: its capacity is only bounded."""

DESIGN = ["label", "family", "width", "experts", "active_experts", "total", "active"]
MEASURED = ["bits", "entropy", "rate", "low", "high", "bound", "seeds"]


def bits_per_parameter(table: pd.DataFrame, samples: int = SAMPLES) -> pd.DataFrame:
    """One row per task and design: the bits that a model memorized over its total parameters, with its interval.

    ``table`` is ``Store.table()`` or some of its runs. Columns: task, then ``DESIGN``, then ``MEASURED``. ``bound`` is
    ``at least`` where the book was too small to fill the model. The interval is a bootstrap over seeds, as coarse as
    they are few; of 1 seed there is none.
    """
    memorized, entropies = points(table, BITS), points(table, ENTROPY).set_index("fingerprint")["score"]
    memorized = memorized.assign(entropy=memorized["fingerprint"].map(entropies)).dropna(subset=["score", "entropy"])
    rows = []
    for design, seeds in memorized.groupby(["task", *DESIGN], sort=False):
        row = dict(zip(["task", *DESIGN], design))
        bits, entropy, low, high = seeds["score"].mean(), seeds["entropy"].mean(), math.nan, math.nan
        if len(seeds) > 1:
            means = resampled_means(
                seeds["score"].to_numpy(), stream("bits per parameter", row["task"], row["label"]), samples
            )
            low, high = (end / row["total"] for end in interval(means, means))
        numbers = {"bits": bits, "entropy": entropy, "rate": bits / row["total"], "low": low, "high": high}
        rows.append(row | numbers | {"bound": "at least" if bits >= NEARLY_ALL * entropy else "", "seeds": len(seeds)})
    return pd.DataFrame(rows, columns=["task", *DESIGN, *MEASURED])


def largest_book(points: pd.DataFrame, size: str = "task.entries") -> pd.DataFrame:
    """One row per design: the largest book of which it recalls 90%, and the next larger one that was tried.

    ``points`` hold the accuracy on books of several sizes. Columns: ``DESIGN``, known, unknown, text. The capacity
    lies between ``known`` and ``unknown``; 0 if no book was known, infinite if none was too large.
    """
    rows = []
    for design, tried in points.dropna(subset=["score"]).groupby(DESIGN, sort=False):
        accuracies = tried.groupby(size)["score"].mean()
        sizes_S = accuracies.index.to_numpy(dtype=float)
        known = max(sizes_S[accuracies.to_numpy() >= KNOWN], default=0.0)
        unknown = min(sizes_S[sizes_S > known], default=math.inf)
        rows.append(dict(zip(DESIGN, design)) | {"known": known, "unknown": unknown, "text": _between(known, unknown)})
    return pd.DataFrame(rows, columns=[*DESIGN, "known", "unknown", "text"])


def _between(known: float, unknown: float) -> str:
    if known == 0:
        return f"less than the smallest tested, {unknown:,.0f}"
    if not np.isfinite(unknown):
        return f"at least the largest tested, {known:,.0f}"
    return f"{known:,.0f} to {unknown:,.0f}"
