"""Benchmarks: scores with intervals and floors, and the averages of the paper's three groups.

A floor is what an answerer scores that has read no question: the best of those examined (``random``, ``longest``,
``majority``) and of a uniform guess. A score whose interval reaches down to the floor says nothing about a model.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from parrotlab.analysis.paired import Estimate, average, combination, mean
from parrotlab.analysis.points import label

KNOWLEDGE, COMMONSENSE, MATH, PROBES = GROUPS = ("knowledge", "commonsense", "math", "probes")
AVERAGED = (KNOWLEDGE, COMMONSENSE, MATH)
"""The paper's groups; probes are ours, too unlike each other for a mean."""

BENCHMARKS = {
    **dict.fromkeys(("triviaqa", "nq_open", "hotpotqa", "web_questions", "complex_web_questions"), (KNOWLEDGE, "f1")),
    **dict.fromkeys(
        ("arc_easy", "arc_challenge", "hellaswag", "openbookqa", "piqa", "sciq"), (COMMONSENSE, "acc_norm")
    ),
    **dict.fromkeys(("commonsense_qa", "social_iqa", "winogrande"), (COMMONSENSE, "acc")),
    **dict.fromkeys(("svamp", "gsm8k", "gsm_hard", "math", "minerva_math"), (MATH, "exact_match")),
}
"""Benchmark -> its group and the score that is compared. The paper says accuracy; that of choices is normalised by
length where lm-evaluation-harness is commonly quoted so. What is not listed is a probe."""

ALL_MATH = "all of math"
"""The mean over mathematical benchmarks; ``math`` is also the name of one of them."""

TRAIN = "_train"
"""How the name of a benchmark ends that asks the training split of another."""

PROBE_METRIC = {"choice": "acc", "words": "exact_match", "math": "exact_match"}

FLOORS = ("random", "longest", "majority")
REFERENCES = (*FLOORS, "oracle")
GUESS = "uniform guess"

SETTING = ["split", "shots", "limit", "data_sha256", "revision"]
"""What two examinations of one benchmark must share to be compared."""
MODEL = ["model", "trained_on", "label", "family", "width", "experts", "active_experts", "total", "active", "seed"]
"""``trained_on`` is the task in words; models are compared with those that were trained on the same alone."""
VALUES = ["score", "low", "high"]
COLUMNS = ["benchmark", "group", *SETTING, *MODEL, "metric", *VALUES, "count", "floor", "floor_by"]


