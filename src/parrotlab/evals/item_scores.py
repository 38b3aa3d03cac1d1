"""Item scores: stored answers scored again, one row for each item and metric, without any model."""

from __future__ import annotations

import os

import pandas as pd

from parrotlab.evals import answers
from parrotlab.evals.answers import Answer
from parrotlab.evals.scoring import METRIC, Mode, score_all
from parrotlab.results.store import EXAMINATION, Record, Store

COLUMNS = ["fingerprint", "item", "kind", "metric", "score", "chance"]
"""``fingerprint`` is the examination's; ``chance`` is what a guess among choices scores, 0 where one writes."""

WORKERS = min(4, os.cpu_count() or 1)
"""Processes that compare formulas."""


def item_scores(store: Store, mode: Mode | None = None) -> pd.DataFrame:
    """Every stored answer of every complete examination, with the columns of ``COLUMNS``.

    A mode reads one metric of each kind of item; without one, all metrics are read.
    """
    tables = [_scored(record.fingerprint, stored(store, record), mode) for record in examinations(store)]
    return pd.concat([_nothing(), *tables], ignore_index=True)


def examinations(store: Store) -> list[Record]:
    """The complete examinations of a store."""
    return [each for each in store.records() if each.spec["type"] == EXAMINATION and each.status == "complete"]


def stored(store: Store, record: Record) -> list[Answer]:
    """The answers of an examination."""
    return answers.decode(store.file(record.fingerprint, answers.FILE))


def _scored(fingerprint: str, given: list[Answer], mode: Mode | None) -> pd.DataFrame:
    rows = [
        (fingerprint, answer.item, answer.kind, metric, score, _chance(answer))
        for answer, scores in zip(given, score_all(given, WORKERS))
        for metric, score in scores.items()
        if mode is None or metric == METRIC[mode][answer.kind]
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _chance(answer: Answer) -> float:
    return len(answer.gold) / len(answer.loglikelihoods) if answer.kind == "choice" else 0.0


def _nothing() -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series(dtype=float if name in ("score", "chance") else str) for name in COLUMNS})
