"""The Triton kernels of ``adamw``.

The work is cut into pieces of PIECE numbers, each of one tensor: of a piece the table has its tensor and its place
among that tensor's pieces. Axis 1 of a grid are replicas; each has ``size`` numbers of a tensor, one after the other.
Tensors are found by their addresses, in rows of W: gradients, weights, first moments, second moments, and bfloat16
copies of the weights, or 0. Where there is a copy, the gradient is bfloat16 too: LOW.
"""

# ruff: noqa: N803, RUF100
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def note(addresses_5W, begin, tensors):
    """Writes down where the tensors of a tuple lie: what a captured step computes lies elsewhere than before."""
    for at in tl.static_range(len(tensors)):
        tl.store(addresses_5W + begin + at, tensors[at].to(tl.int64))


@triton.jit
def _numbers(address, ALIGNED: tl.constexpr, LOW: tl.constexpr):
    """Pointer to the float32 numbers at an address, or to bfloat16 ones."""
    if LOW:
        numbers = address.to(tl.pointer_type(tl.bfloat16))
    else:
        numbers = address.to(tl.pointer_type(tl.float32))
    if ALIGNED:
        numbers = tl.multiple_of(numbers, 16)
    return numbers


@triton.jit
def _left(left, PIECE: tl.constexpr, ALIGNED: tl.constexpr, FEW: tl.constexpr):
    """Which of a piece's numbers there are; of aligned ones, so many at a time as 16 bytes hold."""
    if ALIGNED:
        left = left // FEW * FEW  # it is one already; this tells the compiler
    return tl.arange(0, PIECE) < left


@triton.jit
def _slopes(address, left, PIECE: tl.constexpr, ALIGNED: tl.constexpr, LOW: tl.constexpr):
    """A piece of a gradient, in float32."""
    alive = _left(left, PIECE, ALIGNED, 8 if LOW else 4)
    return tl.load(_numbers(address, ALIGNED, LOW) + tl.arange(0, PIECE), mask=alive, other=0.0).to(tl.float32)


@triton.jit
def squares(addresses_5W, sizes_W, shares_W, pieces_P2, sums_RS, pieces, tensors, PIECE: tl.constexpr):
    """Sums of share · gradient²: program s of a replica adds up the pieces s, s + S, s + 2S, ..."""
    program, programs = tl.program_id(0), tl.num_programs(0)
    replica = tl.program_id(1).to(tl.int64)
    total = tl.zeros((PIECE,), tl.float32)
    for piece in range(program, pieces, programs):
        tensor = tl.load(pieces_P2 + 2 * piece)
        start = tl.load(pieces_P2 + 2 * piece + 1).to(tl.int64) * PIECE
        size = tl.load(sizes_W + tensor)
        left = tl.minimum(size - start, PIECE).to(tl.int32)
        share = tl.load(shares_W + tensor)
        low = tl.load(addresses_5W + 4 * tensors + tensor) != 0
        bytes_each = tl.where(low, 2, 4)
        address = tl.load(addresses_5W + tensor) + bytes_each * (replica * size + start)
        aligned = ((address | (bytes_each * size)) & 15) == 0
        if low and aligned:
            slope = _slopes(address, left, PIECE, True, True)
        elif low:
            slope = _slopes(address, left, PIECE, False, True)
        elif aligned:
            slope = _slopes(address, left, PIECE, True, False)
        else:
            slope = _slopes(address, left, PIECE, False, False)
        total += share * slope * slope
    tl.store(sums_RS + replica * programs + program, tl.sum(total, axis=0))


@triton.jit
def _moved(
    gradient, weight, first, second, rounded, left, scale, shrink, stride, correction,
    BETA1: tl.constexpr, BETA2: tl.constexpr, EPSILON: tl.constexpr, PIECE: tl.constexpr, ALIGNED: tl.constexpr,
    LOW: tl.constexpr,
):  # fmt: skip
    """One piece, read once and written once; the first five arguments are addresses."""
    lane, alive = tl.arange(0, PIECE), _left(left, PIECE, ALIGNED, 8 if LOW else 4)
    weights, firsts = _numbers(weight, ALIGNED, False) + lane, _numbers(first, ALIGNED, False) + lane
    seconds = _numbers(second, ALIGNED, False) + lane
    g = _slopes(gradient, left, PIECE, ALIGNED, LOW) * scale
    m = tl.load(firsts, mask=alive, other=0.0)
    v = tl.load(seconds, mask=alive, other=0.0)
    w = tl.load(weights, mask=alive, other=0.0)
    m += (1 - BETA1) * (g - m)
    v = BETA2 * v + (1 - BETA2) * g * g
    w = w * shrink - stride * (m / (tl.sqrt(v / correction) + EPSILON))
    tl.store(firsts, m, mask=alive)
    tl.store(seconds, v, mask=alive)
    tl.store(weights, w, mask=alive)
    if LOW:
        tl.store(_numbers(rounded, ALIGNED, True) + lane, w.to(tl.bfloat16), mask=alive)


@triton.jit
def move(
    addresses_5W, sizes_W, decays_W, pieces_P2, norm_R, rate_R, schedule, steps, tensors, clip,
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
    at = replica * size + start
    gradient, rounded = tl.load(addresses_5W + tensor), tl.load(addresses_5W + 4 * tensors + tensor)
    weight = tl.load(addresses_5W + tensors + tensor) + 4 * at
    first = tl.load(addresses_5W + 2 * tensors + tensor) + 4 * at
    second = tl.load(addresses_5W + 3 * tensors + tensor) + 4 * at
    low = rounded != 0
    bytes_each = tl.where(low, 2, 4)
    gradient += bytes_each * at
    rounded += tl.where(low, 2 * at, 0)

    rate = tl.load(rate_R + replica) * tl.load(schedule)
    scale = tl.minimum(clip / (tl.load(norm_R + replica) + 1e-6), 1.0, propagate_nan=tl.PropagateNan.ALL)
    shrink = 1 - rate * tl.load(decays_W + tensor)
    # In float64: at the first steps 1 - beta^t is a small difference.
    count = tl.load(steps).to(tl.float64)
    stride = rate / (1 - tl.exp(count * LOG_BETA1)).to(tl.float32)
    correction = (1 - tl.exp(count * LOG_BETA2)).to(tl.float32)
    aligned = ((gradient | weight | first | second | rounded | (bytes_each * size)) & 15) == 0
    if low and aligned:
        _moved(
            gradient, weight, first, second, rounded, left, scale, shrink, stride, correction,
            BETA1, BETA2, EPSILON, PIECE, True, True,
        )  # fmt: skip
    elif low:
        _moved(
            gradient, weight, first, second, rounded, left, scale, shrink, stride, correction,
            BETA1, BETA2, EPSILON, PIECE, False, True,
        )  # fmt: skip
    elif aligned:
        _moved(
            gradient, weight, first, second, rounded, left, scale, shrink, stride, correction,
            BETA1, BETA2, EPSILON, PIECE, True, False,
        )  # fmt: skip
    else:
        _moved(
            gradient, weight, first, second, rounded, left, scale, shrink, stride, correction,
            BETA1, BETA2, EPSILON, PIECE, False, False,
        )  # fmt: skip
