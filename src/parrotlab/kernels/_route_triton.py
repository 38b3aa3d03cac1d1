"""The Triton kernels of ``routing``: choices counted and placed by expert, and rows summed back to their tokens.

A replica has ``choices`` choices: they are counted in groups of GROUP, and placed in blocks of BLOCK, of which a group
has several. E experts fill LANES, a power of 2.
"""

# ruff: noqa: N803, RUF100
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def count(experts_NA, counts, choices, E: tl.constexpr, GROUP: tl.constexpr, LANES: tl.constexpr):
    """counts[replica, group, e]: how often the group of choices chooses e."""
    replica, group = tl.program_id(1).to(tl.int64), tl.program_id(0)
    choice_G = group * GROUP + tl.arange(0, GROUP)
    alive_G = choice_G < choices
    expert_G = tl.load(experts_NA + replica * choices + choice_G, mask=alive_G, other=0).to(tl.int32)
    lane_E = tl.arange(0, LANES)
    at_E = counts + (replica * tl.num_programs(0) + group) * E + lane_E
    tl.store(at_E, tl.histogram(expert_G, LANES, mask=alive_G), mask=lane_E < E)


@triton.jit
def place(
    experts_NA, counts, order_S, place_S, bounds_E, tiles_T3, choices, groups, blocks, tiles,
    E: tl.constexpr, GROUP: tl.constexpr, BLOCK: tl.constexpr, LANES: tl.constexpr, CHUNK: tl.constexpr,
    SHARE: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Each choice's place among all, by expert and then by choice; the programs after the last block's list the tiles.

    Every program adds up the counts of all groups for itself: they are few, and a pass of its own costs a launch.
    """
    replica, block = tl.program_id(1).to(tl.int64), tl.program_id(0)
    group = block * BLOCK // GROUP
    lane_E = tl.arange(0, LANES)
    total_E = tl.zeros((LANES,), tl.int32)
    before_E = tl.zeros((LANES,), tl.int32)
    for first in range(0, groups, CHUNK):
        group_C = first + tl.arange(0, CHUNK)
        inside_CE = (group_C < groups)[:, None] & (lane_E < E)[None, :]
        at_CE = (replica * groups + group_C[:, None]) * E + lane_E[None, :]
        count_CE = tl.load(counts + at_CE, mask=inside_CE, other=0)
        total_E += tl.sum(count_CE, axis=0)
        before_E += tl.sum(tl.where((group_C < group)[:, None], count_CE, 0), axis=0)
    base = (replica * choices).to(tl.int32)
    end_E = base + tl.cumsum(total_E, axis=0)
    if block < blocks:
        experts_NA += replica * choices
        start_E = end_E - total_E + before_E
        if GROUP > BLOCK:
            start_E += _counted_before(experts_NA, group * GROUP, block * BLOCK, GROUP, LANES)
        _place(experts_NA, order_S, place_S, start_E, base, block * BLOCK, choices, BLOCK)
    else:
        if block == blocks:
            tl.store(bounds_E + replica * E + 1 + lane_E, end_E, mask=lane_E < E)
            tl.store(bounds_E + replica * E + lane_E, end_E - total_E, mask=lane_E == 0)
        tile_T = (block - blocks) * SHARE + tl.arange(0, SHARE)
        _list(tiles_T3 + 3 * replica * tiles, tile_T, total_E, end_E, (replica * E).to(tl.int32), tiles, E, LANES, ROWS)


@triton.jit
def _counted_before(experts_A, first, end, GROUP: tl.constexpr, LANES: tl.constexpr):
    """[E] how often a group's choices before ``end`` choose each expert."""
    choice_G = first + tl.arange(0, GROUP)
    expert_G = tl.load(experts_A + choice_G, mask=choice_G < end, other=0).to(tl.int32)
    return tl.histogram(expert_G, LANES, mask=choice_G < end)


@triton.jit
def _place(experts_A, order_S, place_S, start_E, base, first, choices, BLOCK: tl.constexpr):
    """A block's places: where its first choice of each expert goes, and those of the expert after it."""
    choice_B = first + tl.arange(0, BLOCK)
    alive_B = choice_B < choices
    expert_B = tl.load(experts_A + choice_B, mask=alive_B, other=0).to(tl.int32)
    lane_B = tl.arange(0, BLOCK)
    earlier_BB = (expert_B[:, None] == expert_B[None, :]) & (lane_B[:, None] < lane_B[None, :])
    place_B = tl.gather(start_E, expert_B, axis=0) + tl.sum(earlier_BB.to(tl.int32), axis=0)
    tl.store(place_S + base + choice_B, place_B, mask=alive_B)
    tl.store(order_S + place_B, base + choice_B, mask=alive_B)


@triton.jit
def _list(
    tiles_T3, tile_T, total_E, end_E, base_expert, tiles, E: tl.constexpr, LANES: tl.constexpr, ROWS: tl.constexpr
):
    """Some of a replica's tiles: an expert's are those after the tiles of the experts before it."""
    lane_E = tl.arange(0, LANES)
    number_E = (total_E + ROWS - 1) // ROWS
    last_E = tl.cumsum(number_E, axis=0)
    passed_ET = (last_E[:, None] <= tile_T[None, :]) & (lane_E < E)[:, None]
    expert_T = tl.sum(passed_ET.to(tl.int32), axis=0)
    mine_ET = (lane_E[:, None] == expert_T[None, :]) & (lane_E < E)[:, None]
    row_ET = (end_E - total_E)[:, None] + (tile_T[None, :] - (last_E - number_E)[:, None]) * ROWS
    row_T = tl.sum(tl.where(mine_ET, row_ET, 0), axis=0)
    end_T = tl.sum(tl.where(mine_ET, end_E[:, None], 0), axis=0)
    at_T = tiles_T3 + 3 * tile_T
    tl.store(at_T, tl.where(expert_T < E, base_expert + expert_T, -1), mask=tile_T < tiles)
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
