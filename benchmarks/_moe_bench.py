"""How ``moe_layer.py`` compares and times: every way of cutting a kernel, and the contenders of one row."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import torch
from _moe_layers import Contender, Row, contenders, errors
from _timing import milliseconds, peak_bytes
from _workers import line
from tables import MIXTRALS

from parrotlab.kernels import _tiles
from parrotlab.kernels._choice import PATHS, Path

Cuts = dict[tuple[str, bool], list[_tiles.Tiles]]
ALLOWED = 1e-2
"""Relative error, against float32, of a kernel that counts as right."""
ERROR_TOKENS = 2048

RAGGED = [(Row(40, 24, 5, True), 70), (Row(33, 17, 3, False), 200), (Row(64, 96, 128, True), 1)]
"""Layers and tokens that no tile divides, experts without tokens."""

FIRST = ("fused", "dense", "sorted", "transformers grouped_mm, compiled")
"""What all rows are compared by."""
COMPILED = (*FIRST, "router alone")


class Task(NamedTuple):
    """One number to measure."""

    tokens: int
    name: str
    quantity: str
    """both (forward and backward, a replayed graph), forward, launched (both, by the host), megabytes, or errors."""


def stages(tokens: Sequence[int]) -> list[list[Task]]:
    """What a row measures, what matters most first: no row begins a stage before all have ended the one before it."""
    eager = ("transformers grouped_mm", "sorted, not compiled", "dense, not compiled")
    by_weight = [
        [(name, "both") for name in FIRST],
        [(name, "megabytes") for name in dict.fromkeys((*FIRST, *MIXTRALS))] + [("fused", "errors")],
        [("router alone", "both")]
        + [(name, quantity) for quantity in ("forward", "launched") for name in FIRST]
        + [(name, quantity) for name in eager for quantity in ("both", "launched")]
        + [(name, "launched") for name in ("Liger", "transformers eager")],
    ]
    return [[Task(count, *one) for one in stage] for stage in by_weight for count in tokens]


class Rehearsal:
    """Comparison with the plain loop in float32, in a process of its own: a wrong kernel may end it."""

    def __init__(self, device: str) -> None:
        self.device, self.cuda = device, device == "cuda"

    def cuts(self, kernel: str, gated: bool) -> list[dict[str, Any]]:
        """Every way of cutting one kernel."""
        row, tokens = (Row(256, 512, 8, gated), 2048) if self.cuda else (Row(16, 32, 4, gated), 12)
        told = []
        for cut in _tiles.HOPPER[kernel][: None if self.cuda else 1]:  # exact products are all cut alike
            _tiles.MEASURED[kernel, row.width] = cut
            told.append({"kernel": kernel, "gated": gated, "cut": cut} | self._compared(row, "fused", tokens))
        return told

    def ragged(self) -> list[dict[str, Any]]:
        """The kernels at awkward sizes."""
        return [
            {"path": "fused", "tokens": tokens} | asdict(row) | self._compared(row, "fused", tokens)
            for row, tokens in RAGGED
        ]

    def _compared(self, row: Row, path: Path, tokens: int) -> dict[str, Any]:
        try:
            found = errors(row, path, tokens, self.device, torch.bfloat16 if self.cuda else torch.float32)
        except Exception as error:
            return {"failed": line(error)}
        is_right = all(error < ALLOWED for error in found.values())  # no NaN is
        return {"errors": found} | ({} if is_right else {"failed": "not the plain loop"})


def right(rehearsed: list[dict[str, Any]]) -> Cuts:
    """For each kernel, with gates and without, the ways of cutting it that are right."""
    return {
        (kernel, gated): [
            one["cut"]
            for one in rehearsed
            if "failed" not in one and (one.get("kernel"), one.get("gated")) == (kernel, gated)
        ]
        for kernel in _tiles.KERNELS
        for gated in (True, False)
    }


class Bench:
    """One row's contenders, made and warm, and how they are timed. What it tells is one table a count of tokens."""

    def __init__(self, row: Row, tokens: Sequence[int], device: str) -> None:
        self.row, self.device, self.cuda = row, device, device == "cuda"
        dtype = torch.bfloat16 if self.cuda else torch.float32
        self.inputs = {
            count: (
                torch.randn(count, row.width, device=device, dtype=dtype, requires_grad=True),
                torch.randn(count, row.width, device=device, dtype=dtype),
            )
            for count in tokens
        }
        self.told: dict[int, dict[str, Any]] = {
            count: asdict(row) | {"tokens": count, "cuts": {}, "layers": {}} for count in tokens
        }
        self.makers = contenders(row, device, self._compiled)
        self.made: dict[str, Contender] = {}

    def prepare(self) -> list[dict[str, Any]]:
        """Compiles all that is compiled but our kernels, which are first found to be right."""
        for tokens in self.inputs:
            for name in COMPILED:
                if name != "fused" and name in self.makers:
                    self._try(Task(tokens, name, "compiled"), self._both)
        self._forget()
        return list(self.told.values())

    def warm(self, cuts: Cuts) -> list[dict[str, Any]]:
        """Compiles our kernels in every right way of cutting them; all is ready then."""
        for kernel in _tiles.KERNELS if self.cuda else ():
            if not cuts[kernel, self.row.gated]:
                self.makers.pop("fused", None)
                for told in self.told.values():
                    told["layers"]["fused"] = {"failed": {"both": f"no way of cutting {kernel} is right"}}
        for kernel, ways in self._ways(cuts).items():
            if _tiles.tiles(kernel, self.row.width, low_precision=True, hopper=True) not in ways:
                _tiles.MEASURED[kernel, self.row.width] = ways[0]
        for tokens in self.inputs if "fused" in self.makers else ():
            self._try(Task(tokens, "fused", "compiled"), self._both)
            for _ in self._cut_in_turn(cuts):
                with contextlib.suppress(Exception):  # it shows again when it is timed
                    self._both(Task(tokens, "fused", "both"))
        self._forget()
        gc.freeze()  # every capture collects garbage, and need not look for it among all that was compiled
        return list(self.told.values())

    def tune(self, cuts: Cuts) -> list[dict[str, Any]]:
        """Takes the fastest right way of cutting each kernel, at the first count of tokens."""
        task = Task(next(iter(self.inputs)), "fused", "both")
        spent: dict[str, dict[_tiles.Tiles, float]] = {}
        for kernel, cut in self._cut_in_turn(cuts):
            with contextlib.suppress(Exception):
                spent.setdefault(kernel, {})[cut] = self._milliseconds(lambda: self._both(task), 10)
        for kernel, ways in spent.items():
            best = min(ways, key=lambda cut: ways[cut])
            _tiles.MEASURED[kernel, self.row.width] = best
            for told in self.told.values():
                told["cuts"][kernel] = {"best": best, "milliseconds": [[*cut, ms] for cut, ms in ways.items()]}
        self._forget()
        return list(self.told.values())

    def measure(self, tasks: list[Task], deadline: float) -> list[dict[str, Any]]:
        """Does what this row can of the tasks; what fails, or comes too late, says so."""
        for task in tasks:
            if task.name in self.makers:
                self._try(task, self._quantity, deadline)
        self._forget()
        return list(self.told.values())

    def _try(self, task: Task, measured: Callable[[Task], Any], deadline: float = float("inf")) -> None:
        layer = self.told[task.tokens]["layers"].setdefault(task.name, {})
        try:
            if time.time() > deadline:
                raise TimeoutError("out of time")
            value = measured(task)
            if task.quantity != "compiled":
                layer[task.quantity] = value
        except Exception as error:
            layer.setdefault("failed", {})[task.quantity] = line(error)
        if "OutOfMemory" in str(layer.get("failed", "")):
            self._forget()

    def _quantity(self, task: Task) -> Any:
        match task.quantity:
            case "both":
                return self._milliseconds(lambda: self._both(task), 30)
            case "launched":
                return self._milliseconds(lambda: self._both(task), 10, graph=False)
            case "forward":
                contender, x_ND = self._contender(task.name), self.inputs[task.tokens][0]
                return self._milliseconds(lambda: contender.layer(x_ND), 30)
            case "megabytes":
                return peak_bytes(lambda: self._both(task)) / 1e6 if self.cuda else float("nan")
            case "errors":
                assert task.name in PATHS
                tokens, dtype = min(ERROR_TOKENS, task.tokens), self.inputs[task.tokens][0].dtype
                return errors(self.row, task.name, tokens, self.device, dtype)
        raise AssertionError(task)

    def _both(self, task: Task) -> list[torch.Tensor]:
        return self._contender(task.name).both(*self.inputs[task.tokens])

    def _contender(self, name: str) -> Contender:
        if name not in self.made:
            self.made[name] = self.makers[name]()
        return self.made[name]

    def _ways(self, cuts: Cuts) -> dict[str, list[_tiles.Tiles]]:
        """Of cutting each kernel as this row needs it; none where they are not known, or where one has none."""
        return {kernel: ways for (kernel, gated), ways in cuts.items() if gated == self.row.gated and ways}

    def _cut_in_turn(self, cuts: Cuts) -> Iterator[tuple[str, _tiles.Tiles]]:
        """Every way of cutting each kernel that has several, while the others are cut as they were."""
        for kernel, ways in self._ways(cuts).items() if "fused" in self.makers else ():
            before = _tiles.tiles(kernel, self.row.width, low_precision=True, hopper=True)
            for cut in ways if len(ways) > 1 else ():
                _tiles.MEASURED[kernel, self.row.width] = cut
                yield kernel, cut
            _tiles.MEASURED[kernel, self.row.width] = before

    def _compiled(self, function: Callable) -> Callable:
        return torch.compile(function, dynamic=False) if self.cuda else function

    def _milliseconds(self, run: Callable[[], object], times: int, graph: bool = True) -> float:
        """The fastest of five rounds; a replayed graph unless told otherwise."""
        if not self.cuda:
            began = time.perf_counter()
            run()
            return 1e3 * (time.perf_counter() - began)
        return milliseconds(run, max(1, times // 5), graph)

    def _forget(self) -> None:
        """Gives back what others on this GPU may need."""
        gc.collect()
        if self.cuda:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
