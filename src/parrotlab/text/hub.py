"""Data files: where they lie, and JSON Lines read from them, compressed or not."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

VARIABLE = "PARROTLAB_DATA"
ENDINGS = ("", ".jsonl", ".jsonl.zst", ".jsonl.gz")


class DataError(ValueError):
    """Data that is missing or cannot be read; one line that names the file, its line where there is one, what to do."""


def data_folder() -> Path:
    """The folder of the data: ``PARROTLAB_DATA``, or the user's cache."""
    return Path(os.environ.get(VARIABLE) or Path.home() / ".cache" / "parrotlab")


def find(name: str) -> Path:
    """The file of that name in the data folder, such as ``facts/trex_pararel``; the ending may be left out."""
    folder = data_folder()
    for ending in ENDINGS:
        path = folder / f"{name}{ending}"
        if path.is_file():
            return path
    raise DataError(
        f"there is no data file {name}[.jsonl[.zst|.gz]] in {folder}: set {VARIABLE} to the folder that holds it, "
        "or run `parrotlab prepare`"
    )


def records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSON Lines file, each with the number of its line, from 1. Empty lines are passed over."""
    number = 0
    try:
        with pa.input_stream(str(path), compression="detect") as stream:
            for number, line in enumerate(io.BufferedReader(stream), 1):  # type: ignore[arg-type]
                if line.strip():
                    yield number, _object(line, f"{path}, line {number}")
    except OSError as error:  # absent, unreadable, or compressed data that is damaged
        raise DataError(f"{path}, after line {number}: cannot read: {_first_line(error)}") from None


def _object(line: bytes, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:  # malformed JSON or UTF-8
        raise DataError(f"{where}: not JSON: {_first_line(error)}") from None
    if not isinstance(record, dict):
        raise DataError(f'{where}: expected an object such as {{"subject": ...}}, got {line.decode()[:40].strip()!r}')
    return record


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
