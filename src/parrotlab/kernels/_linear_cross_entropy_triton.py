"""The Triton kernel of ``linear_cross_entropy``: from a token's logits its loss, and in their place their gradient.

A program has one token, and goes twice through its V logits, LANES at a time.
"""

# ruff: noqa: N803, RUF100
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def losses(
    logits_RCV, targets_RN, weights_RN, losses_RN, chunk, begin, tokens, row_stride,
    V: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """weight · (log Σ exp(logits) - the target's logit), of the ``chunk`` tokens from ``begin`` on; axis 1: replicas.

    The logits become weight · (softmax - one-hot of the target).
    """
    replica = tl.program_id(1).to(tl.int64)
    token = replica * tokens + begin + tl.program_id(0)
    row = logits_RCV + (replica * chunk + tl.program_id(0)) * row_stride
    target = tl.load(targets_RN + token).to(tl.int32)
    weight = tl.load(weights_RN + token)
    target_logit = tl.load(row + target).to(tl.float32)  # here, since the row will be written over
    lane = tl.arange(0, LANES)
    largest = tl.full((), -float("inf"), tl.float32)
    total = tl.zeros((LANES,), tl.float32)
    for start in range(0, V, LANES):
        logit = tl.load(row + start + lane, mask=start + lane < V, other=-float("inf")).to(tl.float32)
        before, largest = largest, tl.maximum(largest, tl.max(logit, axis=0))
        total = total * tl.exp(before - largest) + tl.exp(logit - largest)
    log_sum = largest + tl.log(tl.sum(total, axis=0))
    tl.store(losses_RN + token, weight * (log_sum - target_logit))
    for start in range(0, V, LANES):
        inside = start + lane < V
        logit = tl.load(row + start + lane, mask=inside, other=-float("inf")).to(tl.float32)
        slope = tl.exp(logit - log_sum) - tl.where(start + lane == target, 1.0, 0.0)
        tl.store(row + start + lane, (weight * slope).to(row.dtype.element_ty), mask=inside)
