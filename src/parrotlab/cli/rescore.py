"""``parrotlab rescore``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from parrotlab.cli._show import show_json, show_table


def rescore(
    mode: Positional[Literal["strict", "flexible", "normalised"] | None] = None,
    *,
    store: Path = Path("results"),
    json: bool = False,
) -> int:
    """Score the stored answers again, without any model, and print them beside what was stored. Nothing is edited.

    Args:
        mode: Which score of each kind of item is read; all where none is named. strict: the likeliest choice, words
            and final answers as they are written. flexible: F1 of words, and any equal final answer. normalised:
            also choices by the likelihood of each of their bytes.
        store: The folder of results.
        json: Print JSON.
    """
    from parrotlab.cli.sql import existing
    from parrotlab.results.store import Store

    rows = rescored(Store(existing(store)), mode)
    if not rows:
        raise ValueError(f"the store {store} holds no examination: make one with parrotlab eval")
    (show_json if json else show_table)(rows)
    return 0


def rescored(store: Any, mode: Literal["strict", "flexible", "normalised"] | None) -> list[dict[str, Any]]:
    """One row for each examination and metric; ``stored`` is missing where that metric was not stored."""
    from parrotlab.analysis.paired import mean
    from parrotlab.evals.item_scores import item_scores

    examined = store.examinations().set_index("fingerprint")
    measured = store.measurements().to_pandas().set_index(["fingerprint", "metric"])["value"]
    rows = []
    for (fingerprint, metric), items in item_scores(store, mode, again=True).groupby(
        ["fingerprint", "metric"], sort=False
    ):
        found = mean(items["score"].to_numpy())
        rows.append(
            {name: examined.loc[fingerprint, name] for name in ("model", "benchmark", "split")}
            | {"shots": int(examined.loc[fingerprint, "shots"]), "metric": metric}
            | {"score": found.value, "low": found.low, "high": found.high, "items": len(items)}
            | {"stored": float(measured.get((fingerprint, metric), float("nan")))}
        )
    return sorted(rows, key=lambda row: (row["benchmark"], row["split"], row["model"], row["metric"]))
