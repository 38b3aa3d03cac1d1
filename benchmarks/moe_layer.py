"""Milliseconds of one mixture layer: ours by every path, a dense layer of the same active FLOPs, and the peers'.

    python benchmarks/moe_layer.py --output results/benchmarks/moe_layer.json
    python benchmarks/moe_layer.py --seconds 200       what is not measured by then is "out of time"
    python benchmarks/moe_layer.py --smoke             everything at tiny sizes, on a CPU under Triton's interpreter

A process a row, on all GPUs there are. All compile their layers at once, while every way of cutting every kernel is
compared with the plain loop in float32: what fails is told and left out. When all are ready, the rows of a GPU take
their times one after the other, a stage at a time, what matters most first; the file is written after each.
The fastest way of cutting each kernel is found for each row, and the kernels are timed with it.
"""

# ruff: noqa: E402 (the environment is set before torch and Triton are imported)
from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "TORCHINDUCTOR_COMPILE_THREADS"):
    os.environ.setdefault(name, "1")  # a process a row already fills the processor
if "--smoke" in sys.argv:
    os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported

import tables
import torch
from _facts import write
from _moe_bench import Bench, Cuts, Rehearsal, right, stages
from _moe_layers import ACTIVE, GATED, PLAIN, SMALL, TINY, Row
from _workers import Worker

from parrotlab.kernels import _tiles

PREPARING = 0.65
"""Of the time, after which a row that is not ready is left out."""
GRACE_SECONDS = 20.0
"""For what was begun before the end."""


def rehearsed(device: str, gpus: int, deadline: float) -> list[dict[str, Any]]:
    """What the kernels' comparison with the plain loop told; a process for each kernel, with gates and without."""
    questions: list[tuple[str, tuple]] = [
        ("cuts", (kernel, gated)) for kernel in _tiles.KERNELS for gated in (True, False)
    ]
    questions.append(("ragged", ()))
    workers = [Worker(index % gpus, Rehearsal, device) for index in range(len(questions))]
    for worker, (method, arguments) in zip(workers, questions):
        worker.ask(method, *arguments)
    told = []
    for worker, (method, arguments) in zip(workers, questions):
        try:
            told += worker.answer(deadline)
        except RuntimeError as error:
            told.append({"rehearsal": [method, *arguments], "failed": str(error)})
        worker.close()
    for one in told:
        if "failed" in one:
            print(one, flush=True)
    print(f"rehearsed: {sum('failed' in one for one in told)} of {len(told)} failed", flush=True)
    return told


class Rows:
    """A process a row, dealt out to the GPUs, and what they have told so far."""

    def __init__(self, rows: list[Row], tokens: list[int], device: str, gpus: int) -> None:
        self.rows, self.tokens, self.device, self.gpus = rows, tokens, device, gpus
        self.workers = [Worker(index % gpus, Bench, row, tokens, device) for index, row in enumerate(rows)]
        self.told: dict[tuple[int, int], dict[str, Any]] = {
            (place, count): asdict(row) | {"tokens": count, "cuts": {}, "layers": {}}
            for place, row in enumerate(rows)
            for count in tokens
        }

    def ask(self, method: str, *arguments: object) -> None:
        """All, at once."""
        for worker in self.workers:
            worker.ask(method, *arguments)

    def hear(self, place: int, deadline: float) -> None:
        """What a row has to tell by now; of one that fails, what it told before, and why."""
        try:
            told: list[dict[str, Any]] = self.workers[place].answer(deadline)
        except RuntimeError as error:
            told = [{"failed": str(error)} | self.told[place, count] for count in self.tokens]  # the first reason stays
        self.told.update({(place, row["tokens"]): row for row in told})

    def take_times(self, gpu: int, cuts: Cuts, deadline: float, note: Callable[[], None]) -> None:
        """The rows of one GPU, one after the other, all of them a stage before any the next."""
        mine = range(gpu, len(self.rows), self.gpus)
        for method, arguments in [("tune", [cuts]), *(("measure", [stage, deadline]) for stage in stages(self.tokens))]:
            for place in mine:
                self.workers[place].ask(method, *arguments)
                self.hear(place, deadline + GRACE_SECONDS)
            note()


def measured(rows: Rows, rehearsal: list, deadline: float, note: Callable[[], None]) -> None:
    """Everything; ``note`` is called when there is more to write."""
    ready = time.time() + PREPARING * (deadline - time.time())
    rows.ask("prepare")
    rehearsal += rehearsed(rows.device, rows.gpus, ready)
    cuts = right(rehearsal)
    rows.ask("warm", cuts)
    for place in [*range(len(rows.rows))] * 2:  # both answers of each
        rows.hear(place, ready)
    print(f"all rows are ready, {deadline - time.time():.0f} seconds left", flush=True)
    note()
    lock = threading.Lock()

    def note_alone() -> None:
        with lock:
            note()

    with ThreadPoolExecutor(rows.gpus) as pool:
        list(pool.map(lambda gpu: rows.take_times(gpu, cuts, deadline, note_alone), range(rows.gpus)))
    for worker in rows.workers:
        worker.close()


def show(results: dict[str, Any]) -> None:
    """The page's table, and what failed."""
    for line in tables.moe_layer(results):
        print(" | ".join(line.values()))
    for row in results["rows"]:
        failed = {name: layer["failed"] for name, layer in row["layers"].items() if "failed" in layer}
        if failed or "failed" in row:
            print(row["width"], row["hidden"], row["experts"], row["tokens"], row.get("failed", ""), failed)


def main() -> None:
    """Times the rows and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("results/benchmarks/moe_layer.json"))
    parser.add_argument("--rows", choices=("gated", "plain", "small", "both"), default="both")
    parser.add_argument("--tokens", type=int, nargs="+", default=[16_384, 65_536])
    parser.add_argument("--seconds", type=float, default=400.0, help="when to stop taking times")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes on a CPU, nothing is written")
    options = parser.parse_args()
    assert options.smoke or torch.cuda.is_available(), "no CUDA device: try --smoke"
    chosen = {"gated": GATED, "plain": PLAIN, "small": SMALL, "both": GATED + PLAIN}[options.rows]
    device, tokens = ("cpu", [12, 20]) if options.smoke else ("cuda", options.tokens)
    rows = Rows(TINY if options.smoke else chosen, tokens, device, 2 if options.smoke else torch.cuda.device_count())
    results: dict[str, Any] = {"unit": "milliseconds", "active": ACTIVE, "rows": [], "rehearsed": []}

    def note() -> None:
        results["rows"] = list(rows.told.values())
        if not options.smoke:
            write(options.output, results, "transformers", "triton", "liger_kernel")

    measured(rows, results["rehearsed"], time.time() + options.seconds, note)
    show(results)
    if options.smoke:
        layers = [layer for table in results["rows"] for layer in table["layers"].values()]
        assert len(layers) == 2 * (9 + 6), "a contender is missing"
        assert not any("failed" in one for one in [*results["rehearsed"], *results["rows"], *layers])


if __name__ == "__main__":
    main()
