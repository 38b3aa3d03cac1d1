"""The hidden layer of experts and its gradient for Hopper GPUs, in Gluon: see ``_hopper_gluon``.

Activation and routing weight are applied before anything is rounded. That takes about as long as a tile's products:
two groups of four warps take turns, and while one multiplies a tile the other works on and writes the one before. A
group waits for its turn until the other has waited for the last stage of its tile: a barrier only tells one phase from
the next, and who looked at a stage too early would take the tile before last for its own.
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
def _normal(x_MN):
    """Φ(x) = (1 + erf(x / √2)) / 2 to 2e-5 in 12 instructions, a third of erf's: bfloat16 tells 4e-3 apart.

    A polynomial fitted to the least largest error up to 4.5, beyond which Φ is 0 or 1 to 4e-6.
    """
    x_MN = gl.minimum(gl.maximum(x_MN, -4.5), 4.5)
    square_MN = x_MN * x_MN
    sum_MN = square_MN * -1.72628535e-12 + 2.022398658e-10
    sum_MN = sum_MN * square_MN - 1.056693712e-08
    sum_MN = sum_MN * square_MN + 3.27888699e-07
    sum_MN = sum_MN * square_MN - 6.813682045e-06
    sum_MN = sum_MN * square_MN + 0.0001017337227
    sum_MN = sum_MN * square_MN - 0.001142713618
    sum_MN = sum_MN * square_MN + 0.009891770155
    sum_MN = sum_MN * square_MN - 0.06642067593
    sum_MN = sum_MN * square_MN + 0.3989246706
    return x_MN * sum_MN + 0.5


@gluon.jit
def _turns():
    """The barriers of either group, at which the other arrives; the first's first turn waits for nobody."""
    turns = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    for group in gl.static_range(2):
        mbarrier.init(turns.index(group), count=1)
    return turns


