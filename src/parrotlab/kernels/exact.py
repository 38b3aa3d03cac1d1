"""A router's product, as exact as in float32, on tensor cores; its gradients too.

The plain twin is ``x.float() @ weight.float()``, which a GPU computes without tensor cores, on copies of the tokens of
twice their size.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import Tensor

from parrotlab.kernels import _choice
from parrotlab.kernels._tiles import PROCESSORS, lanes
from parrotlab.kernels.parts import added

_triton: Any = None  # CPU builds of torch come without it
if importlib.util.find_spec("triton"):
    from parrotlab.kernels import _exact_triton as _triton

SPLIT = (torch.bfloat16, torch.float32)
"""What the kernel multiplies: numbers of 8 bits as they are, and those of 24 bits in three parts."""
LARGE = 1024
"""Width of a model from which on larger tiles of its bfloat16 tokens are faster on an H100; at 256 they are not."""
SHALLOW = 64
"""Most experts whose whole depth is one step of the tokens' gradient."""


def fused(x_ND: Tensor, weight_DE: Tensor) -> bool:
    """Whether the kernel is to make this product."""
    wanted = _choice.ROUTER == "fused" and x_ND.is_cuda and _triton is not None
    return wanted and x_ND.dtype in SPLIT and weight_DE.dtype in SPLIT


def logits(x_ND: Tensor, weight_DE: Tensor) -> Tensor:
    """[*R, N, E] x · weight in float32, of [*R, N, D] tokens and [*R, D, E] weights."""
    stack, (tokens, width), experts = x_ND.shape[:-2], x_ND.shape[-2:], weight_DE.shape[-1]
    logits_RNE = _product(x_ND.reshape(-1, tokens, width), weight_DE.reshape(-1, width, experts))
    return logits_RNE.view(*stack, tokens, experts)


@torch.library.custom_op("parrotlab::exact_product", mutates_args=())
def _product(x_RND: Tensor, weight_RDE: Tensor) -> Tensor:
    if x_RND.is_cuda and x_RND.dtype == weight_RDE.dtype == torch.bfloat16:  # nothing to split
        return torch.bmm(x_RND, weight_RDE, out_dtype=torch.float32)
    return _launched(x_RND, weight_RDE, torch.float32)


@_product.register_fake
def _empty(x_RND: Tensor, weight_RDE: Tensor) -> Tensor:
    return x_RND.new_empty(*x_RND.shape[:2], weight_RDE.shape[2], dtype=torch.float32)


@torch.library.custom_op("parrotlab::exact_product_backward", mutates_args=())
def _backward(grad_RNE: Tensor, x_RND: Tensor, weight_RDE: Tensor) -> tuple[Tensor, Tensor]:
    shallow = x_RND.dtype == torch.bfloat16 and weight_RDE.shape[2] <= SHALLOW
    grad_x_RND = (_wide if shallow else _launched)(grad_RNE, weight_RDE.mT, x_RND.dtype)
    grad_weight_RDE = _launched(x_RND.mT, grad_RNE, weight_RDE.dtype)
    return grad_x_RND, grad_weight_RDE


@_backward.register_fake
def _gradients(grad_RNE: Tensor, x_RND: Tensor, weight_RDE: Tensor) -> tuple[Tensor, Tensor]:
    x, weight = (torch.empty_like(one, memory_format=torch.contiguous_format) for one in (x_RND, weight_RDE))
    return x, weight


def _launched(left_RMK: Tensor, right_RKN: Tensor, dtype: torch.dtype) -> Tensor:
    """The product; a long depth in parts, which are added in order, where tiles are too few to fill a GPU."""
    replicas, rows, depth = left_RMK.shape
    columns = right_RKN.shape[2]
    large = left_RMK.dtype == torch.bfloat16 and min(rows, depth) >= LARGE
    sizes = {"M": 128 if large else min(64, lanes(rows)), "N": min(64, lanes(columns)), "K": min(64, lanes(depth))}
    tiles = (-(-rows // sizes["M"]), -(-columns // sizes["N"]))
    wanted = max(1, 2 * PROCESSORS // (tiles[0] * tiles[1] * replicas))
    share = -(-depth // (sizes["K"] * wanted)) * sizes["K"]
    parts = -(-depth // share)
    out_CRMN = left_RMK.new_empty(parts, replicas, rows, columns, dtype=torch.float32 if parts > 1 else dtype)
    _triton.product[(*tiles, replicas * parts)](
        left_RMK, right_RKN, out_CRMN, rows, columns, depth, share, parts, *left_RMK.stride(), *right_RKN.stride(),
        LEFT_SPLIT=left_RMK.dtype == torch.float32, RIGHT_SPLIT=right_RKN.dtype == torch.float32,
        THIRD=dtype == torch.float32, PART=_part(left_RMK), **sizes,
        num_warps=8 if large else 4, num_stages=3 if large else min(4, -(-share // sizes["K"])),
    )  # fmt: skip
    return added(out_CRMN, dtype)


def _wide(left_RMK: Tensor, right_RKN: Tensor, dtype: torch.dtype) -> Tensor:
    """The product of a depth of one step, rounded to bfloat16."""
    replicas, rows, depth = left_RMK.shape
    columns = right_RKN.shape[2]
    sizes = {"M": min(64, lanes(rows)), "N": min(128, lanes(columns)), "K": lanes(depth)}
    row_tiles, column_tiles = -(-rows // sizes["M"]), -(-columns // sizes["N"])
    walkers = min(row_tiles, max(1, 2 * PROCESSORS // (column_tiles * replicas)))
    out_RMN = left_RMK.new_empty(replicas, rows, columns, dtype=dtype)
    _triton.wide_product[walkers, column_tiles, replicas](
        left_RMK.contiguous(), right_RKN, out_RMN, rows, columns, depth, walkers, *right_RKN.stride(),
        RIGHT_SPLIT=right_RKN.dtype == torch.float32, PART=_part(left_RMK), **sizes, num_warps=4, num_stages=3,
    )  # fmt: skip
    return out_RMN


def _part(operand: Tensor) -> Any:
    """What parts are multiplied in: the interpreter has no bfloat16."""
    return _triton.tl.bfloat16 if operand.is_cuda else _triton.tl.float32


def _remember(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _differentiate(ctx: Any, grad_RNE: Tensor) -> tuple[Tensor, Tensor]:
    return _backward(grad_RNE, *ctx.saved_tensors)


_product.register_autograd(_differentiate, setup_context=_remember)
