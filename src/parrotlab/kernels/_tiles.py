"""How the kernels of ``fast_experts`` are cut into tiles: for each kernel a few ways, and which one a shape takes.

What a way needs of an H100's registers and shared memory is known without one (tests/kernels/test_tiles.py).
benchmarks/moe_layer.py times them, and what it measured goes into ``MEASURED``.
"""

from __future__ import annotations

from typing import NamedTuple


class Tiles(NamedTuple):
    """A program's tile, and how it is run."""

    M: int
    N: int
    K: int
    """Depth of a step; where a kernel keeps the whole width, 0."""
    warps: int
    stages: int


CANDIDATES: dict[str, list[Tiles]] = {
    "hidden_forward": [
        Tiles(128, 64, 64, 8, 3),
        Tiles(128, 64, 32, 8, 4),
        Tiles(128, 128, 64, 8, 3),
        Tiles(64, 64, 64, 4, 3),
    ],
    "rows_product": [
        Tiles(128, 128, 64, 8, 3),
        Tiles(128, 256, 64, 8, 3),
        Tiles(128, 128, 64, 4, 3),
        Tiles(64, 256, 64, 4, 3),
    ],
    "hidden_backward": [
        Tiles(128, 64, 64, 8, 3),
        Tiles(64, 64, 64, 4, 3),
        Tiles(128, 64, 32, 8, 4),
        Tiles(64, 128, 64, 8, 3),
    ],
    "hidden_again": [
        Tiles(128, 64, 64, 8, 3),
        Tiles(64, 64, 64, 4, 2),
        Tiles(128, 64, 32, 8, 3),
        Tiles(128, 32, 64, 4, 3),
    ],
    "weights_product": [
        Tiles(128, 128, 64, 8, 3),
        Tiles(128, 256, 64, 8, 3),
        Tiles(128, 128, 64, 4, 3),
        Tiles(128, 128, 32, 8, 4),
    ],
    "fused_forward": [
        Tiles(128, 32, 0, 8, 2),
        Tiles(128, 32, 0, 8, 3),
        Tiles(64, 32, 0, 4, 2),
        Tiles(64, 64, 0, 8, 2),
    ],
    "fused_backward": [
        Tiles(64, 32, 0, 4, 2),
        Tiles(128, 32, 0, 8, 2),
        Tiles(128, 32, 0, 8, 1),
        Tiles(128, 16, 0, 8, 2),
    ],
}
"""hidden_again is hidden_backward where it computes again what went into the activation."""

MEASURED: dict[tuple[str, int, bool], Tiles] = {
    ("hidden_forward", 512, False): Tiles(64, 64, 64, 4, 3),
    ("hidden_forward", 512, True): Tiles(128, 128, 64, 8, 3),
    ("hidden_forward", 1024, False): Tiles(128, 128, 64, 8, 3),
    ("hidden_forward", 1024, True): Tiles(128, 128, 64, 8, 3),
    ("hidden_forward", 2048, True): Tiles(128, 128, 64, 8, 3),
    ("rows_product", 256, True): Tiles(128, 256, 64, 8, 3),
    ("rows_product", 512, False): Tiles(128, 256, 64, 8, 3),
    ("rows_product", 512, True): Tiles(128, 256, 64, 8, 3),
    ("rows_product", 1024, False): Tiles(128, 256, 64, 8, 3),
    ("rows_product", 1024, True): Tiles(128, 256, 64, 8, 3),
    ("rows_product", 2048, True): Tiles(128, 256, 64, 8, 3),
    ("hidden_backward", 256, False): Tiles(64, 64, 64, 4, 3),
    ("hidden_backward", 256, True): Tiles(64, 64, 64, 4, 3),
    ("hidden_backward", 512, False): Tiles(64, 64, 64, 4, 3),
    ("hidden_backward", 512, True): Tiles(64, 64, 64, 4, 3),
    ("hidden_backward", 1024, False): Tiles(64, 64, 64, 4, 3),
    ("hidden_backward", 1024, True): Tiles(64, 128, 64, 8, 3),
    ("hidden_backward", 2048, True): Tiles(64, 128, 64, 8, 3),
    ("hidden_again", 256, False): Tiles(64, 64, 64, 4, 2),
    ("hidden_again", 512, False): Tiles(64, 64, 64, 4, 2),
    ("fused_forward", 256, False): Tiles(64, 32, 0, 4, 2),
    ("fused_forward", 256, True): Tiles(128, 32, 0, 8, 3),
}
"""By kernel, width and gatedness: the fastest candidate on an H100 at 16,384 tokens, where it is not the first."""

HOPPER: dict[tuple[str, bool], list[Tiles]] = {
    ("hidden_forward", False): [Tiles(128, 256, 64, 8, 4), Tiles(128, 128, 64, 8, 5)],
    ("hidden_forward", True): [Tiles(128, 128, 64, 8, 4), Tiles(128, 64, 64, 8, 5)],
    ("rows_product", False): [Tiles(128, 256, 64, 8, 4), Tiles(128, 128, 64, 8, 5)],
    ("rows_product", True): [Tiles(128, 256, 64, 8, 4), Tiles(128, 128, 64, 8, 5)],
    ("hidden_backward", False): [Tiles(128, 128, 64, 8, 5), Tiles(128, 256, 64, 8, 4)],
    ("hidden_backward", True): [Tiles(128, 128, 64, 8, 5), Tiles(128, 64, 64, 8, 5)],
    ("weights_product", False): [Tiles(128, 256, 64, 8, 4), Tiles(128, 128, 64, 8, 5)],
    ("weights_product", True): [Tiles(128, 256, 64, 8, 4), Tiles(128, 128, 64, 8, 5)],
}
"""Of the kernels of ``grouped_experts`` on a Hopper GPU, with gates and without; not measured yet: the first is taken.
Eight warps multiply, and a ring of ``stages`` is what fits into a processor's shared memory."""

PORTABLE = Tiles(128, 128, 64, 8, 3)
"""The same kernels' on other GPUs."""

PROCESSORS = 132
"""Of an H100: fewer programs than this leave some idle."""

EXACT = Tiles(32, 32, 32, 4, 2)
"""For float32, whose exact products have no tensor cores."""


def tiles(kernel: str, width: int, gated: bool, low_precision: bool) -> Tiles:
    """The way that this kernel is cut at a model width."""
    return MEASURED.get((kernel, width, gated), CANDIDATES[kernel][0]) if low_precision else EXACT


def grouped(kernel: str, gated: bool, low_precision: bool, hopper: bool) -> Tiles:
    """The way that a kernel of ``grouped_experts`` is cut."""
    if hopper:
        return HOPPER[kernel, gated][0]
    return PORTABLE if low_precision else EXACT


def lanes(size: int) -> int:
    """The power of 2, at least 16, that holds a side of a product."""
    return max(16, 1 << (size - 1).bit_length())
