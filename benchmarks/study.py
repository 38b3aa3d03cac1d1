"""Wall time of a whole study, from no results to its exchange rates: ours, stacked, against one process a run.

    PYTHONPATH=src python benchmarks/study.py [--study phone_book] [--scale gpu] [--store FOLDER] [--output FILE]

Both sides train with the same workers on the same devices. Ours trains runs that differ in seed and learning rate as
one stack, its step captured in a CUDA graph; the other trains each run alone, step by step. All replicas of a stack
cost the same alone, and so do all steps of a run: the other side trains one run of each stack for a part of its steps
(--part), and the time that its workers spent in training, start and judging left out, is scaled to all runs and steps.
With --store ours goes into that folder, which must not have the runs yet, and stays there. On a CPU nothing is stacked
or captured, and both sides are the same: a trial of this script. Needs torch, numpy, pyarrow and pandas.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from _facts import write

from parrotlab.analysis.exchange_rate import exchange_rates
from parrotlab.analysis.points import points
from parrotlab.execution.local import CUDA_WORKERS, stacks, train_all
from parrotlab.results.store import Store
from parrotlab.run import Run
from parrotlab.studies import study
from parrotlab.training.devices import Device, device, each


def seconds(runs: Sequence[Run], store: Store, where: Device, workers: int) -> float:
    """To train and judge the runs; each must be stored in the end."""
    began = time.perf_counter()
    for news in train_all(runs, store, where, workers):
        if news.state != "training":
            print(f"{time.perf_counter() - began:8.1f} s  {news.state}  {news.runs[0].fingerprint}  {news.reason}")
    lost = [run.fingerprint for run in runs if store.find(run) is None]
    assert not lost, f"not trained: {', '.join(lost)}"
    return time.perf_counter() - began


def shortened(run: Run, part: float) -> Run:
    """The run with only that part of its steps, as a plain run of its own; it is judged by nothing."""
    steps = max(1, round(part * run.recipe.steps))
    return dataclasses.replace(run, recipe=dataclasses.replace(run.recipe, steps=steps), evaluations=())


def main() -> None:
    """Times both sides and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", default="phone_book")
    parser.add_argument("--scale", choices=study.SCALES, default="gpu")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=64, help="at most; a GPU is shared by three")
    parser.add_argument("--part", type=float, default=0.02, help="of the steps that the other side trains")
    parser.add_argument("--store", type=Path, default=None)
    parser.add_argument("--output", type=Path, default=Path("results/benchmarks/study.json"))
    options = parser.parse_args()
    chosen, where = study.load(options.study), device(options.device)
    runs = chosen.runs(options.scale)
    groups, plain = stacks(runs, where, options.workers), dataclasses.replace(where, fast_steps=False)
    sample = {shortened(stack[0], options.part): stack for stack in groups}
    with tempfile.TemporaryDirectory() as folder:
        store, alone = Store(options.store or Path(folder) / "stacked"), Store(Path(folder) / "alone")
        assert not any(store.find(run) for run in runs), f"{store.root} has some of these runs: name another store"
        trained = seconds(runs, store, where, options.workers)
        began = time.perf_counter()
        rates = exchange_rates(points(store.table(), chosen.score))
        analysed = time.perf_counter() - began
        seconds(list(sample), alone, plain, options.workers)
        spent = {run: record.facts["training_seconds"] for run in sample if (record := alone.find(run))}
    hands = min(options.workers, CUDA_WORKERS * len(each(where))) if where.is_cuda else options.workers
    one_by_one = sum(
        spent[run] * stack[0].recipe.steps / run.recipe.steps * len(stack) for run, stack in sample.items()
    )
    alone_seconds = one_by_one / hands + analysed
    row = {
        "study": options.study,
        "scale": options.scale,
        "runs": len(runs),
        "stacks": len(groups),
        "devices": len(each(where)),
        "workers": hands,
        "seconds": trained + analysed,
        "alone_seconds": alone_seconds,
        "alone_runs_trained": len(sample),
        "alone_part_of_steps": options.part,
        "ratio": alone_seconds / (trained + analysed),
        "exchange_rates": len(rates),
    }
    print(row)
    write(options.output, {"rows": [row]}, "numpy", "pyarrow", "pandas")


if __name__ == "__main__":
    main()
