"""How the kernels of ``expert_products`` are cut into tiles: for each a few ways, and which one a shape takes.

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
    """Depth of a step."""
    warps: int
    """That multiply a tile. On a Hopper GPU four leave room for another program, or group of warps, beside them."""
    stages: int
    holds: bool = False
    """On a Hopper GPU: whether whole tiles leave from shared memory, while the next ones are multiplied."""
    groups: int = 1
    """On a Hopper GPU: of so many warps, which take turns in a program."""

    @property
    def programs(self) -> int:
        """That share a processor of a Hopper GPU."""
        return 2 if self.warps * self.groups == 4 else 1

    @property
    def slice(self) -> int:
        """Columns of a tile that the pass after a product works on at once."""
        return self.N // 4

    def cover(self, rows: int, columns: int) -> int:
        """How many of them a matrix takes."""
        return -(-rows // self.M) * -(-columns // self.N)


KERNELS = ("rows_product", "weights_product")

LARGER, SMALLER = Tiles(128, 256, 64, 8, 3, holds=True), Tiles(128, 128, 64, 4, 3)
"""Of these, two programs share a processor: one multiplies while the other writes."""
TURNS = Tiles(128, 128, 64, 4, 5, groups=2)
"""One group multiplies while the other passes over its tile."""
HOPPER: dict[str, list[Tiles]] = {
    "rows_product": [LARGER, SMALLER],
    "weights_product": [LARGER, SMALLER],
    "hidden_forward": [TURNS],
    "hidden_backward": [TURNS],
}
"""A ring of ``stages`` is what fits into a processor's shared memory, or into half of it."""

MEASURED: dict[tuple[str, int], Tiles] = {
    ("rows_product", 256): SMALLER,
    ("rows_product", 512): SMALLER,
}
"""By kernel and model width: the fastest of these ways on an H100, where it is not the first."""

FUSED = {("hidden_forward", False), ("hidden_forward", True), ("hidden_backward", False)}
"""Products with the pass after them, gated or not, that took less time on an H100 than one after the other."""
FUSED_WIDTH = 1024
"""Model width up to which they did; beyond, their tiles are too small."""

PORTABLE: dict[str, Tiles] = {
    "rows_product": Tiles(128, 256, 64, 8, 3),
    "weights_product": Tiles(128, 128, 64, 8, 3),
}
"""On other GPUs: what was fastest at most widths on an H100, where these kernels were the only ones once."""

PROCESSORS = 132
"""Of an H100: fewer programs than this leave some idle."""

EXACT = Tiles(32, 32, 32, 4, 2)
"""For float32, whose exact products have no tensor cores."""


def tiles(kernel: str, width: int, low_precision: bool, hopper: bool) -> Tiles:
    """The way that this kernel is cut at a model width."""
    if hopper:
        return MEASURED.get((kernel, width), HOPPER[kernel][0])
    return PORTABLE[kernel] if low_precision else EXACT


def power(size: int) -> int:
    """The power of 2 that holds a size."""
    return 1 << (size - 1).bit_length()


def lanes(size: int) -> int:
    """The power of 2, at least 16, that holds a side of a product."""
    return max(16, power(size))
