"""The Triton kernels of ``adamw``.

The work is cut into pieces of PIECE numbers, each of one tensor: of a piece the table has its tensor and its place
among that tensor's pieces. Axis 1 of a grid are replicas; each has ``size`` numbers of a tensor, one after the other.
Tensors are found by their addresses, in rows of W: gradients, weights, first moments, second moments.
"""

# ruff: noqa: N803, RUF100
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def note(addresses_4W, begin, tensors):
    """Writes down where the tensors of a tuple lie: what a captured step computes lies elsewhere than before."""
    for at in tl.static_range(len(tensors)):
        tl.store(addresses_4W + begin + at, tensors[at].to(tl.int64))


@triton.jit
def _numbers(address, ALIGNED: tl.constexpr):
    """Pointer to the float32 numbers at an address."""
    numbers = address.to(tl.pointer_type(tl.float32))
    if ALIGNED:
        numbers = tl.multiple_of(numbers, 16)
    return numbers


@triton.jit
def _left(left, PIECE: tl.constexpr, ALIGNED: tl.constexpr):
    """Which of a piece's numbers there are; of aligned ones, fours at a time."""
    if ALIGNED:
        left = left // 4 * 4  # it is one already; this tells the compiler
    return tl.arange(0, PIECE) < left


@triton.jit
def _squared(address, left, PIECE: tl.constexpr, ALIGNED: tl.constexpr):
    slope = tl.load(_numbers(address, ALIGNED) + tl.arange(0, PIECE), mask=_left(left, PIECE, ALIGNED), other=0.0)
    return slope * slope


@triton.jit
def squares(addresses_4W, sizes_W, shares_W, pieces_P2, sums_RS, pieces, PIECE: tl.constexpr):
    """Sums of share · gradient²: program s of a replica adds up the pieces s, s + S, s + 2S, ..."""
    program, programs = tl.program_id(0), tl.num_programs(0)
    replica = tl.program_id(1).to(tl.int64)
    total = tl.zeros((PIECE,), tl.float32)
    for piece in range(program, pieces, programs):
        tensor = tl.load(pieces_P2 + 2 * piece)
        start = tl.load(pieces_P2 + 2 * piece + 1).to(tl.int64) * PIECE
        size = tl.load(sizes_W + tensor)
        left = tl.minimum(size - start, PIECE).to(tl.int32)
        address = tl.load(addresses_4W + tensor) + 4 * (replica * size + start)
        share = tl.load(shares_W + tensor)
        if ((address | (4 * size)) & 15) == 0:
            total += share * _squared(address, left, PIECE, True)
        else:
            total += share * _squared(address, left, PIECE, False)
    tl.store(sums_RS + replica * programs + program, tl.sum(total, axis=0))


@triton.jit
def _moved(
    gradient, weight, first, second, left, scale, shrink, stride, correction,
    BETA1: tl.constexpr, BETA2: tl.constexpr, EPSILON: tl.constexpr, PIECE: tl.constexpr, ALIGNED: tl.constexpr,
):  # fmt: skip
    """One piece, read once and written once; the first four arguments are addresses."""
    lane, alive = tl.arange(0, PIECE), _left(left, PIECE, ALIGNED)
    weights, firsts = _numbers(weight, ALIGNED) + lane, _numbers(first, ALIGNED) + lane
    seconds = _numbers(second, ALIGNED) + lane
    g = tl.load(_numbers(gradient, ALIGNED) + lane, mask=alive, other=0.0) * scale
    m = tl.load(firsts, mask=alive, other=0.0)
    v = tl.load(seconds, mask=alive, other=0.0)
    w = tl.load(weights, mask=alive, other=0.0)
    m += (1 - BETA1) * (g - m)
    v = BETA2 * v + (1 - BETA2) * g * g
    w = w * shrink - stride * (m / (tl.sqrt(v / correction) + EPSILON))
    tl.store(firsts, m, mask=alive)
    tl.store(seconds, v, mask=alive)
    tl.store(weights, w, mask=alive)


@triton.jit
def move(
    addresses_4W, sizes_W, decays_W, pieces_P2, norm_R, rate_R, schedule, steps, tensors, clip,
    BETA1: tl.constexpr, BETA2: tl.constexpr, LOG_BETA1: tl.constexpr, LOG_BETA2: tl.constexpr,
    EPSILON: tl.constexpr, PIECE: tl.constexpr,
):  # fmt: skip
    """AdamW on one piece of one replica. ``steps`` counts this step; LOG_BETA are natural logarithms of the betas."""
    piece = tl.program_id(0)
    replica = tl.program_id(1).to(tl.int64)
    tensor = tl.load(pieces_P2 + 2 * piece)
    start = tl.load(pieces_P2 + 2 * piece + 1).to(tl.int64) * PIECE
    size = tl.load(sizes_W + tensor)
    left = tl.minimum(size - start, PIECE).to(tl.int32)
    offset = 4 * (replica * size + start)
    gradient = tl.load(addresses_4W + tensor) + offset
    weight = tl.load(addresses_4W + tensors + tensor) + offset
    first = tl.load(addresses_4W + 2 * tensors + tensor) + offset
    second = tl.load(addresses_4W + 3 * tensors + tensor) + offset

    rate = tl.load(rate_R + replica) * tl.load(schedule)
    scale = tl.minimum(clip / (tl.load(norm_R + replica) + 1e-6), 1.0, propagate_nan=tl.PropagateNan.ALL)
    shrink = 1 - rate * tl.load(decays_W + tensor)
    # In float64: at the first steps 1 - beta^t is a small difference.
    count = tl.load(steps).to(tl.float64)
    stride = rate / (1 - tl.exp(count * LOG_BETA1)).to(tl.float32)
    correction = (1 - tl.exp(count * LOG_BETA2)).to(tl.float32)
    if ((gradient | weight | first | second | (4 * size)) & 15) == 0:
        _moved(
            gradient, weight, first, second, left, scale, shrink, stride, correction,
            BETA1, BETA2, EPSILON, PIECE, True,
        )  # fmt: skip
    else:
        _moved(
            gradient, weight, first, second, left, scale, shrink, stride, correction,
            BETA1, BETA2, EPSILON, PIECE, False,
        )  # fmt: skip
