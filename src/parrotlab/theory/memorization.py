"""Theorem 3.5 on real weights: a mixture of experts that knows n random labels by heart, with few parameters active.

The layer is our own ``MixtureLayer``, as wide as the points (m), with the top-1 router. The router is K random
directions, so it cuts the sphere into K cells. The expert of a cell holds the labels of the points in it: its gates
are random, and its answer is linear in its values, which are found by a linear solve. m · F values can fit m · F
labels, so F = O(n / (K m)) hidden channels suffice: O(n / K + m) parameters an expert, and m a direction.

    point --> router: cell 7 --> Σ_f silu(gate_f · point) (value_f · point) --> first channel --> its sign is the label

The paper's proof is not at hand; this construction and its derivation (docs/theory.md) are ours.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from parrotlab.model.feedforwards.dense import Dense
from parrotlab.model.feedforwards.mixture import Mixture, MixtureLayer
from parrotlab.seeds import stream
from parrotlab.theory.check import Check
from parrotlab.theory.counting import least_parameters
from parrotlab.theory.precision import LEAST_BITS, MOST_BITS, rounded

VALUES_PER_LABEL = 2.0
"""Free values of an expert over the labels it has to hold. 1 suffices in exact arithmetic; 2 is well conditioned."""
GATE_SCALE = 3.0
"""Standard deviation of a gate's input. Sharper gates tell neighbours apart; far sharper ones are on or off."""
MARGIN = 0.5
"""The solve aims at answers of -1 and 1 and ends when none is nearer to 0 than this."""
PATIENCE = 2000
"""Steps of the solve before it gives up."""
BORDER = 1e-3
"""A point whose cell wins by less than this is learned by the runner-up too: rounding may send it there."""
CONSTANT = 12
"""No bound of theorem 3.5 is exceeded by more: 3 matrices · 2 values a label · 2 n / K labels in the fullest cell."""


class Parameters(NamedTuple):
    """Of one layer."""

    total: int
    active: int
    """Those that one token touches: the router and one expert."""


def labelled_points(count: int, dimension: int, seed: int) -> tuple[Tensor, Tensor]:
    """([N, D] random points of length sqrt(D), as a norm leaves them; [N] random labels -1 or 1)."""
    random = stream("labelled_points", seed)
    points_ND = torch.from_numpy(random.standard_normal((count, dimension), dtype="float32"))
    labels_N = torch.from_numpy(2 * random.integers(2, size=count) - 1).float()
    return F.normalize(points_ND, dim=-1) * math.sqrt(dimension), labels_N


@torch.no_grad()
def memorize(points_ND: Tensor, labels_N: Tensor, experts: int, seed: int) -> MixtureLayer:
    """A top-1 mixture as wide as the points, whose first channel has the sign of each point's label."""
    count, width = points_ND.shape
    if not 1 <= experts <= count:
        raise ValueError(f"{experts} experts cannot share {count} points: ask for 1 to {count}")
    if not bool((labels_N.abs() == 1).all()):
        raise ValueError(f"labels are -1 or 1, not {sorted(set(labels_N.tolist()))[:5]}")
    random = stream("memorize", seed)
    directions_DE = F.normalize(torch.from_numpy(random.standard_normal((width, experts), dtype="float32")), dim=0)
    logits_NE = points_ND @ directions_DE
    near_NE = logits_NE >= logits_NE.max(dim=-1, keepdim=True).values - BORDER
    hidden = math.ceil(VALUES_PER_LABEL * int(near_NE.sum(dim=0).max()) / width)
    gates_EDF = torch.from_numpy(random.standard_normal((experts, width, hidden), dtype="float32"))
    gates_EDF *= GATE_SCALE / math.sqrt(width)
    values = [_solve(points_ND[held_N], labels_N[held_N], gates) for held_N, gates in zip(near_NE.T, gates_EDF)]
    down_EFD = torch.zeros(experts, hidden, width)
    down_EFD[..., 0] = 1  # the answer is the plain sum over hidden channels
    design = Mixture(experts=experts, active=1, expansion=hidden / width, gated=True, renormalise=False)
    layer = design.build(width, ())
    up_EDG = torch.cat([gates_EDF, torch.stack(values)], dim=-1)
    layer.load_state_dict({"router.weight_DE": directions_DE, "up_EDG": up_EDG, "down_EFD": down_EFD})
    return layer


