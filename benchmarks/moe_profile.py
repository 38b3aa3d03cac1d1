"""What bounds a mixture layer: its CUDA kernels by time, beside the bytes and FLOPs that its path must move and make.

    python benchmarks/moe_profile.py                        five layers by the kernels
    python benchmarks/moe_profile.py --path sorted --top 20
    python benchmarks/moe_profile.py --router plain
    python benchmarks/moe_profile.py --smoke                a tiny layer on a CPU under Triton's interpreter

Forward and backward of one layer with its router, compiled and launched, under torch.profiler. What the device can do
is measured in the same run: a copy and a product of its own.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable

if "--smoke" in sys.argv:
    os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported

import torch
from _moe_layers import ACTIVE, Row, contenders
from torch.profiler import ProfilerActivity, profile

from parrotlab.kernels import _choice

ROWS = [
    Row(256, 512, 8, True), Row(256, 256, 64, False), Row(512, 512, 64, False), Row(512, 1024, 64, True),
    Row(1024, 2048, 64, True),
]  # fmt: skip
RUNS = 10
MOVED: dict[str, dict[bool, tuple[int, int, int, int, int]]] = {
    "fused": {False: (10, 5, 3, 3, 3), True: (10, 5, 5, 3, 3)},
    "sorted": {False: (13, 6, 5, 3, 3), True: (13, 6, 5, 3, 3)},
}
"""How often a path without gates, or with, reads or writes, forward and backward, the choices' rows at the model's
width, before the activation and after it, and the matrices up and down. The router and what the caches keep are not
counted."""


def demand(row: Row, path: str, tokens: int) -> tuple[float, float]:
    """Bytes that the experts' path moves in bfloat16, and FLOPs that their products take."""
    choices, columns = tokens * ACTIVE, row.hidden * (2 if row.gated else 1)
    at_width, before, after, up, down = MOVED[path][row.gated]
    rows = choices * (at_width * row.width + before * columns + after * row.hidden) + 2 * tokens * row.width
    matrices = row.experts * row.width * (up * columns + down * row.hidden)
    return 2.0 * (rows + matrices), 6.0 * choices * row.width * (columns + row.hidden)


def kernels(row: Row, path: str, tokens: int, device: str) -> dict[str, tuple[float, int]]:
    """Milliseconds and launches of one forward and backward, by kernel; on a CPU by operation."""
    cuda = device == "cuda"
    compiled = (lambda function: torch.compile(function, dynamic=False)) if cuda else (lambda function: function)
    layer = contenders(row, device, compiled)[path]()
    dtype = torch.bfloat16 if cuda else torch.float32
    x_ND = torch.randn(tokens, row.width, device=device, dtype=dtype, requires_grad=True)
    grad_ND = torch.randn(tokens, row.width, device=device, dtype=dtype)
    for _ in range(3):
        layer.both(x_ND, grad_ND)
    _settle(device)
    runs = RUNS if cuda else 1
    with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as told:
        for _ in range(runs):
            layer.both(x_ND, grad_ND)
        _settle(device)
    spent = {}
    for event in told.key_averages():
        microseconds = event.self_device_time_total if cuda else event.self_cpu_time_total
        if microseconds > 0:
            spent[event.key] = (microseconds / 1e3 / runs, event.count // runs)
    return dict(sorted(spent.items(), key=lambda one: -one[1][0]))


def peaks(device: str) -> tuple[float, float]:
    """Bytes a second of a copy, and FLOPs a second of a product of bfloat16."""
    size = 8192 if device == "cuda" else 256
    matrix = torch.randn(size, size, device=device).bfloat16()
    large = torch.empty(size * size * 4, dtype=torch.bfloat16, device=device)
    copy, product = _seconds(lambda: large.clone(), device), _seconds(lambda: matrix @ matrix, device)
    return 2.0 * large.nbytes / copy, 2.0 * size**3 / product


def _seconds(run: Callable[[], object], device: str) -> float:
    run()
    _settle(device)
    began = time.perf_counter()
    for _ in range(RUNS):
        run()
    _settle(device)
    return (time.perf_counter() - began) / RUNS


def _settle(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def tell(row: Row, path: str, tokens: int, device: str, limits: tuple[float, float], top: int) -> None:
    """Prints one layer: its kernels, and how near it comes to what the device can do."""
    spent = kernels(row, path, tokens, device)
    total = sum(milliseconds for milliseconds, _ in spent.values())
    moved, made = demand(row, path, tokens)
    kind = "SwiGLU" if row.gated else "GELU"
    print(f"\n{row.width}, {row.hidden}, {row.experts} experts, {kind}, {tokens} tokens, {path}")
    for name, (milliseconds, launches) in list(spent.items())[:top]:
        print(f"  {milliseconds:8.4f} ms {milliseconds / total:6.1%} {launches:3d}x  {name[:90]}")
    launches = sum(count for _, count in spent.values())
    print(f"  {total:8.4f} ms in {launches} launches; {max(0, len(spent) - top)} kinds of kernels not shown")
    by_bytes, by_flops = 1e3 * moved / limits[0], 1e3 * made / limits[1]
    print(
        f"  experts: {moved / 1e6:.0f} MB, {moved / total / 1e9:.2f} TB/s, {by_bytes:.3f} ms at this device's copy; "
        f"{made / 1e9:.0f} GFLOP, {made / total / 1e9:.0f} TFLOP/s, {by_flops:.3f} ms at its product; "
        f"bound by {'bytes' if by_bytes > by_flops else 'FLOPs'}, {max(by_bytes, by_flops) / total:.0%} of the time",
        flush=True,
    )


def main() -> None:
    """Tells every row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--path", choices=tuple(MOVED), default="fused")
    parser.add_argument("--router", choices=("plain", "fused"), default=_choice.ROUTER)
    parser.add_argument("--tokens", type=int, default=16_384)
    parser.add_argument("--top", type=int, default=14, help="how many kernels are shown")
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    device = "cpu" if options.smoke else "cuda"
    assert options.smoke or torch.cuda.is_available(), "no CUDA device: try --smoke"
    _choice.ROUTER = options.router
    limits = peaks(device)
    print(f"copy {limits[0] / 1e12:.2f} TB/s, bfloat16 product {limits[1] / 1e12:.0f} TFLOP/s")
    for row in [Row(16, 32, 4, True)] if options.smoke else ROWS:
        tell(row, options.path, 12 if options.smoke else options.tokens, device, limits, options.top)


if __name__ == "__main__":
    main()
