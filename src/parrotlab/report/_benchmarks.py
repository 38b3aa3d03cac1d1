"""What the report says of benchmarks: scores over their floors, comparisons, and in words which of it is noise."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from parrotlab.analysis.benchmarks import (
    GROUPS,
    MATH,
    benchmark_scores,
    group_scores,
    held_out,
    parts_of_gaps,
    parts_of_groups,
    train_test_gaps,
)
from parrotlab.analysis.exposure import by_exposure
from parrotlab.analysis.matched import against_dense
from parrotlab.analysis.nearest_dense import nearest_dense
from parrotlab.analysis.points import Score, points
from parrotlab.evals import exposure
from parrotlab.evals.item_scores import item_scores
from parrotlab.figures import benchmarks as figures
from parrotlab.figures.exposure import accuracy_by_exposure
from parrotlab.figures.picture import Picture
from parrotlab.report._benchmark_rows import best_rows, gap_rows, matched_rows, rate_rows, score_row, title
from parrotlab.report._words import plain
from parrotlab.results.store import Store
from parrotlab.studies import _benchmarks as claims
from parrotlab.studies.study import Claim, Verdict

PERPLEXITY = Score(
    evaluation="perplexity", split="test", metric="perplexity", label="validation perplexity of all parts"
)
EXPOSURE = "evals.exposure.Exposure"

CAPTIONS = {
    "benchmark_groups": "Mean score of each group against total and active parameters (the paper's figure 1).",
    "benchmark_perplexity": "Mean score against validation perplexity (figure 6): what experts buy besides it.",
    "benchmark_gaps": "Scores on training problems less those on test problems (figure 5).",
    "benchmark_exposure": "Right answers by the number of training documents that hold the fact or the problem.",
}
"""Of the figures that a store may have."""


@dataclass(frozen=True, kw_only=True)
class Benchmarks:
    """The report's section on benchmarks."""

    summary: str
    verdicts: tuple[tuple[Claim, Verdict], ...]
    lacking: list[str]
    """Which models have no mean in a group, and why."""
    best: list[dict[str, Any]]
    """The best design of each family, benchmark by benchmark."""
    scores: list[dict[str, Any]]
    """Every examination: models at their best learning rates, floors, the oracle."""
    matched: list[dict[str, Any]]
    """Mixtures against dense models of equal total parameters and of equal perplexity, group by group."""
    pairs: list[dict[str, Any]]
    """Mixtures against the dense model of the nearest size, benchmark by benchmark, on the same items."""
    rates: list[dict[str, Any]]
    refusals: dict[str, list[str]]
    """Why benchmarks have no exchange rate, and which."""
    gaps: list[dict[str, Any]]
    pictures: dict[str, Picture]


def gathered(store: Store, table: pd.DataFrame) -> Benchmarks | None:
    """The section; None where nothing was examined. ``table`` is the store's."""
    examinations = store.examinations()
    items = item_scores(store) if len(examinations) else pd.DataFrame()
    if items.empty:
        return None
    scores = _at_best_rates(benchmark_scores(examinations, items, store.runs()), table)
    held = held_out(scores)
    perplexities = _perplexities(scores, table)
    groups = group_scores(held).merge(perplexities, on="model", how="left")
    parts, gap_parts = parts_of_groups(held).merge(perplexities, on="model", how="left"), parts_of_gaps(scores)
    gaps = train_test_gaps(gap_parts)
    matched = {
        claims.EQUAL_TOTAL: against_dense(parts, items, "total"),
        claims.EQUAL_PERPLEXITY: against_dense(parts, items, "perplexity"),
        claims.GAP: against_dense(gap_parts, items, "total"),
    }
    seen = _exposures(store)
    exposed = _exposed(scores, items, seen, table)
    rates, refusals = rate_rows(held)
    tables = {name: _of_best_task(rows, groups) for name, rows in (matched | {claims.GROUPS: groups}).items()}
    return Benchmarks(
        summary=summary(held),
        verdicts=tuple((claim, claim.judge(tables)) for claim in claims.CLAIMS),
        lacking=[
            f"{row['label']} has no mean in {title(row['group'])}: it did not take {row['missing']}"
            for row in groups.loc[groups["missing"] != ""].to_dict("records")
        ],
        best=best_rows(held),
        scores=[score_row(row) for group in GROUPS for row in scores.loc[scores["group"] == group].to_dict("records")],
        matched=matched_rows(matched, groups),
        pairs=[plain(row) for row in nearest_dense(held, items, "total").to_dict("records")],
        rates=rates,
        refusals=refusals,
        gaps=gap_rows(gaps, scores, items, seen),
        pictures=_pictures(groups, gaps, exposed),
    )