@torch.no_grad()
def recall(layer: MixtureLayer, points_ND: Tensor, labels_N: Tensor) -> float:
    """The fraction of points whose label the layer, run forward, gets right."""
    output_ND, _ = layer(points_ND, torch.zeros(len(points_ND), dtype=torch.long))
    return (output_ND[:, 0].sign() == labels_N).float().mean().item()


def parameters(layer: MixtureLayer) -> Parameters:
    """Counted on the layer's own weights, every entry of every matrix."""
    inside = layer.up_EDG.numel() + layer.down_EFD.numel()
    total = sum(weight.numel() for weight in layer.parameters())
    return Parameters(total, total - inside + inside * layer.design.active // layer.design.experts)


def bound(count: int, dimension: int, experts: int) -> Parameters:
    """n + K m and n / K + K m: theorem 3.5 without its constants and logarithms."""
    return Parameters(count + experts * dimension, math.ceil(count / experts) + experts * dimension)


def best_experts(count: int, dimension: int) -> int:
    """K = sqrt(n / m), where the bound's active parameters are fewest: 2 sqrt(n m)."""
    return max(1, round(math.sqrt(count / dimension)))


def precision_needed(layer: MixtureLayer, points_ND: Tensor, labels_N: Tensor) -> int:
    """The fewest bits a weight, sign and exponent among them, at which every label is still right; 32 if none are."""
    for bits in range(LEAST_BITS, MOST_BITS):
        coarse = copy.deepcopy(layer)
        for weight in coarse.parameters():
            weight.data = rounded(weight.data, bits)
        if recall(coarse, points_ND, labels_N) == 1:
            return bits
    return MOST_BITS


def labellings(points_ND: Tensor) -> int:
    """How many labellings of the points a dense layer reaches as D weights of 1 bit each run through their settings.

    The layer has one hidden channel; its gate is open, its D values are -1 or 1. At most 2^D, the counting bound.
    """
    count, width = points_ND.shape
    settings = 2**width
    layer = Dense(expansion=1 / width, gated=True).build(width, (settings,))
    bits_RD = torch.arange(settings).unsqueeze(-1) >> torch.arange(width) & 1
    with torch.no_grad():
        layer.up_DG[..., 0] = 1
        layer.up_DG[..., 1] = 2.0 * bits_RD - 1
        layer.down_FD.zero_()[..., 0] = 1
        output_RND, _ = layer(points_ND.expand(settings, count, width), torch.zeros(settings, count))
    return len((output_RND[..., 0] > 0).unique(dim=0))


def sweep(count: int, dimension: int, experts: Iterable[int], seed: int) -> pd.DataFrame:
    """The construction at each number of experts: what it recalls and costs, beside the bounds of theorems 3.5, 3.6."""
    points_ND, labels_N = labelled_points(count, dimension, seed)
    rows = []
    for number in experts:
        layer = memorize(points_ND, labels_N, number, seed)
        (total, active), (bound_total, bound_active) = parameters(layer), bound(count, dimension, number)
        precision = precision_needed(layer, points_ND, labels_N)
        rows.append(
            {
                "points": count,
                "dimension": dimension,
                "experts": number,
                "recall": recall(layer, points_ND, labels_N),
                "total": total,
                "active": active,
                "bound_total": bound_total,
                "bound_active": bound_active,
                "precision_bits": precision,
                "least_total": least_parameters(count, precision),
            }
        )
    return pd.DataFrame(rows)


def checks(seed: int = 0) -> Iterator[Check]:
    """Theorems 3.5 and 3.6 at small size, in seconds."""
    for count, dimension in ((1000, 16), (10000, 64)):
        points_ND, labels_N = labelled_points(count, dimension, seed)
        best = best_experts(count, dimension)
        layers = [memorize(points_ND, labels_N, experts, seed) for experts in (max(1, best // 4), best, 16 * best)]
        for layer in layers:
            yield memorized(layer, points_ND, labels_N)
            yield counted(layer, points_ND, labels_N)
        active = [parameters(layer).active for layer in layers]
        what = f"active parameters fall and rise again around K = sqrt(n / m) = {best}: {active}"
        yield Check("theorem 3.5", what, len(layers), active[0] > active[1] and active[1] < active[2])
    width = 10
    reached = labellings(torch.eye(width))
    what = f"{width} weights of 1 bit reach {reached} labellings of {width} points, exactly 2^{width}"
    yield Check("theorem 3.6", what, 2**width, reached == 2**width)


def memorized(layer: MixtureLayer, points_ND: Tensor, labels_N: Tensor) -> Check:
    """Theorem 3.5 on one mixture: every label right, and neither bound exceeded by more than ``CONSTANT``."""
    count, dimension = points_ND.shape
    experts, share = layer.design.experts, recall(layer, points_ND, labels_N)
    ours, theirs = parameters(layer), bound(count, dimension, experts)
    what = (
        f"{experts} experts recall {share:.2%} of {count} labels of dimension {dimension} "
        f"with {ours.total} parameters, {ours.active} active (n + K m = {theirs.total}, n / K + K m = {theirs.active})"
    )
    within = ours.total <= CONSTANT * theirs.total and ours.active <= CONSTANT * theirs.active
    return Check("theorem 3.5", what, count, share == 1 and within)


def counted(layer: MixtureLayer, points_ND: Tensor, labels_N: Tensor) -> Check:
    """Theorem 3.6 on one mixture: rounded as far as its recall allows, it still has at least a bit for each label."""
    bits, total = precision_needed(layer, points_ND, labels_N), parameters(layer).total
    least = least_parameters(len(labels_N), bits)
    what = f"{layer.design.experts} experts need {bits} bits a weight and have {total} weights, no fewer than {least}"
    return Check("theorem 3.6", what, len(labels_N), total >= least)


def _solve(points_ND: Tensor, labels_N: Tensor, gates_DF: Tensor) -> Tensor:
    """[D, F] values with Σ_f silu(point · gate_f) (point · value_f) near the label, by conjugate gradients (CGNE).

    The points' N by D · F matrix is never built: it and its transpose are applied as two small products.
    """
    gated_NF = F.silu(points_ND @ gates_DF)

    def answers(values_DF: Tensor) -> Tensor:
        return (gated_NF * (points_ND @ values_DF)).sum(dim=-1)

    def transposed(residual_N: Tensor) -> Tensor:
        return points_ND.T @ (gated_NF * residual_N.unsqueeze(-1))

    values_DF, residual_N = torch.zeros_like(gates_DF), labels_N
    step_DF = transposed(residual_N)
    for _ in range(PATIENCE):
        if len(labels_N) == 0 or bool((answers(values_DF) * labels_N >= MARGIN).all()):
            return values_DF
        squared = residual_N @ residual_N
        rate = squared / step_DF.square().sum()
        values_DF = values_DF + rate * step_DF
        residual_N = residual_N - rate * answers(step_DF)
        step_DF = transposed(residual_N) + residual_N @ residual_N / squared * step_DF
    raise ValueError(
        f"{len(labels_N)} points of dimension {points_ND.shape[1]} were not memorized in {PATIENCE} steps by "
        f"{gates_DF.shape[1]} hidden channels: they may repeat, or need more experts or dimensions"
    )
