"""Each mixture beside the dense model nearest to it in size, item by item: which differences are more than noise."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from parrotlab.analysis.paired import difference

LEVEL = 0.05
"""A difference of a larger p is called noise. Of many comparisons, one in twenty passes without a reason."""

COLUMNS = [
    "benchmark", "group", "trained_on", "label", "dense", "total", "dense_total", "difference", "low", "high", "p",
    "items", "detectable", "real",
]  # fmt: skip


def nearest_dense(scores: pd.DataFrame, items: pd.DataFrame, axis: Literal["total", "active"]) -> pd.DataFrame:
    """One row for each benchmark and mixture, with the columns of ``COLUMNS``.

    ``scores`` is ``benchmarks.held_out``, ``items`` ``evals.item_scores.item_scores``. Only items that both answered
    count. ``detectable`` is the difference that so many items show with a power of 80%; ``real`` says that p is below
    ``LEVEL`` and that one of the two is above the floor.
    """
    answered = {key: own.set_index("item")["score"] for key, own in items.groupby(["fingerprint", "metric"])}
    rows = []
    for (benchmark, group, task), own in scores.groupby(["benchmark", "group", "trained_on"], sort=False):
        dense = own.loc[own["family"] == "dense"]
        for mixture in own.loc[own["family"] == "moe"].to_dict("records") if len(dense) else ():
            distance = (np.log(dense[axis].astype(float)) - np.log(mixture[axis])).abs()
            distance += (dense["seed"] != mixture["seed"]) * 1e-9  # of equally near ones the same seed
            near = dense.loc[distance.idxmin()].to_dict()
            pair = [answered[each["fingerprint"], each["metric"]] for each in (mixture, near)]
            both = pd.concat(pair, axis=1, join="inner").to_numpy()
            if not len(both):
                continue
            found = difference(both[:, 0], both[:, 1])
            rows.append(
                {"benchmark": benchmark, "group": group, "trained_on": task}
                | {"label": mixture["label"], "dense": near["label"]}
                | {"total": mixture["total"], "dense_total": near["total"], "difference": found.value}
                | {"low": found.low, "high": found.high, "p": found.p, "items": found.items}
                | {"detectable": found.detectable}
                | {"real": found.p < LEVEL and (mixture["above_floor"] or near["above_floor"])}
            )
    return pd.DataFrame(rows, columns=COLUMNS)
