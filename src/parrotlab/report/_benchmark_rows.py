"""The rows of the report's tables of benchmarks, with what is no more than noise marked."""

from __future__ import annotations

from typing import Any

import pandas as pd

from parrotlab.analysis.benchmarks import KNOWLEDGE, PROBES, REFERENCES
from parrotlab.analysis.exchange_rate import exchange_rates
from parrotlab.report._words import effective_text, interval_text, plain, rate_text
from parrotlab.studies import _benchmarks as claims

TITLES = {KNOWLEDGE: "world knowledge", PROBES: "probes"}
FAMILIES = ("dense", "moe", "other")


def title(group: str) -> str:
    """The group as it is called in text."""
    return TITLES.get(group, group)


def best_rows(held: pd.DataFrame) -> list[dict[str, Any]]:
    """For each benchmark and what models were trained on: of each family its best design, the seeds averaged.

    A score is noise unless those of all seeds lie above the floor. ``held`` is ``analysis.benchmarks.held_out``.
    """
    rows = []
    for (benchmark, trained_on), own in held.groupby(["benchmark", "trained_on"], sort=False):
        about = {name: own[name].iloc[0] for name in ("split", "metric", "count", "floor", "floor_by")}
        cells: dict[str, dict[str, Any] | None] = dict.fromkeys(FAMILIES)
        for family, of_family in own.groupby("family"):
            designs = of_family.groupby("label").agg(score=("score", "mean"), above=("above_floor", "all"))
            best = designs.loc[designs["score"].idxmax()]
            cells[family] = {"label": best.name, "score": float(best["score"]), "noise": not best["above"]}
        rows.append({"benchmark": benchmark, "trained_on": trained_on or "elsewhere"} | plain(about) | {"best": cells})
    return rows


def score_row(row: dict[str, Any]) -> dict[str, Any]:
    """An examination's score over its floor."""
    noise = not row["above_floor"] and row["model"] not in REFERENCES
    return plain(row) | {"noise": noise, "group": title(row["group"])}


def gap_rows(gaps: pd.DataFrame, scores: pd.DataFrame, items: pd.DataFrame, seen: pd.DataFrame) -> list[dict[str, Any]]:
    """The gaps, with the share of each split's items that stand in the counted corpora; missing where not counted."""
    documents = seen.groupby("item")["documents"].max()
    of_split = {}
    for (benchmark, split), own in scores.groupby(["benchmark", "split"]):
        names = items.loc[items["fingerprint"].isin(own["fingerprint"]), "item"].drop_duplicates()
        counted = names.map(documents).dropna()
        of_split[benchmark, "train" if split == "train" else "test"] = (
            float((counted > 0).mean()) if len(counted) else None
        )
    return [
        plain(row)
        | {f"{split}_seen": of_split.get((row["group"], split)) for split in ("train", "test")}
        | {"real": row["low"] > 0 or row["high"] < 0}
        for row in gaps.to_dict("records")
    ]


def matched_rows(matched: dict[str, pd.DataFrame], groups: pd.DataFrame) -> list[dict[str, Any]]:
    """The matched comparisons as a table; where fewer than two models rise above the floor, none is real."""
    risen = groups.groupby("group")["above_floor"].sum()
    told = []
    for name, rows in matched.items():
        for row in rows.to_dict("records"):
            group = f"gap, {row['group']}" if name == claims.GAP else title(row["group"])
            real = bool(row["real"]) and (name == claims.GAP or risen[row["group"]] >= 2)
            told.append(plain(row) | {"equal": claims.TOLD[name].removeprefix("equal "), "group": group, "real": real})
    return told


def rate_rows(held: pd.DataFrame) -> tuple[list[dict[str, Any]], dict[str, list[str]]]:
    """Exchange rates, benchmark by benchmark, and why others have none: reasons with their benchmarks.

    There is none where fewer than two dense models are above the floor.
    """
    rows: list[dict[str, Any]] = []
    refusals: dict[str, list[str]] = {}
    ours = held.loc[held["family"].isin(("dense", "moe"))]
    several = ours["trained_on"].nunique() > 1
    for (benchmark, task), own in ours.groupby(["benchmark", "trained_on"], sort=False):
        name = f"{benchmark} (trained on {task})" if several else str(benchmark)
        if own.loc[own["family"] == "dense", "above_floor"].sum() < 2:
            refusals.setdefault("fewer than two dense models score above the floor", []).append(name)
            continue
        try:
            rates = exchange_rates(own.assign(task=name, lower_is_better=False))
        except ValueError as refusal:
            refusals.setdefault(str(refusal).removeprefix(f"{name}: "), []).append(name)
            continue
        for row in rates.loc[rates["rate"].notna()].to_dict("records"):
            told = {"rate_text": rate_text(row), "interval_text": interval_text(row)}
            rows.append(plain(row) | told | {"effective_text": effective_text(row)})
    return rows, refusals