def summary(held: pd.DataFrame) -> str:
    """In words: where models rise above the floor, and where everything is noise."""
    if held.empty:
        return "No model has been examined on a benchmark yet, only references."
    above = held.groupby("benchmark", sort=False)["above_floor"].any()
    higher, level = list(above.index[above]), list(above.index[~above])
    told = f"On {len(higher)} of {len(above)} benchmarks some model scores above the floor"
    told += f": {', '.join(higher)}. " if higher else ". "
    if level:
        told += (
            f"On {', '.join(level)} no model does: these scores are what answerers get that read no question, "
            "and their differences are noise, drawn grey."
        )
    return told.strip()


def _at_best_rates(scores: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Of the examined runs those at their design's best learning rate, with names that tell designs apart."""
    examined = table.loc[table["fingerprint"].isin(scores["model"])] if len(table) else table
    chosen = points(examined, PERPLEXITY).set_index("fingerprint")
    kept = scores.loc[scores["model"].isin(chosen.index) | scores["family"].isin(("other", "reference"))].copy()
    for column, told in (("label", "label"), ("trained_on", "task")):
        kept[column] = kept["model"].map(chosen[told]).fillna(kept[column])
    return kept


def _of_best_task(rows: pd.DataFrame, groups: pd.DataFrame) -> pd.DataFrame:
    """Where models were trained on several tasks, the rows of the one that lifts most of them above a group's floor.

    Gaps are judged as the group of mathematics is.
    """
    trained = groups.loc[groups["trained_on"] != ""]
    risen = trained.groupby(["group", "trained_on"], as_index=False)["above_floor"].sum()
    best = risen.sort_values("above_floor", kind="stable").drop_duplicates("group", keep="last")
    best_of = best.set_index("group")["trained_on"]
    place = rows["group"].where(rows["group"].isin(best_of.index), MATH).map(best_of)
    return rows.loc[rows["trained_on"] == place]


def _perplexities(scores: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    examined = table.loc[table["fingerprint"].isin(scores["model"])] if len(table) else table
    measured = points(examined, PERPLEXITY)[["fingerprint", "score"]]
    return measured.rename(columns={"fingerprint": "model", "score": "perplexity"}).astype({"perplexity": float})


def _exposures(store: Store) -> pd.DataFrame:
    """Columns: item, documents, corpus."""
    tables = [
        pq.read_table(io.BytesIO(store.file(record.fingerprint, exposure.FILE)))
        .to_pandas()
        .assign(corpus=record.spec["corpus"])
        for record in store.records()
        if record.spec["type"] == EXPOSURE
    ]
    return pd.concat([pd.DataFrame({"item": [], "documents": [], "corpus": []}), *tables], ignore_index=True)


def _exposed(scores: pd.DataFrame, items: pd.DataFrame, seen: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Accuracy by exposure, of the models that were trained on the corpus in which documents were counted."""
    parts = [by_exposure(scores.iloc[:0], items, seen)]
    for corpus, counted in seen.groupby("corpus"):
        trained = table.loc[table["task.corpus"] == corpus, "fingerprint"] if "task.corpus" in table else ()
        own = scores.loc[scores["model"].isin(trained)]
        parts.append(by_exposure(own, items, counted))
    return pd.concat(parts, ignore_index=True)


def _with_tasks(rows: pd.DataFrame) -> pd.DataFrame:
    """Groups told apart by what models were trained on, where that was not the same for all."""
    if rows.loc[rows["trained_on"] != "", "trained_on"].nunique() < 2:
        return rows
    told = rows["group"] + rows["trained_on"].map(lambda task: f", trained on {task}" if task else ", from elsewhere")
    return rows.assign(group=told)


def _pictures(groups: pd.DataFrame, gaps: pd.DataFrame, exposed: pd.DataFrame) -> dict[str, Picture]:
    pictures = {}
    titled = _with_tasks(groups.assign(group=groups["group"].map(title)))
    gaps = _with_tasks(gaps)
    if titled["score"].notna().any():
        pictures["benchmark_groups"] = figures.group_scores(titled)
    if titled[["score", "perplexity"]].notna().all(axis=1).any():
        pictures["benchmark_perplexity"] = figures.matched_perplexity(titled)
    if len(gaps):
        pictures["benchmark_gaps"] = figures.train_test_gap(gaps)
    if len(exposed):
        pictures["benchmark_exposure"] = accuracy_by_exposure(exposed)
    return pictures
