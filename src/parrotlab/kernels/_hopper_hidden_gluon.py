"""The hidden layer of experts and its gradient for Hopper GPUs, in Gluon: see ``_hopper_gluon``.

The program that made a product makes the pass that follows it, too: two groups of four warps take turns, and while one
multiplies a tile the other passes over the one before. Its sums are held in shared memory, rounded, in four slices of
their columns, over which a loop goes. A group waits for its turn until the other has waited for the last stage of its
tile: a barrier only tells one phase from the next, and who looked at a stage too early would take the tile before last
for its own.
"""

# ruff: noqa: N803, RUF100, SIM113
from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import mbarrier

from parrotlab.kernels._hopper_gluon import READER, barriers, multiply, read_rows, tile_of, write

WRITER = gl.constexpr(232)
"""Registers of a thread of the second group; the first has as many or more."""
PUBLIC = gl.constexpr(hasattr(gl.shared_memory_descriptor, "reinterpret"))
"""A later Triton's name of what 3.6 has under another."""


@gluon.jit
def _exp2(x):
    """Numbers too small to be normal are zero: what would save them takes longer than the power."""
    return gl.inline_asm_elementwise("ex2.approx.ftz.f32 $0, $1;", "=f,f", [x], gl.float32, is_pure=True, pack=1)


@gluon.jit
def _sigmoid(x):
    power = 1.0 + _exp2(x * -1.4426950408889634)
    return gl.inline_asm_elementwise("rcp.approx.ftz.f32 $0, $1;", "=f,f", [power], gl.float32, is_pure=True, pack=1)


@gluon.jit
def _normal(x):
    """Φ(x) and x within the bounds beyond which Φ is 0 or 1 to 4e-6: ``_activation_triton._normal``."""
    x = gl.minimum(gl.maximum(x, -4.5), 4.5)
    square = x * x
    out = square * -1.72628535e-12 + 2.022398658e-10
    out = out * square - 1.056693712e-08
    out = out * square + 3.27888699e-07
    out = out * square - 6.813682045e-06
    out = out * square + 0.0001017337227
    out = out * square - 0.001142713618
    out = out * square + 0.009891770155
    out = out * square - 0.06642067593
    out = out * square + 0.3989246706
    return x * out + 0.5, x


@gluon.jit
def _turns():
    """The barriers of either group, at which the other arrives; the first's first turn waits for nobody."""
    turns = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    for group in gl.static_range(2):
        mbarrier.init(turns.index(group), count=1)
    return turns


