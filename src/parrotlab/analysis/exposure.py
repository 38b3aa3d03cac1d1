"""Accuracy by exposure: what a model knows of facts and problems, by how many training documents hold them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from parrotlab.analysis.benchmarks import MODEL
from parrotlab.analysis.paired import mean

EDGES = (0, 1, 3, 10, 30, 100)
"""Where buckets begin: none, 1-2, 3-9, 10-29, 30-99, 100 and more documents."""
COLUMNS = ["benchmark", "split", *MODEL, "bucket", "least", "score", "low", "high", "count"]


def by_exposure(scores: pd.DataFrame, items: pd.DataFrame, exposures: pd.DataFrame) -> pd.DataFrame:
    """One row for each examination and bucket with items in it, with the columns of ``COLUMNS``.

    ``scores`` is ``benchmarks.benchmark_scores`` of models trained on the corpus that ``exposures`` (item, documents)
    were counted in; ``items`` is ``evals.item_scores.item_scores``. Items that were not counted are left out.
    """
    counted = items.merge(exposures, on="item")
    rows = []
    for about in scores.to_dict("records"):
        own = counted.loc[(counted["fingerprint"] == about["fingerprint"]) & (counted["metric"] == about["metric"])]
        for least, group in own.groupby(own["documents"].map(_least)):
            found = mean(group["score"].to_numpy())
            rows.append(
                {name: about[name] for name in ("benchmark", "split", *MODEL)}
                | {"bucket": bucket(int(least)), "least": int(least)}
                | {"score": found.value, "low": found.low, "high": found.high, "count": len(group)}
            )
    return pd.DataFrame(rows, columns=COLUMNS)


def bucket(least: int) -> str:
    """The name of the bucket that begins there.

    >>> [bucket(least) for least in EDGES]
    ['0', '1–2', '3–9', '10–29', '30–99', '≥ 100']
    """
    place = EDGES.index(least)
    if place == len(EDGES) - 1:
        return f"≥ {least}"
    last = EDGES[place + 1] - 1
    return str(least) if last == least else f"{least}–{last}"


def _least(documents: int) -> int:
    return EDGES[int(np.searchsorted(EDGES, documents, side="right")) - 1]
