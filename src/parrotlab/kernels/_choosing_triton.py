"""The Triton kernels of ``choosing``.

A program has ROWS tokens. The E experts fill GROUPS of LANES, powers of 2: Triton gives a thread the same few lanes of
every group, so that it finds most of a token's maximum by itself. The A chosen ones fill SLOTS.
"""

# ruff: noqa: N803, RUF100
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _experts(GROUPS: tl.constexpr, LANES: tl.constexpr):
    """[1, G, L] an expert's number."""
    return tl.arange(0, GROUPS)[None, :, None] * LANES + tl.arange(0, LANES)[None, None, :]


@triton.jit
def _largest(number_RGL):
    return tl.max(tl.max(number_RGL, axis=1), axis=1)


@triton.jit
def _total(number_RGL):
    return tl.sum(tl.sum(number_RGL, axis=1), axis=1)


@triton.jit
def choose(
    logits_NE, ranked_NE, weights_NA, experts_NA, counts_E, tokens,
    E: tl.constexpr, A: tl.constexpr, RANKED: tl.constexpr, RENORMALISE: tl.constexpr,
    ROWS: tl.constexpr, GROUPS: tl.constexpr, LANES: tl.constexpr, SLOTS: tl.constexpr,
):  # fmt: skip
    """One maximum after the other; of equals, the one that comes first. Axis 1 are replicas.

    Where nothing but the logits is RANKED, a maximum is itself the logit of the expert that is chosen.
    """
    replica = tl.program_id(1).to(tl.int64)
    token_R = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    alive_R = token_R < tokens
    row_R = replica * tokens + token_R
    expert_1GL, slot_A = _experts(GROUPS, LANES), tl.arange(0, SLOTS)
    # Rows beyond the last read the last.
    at_RGL = (replica * tokens + tl.minimum(token_R, tokens - 1))[:, None, None] * E + expert_1GL
    logit_RGL = tl.load(logits_NE + at_RGL, mask=expert_1GL < E, other=-float("inf"))
    rank_RGL = tl.load(ranked_NE + at_RGL, mask=expert_1GL < E, other=-float("inf")) if RANKED else logit_RGL
    highest_R = _largest(logit_RGL)
    weight_RA = tl.zeros((ROWS, SLOTS), tl.float32)
    expert_RA = tl.zeros((ROWS, SLOTS), tl.int32)
    count_E = tl.zeros((GROUPS * LANES,), tl.int32)
    for choice in tl.static_range(A):
        best_R = _largest(rank_RGL)
        first_RGL = tl.where(rank_RGL == best_R[:, None, None], expert_1GL, E - 1)
        expert_R = tl.min(tl.min(first_RGL, axis=1), axis=1)
        chosen_RGL = expert_1GL == expert_R[:, None, None]
        logit_R = _total(tl.where(chosen_RGL, logit_RGL, 0.0)) if RANKED else best_R
        weight_RA = tl.where((slot_A == choice)[None, :], tl.exp(logit_R - highest_R)[:, None], weight_RA)
        expert_RA = tl.where((slot_A == choice)[None, :], expert_R[:, None], expert_RA)
        count_E += tl.histogram(expert_R, GROUPS * LANES, mask=alive_R)
        rank_RGL = tl.where(chosen_RGL, -float("inf"), rank_RGL)
    all_R = tl.sum(weight_RA, axis=1) if RENORMALISE else _total(tl.exp(logit_RGL - highest_R[:, None, None]))
    at_RA = row_R[:, None] * A + slot_A[None, :]
    inside_RA = alive_R[:, None] & (slot_A < A)[None, :]
    tl.store(weights_NA + at_RA, weight_RA / all_R[:, None], mask=inside_RA)
    tl.store(experts_NA + at_RA, expert_RA.to(tl.int64), mask=inside_RA)
    # Whole numbers, exact below 2^24: their sum does not depend on the order in which programs finish.
    lane_E = tl.arange(0, GROUPS * LANES)
    tl.atomic_add(counts_E + replica * E + lane_E, count_E.to(tl.float32), mask=lane_E < E, sem="relaxed")


@triton.jit
def choose_backward(
    grad_NA, weights_NA, logits_NE, experts_NA, grad_logits_NE, tokens,
    E: tl.constexpr, A: tl.constexpr, RENORMALISE: tl.constexpr,
    ROWS: tl.constexpr, GROUPS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Of a softmax of which the chosen ones' shares had gradients: over all experts, or over those, renormalised."""
    row_R = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    alive_R = row_R < tokens
    expert_1GL = _experts(GROUPS, LANES)
    at_RGL = row_R[:, None, None] * E + expert_1GL
    inside_RGL = alive_R[:, None, None] & (expert_1GL < E)
    if RENORMALISE:
        share_RGL = tl.zeros((ROWS, GROUPS, LANES), tl.float32)
    else:
        row_R11 = tl.minimum(row_R, tokens - 1)[:, None, None]
        logit_RGL = tl.load(logits_NE + row_R11 * E + expert_1GL, mask=expert_1GL < E, other=-float("inf"))
        share_RGL = tl.exp(logit_RGL - _largest(logit_RGL)[:, None, None])
        share_RGL = share_RGL / _total(share_RGL)[:, None, None]
    grad_RGL = tl.zeros((ROWS, GROUPS, LANES), tl.float32)
    mean_R = tl.zeros((ROWS,), tl.float32)
    for choice in tl.static_range(A):
        expert_R = tl.load(experts_NA + row_R * A + choice, mask=alive_R, other=0).to(tl.int32)
        grad_R = tl.load(grad_NA + row_R * A + choice, mask=alive_R, other=0.0)
        weight_R = tl.load(weights_NA + row_R * A + choice, mask=alive_R, other=0.0)
        chosen_RGL = expert_1GL == expert_R[:, None, None]
        grad_RGL = tl.where(chosen_RGL, grad_R[:, None, None], grad_RGL)
        if RENORMALISE:
            share_RGL = tl.where(chosen_RGL, weight_R[:, None, None], share_RGL)
        mean_R += weight_R * grad_R
    slope_RGL = share_RGL * (grad_RGL - mean_R[:, None, None])
    tl.store(grad_logits_NE + at_RGL, slope_RGL, mask=inside_RGL)
