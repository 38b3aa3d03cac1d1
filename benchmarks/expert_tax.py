"""The expert tax: training speed of a mixture over that of a dense model with the same active FLOPs, and a peer's.

    python benchmarks/expert_tax.py --output results/benchmarks/expert_tax.json

Ours are trained as studies train them (one captured, compiled step). The peer is transformers' Mixtral of the same
configuration at its fastest: bfloat16, each layer compiled, grouped_mm experts, fused AdamW, no load-balancing loss.
Where a model of all layers does not fit, all three get half as many, and the row says how many. The tax depends on the
tokens of a step: AdamW and the casts of weights cost the same however many there are, and a mixture has many weights.

First all models are compiled side by side, with two layers, in processes that end: a GPU that is timed holds nothing
else. Then each GPU takes one width and number of experts after the other. ``--smoke`` does everything on the CPU with
tiny models.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from _expert_tax_job import Contest, Geometry
from _facts import write
from _workers import Worker

from parrotlab.training.devices import Device

COMPILE_SECONDS, GEOMETRY_SECONDS = 240.0, 240.0
"""After which a process is ended."""


class Table:
    """What was told, in order, and on disk."""

    def __init__(self, output: Path) -> None:
        self.output, self.lock, self.rows = output, threading.Lock(), []

    def add(self, row: dict[str, Any]) -> None:
        """From any thread."""
        with self.lock:
            self.rows = sorted([*self.rows, row], key=lambda row: (row["width"], row["experts"], row["rows"]))
            print(row, flush=True)
            write(self.output, {"unit": "tokens a second", "rows": self.rows}, "transformers", "triton")


def groups(geometries: list[Geometry]) -> list[list[Geometry]]:
    """Those that differ in rows alone, together; the largest models first, so that no GPU ends long after another."""

    def model(geometry: Geometry) -> tuple[int, int]:
        return geometry.width**2 * geometry.experts, geometry.width

    ordered = sorted(geometries, key=model, reverse=True)
    return [list(group) for _, group in itertools.groupby(ordered, model)]


def compile_all(geometries: list[list[Geometry]], gpus: int, contest: tuple) -> None:
    """A process a geometry, all at once."""
    began = time.time()
    working = [
        (geometry, Worker(index % gpus, Contest, *contest))
        for index, group in enumerate(geometries)
        for geometry in group
    ]
    for geometry, worker in working:
        worker.ask("compile", geometry)
    for geometry, worker in working:
        try:
            worker.answer(began + COMPILE_SECONDS)
        except RuntimeError as error:
            print(f"not compiled ahead: {geometry}: {error}", flush=True)
        worker.close()
    print(f"compiled in {time.time() - began:.0f} s", flush=True)


def take_times(gpu: int, waiting: queue.SimpleQueue, contest: tuple, table: Table) -> None:
    """One GPU, until no group waits: a process for each, and the geometries of one in their order."""
    with contextlib.suppress(queue.Empty):
        while True:
            group = waiting.get_nowait()
            worker = Worker(gpu, Contest, *contest)
            for geometry in group:
                worker.ask("measured", geometry)
                try:
                    table.add(worker.answer(time.time() + GEOMETRY_SECONDS))
                except RuntimeError as error:
                    table.add(asdict(geometry) | {"mixture_error": str(error)})
            worker.close()


def main() -> None:
    """Times every geometry and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("results/benchmarks/expert_tax.json"))
    parser.add_argument("--smoke", action="store_true", help="tiny, on the CPU")
    parser.add_argument("--seconds", type=float, default=2.0, help="timed seconds for each number")
    parser.add_argument("--no-peer", action="store_true", help="leave transformers out")
    parser.add_argument("--widths", type=int, nargs="+", default=[256, 512, 1024])
    parser.add_argument("--experts", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--active", type=int, default=2)
    parser.add_argument("--expansion", type=float, default=1.0)
    parser.add_argument("--layers", type=int, default=20)
    parser.add_argument("--rows", type=int, nargs="+", default=[8, 32], help="of one step")
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument("--vocabulary", type=int, default=32_000)
    options = parser.parse_args()
    if options.smoke:
        options.widths, options.experts, options.layers = [32], [4, 8], 3
        options.rows, options.length, options.vocabulary, options.seconds = [2, 4], 16, 64, 0.2
    elif not torch.cuda.is_available():
        parser.error("there is no CUDA device here: --smoke runs on the CPU")
    geometries = [
        Geometry(
            width=width,
            experts=experts,
            active=options.active,
            expansion=options.expansion,
            layers=options.layers,
            rows=rows,
            length=options.length,
            vocabulary=options.vocabulary,
        )
        for width, experts, rows in itertools.product(options.widths, options.experts, options.rows)
    ]
    device = Device("cpu", False) if options.smoke else Device("cuda", True)
    gpus = 2 if options.smoke else torch.cuda.device_count()
    cores = max(1, (os.cpu_count() or 1) // len(geometries))
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(cores))  # of the processes that are started now
    contest = device, options.seconds, not options.no_peer
    compile_all(groups(geometries), gpus, contest)
    table, waiting = Table(options.output), queue.SimpleQueue()
    for group in groups(geometries):
        waiting.put(group)
    with ThreadPoolExecutor(gpus) as pool:
        list(pool.map(lambda gpu: take_times(gpu, waiting, contest, table), range(gpus)))


if __name__ == "__main__":
    main()