@gluon.jit
def _halves(tile_MN, M: gl.constexpr, N: gl.constexpr):
    """The left and the right half of its columns, which a thread holds anyway: nothing moves."""
    HALF: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [gl.num_warps(), 1], [16, N // 2, 16])
    left_MX, right_MX = gl.split(gl.permute(gl.reshape(tile_MN, (M, 2, N // 2)), (0, 2, 1)))
    left_MX = gl.convert_layout(left_MX, HALF, assert_trivial=True)
    return left_MX, gl.convert_layout(right_MX, HALF, assert_trivial=True)


@gluon.jit
def _weights_of(weights_NA, order_S, first, end, M: gl.constexpr, LAYOUT: gl.constexpr):
    """A tile's rows, the choices that they are, and what those weigh."""
    row_M = first + gl.arange(0, M, gl.SliceLayout(1, LAYOUT))
    choice_M = gl.load(order_S + row_M, mask=row_M < end, other=0)
    return row_M, choice_M, gl.load(weights_NA + choice_M).to(gl.float32)


@gluon.jit
def _read_tile(
    before_SG, first, end, column, columns, stride,
    M: gl.constexpr, N: gl.constexpr, LINES: gl.constexpr, LAYOUT: gl.constexpr,
):  # fmt: skip
    """What ``write`` wrote, in float32, as tensor cores hold it."""
    row_M = first + gl.arange(0, M, gl.SliceLayout(1, LINES))
    column_N = column + gl.arange(0, N, gl.SliceLayout(0, LINES))
    inside_MN = (row_M < end)[:, None] & (column_N < columns)[None, :]
    at_MN = before_SG + row_M.to(gl.int64)[:, None] * stride + column_N[None, :]
    return gl.convert_layout(gl.load(at_MN, mask=inside_MN, other=0.0), LAYOUT).to(gl.float32)


@gluon.jit
def _hidden_tile(
    step, steps, left_ring, right_ring, empty, ready, done, weights_NA, order_S, before_SG, hidden_SF,
    first, end, column, hidden, GATED: gl.constexpr, M: gl.constexpr, N: gl.constexpr, STAGES: gl.constexpr,
    LAYOUT: gl.constexpr, LINES: gl.constexpr,
):  # fmt: skip
    """GATED: the left half of a tile's columns are gates, and the right half their values."""
    HALF: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [gl.num_warps(), 1], [16, N // 2, 16])
    X: gl.constexpr = N // 2
    _, _, weight_M = _weights_of(weights_NA, order_S, first, end, M, HALF)
    sum_MN, step = multiply(step, steps, left_ring, right_ring, empty, ready, done, False, True, M, N, STAGES, LAYOUT)
    left_MX, right_MX = _halves(sum_MN, M, N)
    if GATED:
        write(before_SG, left_MX, first, end, column, hidden, hidden * 2, M, X, LINES)
        write(before_SG + hidden, right_MX, first, end, column, hidden, hidden * 2, M, X, LINES)
        out_MX = left_MX * right_MX * weight_M[:, None] / (1.0 + gl.exp(-left_MX))
        write(hidden_SF, out_MX, first, end, column, hidden, hidden, M, X, LINES)
    else:
        write(before_SG, left_MX, first, end, column, hidden, hidden, M, X, LINES)
        out_MX = left_MX * _normal(left_MX) * weight_M[:, None]
        write(hidden_SF, out_MX, first, end, column, hidden, hidden, M, X, LINES)
        write(before_SG, right_MX, first, end, column + X, hidden, hidden, M, X, LINES)
        out_MX = right_MX * _normal(right_MX) * weight_M[:, None]
        write(hidden_SF, out_MX, first, end, column + X, hidden, hidden, M, X, LINES)
    return step


@gluon.jit
def _hidden_turns(
    which: gl.constexpr, left_ring, right_ring, empty, ready, turns, weights_NA, order_S, tiles_T3, before_SG,
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
            mbarrier.wait(turns.index(which), (turn // 2 & 1) ^ (1 - which))
            step = _hidden_tile(
                step, steps, left_ring, right_ring, empty, ready, turns.index(1 - which), weights_NA, order_S,
                before_SG, hidden_SF, first, end, column, hidden, GATED, M, N, STAGES, LAYOUT, LINES,
            )  # fmt: skip
        else:
            step += steps
        turn += 1


@gluon.jit
def _slope_part(
    grad_MX, weight_M, before_SG, slope_SG, first, end, column, hidden,
    GATED: gl.constexpr, M: gl.constexpr, X: gl.constexpr, LINES: gl.constexpr, LAYOUT: gl.constexpr,
):  # fmt: skip
    """Writes the slope of some columns; and their part of the gradients of the rows' weights."""
    columns = hidden * 2 if GATED else hidden
    gate_MX = _read_tile(before_SG, first, end, column, hidden, columns, M, X, LINES, LAYOUT)
    if GATED:
        value_MX = _read_tile(before_SG + hidden, first, end, column, hidden, columns, M, X, LINES, LAYOUT)
        share_MX = 1.0 / (1.0 + gl.exp(-gate_MX))
        silu_MX = gate_MX * share_MX
        part_M = gl.sum(grad_MX * silu_MX * value_MX, axis=1)
        slope_MX = grad_MX * silu_MX * weight_M[:, None]
        write(slope_SG + hidden, slope_MX, first, end, column, hidden, columns, M, X, LINES)
        slope_MX = grad_MX * value_MX * (share_MX + silu_MX * (1.0 - share_MX))
    else:
        share_MX = _normal(gate_MX)
        part_M = gl.sum(grad_MX * gate_MX * share_MX, axis=1)
        slope_MX = grad_MX * (share_MX + gate_MX * 0.3989422804014327 * gl.exp(-0.5 * gate_MX * gate_MX))
    write(slope_SG, slope_MX * weight_M[:, None], first, end, column, hidden, columns, M, X, LINES)
    return part_M


@gluon.jit
def _slope_tile(
    step, steps, left_ring, right_ring, empty, ready, done, weights_NA, order_S, before_SG, slope_SG, grad_weight_CS,
    first, end, column, hidden, choices, GATED: gl.constexpr, M: gl.constexpr, N: gl.constexpr,
    STAGES: gl.constexpr, LAYOUT: gl.constexpr, LINES: gl.constexpr,
):  # fmt: skip
    QUARTER: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [gl.num_warps(), 1], [16, N // 4, 16])
    X: gl.constexpr = N // 4
    row_M, choice_M, weight_M = _weights_of(weights_NA, order_S, first, end, M, QUARTER)
    sum_MN, step = multiply(step, steps, left_ring, right_ring, empty, ready, done, True, True, M, N, STAGES, LAYOUT)
    part_M = gl.zeros((M,), gl.float32, gl.SliceLayout(1, QUARTER))
    # A quarter at a time: more would not fit into registers beside the sums.
    for half in gl.static_range(2):
        half_MY = _halves(sum_MN, M, N)[half]
        for quarter in gl.static_range(2):
            part_M += _slope_part(
                _halves(half_MY, M, N // 2)[quarter], weight_M, before_SG, slope_SG, first, end,
                column + half * 2 * X + quarter * X, hidden, GATED, M, X, LINES, QUARTER,
            )  # fmt: skip
    gl.store(grad_weight_CS + (column // N).to(gl.int64) * choices + choice_M, part_M, mask=row_M < end)
    return step


@gluon.jit
def _slope_turns(
    which: gl.constexpr, left_ring, right_ring, empty, ready, turns, weights_NA, order_S, tiles_T3, before_SG, slope_SG,
    grad_weight_CS, total, width, hidden, choices, GATED: gl.constexpr, TILE: gl.constexpr, M: gl.constexpr,
    N: gl.constexpr, K: gl.constexpr, STAGES: gl.constexpr, LAYOUT: gl.constexpr, LINES: gl.constexpr,
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
            mbarrier.wait(turns.index(which), (turn // 2 & 1) ^ (1 - which))
            step = _slope_tile(
                step, steps, left_ring, right_ring, empty, ready, turns.index(1 - which), weights_NA, order_S,
                before_SG, slope_SG, grad_weight_CS, first, end, column, hidden, choices, GATED, M, N, STAGES,
                LAYOUT, LINES,
            )  # fmt: skip
        else:
            step += steps
        turn += 1


@gluon.jit
def hidden_forward(
    x, up, weights_NA, order_S, tiles_T3, before_SG, hidden_SF, tiles, width, hidden,
    GATED: gl.constexpr, TILE: gl.constexpr, M: gl.constexpr, N: gl.constexpr, K: gl.constexpr,
    STAGES: gl.constexpr, LINES: gl.constexpr, WHOLE: gl.constexpr,
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
    empty, ready = barriers(STAGES)
    turns = _turns()
    total = tiles * (TILE // M) * ((hidden + ACROSS - 1) // ACROSS)
    gl.warp_specialize(
        [
            (_hidden_turns, (
                0, left_ring, right_ring, empty, ready, turns, weights_NA, order_S, tiles_T3, before_SG, hidden_SF,
                total, width, hidden, GATED, TILE, M, N, K, STAGES, LAYOUT, LINES,
            )),
            (_hidden_turns, (
                1, left_ring, right_ring, empty, ready, turns, weights_NA, order_S, tiles_T3, before_SG, hidden_SF,
                total, width, hidden, GATED, TILE, M, N, K, STAGES, LAYOUT, LINES,
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
    grad, down, weights_NA, order_S, tiles_T3, before_SG, slope_SG, grad_weight_CS, tiles, width, hidden, choices,
    GATED: gl.constexpr, TILE: gl.constexpr, M: gl.constexpr, N: gl.constexpr, K: gl.constexpr,
    STAGES: gl.constexpr, LINES: gl.constexpr,
):  # fmt: skip
    """slope, the gradient of ``before``, and these columns' part of each choice's weight's."""
    LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [gl.num_warps(), 1], [16, N, 16])
    left_ring = gl.allocate_shared_memory(grad.dtype, [STAGES, M, K], grad.layout)
    right_ring = gl.allocate_shared_memory(down.dtype, [STAGES, N, K], down.layout)
    empty, ready = barriers(STAGES)
    turns = _turns()
    total = tiles * (TILE // M) * ((hidden + N - 1) // N)
    gl.warp_specialize(
        [
            (_slope_turns, (
                0, left_ring, right_ring, empty, ready, turns, weights_NA, order_S, tiles_T3, before_SG, slope_SG,
                grad_weight_CS, total, width, hidden, choices, GATED, TILE, M, N, K, STAGES, LAYOUT, LINES,
            )),
            (_slope_turns, (
                1, left_ring, right_ring, empty, ready, turns, weights_NA, order_S, tiles_T3, before_SG, slope_SG,
                grad_weight_CS, total, width, hidden, choices, GATED, TILE, M, N, K, STAGES, LAYOUT, LINES,
            )),
            (read_rows, (
                grad, down, left_ring, right_ring, empty, ready, tiles_T3, total, hidden, width,
                True, False, TILE, M, N, K, STAGES,
            )),
        ],
        [4, 1], [WRITER, READER],
    )  # fmt: skip
