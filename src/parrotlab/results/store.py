"""The store: one folder of plain files for each finished run, named by the run's fingerprint.

    results/8d3f6a0c11e2b954/run.json               spec, counts, facts
    results/8d3f6a0c11e2b954/measurements.parquet   the fields of ``Measurement``
    results/8d3f6a0c11e2b954/answers.parquet        of an examination alone: what a model said, item by item
    results/.work/8d3f6a0c11e2b954/                 the workshop: checkpoints of a run that is not finished

Examinations of models (``evals.examination``) lie among the runs that trained them, in folders of the same kind.
Tables of runs leave them out: their columns are others, and they are no models.

A run's folder is complete or absent, and never edited. Other names beside them belong to others and are
left alone. A folder that is named like a run and cannot be read is an error that names it: a store that
skipped it would show fewer seeds than were run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from parrotlab.results._files import Busy, StoreError, clear_errors, exclusive, publish
from parrotlab.results.measurement import Measurement
from parrotlab.spec import FINGERPRINT_DIGITS, check_drift, encode, fingerprint, flatten

__all__ = ["EXAMINATION", "Busy", "Record", "Store", "StoreError"]

RUN = "run.json"
MEASUREMENTS = "measurements.parquet"
WORK = ".work"
EVALUATED, EXAMINATION = "evals.", "evals.examination.Examination"
"""What the type of a spec begins with that is no training run, and the type of one of these."""

MEASUREMENT_SCHEMA = pa.schema(
    {
        "evaluation": pa.string(),
        "split": pa.string(),
        "metric": pa.string(),
        "value": pa.float64(),
        "count": pa.int64(),
        "step": pa.int64(),
        "part": pa.string(),
    }
)
assert MEASUREMENT_SCHEMA.names == [field.name for field in dataclasses.fields(Measurement)]


@dataclass(frozen=True, kw_only=True)
class Record:
    """What ``run.json`` holds."""

    fingerprint: str
    status: Literal["complete", "failed"]
    reason: str
    """Why a failed run failed: ``diverged at step 120: loss is nan``; empty for a complete one."""
    spec: dict[str, Any]
    """The run as ``spec.encode`` wrote it, every default spelt out."""
    counts: dict[str, Any]
    """Of the spec alone: parameters, FLOPs."""
    facts: dict[str, Any]
    """Of this execution: seconds, peak memory, device, commit, versions."""

    @property
    def is_run(self) -> bool:
        """Was a model trained? Else one was examined, or what it was examined on."""
        return not self.spec["type"].startswith(EVALUATED)

    def row(self) -> dict[str, Any]:
        """The record as one flat row."""
        row = {"fingerprint": self.fingerprint, "status": self.status, "reason": self.reason}
        for part in (flatten(self.spec), flatten(self.counts), flatten(self.facts)):
            assert not row.keys() & part.keys(), f"two columns are called {row.keys() & part.keys()}"
            row |= part
        return row


@dataclass(frozen=True)
class Store:
    """A folder of finished runs. Reading never writes; the folder is made by the first write."""

    root: Path

    def has(self, fingerprint: str) -> bool:
        """Is that run finished, complete or failed?"""
        return self._folder(fingerprint).exists()

    def find(self, spec: Any) -> Record | None:
        """The finished run of that spec, if there is one; raises Drift where a default has changed under its name."""
        name = fingerprint(spec)
        if not self.has(name):
            return None
        record = self._record(self._folder(name))
        check_drift(record.spec, spec)
        return record

    def write(
        self,
        spec: Any,
        status: Literal["complete", "failed"],
        reason: str,
        counts: Mapping[str, Any],
        facts: Mapping[str, Any],
        measurements: Iterable[Measurement],
        files: Mapping[str, bytes] | None = None,
    ) -> Record:
        """Stores a finished run whole, and returns what the store now holds.

        If another process finished the same run first, its folder stays and ours is dropped.
        """
        record = Record(
            fingerprint=fingerprint(spec),
            status=status,
            reason=reason,
            spec=encode(spec),
            counts=dict(counts),
            facts=dict(facts),
        )
        contents = dict(files or {})
        assert not contents.keys() & {RUN, MEASUREMENTS}, f"{RUN} and {MEASUREMENTS} are the store's own"
        contents[RUN] = (json.dumps(dataclasses.asdict(record), indent=1) + "\n").encode()
        contents[MEASUREMENTS] = _parquet(measurements)
        place = self._folder(record.fingerprint)
        with clear_errors(self.root):
            try:
                publish(contents, self.root / WORK, place)
            except OSError:
                if not place.exists():
                    raise
        return self._record(place)

    def discard(self, fingerprint: str) -> None:
        """Takes a failed run out of the store, so that it can be tried again; a complete run stays for ever."""
        folder = self._folder(fingerprint)
        if not folder.exists():
            raise StoreError(f"there is no run {fingerprint} in {self.root}")
        if self._record(folder).status != "failed":
            raise StoreError(f"run {fingerprint} is complete: results are never replaced")
        with clear_errors(self.root):
            grave = self.root / WORK / f"{fingerprint}.{uuid.uuid4().hex}"
            grave.parent.mkdir(exist_ok=True)
            folder.rename(grave)
            shutil.rmtree(grave)

    @contextlib.contextmanager
    def workshop(self, fingerprint: str) -> Iterator[Path]:
        """A private folder for the checkpoints of a run, for one process at a time; raises Busy for the second.

        The folder outlives an interrupted process, so that the next one can resume. It goes when its run is
        finished.
        """
        folder = self.root / WORK / fingerprint
        with contextlib.ExitStack() as stack:
            with clear_errors(self.root):
                folder.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(exclusive(folder.with_suffix(".lock")))
                stack.callback(self._clear_finished, fingerprint)
                folder.mkdir(exist_ok=True)
            yield folder

    def records(self) -> list[Record]:
        """Everything that is finished, runs and examinations, in the order of their fingerprints."""
        return [self._record(folder) for folder in self._folders()]

    def file(self, fingerprint: str, name: str) -> bytes:
        """What a file of that folder holds."""
        folder = self._folder(fingerprint)
        try:
            return (folder / name).read_bytes()
        except OSError as error:
            raise _damaged(folder, error) from error

    def runs(self) -> pd.DataFrame:
        """One row for each run: fingerprint, status, reason, the flattened spec, counts and facts."""
        return _frame([record for record in self.records() if record.is_run])

    def examinations(self) -> pd.DataFrame:
        """One row for each examination, with columns as those of ``runs``."""
        return _frame([record for record in self.records() if record.spec["type"] == EXAMINATION])

    def measurements(self) -> pa.Table:
        """Every measurement of every run and examination, with its fingerprint."""
        tables = [_named(_read_parquet(folder / MEASUREMENTS), folder.name) for folder in self._folders()]
        return pa.concat_tables([_named(MEASUREMENT_SCHEMA.empty_table(), ""), *tables])

    def table(self) -> pd.DataFrame:
        """The tidy table: one row for each measurement, with the columns of its run.

        A run without measurements, such as one that diverged at once, keeps one row in which they are missing.
        """
        return self.runs().merge(self.measurements().to_pandas(), on="fingerprint", how="left")

    def sql(self, query: str) -> pa.Table:
        """What DuckDB answers to a query over ``runs``, ``examinations`` and ``measurements``; dots in names become
        underscores."""
        import duckdb

        records = self.records()
        with duckdb.connect() as connection:
            connection.register("runs", _columns([record for record in records if record.is_run]))
            examined = [record for record in records if record.spec["type"] == EXAMINATION]
            connection.register("examinations", _columns(examined))
            connection.register("measurements", self.measurements())
            try:
                relation = connection.sql(query)
            except duckdb.Error as error:
                raise StoreError(f"DuckDB cannot answer: {' '.join(str(error).split())}") from None
            if relation is None:
                raise StoreError("the query returns nothing: ask with 'select ... from runs' or 'from measurements'")
            return relation.to_arrow_table()

    def _folder(self, fingerprint: str) -> Path:
        if not _is_name(fingerprint):
            raise StoreError(
                f"{fingerprint!r} is not a run's fingerprint: expected {FINGERPRINT_DIGITS} hexadecimal digits"
            )
        return self.root / fingerprint

    def _folders(self) -> list[Path]:
        return sorted(path for path in self.root.glob("*") if _is_name(path.name) and path.is_dir())

    def _record(self, folder: Path) -> Record:
        try:
            record = Record(**json.loads((folder / RUN).read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise _damaged(folder, error) from error
        if record.fingerprint != folder.name:
            raise _damaged(folder, f"it holds run {record.fingerprint}")
        return record

    def _clear_finished(self, fingerprint: str) -> None:
        """Removes checkpoints and abandoned drafts of a run that is in the store."""
        if self.has(fingerprint):
            for path in (self.root / WORK).glob(f"{fingerprint}*"):
                if path.suffix != ".lock":
                    shutil.rmtree(path, ignore_errors=True)


def _frame(records: list[Record]) -> pd.DataFrame:
    rows = [record.row() for record in records]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=["fingerprint", "status", "reason"])


def _is_name(name: str) -> bool:
    return re.fullmatch(f"[0-9a-f]{{{FINGERPRINT_DIGITS}}}", name) is not None


def _damaged(folder: Path, why: Any) -> StoreError:
    return StoreError(f"run folder {folder} is damaged ({why}): restore it, or remove it and run again")


def _parquet(measurements: Iterable[Measurement]) -> bytes:
    table = pa.Table.from_pylist([vars(measurement) for measurement in measurements], schema=MEASUREMENT_SCHEMA)
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def _read_parquet(path: Path) -> pa.Table:
    try:
        return pq.ParquetFile(path).read().cast(MEASUREMENT_SCHEMA)
    except (OSError, ValueError) as error:  # Arrow's own errors are ValueErrors
        raise _damaged(path.parent, error) from error


def _named(table: pa.Table, fingerprint: str) -> pa.Table:
    return table.add_column(0, "fingerprint", pa.array([fingerprint] * len(table), pa.string()))


def _columns(records: list[Record]) -> pa.Table:
    """The runs for SQL: a field that some runs lack is null there, and whole numbers stay whole."""
    rows = [record.row() for record in records]
    names = dict.fromkeys(["fingerprint", "status", "reason", *(name for row in rows for name in row)])
    return pa.table({name.replace(".", "_"): _column([row.get(name) for row in rows]) for name in names})


def _column(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except pa.ArrowException:  # one spec's number is another's text
        return pa.array([None if value is None else str(value) for value in values])
