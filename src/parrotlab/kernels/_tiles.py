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
    """That multiply. On a Hopper GPU four leave room for a second program on their processor, eight do not."""
    stages: int


KERNELS = ("hidden_forward", "rows_product", "hidden_backward", "weights_product")

HOPPER: dict[tuple[str, bool], list[Tiles]] = {
    ("hidden_forward", False): [Tiles(128, 128, 64, 8, 5), Tiles(128, 256, 64, 8, 4), Tiles(128, 128, 64, 4, 3)],
    ("hidden_forward", True): [Tiles(128, 128, 64, 8, 4), Tiles(128, 64, 64, 4, 3)],
    ("rows_product", False): [Tiles(128, 256, 64, 8, 4), Tiles(128, 128, 64, 4, 3), Tiles(128, 128, 64, 8, 5)],
    ("rows_product", True): [Tiles(128, 256, 64, 8, 4), Tiles(128, 128, 64, 4, 3), Tiles(128, 128, 64, 8, 5)],
    ("hidden_backward", False): [Tiles(128, 128, 64, 8, 5), Tiles(128, 128, 64, 4, 3), Tiles(128, 64, 64, 4, 3)],
    ("hidden_backward", True): [Tiles(128, 128, 64, 8, 5), Tiles(128, 128, 64, 4, 3), Tiles(128, 64, 64, 4, 3)],
    ("weights_product", False): [Tiles(128, 256, 64, 8, 4), Tiles(128, 128, 64, 4, 3), Tiles(128, 128, 64, 8, 5)],
    ("weights_product", True): [Tiles(128, 256, 64, 8, 4), Tiles(128, 128, 64, 4, 3), Tiles(128, 128, 64, 8, 5)],
}
"""By kernel and gatedness. A ring of ``stages`` is what fits into a processor's shared memory, or into half of it."""

MEASURED: dict[tuple[str, int, bool], Tiles] = {
    ("hidden_forward", 512, False): Tiles(128, 256, 64, 8, 4),
    ("hidden_forward", 1024, False): Tiles(128, 256, 64, 8, 4),
    ("rows_product", 256, False): Tiles(128, 128, 64, 4, 3),
    ("rows_product", 256, True): Tiles(128, 128, 64, 4, 3),
    ("rows_product", 512, False): Tiles(128, 128, 64, 4, 3),
    ("rows_product", 512, True): Tiles(128, 128, 64, 4, 3),
}
"""By kernel, width and gatedness: the fastest of these ways on an H100, where it is not the first."""

PORTABLE: dict[str, Tiles] = {
    "hidden_forward": Tiles(128, 128, 64, 8, 3),
    "rows_product": Tiles(128, 256, 64, 8, 3),
    "hidden_backward": Tiles(64, 64, 64, 4, 3),
    "weights_product": Tiles(128, 128, 64, 8, 3),
}
"""On other GPUs: what was fastest at most widths on an H100, where these kernels were the only ones once."""

PROCESSORS = 132
"""Of an H100: fewer programs than this leave some idle."""

EXACT = Tiles(32, 32, 32, 4, 2)
"""For float32, whose exact products have no tensor cores."""


def tiles(kernel: str, width: int, gated: bool, low_precision: bool, hopper: bool) -> Tiles:
    """The way that this kernel is cut at a model width."""
    if hopper:
        return MEASURED.get((kernel, width, gated), HOPPER[kernel, gated][0])
    return PORTABLE[kernel] if low_precision else EXACT


def lanes(size: int) -> int:
    """The power of 2, at least 16, that holds a side of a product."""
    return max(16, 1 << (size - 1).bit_length())
