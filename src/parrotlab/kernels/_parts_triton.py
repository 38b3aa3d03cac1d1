"""The Triton kernel of ``parts``."""

# ruff: noqa: N803, RUF100
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def add(parts_CX, out_X, parts, size, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """out = Σ_c parts[c] in float32, ROWS parts at once."""
    at_X = tl.program_id(0).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    sum_X = tl.zeros((COLUMNS,), tl.float32)
    for first in range(0, parts, ROWS):
        part_C = first + tl.arange(0, ROWS)
        inside_CX = (part_C < parts)[:, None] & (at_X < size)[None, :]
        at_CX = part_C.to(tl.int64)[:, None] * size + at_X[None, :]
        sum_X += tl.sum(tl.load(parts_CX + at_CX, mask=inside_CX, other=0.0), axis=0)
    tl.store(out_X + at_X, sum_X.to(out_X.dtype.element_ty), mask=at_X < size)
