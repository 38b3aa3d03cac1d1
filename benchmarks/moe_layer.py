"""Milliseconds of one mixture layer: ours by every path, a dense layer of the same active FLOPs, and transformers'.

    python benchmarks/moe_layer.py --output results/benchmarks/moe_layer.json
    python benchmarks/moe_layer.py --quick     16,384 tokens, and an end after 150 seconds
    python benchmarks/moe_layer.py --smoke     everything at tiny sizes, on a CPU under Triton's interpreter

First every way of cutting every kernel is compiled and compared with the plain loop in float32: what fails is told and
left out. Meanwhile a process a row compiles its layers; when all are ready, one after the other takes its times alone.
The fastest way of cutting each kernel is found for each row, and the paths are timed with it.
"""

# ruff: noqa: E402 (the environment is set before torch and Triton are imported)
from __future__ import annotations

import argparse
import contextlib
import os
import queue
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "TORCHINDUCTOR_COMPILE_THREADS"):
    os.environ.setdefault(name, "1")  # a process a row already fills the processor
if "--smoke" in sys.argv:
    os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported

import torch
from _facts import write
from _moe_bench import Bench, line, rehearse, rehearse_ragged, right
from _moe_layers import ACTIVE, GATED, PLAIN, SMALL, TINY, Row

from parrotlab.kernels import _tiles
from parrotlab.kernels._choice import PATHS

FIRST = (*PATHS, "dense", "router alone")


def run_row(
    row: Row, tokens: int, device: str, ready: Any, alone: Any, cuts: Any, results: Any, deadline: float
) -> None:
    """A row in its process: prepares, waits for all others, and takes its times while no other does."""
    bench = Bench(row, tokens, device)
    try:
        bench.prepare()
    except Exception:
        bench.told["failed"] = traceback.format_exc(limit=3)
    _wait(ready, deadline)
    bench.warm(dict(cuts))
    _wait(ready, deadline)
    with alone:
        if time.time() < deadline:
            bench.tune(dict(cuts))
        _times(bench, [name for name in bench.made if name in FIRST], deadline)
    time.sleep(1.0)  # every row's first before any row's last: the time may not suffice for all
    with alone:
        _times(bench, [name for name in bench.made if name not in FIRST], deadline)
    results.put(bench.told)


def _times(bench: Bench, names: list[str], deadline: float) -> None:
    for name in names:
        if time.time() < deadline:
            bench.time(name)
        else:
            bench.told["layers"].setdefault(name, {"failed": "out of time"})


def _wait(ready: Any, deadline: float) -> None:
    """For all others, but if one of them died no longer than two thirds of the time that is left."""
    with contextlib.suppress(threading.BrokenBarrierError):
        ready.wait(timeout=max(1.0, 0.67 * (deadline - time.time())))


def side_by_side(rows: list[tuple[Row, int]], device: str, deadline: float) -> tuple[list[dict], list[dict]]:
    """What the rehearsal of the kernels told, and what the rows did; a process each."""
    from concurrent.futures import ProcessPoolExecutor

    context = torch.multiprocessing.get_context("spawn")
    manager = context.Manager()
    ready, alone, results, cuts = (
        manager.Barrier(len(rows) + 1), manager.Lock(), manager.Queue(), manager.dict(),
    )  # fmt: skip
    processes = [
        context.Process(target=run_row, args=(row, tokens, device, ready, alone, cuts, results, deadline))
        for row, tokens in rows
    ]
    tasks = [(kernel, gated, device) for kernel in _tiles.KERNELS for gated in (True, False)]
    with ProcessPoolExecutor(min(len(tasks) + 1, os.cpu_count() or 1), mp_context=context) as pool:
        rehearsals = [pool.submit(rehearse, task) for task in tasks]
        ragged = pool.submit(rehearse_ragged, ("fused", device))
        for process in processes:
            process.start()
        rehearsed = []
        for task, rehearsal in zip(tasks, rehearsals):
            try:
                rehearsed += rehearsal.result(timeout=max(1.0, deadline - time.time()))
            except Exception as error:
                rehearsed += [
                    {"kernel": task[0], "gated": task[1], "cut": cut, "failed": line(error)}
                    for cut in _tiles.HOPPER[task[:2]]
                ]
        try:
            rehearsed += ragged.result(timeout=max(1.0, deadline - time.time()))
        except Exception as error:
            rehearsed.append({"path": "fused", "failed": line(error)})
    for one in rehearsed:
        if "failed" in one:
            print(one, flush=True)
    print(f"rehearsed: {sum('failed' in one for one in rehearsed)} of {len(rehearsed)} failed", flush=True)
    cuts.update(right(rehearsed) if device == "cuda" else {})
    _wait(ready, deadline)
    _wait(ready, deadline)
    print(f"all rows are ready, {deadline - time.time():.0f} seconds left", flush=True)
    told = []
    with contextlib.suppress(queue.Empty):
        for _ in rows:
            told.append(results.get(timeout=max(5.0, deadline + 20 - time.time())))
            show(told[-1])
    for process in processes:
        process.join(timeout=5)
        process.kill()
    return rehearsed, told


def show(told: dict[str, Any]) -> None:
    """One row, as it comes."""
    kind = "SwiGLU" if told["gated"] else "GELU"
    print(
        f"\n{told['width']}, {told['hidden']}, {told['experts']} experts, {kind}, {told['tokens']} tokens", flush=True
    )
    for name, layer in told["layers"].items():
        numbers = {key: round(value, 4) for key, value in layer.items() if isinstance(value, float)}
        worst = max(layer["errors"].values()) if "errors" in layer else None
        print(f"  {name}: {layer.get('failed', numbers)}" + (f", error {worst:.1e}" if worst else ""), flush=True)
    for kernel, cut in told["cuts"].items():
        print(f"  {kernel}: {cut}", flush=True)


def main() -> None:
    """Times the rows and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("results/benchmarks/moe_layer.json"))
    parser.add_argument("--rows", choices=("gated", "plain", "small", "all"), default="all")
    parser.add_argument("--tokens", type=int, nargs="+", default=[16_384, 65_536])
    parser.add_argument("--quick", action="store_true", help="16,384 tokens, and an end after 150 seconds")
    parser.add_argument("--seconds", type=float, default=1800.0, help="when to stop taking times")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes on a CPU, nothing is written")
    options = parser.parse_args()
    if options.smoke:
        rehearsed, rows = side_by_side([(row, 12) for row in TINY], "cpu", time.time() + 600)
        assert len(rows) == len(TINY)
        assert not any(
            "failed" in one for one in [*rehearsed, *(layer for row in rows for layer in row["layers"].values())]
        )
        return
    assert torch.cuda.is_available(), "no CUDA device: try --smoke"
    deadline = time.time() + (min(150.0, options.seconds) if options.quick else options.seconds)
    chosen = {"gated": GATED, "plain": PLAIN, "small": SMALL, "all": GATED + PLAIN + SMALL}[options.rows]
    rehearsed, rows = [], []
    for tokens in [16_384] if options.quick else options.tokens:
        rehearsed, more = side_by_side([(row, tokens) for row in chosen], "cuda", deadline)
        rows += more
        results = {"unit": "milliseconds", "active": ACTIVE, "rows": rows, "rehearsed": rehearsed}
        write(options.output, results, "transformers", "triton")


if __name__ == "__main__":
    main()