@gluon.jit
def _fetch(before_SF, first, end, column, limit, stride, M: gl.constexpr, N: gl.constexpr):
    """Brings a tile, whose turn is next, into the L2 cache, 64 bytes at once."""
    LAYOUT: gl.constexpr = gl.BlockedLayout([1, 1], [1024 // N, N // 32], [gl.num_warps(), 1], [1, 0])
    row_M = gl.minimum(first + gl.arange(0, M, gl.SliceLayout(1, LAYOUT)), end - 1)
    column_L = gl.minimum(column + 32 * gl.arange(0, N // 32, gl.SliceLayout(0, LAYOUT)), limit - 16)
    at_ML = before_SF + gl.maximum(row_M, 0).to(gl.int64)[:, None] * stride + column_L[None, :]
    gl.inline_asm_elementwise(
        "prefetch.global.L2 [$1]; mov.u32 $0, 0;", "=r,l", [at_ML], gl.int32, is_pure=False, pack=1
    )  # fmt: skip


@gluon.jit
def _halves(tile_MN, M: gl.constexpr, N: gl.constexpr):
    """The left and the right half of its columns, which a thread holds anyway: nothing moves."""
    HALF: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [gl.num_warps(), 1], [16, N // 2, 16])
    left_MX, right_MX = gl.split(gl.permute(gl.reshape(tile_MN, (M, 2, N // 2)), (0, 2, 1)))
    left_MX = gl.convert_layout(left_MX, HALF, assert_trivial=True)
    return left_MX, gl.convert_layout(right_MX, HALF, assert_trivial=True)


@gluon.jit
def _hold(tile_MN, held, M: gl.constexpr, N: gl.constexpr):
    """A tile in slices of its columns."""
    left, right = _halves(tile_MN, M, N)
    first, second = _halves(left, M, N // 2)
    third, fourth = _halves(right, M, N // 2)
    held.index(0).store(first)
    held.index(1).store(second)
    held.index(2).store(third)
    held.index(3).store(fourth)


@gluon.jit
def _read_slice(
    before_SF, first, end, column, limit, stride, M: gl.constexpr, X: gl.constexpr, LINES: gl.constexpr
):  # fmt: skip
    """What ``write`` wrote, up to a column."""
    row_M = first + gl.arange(0, M, gl.SliceLayout(1, LINES))
    column_X = column + gl.arange(0, X, gl.SliceLayout(0, LINES))
    inside_MX = (row_M < end)[:, None] & (column_X < limit)[None, :]
    return gl.load(before_SF + row_M.to(gl.int64)[:, None] * stride + column_X[None, :], mask=inside_MX, other=0.0)


@gluon.jit
def _activate(
    sum_MN, held, weight_M, before_SG, hidden_SF, first, end, column, hidden,
    GATED: gl.constexpr, M: gl.constexpr, N: gl.constexpr, LINES: gl.constexpr,
):  # fmt: skip
    """Writes sums, and their weighted activation. GATED: the values lie behind the gates, in as many slices."""
    X: gl.constexpr = N // 4
    SLICES: gl.constexpr = 2 if GATED else 4
    columns = hidden * 2 if GATED else hidden
    _hold(sum_MN.to(held.dtype), held, M, N)
    for at in range(gl.minimum((hidden - column + X - 1) // X, SLICES)):
        place = column + at * X
        gate_MX = held.index(at).load(LINES)
        write(before_SG, gate_MX, first, end, place, hidden, columns, M, X, LINES)
        gate_MX = gate_MX.to(gl.float32)
        if GATED:
            value_MX = held.index(at + SLICES).load(LINES)
            write(before_SG + hidden, value_MX, first, end, place, hidden, columns, M, X, LINES)
            out_MX = gate_MX * _sigmoid(gate_MX) * value_MX.to(gl.float32)
        else:
            share_MX, _ = _normal(gate_MX)
            out_MX = gate_MX * share_MX
        write(hidden_SF, out_MX * weight_M[:, None], first, end, place, hidden, hidden, M, X, LINES)


@gluon.jit
def _activate_backward(
    sum_MN, held, weight_M, before_SF, slope_SF, first, end, column, limit, hidden,
    M: gl.constexpr, N: gl.constexpr, LINES: gl.constexpr,
):  # fmt: skip
    """Writes the slope, of gradients; and these columns' part of the gradients of the rows' weights.

    A slice of ``before`` is on its way while the one before it is worked on.
    """
    X: gl.constexpr = N // 4
    part_M = gl.zeros((M,), gl.float32, gl.SliceLayout(1, LINES))
    following_MX = _read_slice(before_SF, first, end, column, limit, hidden, M, X, LINES)
    _hold(sum_MN.to(held.dtype), held, M, N)
    for at in range(gl.minimum((hidden - column + X - 1) // X, 4)):
        place = column + at * X
        before_MX = following_MX.to(gl.float32)
        following_MX = _read_slice(before_SF, first, end, place + X, limit, hidden, M, X, LINES)
        grad_MX = held.index(at).load(LINES).to(gl.float32)
        share_MX, inner_MX = _normal(before_MX)
        part_M += gl.sum(grad_MX * before_MX * share_MX, axis=1)
        density_MX = _exp2(inner_MX * inner_MX * -0.7213475204444817 - 1.3257480647361593)
        slope_MX = grad_MX * weight_M[:, None] * (share_MX + inner_MX * density_MX)
        write(slope_SF, slope_MX, first, end, place, hidden, hidden, M, X, LINES)
    return part_M


@gluon.jit
def _write_hidden(
    which: gl.constexpr, left_ring, right_ring, held, empty, ready, turns, weights_NA, order_S, tiles_T3, before_SG,
    hidden_SF, total, width, hidden, GATED: gl.constexpr, TILE: gl.constexpr, M: gl.constexpr, N: gl.constexpr,
    K: gl.constexpr, STAGES: gl.constexpr, LAYOUT: gl.constexpr, LINES: gl.constexpr,
):  # fmt: skip
    """Every other tile of a program."""
    ACROSS: gl.constexpr = N // 2 if GATED else N
    step = 0
    turn = 0
    following = tile_of(gl.program_id(0), total, hidden, tiles_T3, TILE, M, ACROSS)
    for at in range(gl.program_id(0), total, gl.num_programs(0)):
        _, first, end, column = following
        following = tile_of(at + gl.num_programs(0), total, hidden, tiles_T3, TILE, M, ACROSS)
        steps = gl.where(first < end, (width + K - 1) // K, 0)
        if turn % 2 == which:
            row_M = first + gl.arange(0, M, gl.SliceLayout(1, LINES))
            choice_M = gl.load(order_S + row_M, mask=row_M < end, other=0)
            mbarrier.wait(turns.index(which), (turn // 2 & 1) ^ (1 - which))
            sum_MN, step = multiply(
                step, steps, left_ring, right_ring, empty, ready, turns.index(1 - which), False, True,
                M, N, STAGES, LAYOUT,
            )  # fmt: skip
            weight_M = gl.load(weights_NA + choice_M).to(gl.float32)
            _activate(sum_MN, held, weight_M, before_SG, hidden_SF, first, end, column, hidden, GATED, M, N, LINES)
        else:
            step += steps
        turn += 1


@gluon.jit
def _write_slope(
    which: gl.constexpr, left_ring, right_ring, held, empty, ready, turns, weights_NA, order_S, tiles_T3, before_SF,
    slope_SF, grad_weight_CS, total, width, hidden, choices, TILE: gl.constexpr, M: gl.constexpr, N: gl.constexpr,
    K: gl.constexpr, STAGES: gl.constexpr, LAYOUT: gl.constexpr, LINES: gl.constexpr,
):  # fmt: skip
    """Every other tile of a program."""
    step = 0
    turn = 0
    following = tile_of(gl.program_id(0), total, hidden, tiles_T3, TILE, M, N)
    for at in range(gl.program_id(0), total, gl.num_programs(0)):
        _, first, end, column = following
        following = tile_of(at + gl.num_programs(0), total, hidden, tiles_T3, TILE, M, N)
        steps = gl.where(first < end, (width + K - 1) // K, 0)
        if turn % 2 == which:
            limit = gl.minimum(hidden, column + N)
            _fetch(before_SF, first, end, column, limit, hidden, M, N)
            row_M = first + gl.arange(0, M, gl.SliceLayout(1, LINES))
            choice_M = gl.load(order_S + row_M, mask=row_M < end, other=0)
            mbarrier.wait(turns.index(which), (turn // 2 & 1) ^ (1 - which))
            sum_MN, step = multiply(
                step, steps, left_ring, right_ring, empty, ready, turns.index(1 - which), True, True,
                M, N, STAGES, LAYOUT,
            )  # fmt: skip
            weight_M = gl.load(weights_NA + choice_M).to(gl.float32)
            part_M = _activate_backward(
                sum_MN, held, weight_M, before_SF, slope_SF, first, end, column, limit, hidden, M, N, LINES
            )  # fmt: skip
            gl.store(grad_weight_CS + (column // N).to(gl.int64) * choices + choice_M, part_M, mask=row_M < end)
        else:
            step += steps
        turn += 1


@gluon.jit
def hidden_forward(
    x, up, weights_NA, order_S, tiles_T3, before_SG, hidden_SF, tiles, width, hidden,
    GATED: gl.constexpr, TILE: gl.constexpr, M: gl.constexpr, N: gl.constexpr, K: gl.constexpr,
    STAGES: gl.constexpr, LINES: gl.constexpr, SLICE: gl.constexpr, WHOLE: gl.constexpr,
):  # fmt: skip
    """before = x · up[expert], and hidden = weight · activation(before).

    GATED: blocks of gates and of values, N / 2 columns each, lie beside each other, WHOLE, in shared memory.
    """
    LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [gl.num_warps(), 1], [16, N, 16])
    ACROSS: gl.constexpr = N // 2 if GATED else N
    left_ring = gl.allocate_shared_memory(x.dtype, [STAGES, M, K], x.layout)
    halves: gl.constexpr = 2 if GATED else 1
    read_ring = gl.allocate_shared_memory(up.dtype, [STAGES * halves, K, ACROSS], up.layout)
    right_ring = read_ring
    if GATED and PUBLIC:
        right_ring = read_ring.reinterpret(up.dtype, [STAGES, K, N], WHOLE)
    elif GATED:
        right_ring = read_ring._reinterpret(up.dtype, [STAGES, K, N], WHOLE)
    held = gl.allocate_shared_memory(x.dtype, [4, M, N // 4], SLICE)
    other_held = gl.allocate_shared_memory(x.dtype, [4, M, N // 4], SLICE)
    empty, ready = barriers(STAGES)
    turns = _turns()
    total = tiles * (TILE // M) * ((hidden + ACROSS - 1) // ACROSS)
    gl.warp_specialize(
        [
            (_write_hidden, (
                0, left_ring, right_ring, held, empty, ready, turns, weights_NA, order_S, tiles_T3, before_SG,
                hidden_SF, total, width, hidden, GATED, TILE, M, N, K, STAGES, LAYOUT, LINES,
            )),
            (_write_hidden, (
                1, left_ring, right_ring, other_held, empty, ready, turns, weights_NA, order_S, tiles_T3, before_SG,
                hidden_SF, total, width, hidden, GATED, TILE, M, N, K, STAGES, LAYOUT, LINES,
            )),
            (read_rows, (
                x, up, left_ring, read_ring, empty, ready, tiles_T3, total, hidden, width,
                False, GATED, TILE, M, ACROSS, K, STAGES,
            )),
        ],
        [4, 1], [WRITER, READER],
    )  # fmt: skip


@gluon.jit
def hidden_backward(
    grad, down, weights_NA, order_S, tiles_T3, before_SF, slope_SF, grad_weight_CS, tiles, width, hidden, choices,
    TILE: gl.constexpr, M: gl.constexpr, N: gl.constexpr, K: gl.constexpr, STAGES: gl.constexpr,
    LINES: gl.constexpr, SLICE: gl.constexpr,
):  # fmt: skip
    """slope, the gradient of GELU's ``before``, and these columns' part of each choice's weight's."""
    LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [gl.num_warps(), 1], [16, N, 16])
    left_ring = gl.allocate_shared_memory(grad.dtype, [STAGES, M, K], grad.layout)
    right_ring = gl.allocate_shared_memory(down.dtype, [STAGES, N, K], down.layout)
    held = gl.allocate_shared_memory(grad.dtype, [4, M, N // 4], SLICE)
    other_held = gl.allocate_shared_memory(grad.dtype, [4, M, N // 4], SLICE)
    empty, ready = barriers(STAGES)
    turns = _turns()
    total = tiles * (TILE // M) * ((hidden + N - 1) // N)
    gl.warp_specialize(
        [
            (_write_slope, (
                0, left_ring, right_ring, held, empty, ready, turns, weights_NA, order_S, tiles_T3, before_SF,
                slope_SF, grad_weight_CS, total, width, hidden, choices, TILE, M, N, K, STAGES, LAYOUT, LINES,
            )),
            (_write_slope, (
                1, left_ring, right_ring, other_held, empty, ready, turns, weights_NA, order_S, tiles_T3, before_SF,
                slope_SF, grad_weight_CS, total, width, hidden, choices, TILE, M, N, K, STAGES, LAYOUT, LINES,
            )),
            (read_rows, (
                grad, down, left_ring, right_ring, empty, ready, tiles_T3, total, hidden, width,
                True, False, TILE, M, N, K, STAGES,
            )),
        ],
        [4, 1], [WRITER, READER],
    )  # fmt: skip
