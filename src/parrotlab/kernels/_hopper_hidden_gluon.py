"""The hidden layer of experts and its gradient for Hopper GPUs, in Gluon: see ``_hopper_gluon``.

The pass after a product is made by the program that made it, before the sums leave the processor, while another program
multiplies. The sums are held in shared memory, in slices of a few columns, over which a loop goes: unrolled, it would
wait for its instructions. What it reads of other tensors is on its way a slice ahead.
"""

# ruff: noqa: N803, RUF100
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
def _fetch(before_SG, first, end, column, limit, stride, M: gl.constexpr, N: gl.constexpr):
    """Brings a tile's lines into the L2 cache, 64 bytes at once."""
    LAYOUT: gl.constexpr = gl.BlockedLayout([1, 1], [1024 // N, N // 32], [gl.num_warps(), 1], [1, 0])
    row_M = gl.minimum(first + gl.arange(0, M, gl.SliceLayout(1, LAYOUT)), end - 1)
    column_L = gl.minimum(column + 32 * gl.arange(0, N // 32, gl.SliceLayout(0, LAYOUT)), limit - 16)
    at_ML = before_SG + gl.maximum(row_M, 0).to(gl.int64)[:, None] * stride + column_L[None, :]
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
def _hold(tile_MN, held, part: gl.constexpr, GATED: gl.constexpr, PARTS: gl.constexpr, M: gl.constexpr, N: gl.constexpr):
    """A part of a tile's quarters; GATED: as many of the left half as of the right."""
    left, right = _halves(tile_MN, M, N)
    if PARTS == 1:
        first, second = _halves(left, M, N // 2)
        third, fourth = _halves(right, M, N // 2)
        held.index(0).store(first)
        held.index(1).store(second)
        held.index(2).store(third)
        held.index(3).store(fourth)
    else:
        if GATED:
            first = _halves(left, M, N // 2)[part]
            second = _halves(right, M, N // 2)[part]
        else:
            first, second = _halves((left, right)[part], M, N // 2)
        held.index(0).store(first)
        held.index(1).store(second)


@gluon.jit
def _read_slice(
    out_SN, first, end, column, columns, stride, M: gl.constexpr, X: gl.constexpr, LINES: gl.constexpr
):  # fmt: skip
    """What ``write`` wrote."""
    row_M = first + gl.arange(0, M, gl.SliceLayout(1, LINES))
    column_X = column + gl.arange(0, X, gl.SliceLayout(0, LINES))
    inside_MX = (row_M < end)[:, None] & (column_X < columns)[None, :]
    return gl.load(out_SN + row_M.to(gl.int64)[:, None] * stride + column_X[None, :], mask=inside_MX, other=0.0)


@gluon.jit
def _write_hidden(
    which: gl.constexpr, left_ring, right_ring, held, empty, ready, turns, tiles_T3, weights_NA, order_S, before_SG,
    hidden_SF, total, width, hidden, GATED: gl.constexpr, PARTS: gl.constexpr, GROUPS: gl.constexpr,
    TILE: gl.constexpr, M: gl.constexpr, N: gl.constexpr, K: gl.constexpr, STAGES: gl.constexpr,
    LAYOUT: gl.constexpr, LINES: gl.constexpr,
):  # fmt: skip
    """The tiles of a program; of two GROUPS, every other one."""
    X: gl.constexpr = N // 4
    ACROSS: gl.constexpr = N // 2 if GATED else N
    SLICES: gl.constexpr = (2 if GATED else 4) // PARTS
    columns = hidden * 2 if GATED else hidden
    step = 0
    turn = 0
    following = tile_of(gl.program_id(0), total, hidden, tiles_T3, TILE, M, ACROSS)
    for at in range(gl.program_id(0), total, gl.num_programs(0)):
        _, first, end, column = following
        following = tile_of(at + gl.num_programs(0), total, hidden, tiles_T3, TILE, M, ACROSS)
        steps = gl.where(first < end, (width + K - 1) // K, 0)
        if turn % GROUPS == which:
            row_M = first + gl.arange(0, M, gl.SliceLayout(1, LINES))
            choice_M = gl.load(order_S + row_M, mask=row_M < end, other=0)
            if GROUPS == 2:
                mbarrier.wait(turns.index(which), (turn // 2 & 1) ^ (1 - which))
            sum_MN, step = multiply(
                step, steps, left_ring, right_ring, empty, ready, turns.index((1 - which) % GROUPS), False, False,
                GROUPS == 2, M, N, STAGES, LAYOUT,
            )  # fmt: skip
            tile_MN = sum_MN.to(held.dtype)
            weight_M = gl.load(weights_NA + choice_M).to(gl.float32)
            for part in gl.static_range(PARTS):
                _hold(tile_MN, held, part, GATED, PARTS, M, N)
                begin = column + part * SLICES * X
                for at_slice in range(gl.minimum(gl.maximum((hidden - begin + X - 1) // X, 0), SLICES)):
                    place = begin + at_slice * X
                    gate_MX = held.index(at_slice).load(LINES)
                    write(before_SG, gate_MX, first, end, place, hidden, columns, M, X, LINES)
                    gate_MX = gate_MX.to(gl.float32)
                    if GATED:
                        value_MX = held.index(at_slice + SLICES).load(LINES)
                        write(before_SG + hidden, value_MX, first, end, place, hidden, columns, M, X, LINES)
                        out_MX = gate_MX * _sigmoid(gate_MX) * value_MX.to(gl.float32)
                    else:
                        share_MX, inner_MX = _normal(gate_MX)
                        out_MX = gate_MX * share_MX
                    write(hidden_SF, out_MX * weight_M[:, None], first, end, place, hidden, hidden, M, X, LINES)
        else:
            step += steps
        turn += 1


@gluon.jit
def _slope(grad_MX, gate_MX, value_MX, weight_M, GATED: gl.constexpr):
    """Of the gates, of their values, and a row's part of its weight's gradient."""
    slope_MX = grad_MX * weight_M[:, None]
    if GATED:
        share_MX = _sigmoid(gate_MX)
        silu_MX = gate_MX * share_MX
        part_M = gl.sum(grad_MX * silu_MX * value_MX, axis=1)
        gate_slope_MX = slope_MX * value_MX * (share_MX + silu_MX * (1.0 - share_MX))
        return gate_slope_MX, slope_MX * silu_MX, part_M
    else:
        share_MX, inner_MX = _normal(gate_MX)
        part_M = gl.sum(grad_MX * gate_MX * share_MX, axis=1)
        density_MX = _exp2(inner_MX * inner_MX * -0.7213475204444817 - 1.3257480647361593)
        return slope_MX * (share_MX + inner_MX * density_MX), slope_MX, part_M


@gluon.jit
def _write_slope(
    which: gl.constexpr, left_ring, right_ring, held, empty, ready, turns, tiles_T3, weights_NA, order_S, before_SG,
    slope_SG, grad_weight_CS, total, width, hidden, choices, GATED: gl.constexpr, PARTS: gl.constexpr,
    GROUPS: gl.constexpr, TILE: gl.constexpr, M: gl.constexpr, N: gl.constexpr, K: gl.constexpr,
    STAGES: gl.constexpr, LAYOUT: gl.constexpr, LINES: gl.constexpr,
):  # fmt: skip
    """The tiles of a program; of two GROUPS, every other one."""
    X: gl.constexpr = N // 4
    SLICES: gl.constexpr = 4 // PARTS
    columns = hidden * 2 if GATED else hidden
    step = 0
    turn = 0
    following = tile_of(gl.program_id(0), total, hidden, tiles_T3, TILE, M, N)
    for at in range(gl.program_id(0), total, gl.num_programs(0)):
        _, first, end, column = following
        following = tile_of(at + gl.num_programs(0), total, hidden, tiles_T3, TILE, M, N)
        steps = gl.where(first < end, (width + K - 1) // K, 0)
        if turn % GROUPS == which:
            limit = gl.minimum(hidden, column + N)
            _fetch(before_SG, first, end, column, limit, columns, M, N)
            if GATED:
                _fetch(before_SG + hidden, first, end, column, limit, columns, M, N)
            row_M = first + gl.arange(0, M, gl.SliceLayout(1, LINES))
            choice_M = gl.load(order_S + row_M, mask=row_M < end, other=0)
            if GROUPS == 2:
                mbarrier.wait(turns.index(which), (turn // 2 & 1) ^ (1 - which))
            sum_MN, step = multiply(
                step, steps, left_ring, right_ring, empty, ready, turns.index((1 - which) % GROUPS), False, True,
                GROUPS == 2, M, N, STAGES, LAYOUT,
            )  # fmt: skip
            tile_MN = sum_MN.to(held.dtype)
            weight_M = gl.load(weights_NA + choice_M).to(gl.float32)
            gates_MX = _read_slice(before_SG, first, end, column, limit, columns, M, X, LINES)
            values_MX = gates_MX
            if GATED:
                values_MX = _read_slice(before_SG + hidden, first, end, column, limit, columns, M, X, LINES)
            part_M = gl.zeros((M,), gl.float32, gl.SliceLayout(1, LINES))
            for part in gl.static_range(PARTS):
                _hold(tile_MN, held, part, False, PARTS, M, N)
                begin = column + part * SLICES * X
                for at_slice in range(gl.minimum(gl.maximum((hidden - begin + X - 1) // X, 0), SLICES)):
                    place = begin + at_slice * X
                    gate_MX, value_MX = gates_MX.to(gl.float32), values_MX.to(gl.float32)
                    gates_MX = _read_slice(before_SG, first, end, place + X, limit, columns, M, X, LINES)
                    values_MX = gates_MX
                    if GATED:
                        values_MX = _read_slice(before_SG + hidden, first, end, place + X, limit, columns, M, X, LINES)
                    grad_MX = held.index(at_slice).load(LINES).to(gl.float32)
                    slope_MX, value_slope_MX, more_M = _slope(grad_MX, gate_MX, value_MX, weight_M, GATED)
                    part_M += more_M
                    write(slope_SG, slope_MX, first, end, place, hidden, columns, M, X, LINES)
                    if GATED:
                        write(slope_SG + hidden, value_slope_MX, first, end, place, hidden, columns, M, X, LINES)
            gl.store(grad_weight_CS + (column // N).to(gl.int64) * choices + choice_M, part_M, mask=row_M < end)
        else:
            step += steps
        turn += 1


@gluon.jit
def hidden_forward(
    x, up, weights_NA, order_S, tiles_T3, before_SG, hidden_SF, tiles, width, hidden, GATED: gl.constexpr,
    PARTS: gl.constexpr, GROUPS: gl.constexpr, STAGGER: gl.constexpr, TILE: gl.constexpr, M: gl.constexpr,
    N: gl.constexpr, K: gl.constexpr, STAGES: gl.constexpr, LINES: gl.constexpr, SLICE: gl.constexpr,
    WHOLE: gl.constexpr,
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
    held = gl.allocate_shared_memory(x.dtype, [4 // PARTS, M, N // 4], SLICE)
    empty, ready = barriers(STAGES)
    total = tiles * (TILE // M) * ((hidden + ACROSS - 1) // ACROSS)
    turns = _turns()
    if GROUPS == 2:
        other = gl.allocate_shared_memory(x.dtype, [4 // PARTS, M, N // 4], SLICE)
        gl.warp_specialize(
            [
                (_write_hidden, (
                    0, left_ring, right_ring, held, empty, ready, turns, tiles_T3, weights_NA, order_S, before_SG, hidden_SF, total,
                    width, hidden, GATED, PARTS, GROUPS, TILE, M, N, K, STAGES, LAYOUT, LINES,
                )),
                (_write_hidden, (
                    1, left_ring, right_ring, other, empty, ready, turns, tiles_T3, weights_NA, order_S, before_SG, hidden_SF, total,
                    width, hidden, GATED, PARTS, GROUPS, TILE, M, N, K, STAGES, LAYOUT, LINES,
                )),
                (read_rows, (
                    x, up, left_ring, read_ring, empty, ready, tiles_T3, total, hidden, width,
                    False, GATED, STAGGER, TILE, M, ACROSS, K, STAGES,
                )),
            ],
            [4, 1], [WRITER, READER],
        )  # fmt: skip
    else:
        gl.warp_specialize(
            [
                (_write_hidden, (
                    0, left_ring, right_ring, held, empty, ready, turns, tiles_T3, weights_NA, order_S, before_SG, hidden_SF, total,
                    width, hidden, GATED, PARTS, GROUPS, TILE, M, N, K, STAGES, LAYOUT, LINES,
                )),
                (read_rows, (
                    x, up, left_ring, read_ring, empty, ready, tiles_T3, total, hidden, width,
                    False, GATED, STAGGER, TILE, M, ACROSS, K, STAGES,
                )),
            ],
            [1], [READER],
        )  # fmt: skip


@gluon.jit
def hidden_backward(
    grad, down, weights_NA, order_S, tiles_T3, before_SG, slope_SG, grad_weight_CS, tiles, width, hidden, choices,
    GATED: gl.constexpr, PARTS: gl.constexpr, GROUPS: gl.constexpr, STAGGER: gl.constexpr, TILE: gl.constexpr,
    M: gl.constexpr, N: gl.constexpr, K: gl.constexpr, STAGES: gl.constexpr, LINES: gl.constexpr,
    SLICE: gl.constexpr,
):  # fmt: skip
    """slope, the gradient of ``before``, and these columns' part of each choice's weight's."""
    LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [gl.num_warps(), 1], [16, N, 16])
    left_ring = gl.allocate_shared_memory(grad.dtype, [STAGES, M, K], grad.layout)
    right_ring = gl.allocate_shared_memory(down.dtype, [STAGES, N, K], down.layout)
    held = gl.allocate_shared_memory(grad.dtype, [4 // PARTS, M, N // 4], SLICE)
    empty, ready = barriers(STAGES)
    total = tiles * (TILE // M) * ((hidden + N - 1) // N)
    turns = _turns()
    if GROUPS == 2:
        other = gl.allocate_shared_memory(grad.dtype, [4 // PARTS, M, N // 4], SLICE)
        gl.warp_specialize(
            [
                (_write_slope, (
                    0, left_ring, right_ring, held, empty, ready, turns, tiles_T3, weights_NA, order_S, before_SG, slope_SG,
                    grad_weight_CS, total, width, hidden, choices, GATED, PARTS, GROUPS, TILE, M, N, K, STAGES,
                    LAYOUT, LINES,
                )),
                (_write_slope, (
                    1, left_ring, right_ring, other, empty, ready, turns, tiles_T3, weights_NA, order_S, before_SG, slope_SG,
                    grad_weight_CS, total, width, hidden, choices, GATED, PARTS, GROUPS, TILE, M, N, K, STAGES,
                    LAYOUT, LINES,
                )),
                (read_rows, (
                    grad, down, left_ring, right_ring, empty, ready, tiles_T3, total, hidden, width,
                    True, False, STAGGER, TILE, M, N, K, STAGES,
                )),
            ],
            [4, 1], [WRITER, READER],
        )  # fmt: skip
    else:
        gl.warp_specialize(
            [
                (_write_slope, (
                    0, left_ring, right_ring, held, empty, ready, turns, tiles_T3, weights_NA, order_S, before_SG, slope_SG,
                    grad_weight_CS, total, width, hidden, choices, GATED, PARTS, GROUPS, TILE, M, N, K, STAGES,
                    LAYOUT, LINES,
                )),
                (read_rows, (
                    grad, down, left_ring, right_ring, empty, ready, tiles_T3, total, hidden, width,
                    True, False, STAGGER, TILE, M, N, K, STAGES,
                )),
            ],
            [1], [READER],
        )  # fmt: skip
