"""The Triton kernels of ``choosing``.

A program has ROWS tokens; E experts fill LANES, the A chosen ones SLOTS, powers of 2.
"""

# ruff: noqa: N803, RUF100
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _softmax(logits_NE, row_R, alive_R, E: tl.constexpr, LANES: tl.constexpr):
    """[R, LANES] probabilities; zeros where there is no expert."""
    lane_E = tl.arange(0, LANES)
    inside_RE = alive_R[:, None] & (lane_E < E)[None, :]
    logit_RE = tl.load(logits_NE + row_R[:, None] * E + lane_E[None, :], mask=inside_RE, other=-float("inf"))
    logit_RE = tl.where(alive_R[:, None], logit_RE, 0.0)
    share_RE = tl.exp(logit_RE - tl.max(logit_RE, axis=1)[:, None])
    return share_RE / tl.sum(share_RE, axis=1)[:, None]


@triton.jit
def choose(
    logits_NE, ranked_NE, weights_NA, experts_NA, counts_E, tokens,
    E: tl.constexpr, A: tl.constexpr, RENORMALISE: tl.constexpr,
    ROWS: tl.constexpr, LANES: tl.constexpr, SLOTS: tl.constexpr,
):  # fmt: skip
    """One maximum after the other; of equals, the one that comes first. Axis 1 are replicas."""
    replica = tl.program_id(1).to(tl.int64)
    token_R = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    alive_R = token_R < tokens
    row_R = replica * tokens + token_R
    lane_E, slot_A = tl.arange(0, LANES), tl.arange(0, SLOTS)
    share_RE = _softmax(logits_NE, row_R, alive_R, E, LANES)
    inside_RE = alive_R[:, None] & (lane_E < E)[None, :]
    rank_RE = tl.load(ranked_NE + row_R[:, None] * E + lane_E[None, :], mask=inside_RE, other=-float("inf"))
    weight_RA = tl.zeros((ROWS, SLOTS), tl.float32)
    expert_RA = tl.zeros((ROWS, SLOTS), tl.int32)
    count_RE = tl.zeros((ROWS, LANES), tl.int32)
    for choice in tl.static_range(A):
        best_R = tl.argmax(rank_RE, axis=1)
        chosen_RE = lane_E[None, :] == best_R[:, None]
        weight_R = tl.sum(tl.where(chosen_RE, share_RE, 0.0), axis=1)
        weight_RA = tl.where((slot_A == choice)[None, :], weight_R[:, None], weight_RA)
        expert_RA = tl.where((slot_A == choice)[None, :], best_R[:, None], expert_RA)
        count_RE += (chosen_RE & inside_RE).to(tl.int32)
        rank_RE = tl.where(chosen_RE, -float("inf"), rank_RE)
    if RENORMALISE:
        weight_RA = weight_RA / tl.sum(weight_RA, axis=1)[:, None]
    at_RA = row_R[:, None] * A + slot_A[None, :]
    inside_RA = alive_R[:, None] & (slot_A < A)[None, :]
    tl.store(weights_NA + at_RA, weight_RA, mask=inside_RA)
    tl.store(experts_NA + at_RA, expert_RA.to(tl.int64), mask=inside_RA)
    # Whole numbers, exact below 2^24: their sum does not depend on the order in which programs finish.
    tl.atomic_add(counts_E + replica * E + lane_E, tl.sum(count_RE, axis=0).to(tl.float32), mask=lane_E < E)


@triton.jit
def choose_backward(
    grad_NA, logits_NE, experts_NA, grad_logits_NE, tokens,
    E: tl.constexpr, A: tl.constexpr, RENORMALISE: tl.constexpr, ROWS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Of the softmax over all experts, of which the chosen ones' shares, renormalised or not, had gradients."""
    row_R = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    alive_R = row_R < tokens
    lane_E = tl.arange(0, LANES)
    share_RE = _softmax(logits_NE, row_R, alive_R, E, LANES)
    grad_RE = tl.zeros((ROWS, LANES), tl.float32)
    chosen_RE = tl.zeros((ROWS, LANES), tl.int32)
    for choice in tl.static_range(A):
        expert_R = tl.load(experts_NA + row_R * A + choice, mask=alive_R, other=0).to(tl.int32)
        grad_R = tl.load(grad_NA + row_R * A + choice, mask=alive_R, other=0.0)
        here_RE = lane_E[None, :] == expert_R[:, None]
        grad_RE = tl.where(here_RE, grad_R[:, None], grad_RE)
        chosen_RE += here_RE.to(tl.int32)
    if RENORMALISE:
        kept_RE = tl.where(chosen_RE > 0, share_RE, 0.0)
        total_R1 = tl.sum(kept_RE, axis=1)[:, None]
        mean_R1 = tl.sum(grad_RE * kept_RE, axis=1)[:, None] / total_R1
        grad_RE = tl.where(chosen_RE > 0, (grad_RE - mean_R1) / total_R1, 0.0)
    slope_RE = share_RE * (grad_RE - tl.sum(share_RE * grad_RE, axis=1)[:, None])
    at_RE = grad_logits_NE + row_R[:, None] * E + lane_E[None, :]
    tl.store(at_RE, slope_RE, mask=alive_R[:, None] & (lane_E < E)[None, :])
