"""Choices ordered by expert without a sort, and without asking the host: counted by block, then placed.

Two small kernels stand in for a general sort, which takes longer than a small layer's products. All is whole
numbers, so the result is the same at every run. The plain twin is a stable argsort.
"""

from __future__ import annotations

import importlib.util
from typing import Any, NamedTuple

import torch
from torch import Tensor

from parrotlab.kernels._tiles import lanes, power

_triton: Any = None  # CPU builds of torch come without it
if importlib.util.find_spec("triton"):
    from parrotlab.kernels import _route_triton as _triton

TILE = 128
"""Rows of a tile; the kernels' own tiles divide it."""


class Route(NamedTuple):
    """S = R·N·A choices of R·E experts, int32. A row is a choice's place when they are ordered by expert."""

    order_S: Tensor
    """The choice at each row; choice n·A + a is the a-th of token n."""
    place_S: Tensor
    """The row of each choice."""
    bounds_E: Tensor
    """[R·E + 1]: expert e has the rows from bounds_E[e] up to bounds_E[e + 1]."""
    tiles_T3: Tensor
    """Expert, first row and the end of the expert's rows, of each tile of up to 128 rows; -1, 0, 0: no such tile.

    T is what the worst routing would need, so that no size depends on the data.
    """


def route(experts_NA: Tensor, experts: int) -> Route:
    """Of [*R, N, A] choices among ``experts`` for each replica."""
    stacked = experts_NA if experts_NA.dim() == 3 else experts_NA.unsqueeze(0)
    return Route(*_route(stacked.contiguous(), experts))


def route_reference(experts_NA: Tensor, experts: int) -> Route:
    """The same, plainly."""
    stacked = experts_NA if experts_NA.dim() == 3 else experts_NA.unsqueeze(0)
    replicas, choices = stacked.shape[0], stacked[0].numel()
    expert_S = (stacked.flatten(1) + experts * torch.arange(replicas, device=stacked.device).unsqueeze(1)).flatten()
    order_S = expert_S.argsort(stable=True)
    place_S = torch.empty_like(order_S)
    place_S[order_S] = torch.arange(len(order_S), device=order_S.device)
    counts = expert_S.bincount(minlength=replicas * experts).tolist()
    bounds, tiles = [0], []
    for expert, count in enumerate(counts):
        bounds.append(bounds[-1] + count)
        tiles += [(expert, row, bounds[-1]) for row in range(bounds[-2], bounds[-1], TILE)]
        if (expert + 1) % experts == 0:
            replica = expert // experts
            tiles += [(-1, 0, 0)] * ((replica + 1) * most_tiles(choices, experts) - len(tiles))
    tensors = (torch.tensor(values, dtype=torch.int32, device=order_S.device) for values in (bounds, tiles))
    return Route(order_S.int(), place_S.int(), *tensors)


def most_tiles(choices: int, experts: int) -> int:
    """The most tiles that a replica's choices can need: each expert's last tile may be nearly empty."""
    return choices // TILE + min(choices, experts)


def combined(rows_SD: Tensor, place_S: Tensor, active: int) -> Tensor:
    """[N, D] Σ_a rows[place[n, a]]: the choices' rows, summed for each token."""
    tokens, width = place_S.shape[0] // active, rows_SD.shape[-1]
    out_ND = rows_SD.new_empty(tokens, width)
    grid, sizes = _blocks(tokens, width)
    _triton.combine[grid](rows_SD, place_S, out_ND, tokens, width, ACTIVE=active, **sizes)
    return out_ND


def spread(x_ND: Tensor, place_S: Tensor, active: int) -> Tensor:
    """[S, D] each choice's token, by expert."""
    tokens, width = x_ND.shape
    out_SD = x_ND.new_empty(tokens * active, width)
    grid, sizes = _blocks(tokens, width)
    _triton.spread[grid](x_ND, place_S, out_SD, tokens, width, ACTIVE=active, **sizes)
    return out_SD


def _blocks(rows: int, width: int) -> tuple[tuple[int, int], dict[str, int]]:
    """The grid and the block of a kernel that passes over [rows, width]."""
    columns = min(1024, lanes(width))
    block = {"ROWS": max(1, 2048 // columns), "COLUMNS": columns}
    return (-(-rows // block["ROWS"]), -(-width // columns)), block


@torch.library.custom_op("parrotlab::route", mutates_args=())
def _route(experts_RNA: Tensor, experts: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    order_S, place_S, bounds_E, tiles_T3 = _empty(experts_RNA, experts)
    replicas, choices = experts_RNA.shape[0], experts_RNA[0].numel()
    sizes = _sizes(choices, experts)
    groups, blocks, tiles = -(-choices // sizes["GROUP"]), -(-choices // sizes["BLOCK"]), most_tiles(choices, experts)
    counts = order_S.new_empty(replicas, groups, experts)
    counted = {name: sizes[name] for name in ("GROUP", "LANES", "num_warps")}
    _triton.count[groups, replicas](experts_RNA, counts, choices, E=experts, **counted)
    _triton.place[blocks + -(-tiles // sizes["SHARE"]), replicas](
        experts_RNA, counts, order_S, place_S, bounds_E, tiles_T3, choices, groups, blocks, tiles,
        E=experts, ROWS=TILE, **sizes,
    )  # fmt: skip
    return order_S, place_S, bounds_E, tiles_T3


@_route.register_fake
def _empty(experts_RNA: Tensor, experts: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    replicas, tokens, active = experts_RNA.shape

    def empty(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.int32, device=experts_RNA.device)

    choices = tokens * active
    tiles = replicas * most_tiles(choices, experts)
    return empty(replicas * choices), empty(replicas * choices), empty(replicas * experts + 1), empty(tiles, 3)


def _sizes(choices: int, experts: int) -> dict[str, int]:
    """Groups are so many that a program adds up their counts at once, and no larger than what it counts at once."""
    room = lanes(experts)
    chunk = max(4, 4096 // room)
    group = min(2048, max(128, power(-(-choices // chunk))))
    return {
        "GROUP": group, "BLOCK": 128, "LANES": room, "CHUNK": chunk, "SHARE": max(16, 1024 // room), "num_warps": 4
    }  # fmt: skip
