"""Wall time of a whole study, from no results to its exchange rates: ours, stacked, against one process a run.

    PYTHONPATH=src python benchmarks/study.py [--study phone_book] [--scale gpu] [--output FILE]

Both sides train the same runs with the same workers on the same device. Ours trains runs that differ in seed and
learning rate as one stack, its step captured in a CUDA graph; the other trains each run alone, step by step. All
replicas of a stack cost the same alone, so the other side trains one of each and its time is scaled to them all
(--every trains all). On a CPU nothing is stacked or captured, and both sides are the same: a trial of this script.
Needs torch, numpy, pyarrow and pandas.
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
from parrotlab.training.devices import Device, device


def seconds(runs: Sequence[Run], store: Store, where: Device, workers: int) -> float:
    """To train and judge the runs; each must be stored in the end."""
    began = time.perf_counter()
    for news in train_all(runs, store, where, workers):
        if news.state != "training":
            print(f"{time.perf_counter() - began:8.1f} s  {news.state}  {news.runs[0].fingerprint}  {news.reason}")
    lost = [run.fingerprint for run in runs if store.find(run) is None]
    assert not lost, f"not trained: {', '.join(lost)}"
    return time.perf_counter() - began


def main() -> None:
    """Times both sides and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", default="phone_book")
    parser.add_argument("--scale", choices=study.SCALES, default="gpu")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=CUDA_WORKERS)
    parser.add_argument("--every", action="store_true", help="train every run alone, not one of each stack")
    parser.add_argument("--output", type=Path, default=Path("results/benchmarks/study.json"))
    options = parser.parse_args()
    chosen, where = study.load(options.study), device(options.device)
    runs = chosen.runs(options.scale)
    groups = stacks(runs, where, options.workers)
    sample = runs if options.every else [stack[0] for stack in groups]
    scaled = len(runs) / len(sample)
    assert options.every or len({len(stack) for stack in groups}) == 1, "stacks of several sizes: use --every"
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "stacked")
        trained = seconds(runs, store, where, options.workers)
        began = time.perf_counter()
        rates = exchange_rates(points(store.table(), chosen.score))
        analysed = time.perf_counter() - began
        plain = dataclasses.replace(where, fast_steps=False)
        alone = seconds(sample, Store(Path(folder) / "alone"), plain, options.workers) * scaled
    row = {
        "study": options.study,
        "scale": options.scale,
        "runs": len(runs),
        "stacks": len(groups),
        "workers": options.workers,
        "seconds": trained + analysed,
        "alone_seconds": alone + analysed,
        "alone_runs_trained": len(sample),
        "ratio": (alone + analysed) / (trained + analysed),
        "exchange_rates": len(rates),
    }
    print(row)
    write(options.output, {"rows": [row]}, "numpy", "pyarrow", "pandas")


if __name__ == "__main__":
    main()
