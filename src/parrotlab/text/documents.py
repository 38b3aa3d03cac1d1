"""Documents: texts read one by one from JSON Lines, Parquet or the Hugging Face hub, and cleaned."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet

from parrotlab.text import hub
from parrotlab.text.mixtures import Source

UNWANTED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufeff]")
"""Control characters, halves of surrogate pairs, byte order marks; tab and line feed stay."""
HELD_OUT = 100
"""One document in 100, chosen by its own hash, is held out for the test split."""
HUB = "hub:"


@dataclass(frozen=True)
class Malformed:
    """A line that is no document."""

    where: str
    """``foldoc.jsonl.zst, line 12``."""
    why: str


def clean(text: str) -> str:
    """The text in Unicode's composed form, with plain line feeds and without control characters around or within."""
    return UNWANTED.sub("", unicodedata.normalize("NFC", text).replace("\r\n", "\n").replace("\r", "\n")).strip()


def text_hash(text: str) -> int:
    """64 bits that decide a document's split and find its exact duplicates."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def is_held_out(document_hash: int) -> bool:
    """Does the document belong to the test split?"""
    return document_hash % HELD_OUT == 0


def path_of(source: Source) -> Path:
    """The file of a source that is not on the hub."""
    path = Path(source.place).expanduser()
    return path if path.is_file() else hub.find(source.place)


def read(source: Source) -> Iterator[str | Malformed]:
    """The source's documents as they are, and the lines that are none."""
    for number, (where, record) in enumerate(_records(source)):
        if source.documents and number >= source.documents:
            return
        if isinstance(record, str):
            yield Malformed(where, record)
            continue
        text = text_of(record)
        yield Malformed(where, f"no text in it, but {', '.join(record) or 'nothing'}") if text is None else text


def text_of(record: dict[str, Any]) -> str | None:
    """The document in a record: its ``text``, or a benchmark's question with its right answer written out.

    >>> text_of({"question": "Is _ red?", "choices": ["blood", "grass"], "label": 0})
    'Is blood red?'
    >>> text_of({"question": "2 + 2?", "solution": "Two and two are four.", "answer": "4"})
    'Question: 2 + 2?\\nTwo and two are four.\\nAnswer: 4'
    """
    if isinstance(record.get("text"), str):
        return record["text"]
    question = record.get("question") or record.get("problem") or record.get("query") or ""
    context = record.get("context") or ""
    if "choices" in record and isinstance(record.get("label"), int) and 0 <= record["label"] < len(record["choices"]):
        choice = record["choices"][record["label"]]
        if "_" in question:
            return question.replace("_", choice)
        return f"{context} {choice}" if not question else _answered(context, question, "", choice)
    answers = record.get("answers")
    answer = answers[0] if isinstance(answers, list) and answers else record.get("answer") or record.get("response")
    solution = record.get("solution") or record.get("generated_solution") or ""
    if not question or not (answer or solution):
        return None
    return _answered(context, question, solution, answer)


def _answered(context: str, question: str, solution: str, answer: Any) -> str:
    lines = (context, f"Question: {question}", solution, f"Answer: {answer}" if answer else "")
    return "\n".join(line for line in lines if line)


def _records(source: Source) -> Iterator[tuple[str, dict[str, Any] | str]]:
    """Where a record stands, and the record, or why it is none."""
    if source.place.startswith(HUB):
        return _from_hub(source.place.removeprefix(HUB))
    path = path_of(source)
    return _from_parquet(path) if path.suffix == ".parquet" else _from_lines(path)


def _from_lines(path: Path) -> Iterator[tuple[str, dict[str, Any] | str]]:
    number = 0
    try:
        with pa.input_stream(str(path), compression="detect") as stream:
            for number, line in enumerate(io.BufferedReader(stream), 1):  # type: ignore[arg-type]
                if line.strip():
                    yield f"{path.name}, line {number}", _parsed(line)
    except OSError as error:
        reason = str(error).partition("\n")[0]
        raise hub.DataError(f"{path}, after line {number}: cannot read: {reason}") from None


def _parsed(line: bytes) -> dict[str, Any] | str:
    try:
        record = json.loads(line)
    except ValueError as error:
        return f"not JSON: {str(error).partition(chr(10))[0]}"
    return record if isinstance(record, dict) else f"not an object but {type(record).__name__}"


def _from_parquet(path: Path) -> Iterator[tuple[str, dict[str, Any] | str]]:
    number = 0
    try:
        for batch in parquet.ParquetFile(path).iter_batches(batch_size=1000):
            for record in batch.to_pylist():
                number += 1
                yield f"{path.name}, row {number}", record
    except (OSError, pa.ArrowException) as error:
        reason = str(error).partition("\n")[0]
        raise hub.DataError(f"{path}, after row {number}: cannot read: {reason}") from None


def _from_hub(name: str) -> Iterator[tuple[str, dict[str, Any] | str]]:
    try:
        import datasets  # type: ignore[import-not-found]
    except ImportError:
        raise hub.DataError(f"streaming {name} needs the package datasets: pip install datasets") from None
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it would tell of each of its attempts
    repository, _, configuration = name.partition(":")
    try:
        stream = datasets.load_dataset(repository, configuration or None, split="train", streaming=True)
        for number, record in enumerate(stream, 1):
            yield f"{name}, row {number}", dict(record)
    except Exception as error:  # of any kind: no network, no such data set, a licence to accept
        raise hub.DataError(f"{name}: cannot stream: {str(error).partition(chr(10))[0]}") from None
