"""Curves in a terminal, drawn with the eight dots of braille characters."""

from __future__ import annotations

import math
from collections.abc import Sequence

DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The bit of each dot of a character, by row and column."""
BLANK = 0x2800


def curve(points: Sequence[tuple[float, float]], width: int, height: int, last_x: float) -> list[str]:
    """Lines of ``width`` characters: the points between 0 and ``last_x``, and between their lowest and highest.

    >>> curve([(0, 3.0), (1, 2.0), (2, 1.0), (3, 0.0)], width=2, height=1, last_x=3)
    ['⠑⢄']
    """
    known = [(x, y) for x, y in points if math.isfinite(y)]
    if not known:
        return [" " * width] * height
    lowest, highest = min(y for _, y in known), max(y for _, y in known)
    cells = [[BLANK] * width for _ in range(height)]
    for x, y in known:
        column = round((2 * width - 1) * min(1.0, x / max(last_x, 1e-9)))
        row = round((4 * height - 1) * ((highest - y) / (highest - lowest) if highest > lowest else 0.5))
        cells[row // 4][column // 2] |= DOTS[row % 4][column % 2]
    return ["".join(map(chr, line)) for line in cells]
