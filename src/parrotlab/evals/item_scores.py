"""Item scores: what each answer is worth, one row for each item and metric.

They are kept beside the answers (``scores.parquet``), since formulas take a while to compare; where that file is not,
or where one asks for it, they are computed from the answers again, without any model.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from parrotlab.evals import answers
from parrotlab.evals.answers import Answer
from parrotlab.evals.scoring import METRIC, Mode, score_all
from parrotlab.results.store import EXAMINATION, Record, Store

FILE = "scores.parquet"
"""The file of an examination's folder in the store."""

SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("item", "kind", "metric")),
        *((name, pa.float64()) for name in ("score", "chance")),
    ]
)
COLUMNS = ["fingerprint", *SCHEMA.names]
"""``fingerprint`` is the examination's; ``chance`` is what a guess among choices scores, 0 where one writes."""

WORKERS = min(4, os.cpu_count() or 1)
"""Processes that compare formulas."""


def item_scores(store: Store, mode: Mode | None = None, again: bool = False) -> pd.DataFrame:
    """Every item of every complete examination, with the columns of ``COLUMNS``.

    A set may ask the same twice (SIQA's does): the second such item is named after the first, with ``/2`` behind it.
    A mode reads one metric of each kind of item; without one, all metrics are read. ``again`` computes them from the
    answers, whatever is kept.
    """
    tables = [_of(store, record, again) for record in examinations(store)]
    scored = pa.concat_tables([SCHEMA.empty_table().add_column(0, "fingerprint", pa.array([], pa.string())), *tables])
    items = scored.to_pandas()
    earlier = items.groupby(["fingerprint", "metric", "item"]).cumcount()
    items["item"] += ("/" + (earlier + 1).astype(str)).where(earlier > 0, "")
    return items if mode is None else items.loc[items["metric"] == items["kind"].map(METRIC[mode])]  # type: ignore[arg-type]


def examinations(store: Store) -> list[Record]:
    """The complete examinations of a store."""
    return [each for each in store.records() if each.spec["type"] == EXAMINATION and each.status == "complete"]


def table(given: Sequence[Answer], scores: Sequence[dict[str, float]]) -> pa.Table:
    """The scores of the answers, as they are kept."""
    rows = [
        {"item": answer.item, "kind": answer.kind, "metric": metric, "score": score, "chance": _chance(answer)}
        for answer, of_answer in zip(given, scores, strict=True)
        for metric, score in of_answer.items()
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def encode(given: Sequence[Answer], scores: Sequence[dict[str, float]]) -> bytes:
    """The table as a Parquet file."""
    sink = io.BytesIO()
    pq.write_table(table(given, scores), sink, compression="zstd")
    return sink.getvalue()


def _of(store: Store, record: Record, again: bool) -> pa.Table:
    if again or not (store.root / record.fingerprint / FILE).exists():
        given = answers.decode(store.file(record.fingerprint, answers.FILE))
        scored = table(given, score_all(given, WORKERS))
    else:
        content = store.file(record.fingerprint, FILE)
        scored = pq.ParquetFile(io.BytesIO(content)).read().cast(SCHEMA)
    return scored.add_column(0, "fingerprint", pa.array([record.fingerprint] * len(scored), pa.string()))


def _chance(answer: Answer) -> float:
    return len(answer.gold) / len(answer.loglikelihoods) if answer.kind == "choice" else 0.0
