"""How ``moe_layer.py`` compares and times: every way of cutting a kernel, and the contenders of one row."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from _moe_layers import Contender, Row, contenders, errors
from _timing import milliseconds, peak_bytes

from parrotlab.kernels import _tiles
from parrotlab.kernels._choice import PATHS

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
    for cut in _tiles.HOPPER[kernel][: None if cuda else 1]:  # exact products are all cut alike
        _tiles.MEASURED[kernel, row.width] = cut
        told.append({"kernel": kernel, "gated": gated, "cut": cut} | _compared(row, "fused", tokens, device))
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
        return {"failed": line(error)}
    return {"errors": found} | ({} if max(found.values()) < ALLOWED else {"failed": "not the plain loop"})


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
        for name, make in contenders(self.row, self.device, self.compiled).items():
            try:
                contender = make()
                if name != "fused":  # it waits until its kernels are known to be right
                    contender.both(self.x_ND, self.grad_ND)
                self.made[name] = contender
            except Exception as error:
                self.told["layers"][name] = {"failed": line(error)}

    def compiled(self, function: Callable) -> Callable:
        """Compiled, where that is worth it."""
        return torch.compile(function, dynamic=False) if self.cuda else function

    def warm(self, cuts: Cuts) -> None:
        """Compiles what the row needs beyond the rehearsal; what fails shows when it is timed."""
        for kernel in _tiles.KERNELS if "fused" in self.made else ():
            for cut in cuts.get((kernel, self.row.gated), []):
                _tiles.MEASURED[kernel, self.row.width] = cut
                with contextlib.suppress(Exception):
                    self.both("fused")
        if self.cuda:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()

    def tune(self, cuts: Cuts) -> None:
        """Takes the fastest right way of cutting each kernel; the path is left out where a kernel has none."""
        for kernel in _tiles.KERNELS:
            spent = {}
            for cut in cuts.get((kernel, self.row.gated), []):
                _tiles.MEASURED[kernel, self.row.width] = cut
                try:
                    spent[cut] = self.milliseconds(lambda: self.both("fused"), 10)
                except Exception as error:
                    self.told["cuts"][f"{kernel} {tuple(cut)}"] = line(error)
            if not spent and self.cuda:
                self.told["layers"]["fused"] = {"failed": f"no way of cutting {kernel} is right"}
                self.made.pop("fused", None)
            if not spent:
                continue
            best = min(spent, key=lambda cut: spent[cut])
            _tiles.MEASURED[kernel, self.row.width] = best
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
            if name in PATHS and self.row.width <= 1024:
                told["errors"] = errors(self.row, name, min(2048, len(self.x_ND)), self.device, self.x_ND.dtype)
        except Exception as error:
            told["failed"] = line(error)

    def milliseconds(self, run: Callable[[], object], times: int, graph: bool = True) -> float:
        """The fastest of five rounds; a replayed graph unless told otherwise."""
        if not self.cuda:
            began = time.perf_counter()
            run()
            return 1e3 * (time.perf_counter() - began)
        return milliseconds(run, max(1, times // 5), graph)

    def megabytes(self, name: str) -> float:
        """The most memory that a forward and backward needs above what was there before."""
        if not self.cuda:
            return 0.0
        return peak_bytes(lambda: self.both(name)) / 1e6


def line(error: BaseException) -> str:
    """An error on one line."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"
