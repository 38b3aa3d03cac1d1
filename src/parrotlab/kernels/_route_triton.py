"""The Triton kernels of ``routing``: choices counted and placed by expert, and rows summed back to their tokens.

A replica has ``choices`` choices in blocks of BLOCK; E experts fill LANES, a power of 2.
"""

# ruff: noqa: N803, RUF100
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _chosen(experts_NA, replica, choices, BLOCK: tl.constexpr, LANES: tl.constexpr):
    """This block's choices within the replica, which of them exist, and 1 where a choice is an expert."""
    choice_B = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    alive_B = choice_B < choices
    expert_B = tl.load(experts_NA + replica * choices + choice_B, mask=alive_B, other=-1).to(tl.int32)
    return choice_B, alive_B, (expert_B[:, None] == tl.arange(0, LANES)[None, :]).to(tl.int32)


@triton.jit
def count(experts_NA, counts, choices, blocks, E: tl.constexpr, BLOCK: tl.constexpr, LANES: tl.constexpr):
    """counts[replica, block, e]: how often the block chooses e."""
    replica = tl.program_id(1).to(tl.int64)
    _, _, chosen_BE = _chosen(experts_NA, replica, choices, BLOCK, LANES)
    lane_E = tl.arange(0, LANES)
    tl.store(counts + (replica * blocks + tl.program_id(0)) * E + lane_E, tl.sum(chosen_BE, axis=0), mask=lane_E < E)


@triton.jit
def place(
    experts_NA, counts, order_S, place_S, bounds_E, tiles_T3, choices, blocks, tiles,
    E: tl.constexpr, BLOCK: tl.constexpr, LANES: tl.constexpr, CHUNK: tl.constexpr, SHARE: tl.constexpr,
    ROWS: tl.constexpr,
):  # fmt: skip
    """Each choice's place among all, by expert and then by choice; and the replica's bounds and tiles.

    Every program adds up the counts of all blocks for itself: they are few, and a pass of its own costs a launch.
    """
    replica, block = tl.program_id(1).to(tl.int64), tl.program_id(0)
    lane_E = tl.arange(0, LANES)
    total_E = tl.zeros((LANES,), tl.int32)
    before_E = tl.zeros((LANES,), tl.int32)
    for first in range(0, blocks, CHUNK):
        block_C = first + tl.arange(0, CHUNK)
        inside_CE = (block_C < blocks)[:, None] & (lane_E < E)[None, :]
        at_CE = (replica * blocks + block_C[:, None]) * E + lane_E[None, :]
        count_CE = tl.load(counts + at_CE, mask=inside_CE, other=0)
        total_E += tl.sum(count_CE, axis=0)
        before_E += tl.sum(tl.where((block_C < block)[:, None], count_CE, 0), axis=0)
    end_E = tl.cumsum(total_E, axis=0)
    base = (replica * choices).to(tl.int32)

    choice_B, alive_B, chosen_BE = _chosen(experts_NA, replica, choices, BLOCK, LANES)
    start_E = base + end_E - total_E + before_E
    # How often a choice's expert was chosen before it in the block: a product, of which every sum is exact.
    lane_B = tl.arange(0, BLOCK)
    earlier_BB = (lane_B[None, :] < lane_B[:, None]).to(tl.float16)
    rank_BE = tl.dot(earlier_BB, chosen_BE.to(tl.float16), out_dtype=tl.float32).to(tl.int32)
    place_B = tl.sum(chosen_BE * (rank_BE + start_E[None, :]), axis=1)
    tl.store(place_S + base + choice_B, place_B, mask=alive_B)
    tl.store(order_S + place_B, base + choice_B, mask=alive_B)

    if block == 0:
        tl.store(bounds_E + replica * E + 1 + lane_E, base + end_E, mask=lane_E < E)
        tl.store(bounds_E + replica * E + lane_E, base + end_E - total_E, mask=lane_E == 0)
    # This program's share of the tiles: an expert's are those after the tiles of the experts before it.
    last_E = tl.cumsum((total_E + ROWS - 1) // ROWS, axis=0)
    tile_T = block * SHARE + tl.arange(0, SHARE)
    passed_TE = (last_E[None, :] <= tile_T[:, None]) & (lane_E < E)[None, :]
    expert_T = tl.sum(passed_TE.to(tl.int32), axis=1)
    mine_TE = (expert_T[:, None] == lane_E[None, :]) & (lane_E < E)[None, :]
    first_TE = last_E[None, :] - ((total_E + ROWS - 1) // ROWS)[None, :]
    row_TE = base + (end_E - total_E)[None, :] + (tile_T[:, None] - first_TE) * ROWS
    row_T = tl.sum(tl.where(mine_TE, row_TE, 0), axis=1)
    end_T = tl.sum(tl.where(mine_TE, (base + end_E)[None, :], 0), axis=1)
    expert_T = tl.where(expert_T < E, (replica * E).to(tl.int32) + expert_T, -1)
    at_T = tiles_T3 + 3 * (replica * tiles + tile_T)
    tl.store(at_T, expert_T, mask=tile_T < tiles)
    tl.store(at_T + 1, row_T, mask=tile_T < tiles)
    tl.store(at_T + 2, end_T, mask=tile_T < tiles)


@triton.jit
def combine(rows_SD, place_S, out_ND, tokens, width, ACTIVE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """out[n] = Σ_a rows[place[n, a]], added in float32."""
    token_N = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column_D = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside_ND = (token_N < tokens)[:, None] & (column_D < width)[None, :]
    sum_ND = tl.zeros((ROWS, COLUMNS), tl.float32)
    for choice in tl.static_range(ACTIVE):
        row_N = tl.load(place_S + token_N * ACTIVE + choice, mask=token_N < tokens, other=0).to(tl.int64)
        sum_ND += tl.load(rows_SD + row_N[:, None] * width + column_D[None, :], mask=inside_ND, other=0.0).to(
            tl.float32
        )
    at_ND = out_ND + token_N[:, None] * width + column_D[None, :]
    tl.store(at_ND, sum_ND.to(out_ND.dtype.element_ty), mask=inside_ND)


@triton.jit
def spread(x_ND, place_S, out_SD, tokens, width, ACTIVE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """out[place[n, a]] = x[n]: a token's row is read once, and written for each of its choices."""
    token_N = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column_D = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside_ND = (token_N < tokens)[:, None] & (column_D < width)[None, :]
    row_ND = tl.load(x_ND + token_N[:, None] * width + column_D[None, :], mask=inside_ND, other=0.0)
    for choice in tl.static_range(ACTIVE):
        row_N = tl.load(place_S + token_N * ACTIVE + choice, mask=token_N < tokens, other=0).to(tl.int64)
        tl.store(out_SD + row_N[:, None] * width + column_D[None, :], row_ND, mask=inside_ND)
