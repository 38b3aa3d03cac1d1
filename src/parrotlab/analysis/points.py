"""Points: of the tidy table of measurements, one row per design and seed, at the design's best learning rate.

A design is everything of a run but its seed, its learning rate and how it was judged. Of its learning rates the one
with the lowest final *training* loss, on average over seeds, is best: the score under test has no say in it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import pandas as pd

from parrotlab.results.measurement import Measurement

RATE = "recipe.learning_rate"

COLUMNS = {
    "task": "the task in words, with its fields where several tasks share these words",
    "label": "the design in words, with its fields where several designs of a task share these words",
    "family": "dense or moe",
    "width": "D",
    "layers": "blocks",
    "experts": "E; 1 if dense",
    "active_experts": "A; 1 if dense",
    "total": "parameters, embeddings included",
    "active": "parameters that one token touches, embeddings included",
    "total_body": "parameters without embeddings",
    "active_body": "parameters that one token touches, without embeddings",
    "training_flops": "of the whole training",
    "learning_rate": "the best of those tried",
    "seed": "of training",
    "score": "missing where the run failed or did not measure it",
    "lower_is_better": "is a low score a good one?",
    "fingerprint": "of the run",
}
"""What every table of points holds; the run's other columns (``task.entries``, ``model.tied``...) follow."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """The measurement on which a study compares models."""

    evaluation: str
    split: str
    metric: str
    label: str
    """What a figure's axis says."""
    lower_is_better: bool = False
    """As of a loss."""


LOSS = Score(evaluation="training", split="train", metric="loss", label="training loss", lower_is_better=True)
"""By which learning rates are chosen."""


def points(table: pd.DataFrame, score: Score) -> pd.DataFrame:
    """One row per design and seed; ``table`` is ``Store.table()`` or some of its runs.

    A failed run counts as an infinite loss. Where every learning rate of a design failed somewhere, its points stand
    at the rate that failed least, and the failed ones have no score: they are shown as missing.
    """
    if table.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    measured = [field.name for field in fields(Measurement)]
    runs = table.drop(columns=measured).drop_duplicates("fingerprint").sort_values("fingerprint", ignore_index=True)
    failed = runs["status"] == "failed"
    runs["score"] = runs["fingerprint"].map(_last(table, score)).mask(failed)
    runs["lower_is_better"] = score.lower_is_better
    chosen = _at_best_rate(runs, runs["fingerprint"].map(_last(table, LOSS)).mask(failed).fillna(math.inf))
    chosen = chosen.drop_duplicates(["design", "seed"])  # the same training, judged in two ways
    named = _named(chosen)
    order = ["task", "family", "width", "experts", "total", "label", "seed"]
    return named.sort_values(order, ignore_index=True).drop(columns="design")


def merit(points: pd.DataFrame) -> pd.Series:
    """The scores, turned around where low ones are good: the higher, the better."""
    return points["score"].mask(points["lower_is_better"].astype(bool), -points["score"])


def label(row: Mapping[str, Any]) -> str:
    """A design in words, from the columns of its flattened spec."""
    width = row["model.width"]
    if row["model.feedforward.type"] == "Dense":
        return f"dense d={width}"
    return f"MoE d={width} E={row['model.feedforward.experts']:.0f} top-{row['model.feedforward.active']:.0f}"


def _last(table: pd.DataFrame, score: Score) -> pd.Series:
    """The value at the last step, by fingerprint; NaN where that is what was measured."""
    asked = {"evaluation": score.evaluation, "split": score.split, "metric": score.metric, "part": ""}
    rows = table[(table[list(asked)] == pd.Series(asked)).all(axis=1)].sort_values("step", kind="stable")
    return rows.drop_duplicates("fingerprint", keep="last").set_index("fingerprint")["value"].astype(float)


def _at_best_rate(runs: pd.DataFrame, losses: pd.Series) -> pd.DataFrame:
    """The runs at the best learning rate of their design, which gets a number in the column ``design``."""
    keys = [name for name in runs if name.startswith(("task.", "model.", "recipe.")) and name != RATE]
    runs = runs.assign(design=runs.groupby(keys, dropna=False, sort=False).ngroup(), loss=losses)
    runs["diverged"] = runs["loss"].map(math.isinf)
    rates = runs.groupby(["design", RATE], as_index=False).agg(loss=("loss", "mean"), diverged=("diverged", "mean"))
    best = rates.sort_values(["loss", "diverged", RATE]).drop_duplicates("design")
    return runs.drop(columns=["loss", "diverged"]).merge(best[["design", RATE]])


def _named(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs with the columns of ``COLUMNS`` in front."""
    tasks = _told_apart(_tasks(runs), runs.filter(regex=r"^task\."))
    labels = pd.Series([label(row) for row in runs.to_dict("records")], runs.index)
    fields_of_design = runs.filter(regex=r"^(model|recipe)\.").drop(columns=RATE)
    for _, group in runs.groupby(tasks):
        labels[group.index] = _told_apart(labels[group.index], fields_of_design.loc[group.index])
    front = pd.DataFrame(
        {
            "task": tasks,
            "label": labels,
            "family": runs["model.feedforward.type"].map(lambda name: "dense" if name == "Dense" else "moe"),
            "width": runs["model.width"],
            "layers": runs["model.layers"],
            "experts": _of_mixtures(runs, "model.feedforward.experts"),
            "active_experts": _of_mixtures(runs, "model.feedforward.active"),
            "total": runs["total_parameters"],
            "active": runs["active_parameters"],
            "total_body": runs["total_body_parameters"],
            "active_body": runs["active_body_parameters"],
            "training_flops": runs["training_flops"],
            "learning_rate": runs[RATE],
            "seed": runs["seed"],
            "score": runs["score"],
            "lower_is_better": runs["lower_is_better"],
            "fingerprint": runs["fingerprint"],
        }
    )
    assert list(front) == list(COLUMNS)
    return front.join(runs.drop(columns=front.columns, errors="ignore"))


def _tasks(runs: pd.DataFrame) -> pd.Series:
    """The tasks in words; one that reads a corpus is called by it: ``local math``."""
    corpora = runs.reindex(columns=["task.corpus"])["task.corpus"]
    return runs["task.type"].map(_words).where(corpora.isna(), corpora.astype(str).str.replace("_", " "))


def _of_mixtures(runs: pd.DataFrame, column: str) -> pd.Series:
    """A count of experts, 1 if dense; where all models are dense, no spec has that column."""
    return runs.reindex(columns=[column])[column].mask(runs["model.feedforward.type"] == "Dense", 1).astype(int)


def _told_apart(names: pd.Series, told_by: pd.DataFrame) -> pd.Series:
    """The names; where unlike rows share one, with the fields in which these differ: ``dense d=64 layers=4``."""
    names = names.copy()
    for _, group in told_by.groupby(names):
        for column in group.columns[group.nunique(dropna=False) > 1]:
            *_, parent, field = column.split(".")
            values = group[column].dropna()
            names[values.index] += f" {parent if field == 'type' else field}=" + values.map(_number)
    return names


def _number(value: Any) -> str:
    """Whole numbers as such, although a column with gaps holds them as floats."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _words(name: str) -> str:
    """``PhoneBook`` as ``phone book``."""
    return re.sub(r"(?<!^)(?=[A-Z])", " ", name).lower()
