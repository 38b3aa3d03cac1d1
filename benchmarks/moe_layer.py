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
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "TORCHINDUCTOR_COMPILE_THREADS"):
    os.environ.setdefault(name, "1")  # a process a row already fills the processor
if "--smoke" in sys.argv:
    os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported

import torch
from _facts import write
from _moe_layers import ACTIVE, GATED, PLAIN, TINY, Contender, Row, contenders, errors

from parrotlab.kernels import _tiles
from parrotlab.kernels.fast_experts import FUSED_WIDTH, WAYS

SEEN_BY = {
    "hidden_forward": "saved",
    "rows_product": "saved",
    "weights_product": "saved",
    "hidden_backward": "saved",
    "hidden_again": "recomputed",
    "fused_forward": "half_fused",
    "fused_backward": "fused",
}
"""The path whose time tells the ways of cutting a kernel apart."""
Cuts = dict[tuple[str, bool], list[_tiles.Tiles]]
ALLOWED = 1e-2
"""Relative error, against float32, of a kernel that counts as right."""


RAGGED = [(Row(40, 24, 5, True), 70), (Row(33, 17, 3, False), 200), (Row(64, 96, 128, True), 1)]
"""Layers and tokens that no tile divides, experts without tokens."""


def rehearse(task: tuple[str, bool, str]) -> list[dict[str, Any]]:
    """Every way of cutting one kernel, compiled and compared with the plain loop; a process of its own."""
    kernel, gated, device = task
    cuda = device == "cuda"
    row, tokens = (Row(256, 512, 8, gated), 2048) if cuda else (Row(16, 32, 4, gated), 12)
    told = []
    for cut in _tiles.CANDIDATES[kernel][: None if cuda else 1]:  # exact products are all cut alike
        _tiles.MEASURED[kernel, row.width, gated] = cut
        told.append({"kernel": kernel, "gated": gated, "cut": cut} | _compared(row, SEEN_BY[kernel], tokens, device))
    return told


def rehearse_ragged(task: tuple[str, str]) -> list[dict[str, Any]]:
    """One path at awkward sizes."""
    path, device = task
    return [
        {"path": path, "tokens": tokens} | asdict(row) | _compared(row, path, tokens, device) for row, tokens in RAGGED
    ]


def _compared(row: Row, path: str, tokens: int, device: str) -> dict[str, Any]:
    try:
        found = errors(row, path, tokens, device, torch.bfloat16 if device == "cuda" else torch.float32)
    except Exception as error:
        return {"failed": _line(error)}
    return {"errors": found} | ({} if max(found.values()) < ALLOWED else {"failed": "not the plain loop"})


def right(rehearsed: list[dict[str, Any]]) -> Cuts:
    """For each kernel, with gates and without, the ways of cutting it that are right."""
    return {
        (kernel, gated): [
            one["cut"]
            for one in rehearsed
            if "failed" not in one and (one.get("kernel"), one.get("gated")) == (kernel, gated)
        ]
        for kernel in SEEN_BY
        for gated in (True, False)
    }


