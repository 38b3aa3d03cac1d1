"""Answers: what a model said to every item of a benchmark, kept so that scores can be computed again without it."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

FILE = "answers.parquet"
"""The file of an evaluation's folder in the store."""

Kind = Literal["choice", "words", "math"]
"""How an item is judged: the likeliest of its choices, the words of a generated answer, or its final number."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One model's answer to one item. Every field is of plain JSON types, so that DuckDB and polars read them."""

    benchmark: str
    """As ``parrotlab eval --list`` names it: ``arc_easy``."""
    split: str
    """Of the data set: ``test``, ``dev``, ``train``."""
    item: str
    """16 hexadecimal digits of the SHA-256 of the item's own row: the same for every model and machine."""
    kind: Kind
    gold: tuple[str, ...]
    """Answers that are right; of a choice, its index."""
    text: str = ""
    """What was generated, whole; empty for a choice."""
    loglikelihoods: tuple[float, ...] = ()
    """Of each choice, nats; empty where text was generated."""
    choice_bytes: tuple[int, ...] = ()
    """UTF-8 length of each choice, by which length-normalised accuracy divides."""
    truncated: bool = False
    """Was the context longer than the model's, and cut from the left?"""


SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("benchmark", "split", "item", "kind")),
        ("gold", pa.list_(pa.string())),
        ("text", pa.string()),
        ("loglikelihoods", pa.list_(pa.float64())),
        ("choice_bytes", pa.list_(pa.int64())),
        ("truncated", pa.bool_()),
    ]
)


def encode(answers: Iterable[Answer]) -> bytes:
    """The answers as a Parquet file."""
    table = pa.Table.from_pylist([vars(answer) for answer in answers], schema=SCHEMA)
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def decode(data: bytes) -> list[Answer]:
    """The answers that ``encode`` wrote."""
    rows: list[dict[str, Any]] = pq.ParquetFile(io.BytesIO(data)).read().cast(SCHEMA).to_pylist()
    lists = [field.name for field in fields(Answer) if str(field.type).startswith("tuple")]
    for row in rows:
        row |= {name: tuple(row[name]) for name in lists}
    return [Answer(**row) for row in rows]
