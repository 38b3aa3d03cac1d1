"""A token's experts out of its logits in one kernel: softmax, maxima, weights and counts; and one for the gradient.

The plain twin is ``model.routers.router.routed``, which uses this where ``_choice.ROUTER`` says so.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import Tensor

from parrotlab.kernels import _choice
from parrotlab.kernels._tiles import power

_triton: Any = None  # CPU builds of torch come without it
if importlib.util.find_spec("triton"):
    from parrotlab.kernels import _choosing_triton as _triton

MOST = 1024
"""Experts that a program holds for a token."""


def fused(logits_NE: Tensor) -> bool:
    """Whether the kernels are to choose for these tokens."""
    return _choice.ROUTER == "fused" and logits_NE.is_cuda and _triton is not None and logits_NE.shape[-1] <= MOST


def chosen(logits_NE: Tensor, ranked_NE: Tensor, active: int, renormalise: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Weights and experts, [*R, N, A], and [*R, E] how often each was chosen. float32 logits."""
    stack, (tokens, experts) = logits_NE.shape[:-2], logits_NE.shape[-2:]
    logits_RNE = logits_NE.reshape(-1, tokens, experts)
    ranked_RNE = None if ranked_NE is logits_NE else ranked_NE.detach().reshape(-1, tokens, experts)
    weights_RNA, experts_RNA, counts_RE = _choose(logits_RNE, ranked_RNE, active, renormalise)
    return (
        weights_RNA.view(*stack, tokens, active),
        experts_RNA.view(*stack, tokens, active),
        counts_RE.view(*stack, experts),
    )


@torch.library.custom_op("parrotlab::choose", mutates_args=())
def _choose(
    logits_RNE: Tensor, ranked_RNE: Tensor | None, active: int, renormalise: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Without ``ranked_RNE``, the logits rank."""
    weights_RNA, experts_RNA, counts_RE = _empty(logits_RNE, ranked_RNE, active, renormalise)
    replicas, tokens, experts = logits_RNE.shape
    logits_RNE = logits_RNE.contiguous()
    ranked = ranked_RNE is not None
    sizes = _sizes(experts)
    grid = (-(-tokens // sizes["ROWS"]), replicas)
    _triton.choose[grid](
        logits_RNE, ranked_RNE.contiguous() if ranked else logits_RNE, weights_RNA, experts_RNA, counts_RE.zero_(),
        tokens, E=experts, A=active, RANKED=ranked, RENORMALISE=renormalise, SLOTS=power(active), **sizes,
    )  # fmt: skip
    return weights_RNA, experts_RNA, counts_RE


@_choose.register_fake
def _empty(
    logits_RNE: Tensor, ranked_RNE: Tensor | None, active: int, renormalise: bool
) -> tuple[Tensor, Tensor, Tensor]:
    replicas, tokens, experts = logits_RNE.shape
    return (
        logits_RNE.new_empty(replicas, tokens, active),
        logits_RNE.new_empty(replicas, tokens, active, dtype=torch.int64),
        logits_RNE.new_empty(replicas, experts),
    )


@torch.library.custom_op("parrotlab::choose_backward", mutates_args=())
def _backward(
    grad_RNA: Tensor, weights_RNA: Tensor, logits_RNE: Tensor, experts_RNA: Tensor, renormalise: bool
) -> Tensor:
    grad_logits_RNE = _gradient(grad_RNA, weights_RNA, logits_RNE, experts_RNA, renormalise)
    replicas, tokens, experts = logits_RNE.shape
    sizes = _sizes(experts)
    _triton.choose_backward[(-(-replicas * tokens // sizes["ROWS"]),)](
        grad_RNA.contiguous(), weights_RNA, logits_RNE.contiguous(), experts_RNA, grad_logits_RNE, replicas * tokens,
        E=experts, A=experts_RNA.shape[-1], RENORMALISE=renormalise, **sizes,
    )  # fmt: skip
    return grad_logits_RNE


@_backward.register_fake
def _gradient(
    grad_RNA: Tensor, weights_RNA: Tensor, logits_RNE: Tensor, experts_RNA: Tensor, renormalise: bool
) -> Tensor:
    return torch.empty_like(logits_RNE, memory_format=torch.contiguous_format)


def _sizes(experts: int) -> dict[str, int]:
    """A thread has four lanes of every group, and a program as many tokens as its threads can hold.

    Fewer programs add up counts sooner: all add to the same few numbers.
    """
    room = max(4, power(experts))
    groups = min(room // 4, max(4, room // 64))
    lanes = room // groups
    warps = 4 if lanes == 4 else 8
    return {"ROWS": 128 * warps // lanes, "GROUPS": groups, "LANES": lanes, "num_warps": warps}


def _remember(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.save_for_backward(output[0], inputs[0], output[1])
    ctx.mark_non_differentiable(*output[1:])
    ctx.renormalise = inputs[3]
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, grad_RNA: Tensor | None, *unused: None) -> tuple[Tensor | None, None, None, None]:
    if grad_RNA is None:
        return None, None, None, None
    return _backward(grad_RNA, *ctx.saved_tensors, ctx.renormalise), None, None, None


_choose.register_autograd(_differentiate, setup_context=_remember)
