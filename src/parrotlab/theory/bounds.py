"""Bounds on the width that length-2 path needs: theorem 3.2 for our modules, and corollary 3.4. See docs/theory.md.

A graph has |V| vertices, source and destination among them; a model has one layer, width D, H heads and p bits a
number. Experts appear in no bound of theorem 3.2: the feed-forward works behind the last message.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from parrotlab.model.attention import Attention
from parrotlab.model.count import count
from parrotlab.model.feedforwards.mixture import Mixture
from parrotlab.model.transformer import Transformer
from parrotlab.theory import length_two_path

VOCABULARY = 1
"""Any: equal total parameters are compared without embedding and head, as the theorem does."""


def message_bits(width: int, heads: int, precision: int) -> int:
    """Bits that one party sends: H · (C + 1) numbers of p bits, with C = D / H channels a head."""
    return (width + heads) * precision


def least_message_bits(vertices: int, error: float = 0.0) -> float:
    """(1 - h(error)) M: bits of a message for set disjointness, one way, on the M = |V| - 2 vertices between.

    Without errors by counting: 2^M sets need as many messages, for any two are told apart by a set of one element.
    With a fraction of errors on a uniformly random set against one random vertex, by Fano's inequality; h is the
    entropy of a coin in bits. Both are elementary and one way is all we need; that Omega(M) bits remain when the
    parties may answer each other and toss coins is Kalyanasundaram and Schnitger 1992, and Razborov 1992.
    """
    if not 0 <= error <= 0.5:
        raise ValueError(f"error is a fraction from 0 to 0.5, not {error}")
    coin = 0.0 if error == 0 else -error * math.log2(error) - (1 - error) * math.log2(1 - error)
    return (1 - coin) * (vertices - 2)


def least_width(vertices: int, heads: int = 1, precision: int = 16, error: float = 0.0) -> int:
    """The smallest D for which theorem 3.2 lets a one-layer model err on at most a fraction of inputs (0: on none).

    (D + H) · p >= (1 - h(error)) · (|V| - 2), in multiples of 2 H because rotary positions need even heads.
    """
    _check(vertices, heads, precision)
    bound = least_message_bits(vertices, error) / precision - heads
    return 2 * heads * max(1, math.ceil(bound / (2 * heads)))


def critical_widths(vertices: Sequence[int], heads: int = 1, precision: int = 16) -> pd.DataFrame:
    """For each number of vertices the width below which all must fail, and the construction's, which suffices."""
    rows = [
        {
            "vertices": size,
            "heads": heads,
            "precision": precision,
            "least_width": least_width(size, heads, precision),
            "construction_width": length_two_path.design(size).width,
        }
        for size in vertices
    ]
    return pd.DataFrame(rows)


def sparse_width(vertices: int, experts: int, heads: int = 1) -> int:
    """The largest width at which a mixture of K experts weighs no more than the dense construction; 0 if none does.

    About m_dense / sqrt(K), as in corollary 3.4: one layer, top-1, experts with a hidden layer as wide as the model,
    embedding and head left out.
    """
    budget = count(length_two_path.design(vertices), VOCABULARY).total_body
    width = 0
    while count(_mixture(width + 2 * heads, experts, heads), VOCABULARY).total_body <= budget:
        width += 2 * heads
    return width


def failing_experts(vertices: int, heads: int = 1, precision: int = 16) -> int:
    """Corollary 3.4: the number of experts from which a mixture as large as the dense construction must fail.

    It grows like p^2, that is (log N)^2. With too few vertices for p bits the bound excludes no width: it refuses.
    """
    least = least_width(vertices, heads, precision)
    if least <= 2 * heads:
        raise ValueError(
            f"at {vertices} vertices and {precision} bits the bound excludes no width with {heads} heads: "
            f"ask for more than {3 * heads * precision + 2} vertices"
        )
    low, high = 0, 1
    while sparse_width(vertices, high, heads) >= least:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if sparse_width(vertices, middle, heads) >= least else (low, middle)
    return high


def equal_total(vertices: int, experts: Sequence[int], heads: int = 1, precision: int = 16) -> pd.DataFrame:
    """The curve of corollary 3.4: for each number of experts the width that is left, against the least that may do.

    ``fails`` says that theorem 3.2 excludes the mixture; False says only that it does not.
    """
    least = least_width(vertices, heads, precision)
    widths = [sparse_width(vertices, number, heads) for number in experts]
    return pd.DataFrame(
        {
            "vertices": vertices,
            "heads": heads,
            "precision": precision,
            "experts": list(experts),
            "dense_width": length_two_path.design(vertices).width,
            "sparse_width": widths,
            "least_width": least,
            "fails": [width < least for width in widths],
        }
    )


def _mixture(width: int, experts: int, heads: int) -> Transformer:
    feedforward = Mixture(experts=experts, active=1, renormalise=False)
    return Transformer(layers=1, width=width, attention=Attention(heads=heads), feedforward=feedforward)


def _check(vertices: int, heads: int, precision: int) -> None:
    if vertices < 3:
        raise ValueError(f"length-2 path needs at least 3 vertices, not {vertices}")
    if heads < 1 or precision < 1:
        raise ValueError(f"a model has at least 1 head and 1 bit a number, not {heads} and {precision}")
