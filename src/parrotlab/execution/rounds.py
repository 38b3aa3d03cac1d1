"""Rounds: many models are examined, and every one is through a round of benchmarks before the next round begins.

Whoever stops early has the first rounds of all models, and the same call goes on from there. Several processes may
share a store: each examines models of its own, and leaves alone what another one is at.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from parrotlab.analysis.points import LOSS, points
from parrotlab.evals import harness
from parrotlab.evals.harness import Benchmark
from parrotlab.execution.examine import Examinee, can_answer, examine, sittings
from parrotlab.results.store import Busy, Record, Store
from parrotlab.run import WEIGHTS, Run
from parrotlab.training.devices import Device


@dataclass(frozen=True, kw_only=True)
class Round:
    """Benchmarks that are asked one after the other."""

    benchmarks: tuple[Benchmark, ...]
    limit: int = 0
    """Items of each, at most; 0 is all."""
    shots: int | None = None
    """Examples before each item; None is what the field shows."""


def with_weights(runs: Iterable[Run], store: Store) -> list[str]:
    """The fingerprints of those runs that kept their weights, each design at the best of its learning rates alone."""
    table = store.table()
    planned = points(table[table["fingerprint"].isin([run.fingerprint for run in runs])], LOSS)
    return [name for name in planned["fingerprint"] if (store.root / name / WEIGHTS).is_file()]


def examine_all(
    names: Sequence[str],
    rounds: Sequence[Round],
    store: Store,
    device: Device,
    meet: Callable[[str], Examinee],
    folder: str = "",
    begin: Callable[[str, Benchmark], None] = lambda name, benchmark: None,
    stopping: Callable[[], bool] = lambda: False,
) -> Iterator[Record]:
    """What the store holds of each examination, as it is there. The rows of a benchmark are read once for all models.

    ``meet`` makes a name a model, which is let go of when its part of a round is over. Examinations that are in another
    process's hands are passed over. When ``stopping`` says so, the present one is the last.
    """
    read = functools.cache(harness.task)
    for each in rounds:
        for name in names:
            if stopping():
                return
            asked = [benchmark for benchmark in each.benchmarks if can_answer(name, benchmark)]
            who = meet(name)
            for sitting in sittings(who, asked, store, folder, each.shots, each.limit, read):
                if stopping():
                    return
                begin(name, sitting.benchmark)
                try:
                    yield examine(who, sitting, store, device)
                except Busy:
                    continue
