"""The loss of a head over a large vocabulary, by chunks of tokens: all logits are never there at once.

Loss and gradients come out of one pass: of each chunk the product with the head, a kernel that takes the losses and
puts the gradient of the logits in their place, and the two products with it. So what each token's loss weighs has to
be known beforehand; what the whole loss weighs, need not. The plain twin is ``linear_cross_entropy_reference``.
"""

from __future__ import annotations

import importlib.util
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from parrotlab.kernels._tiles import power

_triton: Any = None  # CPU builds of torch come without it
if importlib.util.find_spec("triton"):
    from parrotlab.kernels import _linear_cross_entropy_triton as _triton

LARGE = 8192
"""Tokens of a vocabulary from which a GPU takes the loss by chunks."""
CHUNK_BYTES = 1 << 28
"""Of a chunk's logits, over all replicas. Each chunk reads and writes the head's gradient once: on an H100 half as much
costs up to a tenth of the time, and twice as much saves about a twentieth."""
LANES = 8192
"""Logits that a program has at a time. On an H100 fewer are slower, and so is a whole row of 32,000."""


def takes(x_ND: Tensor, vocabulary: int) -> bool:
    """Whether the loss of these tokens is taken by chunks."""
    return _triton is not None and x_ND.is_cuda and vocabulary >= LARGE


def linear_cross_entropy(
    x_ND: Tensor, head_DV: Tensor, targets_N: Tensor, weights_N: Tensor, dtype: torch.dtype
) -> Tensor:
    """[*R] the sum of ``weights_N`` times the nats on the targets, of [*R, N, D] tokens by a head of [*R, D, V].

    Products and logits are of ``dtype``, sums and the head's gradient of float32. The head may be an embedding's
    transpose. Weights are constants.
    """
    stack, (width, vocabulary) = head_DV.shape[:-2], head_DV.shape[-2:]
    loss_R, *_ = _forward(
        x_ND.reshape(-1, x_ND.shape[-2], width).to(dtype),
        head_DV.reshape(-1, width, vocabulary),
        targets_N.reshape(-1, x_ND.shape[-2]),
        weights_N.reshape(-1, x_ND.shape[-2]).float(),
    )
    return loss_R.view(stack)


def linear_cross_entropy_reference(
    x_ND: Tensor, head_DV: Tensor, targets_N: Tensor, weights_N: Tensor, dtype: torch.dtype
) -> Tensor:
    """The same, plainly."""
    logits_NV = x_ND.to(dtype) @ head_DV.to(dtype)
    nats_N = F.cross_entropy(logits_NV.flatten(0, -2).float(), targets_N.flatten(), reduction="none")
    return (nats_N.view_as(weights_N) * weights_N).sum(dim=-1)


def chunk_tokens(replicas: int, tokens: int, vocabulary: int, bytes_per_logit: int) -> int:
    """Tokens of each replica in a chunk: as few chunks as memory allows, of about equal size."""
    most = max(1, CHUNK_BYTES // (replicas * vocabulary * bytes_per_logit))
    return math.ceil(tokens / math.ceil(tokens / most))


def room_bytes(replicas: float, tokens: int, vocabulary: int, bytes_per_logit: int) -> float:
    """What logits take of a GPU beside all that is kept for the backward pass; 0 where they are kept themselves."""
    return min(CHUNK_BYTES, replicas * tokens * vocabulary * bytes_per_logit) if vocabulary >= LARGE else 0


@torch.library.custom_op("parrotlab::linear_cross_entropy", mutates_args=())
def _forward(x_RND: Tensor, head_RDV: Tensor, targets_RN: Tensor, weights_RN: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The loss, and its gradient by tokens and head."""
    replicas, tokens, _ = x_RND.shape
    vocabulary = head_RDV.shape[-1]
    losses_RN = torch.empty(replicas, tokens, device=x_RND.device)
    _, grad_x_RND, grad_head_RDV = _empty(x_RND, head_RDV, targets_RN, weights_RN)
    targets_RN, weights_RN, rounded_RDV = targets_RN.contiguous(), weights_RN.contiguous(), head_RDV.to(x_RND.dtype)
    chunk = chunk_tokens(replicas, tokens, vocabulary, x_RND.element_size())
    room_RCV = x_RND.new_empty(replicas * chunk * vocabulary)
    lanes = min(LANES, power(vocabulary))
    for begin in range(0, tokens, chunk):
        x_RCD = x_RND[:, begin : begin + chunk]
        length = x_RCD.shape[1]
        slope_RCV = room_RCV[: replicas * length * vocabulary].view(replicas, length, vocabulary)
        torch.bmm(x_RCD, rounded_RDV, out=slope_RCV)
        _triton.losses[length, replicas](
            slope_RCV, targets_RN, weights_RN, losses_RN, length, begin, tokens, vocabulary,
            V=vocabulary, LANES=lanes, num_warps=8,
        )  # fmt: skip
        torch.bmm(slope_RCV, rounded_RDV.mT, out=grad_x_RND[:, begin : begin + chunk])
        if grad_head_RDV.stride(-1) == 1:
            _add_product_(grad_head_RDV, x_RCD.mT, slope_RCV, first=begin == 0)
        else:
            _add_product_(grad_head_RDV.mT, slope_RCV.mT, x_RCD, first=begin == 0)
    return losses_RN.sum(dim=-1), grad_x_RND, grad_head_RDV


@_forward.register_fake
def _empty(x_RND: Tensor, head_RDV: Tensor, targets_RN: Tensor, weights_RN: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    loss_R = x_RND.new_empty(x_RND.shape[0], dtype=torch.float32)
    return loss_R, torch.empty_like(x_RND, memory_format=torch.contiguous_format), torch.empty_like(head_RDV)


def _add_product_(total: Tensor, left: Tensor, right: Tensor, first: bool) -> None:
    """total += left @ right, in the total's precision; of the first the total knows nothing yet."""
    beta = 0 if first else 1
    if left.dtype == total.dtype:
        torch.baddbmm(total, left, right, beta=beta, out=total)
    else:
        torch.ops.aten.baddbmm.dtype_out(total, left, right, total.dtype, beta=beta, out=total)


def _remember(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.save_for_backward(*output[1:])
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, grad_R: Tensor, *unused: None) -> tuple[Tensor, Tensor, None, None]:
    grad_x_RND, grad_head_RDV = ctx.saved_tensors
    factor_R11 = grad_R.view(-1, 1, 1)
    return (grad_x_RND * factor_R11).to(grad_x_RND.dtype), grad_head_RDV * factor_R11, None, None


_forward.register_autograd(_differentiate, setup_context=_remember)