def benchmark_scores(examinations: pd.DataFrame, items: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """One row for each examination, references too, with the columns of ``COLUMNS``, ``above_floor``, ``fingerprint``.

    ``examinations`` and ``runs`` are the store's, ``items`` is ``evals.item_scores.item_scores`` of it.
    """
    models = runs.set_index("fingerprint").to_dict("index")
    described = {row["fingerprint"]: row for row in examinations.to_dict("records")}
    rows = []
    for name, scored in items.groupby("fingerprint", sort=True):
        about = described[str(name)]
        benchmark = about["benchmark"].removesuffix(TRAIN)
        group, metric = placed(benchmark, scored["kind"].iloc[0])
        headline = scored.loc[scored["metric"] == metric]
        found = mean(headline["score"].to_numpy())
        rows.append(
            {"benchmark": benchmark, "group": group}
            | {field: about[field] for field in SETTING}
            | _model(about, models.get(about["model"]))
            | {"metric": metric, "score": found.value, "low": found.low, "high": found.high, "count": len(headline)}
            | {"floor": float(headline["chance"].mean()), "floor_by": GUESS, "fingerprint": str(name)}
        )
    scores = _with_floors(pd.DataFrame(rows, columns=[*COLUMNS, "fingerprint"]))
    scores["above_floor"] = scores["low"] > scores["floor"]
    return scores.sort_values(["group", "benchmark", *SETTING, "total", "label", "seed"], ignore_index=True)


def placed(benchmark: str, kind: str) -> tuple[str, str]:
    """Its group, and the score that is compared."""
    return BENCHMARKS.get(benchmark, (PROBES, PROBE_METRIC[kind]))


def held_out(scores: pd.DataFrame) -> pd.DataFrame:
    """Of every benchmark the models' scores on what is no training split, in the setting that most of them took."""
    return _usual(scores.loc[(scores["split"] != "train") & ~scores["model"].isin(REFERENCES)])


def group_scores(scores: pd.DataFrame) -> pd.DataFrame:
    """One row for each group and model: the macro-average over the group's benchmarks.

    ``scores`` holds one row for each benchmark and model (``held_out``). A benchmark counts if any of our own runs took
    it, or anyone where there are none. A model that lacks one has no score: ``missing`` names them. Columns: group,
    ``MODEL``, score, low, high, floor, above_floor, benchmarks, missing.
    """
    rows = []
    counting = _counting(scores)
    for group in AVERAGED:
        of_group = counting.loc[counting["group"] == group]
        asked = sorted(set(of_group["benchmark"]))
        for _, own in of_group.groupby("model", sort=False):
            missing = sorted(set(asked) - set(own["benchmark"]))
            found = average(estimates(own)) if not missing else Estimate(np.nan, np.nan, np.nan)
            floor = own["floor"].mean() if not missing else np.nan
            rows.append(
                {"group": group}
                | {name: own[name].iloc[0] for name in MODEL}
                | {"score": found.value, "low": found.low, "high": found.high, "floor": floor}
                | {"above_floor": found.low > floor, "benchmarks": len(asked), "missing": ", ".join(missing)}
            )
    columns = ["group", *MODEL, "score", "low", "high", "floor", "above_floor", "benchmarks", "missing"]
    return pd.DataFrame(rows, columns=columns)


def parts_of_groups(scores: pd.DataFrame) -> pd.DataFrame:
    """What enters each group's mean, for ``matched.against_dense``; ``scores`` is ``held_out``."""
    parts = _counting(scores)
    return parts.assign(part=parts["benchmark"], weight=1 / parts.groupby("group")["benchmark"].transform("nunique"))


def parts_of_gaps(scores: pd.DataFrame) -> pd.DataFrame:
    """What enters the gap between training and test problems, as group ``ALL_MATH``, and of several each alone too.

    ``scores`` is ``benchmark_scores``; of the mathematical benchmarks those count that models took on both splits.
    """
    ours = scores.loc[(scores["group"] == MATH) & ~scores["model"].isin(REFERENCES)]
    train, test = _usual(ours.loc[ours["split"] == "train"]), held_out(ours)
    both = sorted(set(train["benchmark"]) & set(test["benchmark"]))
    parts = pd.concat([train.assign(weight=1.0), test.assign(weight=-1.0)])
    parts = parts.loc[parts["benchmark"].isin(both)]
    parts["part"] = parts["benchmark"] + " " + parts["split"]
    together = parts.assign(group=ALL_MATH, weight=parts["weight"] / max(1, len(both)))
    alone = parts.assign(group=parts["benchmark"]) if len(both) > 1 else parts.iloc[:0]
    return pd.concat([together, alone], ignore_index=True)


def train_test_gaps(parts: pd.DataFrame) -> pd.DataFrame:
    """What a model scores more on training problems of mathematics than on test problems (figure 5).

    ``parts`` is ``parts_of_gaps``. One row for each group of it and model that took all its parts. Columns: group,
    ``MODEL``, train, test, score (the gap), low, high.
    """
    rows = []
    for group, of_group in parts.groupby("group", sort=False):
        for _, own in of_group.groupby("model", sort=False):
            if len(own) < of_group["part"].nunique():
                continue
            gap = combination(estimates(own), own["weight"].tolist())
            seen = own["weight"] > 0
            means = {"train": own.loc[seen, "score"].mean(), "test": own.loc[~seen, "score"].mean()}
            about = {name: own[name].iloc[0] for name in MODEL}
            rows.append({"group": group} | about | means | dict(zip(VALUES, (gap.value, gap.low, gap.high))))
    return pd.DataFrame(rows, columns=["group", *MODEL, "train", "test", *VALUES])


def estimates(rows: pd.DataFrame) -> list[Estimate]:
    """Each row's score with its interval."""
    return [Estimate(*map(float, row)) for row in rows[VALUES].to_numpy()]


def _model(about: dict[str, Any], run: dict[str, Any] | None) -> dict[str, Any]:
    """Who was examined: a stored run with its design, or a model from elsewhere with its name and size."""
    if run is None or about["model"] in REFERENCES:
        sizes = {"total": about.get("total_parameters", np.nan), "active": about.get("active_parameters", np.nan)}
        family = "reference" if about["model"] in REFERENCES else "other"
        unknown = {"trained_on": "", "width": np.nan, "experts": np.nan, "active_experts": np.nan, "seed": np.nan}
        return {"model": about["model"], "label": about["model"], "family": family} | unknown | sizes
    dense = run["model.feedforward.type"] == "Dense"
    return {
        "model": about["model"],
        "trained_on": run["task.type"],
        "label": label(run),
        "family": "dense" if dense else "moe",
        "width": run["model.width"],
        "experts": 1 if dense else run["model.feedforward.experts"],
        "active_experts": 1 if dense else run["model.feedforward.active"],
        "total": run["total_parameters"],
        "active": run["active_parameters"],
        "seed": run["seed"],
    }


def _with_floors(scores: pd.DataFrame) -> pd.DataFrame:
    """The floor raised to that of the best reference that was asked the same items; shots mean nothing to them."""
    same = ["benchmark", "split", "limit", "data_sha256"]
    references = scores.loc[scores["model"].isin(FLOORS)].sort_values("score").drop_duplicates(same, keep="last")
    best = references[[*same, "score", "model"]].rename(columns={"score": "best", "model": "best_by"})
    joined = scores.merge(best, on=same, how="left")
    higher = joined["best"] > joined["floor"]
    joined["floor"] = joined["floor"].mask(higher, joined["best"])
    joined["floor_by"] = joined["floor_by"].mask(higher, joined["best_by"])
    return joined.drop(columns=["best", "best_by"])


def _counting(scores: pd.DataFrame) -> pd.DataFrame:
    """The rows of benchmarks that enter their group's mean."""
    averaged = scores.loc[scores["group"].isin(AVERAGED)]
    ours = averaged.loc[averaged["family"].isin(("dense", "moe"))]
    taken = ours.groupby("group")["benchmark"].agg(set)
    counts = [
        group not in taken.index or name in taken[group]
        for group, name in zip(averaged["group"], averaged["benchmark"])
    ]
    return averaged.loc[np.array(counts, dtype=bool)]


def _usual(scores: pd.DataFrame) -> pd.DataFrame:
    """Of each benchmark the setting that most models took; of equal ones that with more items, then fewer shots."""
    kept = []
    for _, rows in scores.groupby("benchmark", sort=False):
        settings = [setting for _, setting in rows.groupby(SETTING, dropna=False)]
        kept.append(
            max(settings, key=lambda each: (each["model"].nunique(), each["count"].max(), -each["shots"].max()))
        )
    return pd.concat(kept) if kept else scores