class Bench:
    """One row's contenders, made and warm, and how they are timed."""

    def __init__(self, row: Row, tokens: int, device: str) -> None:
        self.row, self.device = row, device
        self.cuda = device == "cuda"
        dtype = torch.bfloat16 if self.cuda else torch.float32
        self.x_ND = torch.randn(tokens, row.width, device=device, dtype=dtype, requires_grad=True)
        self.grad_ND = torch.randn(tokens, row.width, device=device, dtype=dtype)
        self.told: dict[str, Any] = asdict(row) | {"tokens": tokens, "cuts": {}, "layers": {}}
        self.made: dict[str, Contender] = {}

    def prepare(self) -> None:
        """Makes and warms every contender; what fails is told."""
        compiled = (
            (lambda function: torch.compile(function, dynamic=False)) if self.cuda else (lambda function: function)
        )
        for name, make in contenders(self.row, self.device, compiled).items():
            try:
                contender = make()
                if name not in SEEN_BY.values():  # those wait until their kernels are known to be right
                    contender.both(self.x_ND, self.grad_ND)
                self.made[name] = contender
            except Exception as error:
                self.told["layers"][name] = {"failed": _line(error)}

    def compiled(self, function: Callable) -> Callable:
        """Compiled, where that is worth it."""
        return torch.compile(function, dynamic=False) if self.cuda else function

    def warm(self, cuts: Cuts) -> None:
        """Compiles what the row needs beyond the rehearsal; what fails shows when it is timed."""
        for kernel, path in SEEN_BY.items():
            for cut in cuts.get((kernel, self.row.gated), []) if path in self.made else []:
                _tiles.MEASURED[kernel, self.row.width, self.row.gated] = cut
                with contextlib.suppress(Exception):
                    self.both(path)
        if self.cuda:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()

    def tune(self, cuts: Cuts) -> None:
        """Takes the fastest right way of cutting each kernel; a path without one is left out."""
        for kernel, path in SEEN_BY.items():
            if self.row.width > FUSED_WIDTH and "fused" in kernel:
                continue
            spent = {}
            for cut in cuts.get((kernel, self.row.gated), []):
                _tiles.MEASURED[kernel, self.row.width, self.row.gated] = cut
                try:
                    spent[cut] = self.milliseconds(lambda path=path: self.both(path), 10) if path in self.made else 0
                except Exception as error:
                    self.told["cuts"][f"{kernel} {tuple(cut)}"] = _line(error)
            if not spent and self.cuda:
                self.told["layers"][path] = {"failed": f"no way of cutting {kernel} is right"}
                self.made.pop(path, None)
            if not spent:
                continue
            best = min(spent, key=lambda cut: spent[cut])
            _tiles.MEASURED[kernel, self.row.width, self.row.gated] = best
            self.told["cuts"][kernel] = {"best": best, "milliseconds": [[*cut, ms] for cut, ms in spent.items()]}

    def both(self, name: str) -> list[torch.Tensor]:
        """Forward and backward of one contender."""
        return self.made[name].both(self.x_ND, self.grad_ND)

    def time(self, name: str) -> None:
        """Forward, forward and backward as a graph and launched, memory, and the error where the path is ours."""
        contender = self.made[name]
        told = self.told["layers"].setdefault(name, {})
        try:
            told["launched"] = self.milliseconds(lambda: self.both(name), 10, graph=False)
            if contender.capturable and self.cuda:
                told["both"] = self.milliseconds(lambda: self.both(name), 30)
                told["forward"] = self.milliseconds(lambda: contender.layer(self.x_ND), 30)
            told["megabytes"] = self.megabytes(name)
            if (name in SEEN_BY.values() or name in ("sorted", "folded")) and self.row.width <= 1024:
                dtype = self.x_ND.dtype
                if self.cuda or name != "folded":
                    told["errors"] = errors(self.row, name, min(2048, len(self.x_ND)), self.device, dtype)
        except Exception as error:
            told["failed"] = _line(error)

    def milliseconds(self, run: Callable[[], object], times: int, graph: bool = True) -> float:
        """The fastest of five rounds; a replayed graph unless told otherwise."""
        if not self.cuda:
            began = time.perf_counter()
            run()
            return 1e3 * (time.perf_counter() - began)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):
                run()
        torch.cuda.current_stream().wait_stream(side)
        if graph:
            captured = torch.cuda.CUDAGraph()
            with torch.cuda.graph(captured):
                run()
            run = captured.replay
        run()
        rounds = []
        for _ in range(5):
            first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            first.record()
            for _ in range(max(1, times // 5)):
                run()
            last.record()
            last.synchronize()
            rounds.append(first.elapsed_time(last) / max(1, times // 5))
        return min(rounds)

    def megabytes(self, name: str) -> float:
        """The most memory that a forward and backward needs above what was there before."""
        if not self.cuda:
            return 0.0
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        self.both(name)
        return (torch.cuda.max_memory_allocated() - before) / 1e6


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
        if time.time() < deadline and "failed" not in bench.told:
            bench.tune(dict(cuts))
        for name in list(bench.made):
            if time.time() < deadline:
                bench.time(name)
            else:
                bench.told["layers"].setdefault(name, {"failed": "out of time"})
    results.put(bench.told)


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
    tasks = [(kernel, gated, device) for kernel in SEEN_BY for gated in (True, False)]
    with ProcessPoolExecutor(min(len(tasks) + len(WAYS), os.cpu_count() or 1), mp_context=context) as pool:
        rehearsals = [pool.submit(rehearse, task) for task in tasks]
        ragged = [pool.submit(rehearse_ragged, (way, device)) for way in WAYS]
        for process in processes:
            process.start()
        rehearsed = []
        for task, rehearsal in zip(tasks, rehearsals):
            try:
                rehearsed += rehearsal.result(timeout=max(1.0, deadline - time.time()))
            except Exception as error:
                rehearsed += [
                    {"kernel": task[0], "gated": task[1], "cut": cut, "failed": _line(error)}
                    for cut in _tiles.CANDIDATES[task[0]]
                ]
        for way, rehearsal in zip(WAYS, ragged):
            try:
                rehearsed += rehearsal.result(timeout=max(1.0, deadline - time.time()))
            except Exception as error:
                rehearsed.append({"path": way, "failed": _line(error)})
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


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"


def main() -> None:
    """Times the rows and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("results/benchmarks/moe_layer.json"))
    parser.add_argument("--rows", choices=("gated", "plain", "all"), default="all")
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
    chosen = {"gated": GATED, "plain": PLAIN, "all": GATED + PLAIN}[options.rows]
    rehearsed, rows = [], []
    for tokens in [16_384] if options.quick else options.tokens:
        rehearsed, more = side_by_side([(row, tokens) for row in chosen], "cuda", deadline)
        rows += more
        results = {"unit": "milliseconds", "active": ACTIVE, "rows": rows, "rehearsed": rehearsed}
        write(options.output, results, "transformers", "triton")


if __name__ == "__main__":
    main()
