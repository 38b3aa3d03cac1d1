"""What a number of parameters can hold at most: theorem 3.6, and the lines it draws over measured capacities.

W parameters of p bits each have 2^(Wp) settings, so a network computes one of at most 2^(Wp) functions, with or
without experts. To answer every labelling of n points it must compute 2^n: W >= n / p. Derived in docs/theory.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import pandas as pd

FLOAT_BITS = {"float32": 32, "bfloat16": 16}
"""Bits of one stored parameter: the most that it can hold."""


def capacity_bits(parameters: float, bits_per_parameter: float) -> float:
    """Bits that ``parameters`` hold at this rate; at the width of the number format it is the counting bound."""
    return parameters * bits_per_parameter


def least_parameters(bits: float, bits_per_parameter: float) -> int:
    """The fewest parameters that can hold ``bits``: n for n random labels, entries · entropy of one for a book."""
    if bits < 0 or bits_per_parameter <= 0:
        raise ValueError(f"bits must be 0 or more and bits_per_parameter positive, not {bits} and {bits_per_parameter}")
    return math.ceil(bits / bits_per_parameter)


def capacity_lines(parameters: Iterable[int], bits_per_parameter: Mapping[str, float] = FLOAT_BITS) -> pd.DataFrame:
    """Named rates as lines over model sizes, to be drawn over measured capacities: line, parameters, bits."""
    return pd.DataFrame(
        [(name, size, capacity_bits(size, rate)) for name, rate in bits_per_parameter.items() for size in parameters],
        columns=["line", "parameters", "bits"],
    )
