"""What the report says of the theory: its checks, run when the report is made, and bounds beside what was measured."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import pandas as pd

from parrotlab.analysis.capacity import FACTS, RANDOM_STRINGS
from parrotlab.theory import bounds
from parrotlab.theory.check import Check
from parrotlab.theory.counting import FLOAT_BITS, capacity_lines
from parrotlab.theory.verify import verify

CURVE_VERTICES = 256
"""Of the drawn curve: large enough that widths, which are even numbers, make no stairs."""
CURVE_PRECISIONS = (8, 16)
STEPS_AN_OCTAVE = 4

RATES = {
    f"{FACTS:g} bits a parameter": (FACTS, "facts seen 1000 times, arXiv:2404.05405"),
    f"{RANDOM_STRINGS:g} bits a parameter": (RANDOM_STRINGS, "random strings, arXiv:2505.24832"),
    f"{FLOAT_BITS['float32']} bits a parameter": (
        FLOAT_BITS["float32"],
        "counting bound, float32, theorem 3.6",
    ),
}
"""The lines over memorized bits: name -> (bits a parameter, source). Weights are float32 in every recipe."""


@functools.cache
def checks() -> tuple[Check, ...]:
    """Every check of ``theory.verify``, made once a process: they take seconds, and no store or study enters them."""
    return tuple(verify())


def curve() -> pd.DataFrame:
    """Corollary 3.4: the width left to K experts in as many parameters, until each precision excludes it."""
    failing = [bounds.failing_experts(CURVE_VERTICES, precision=precision) for precision in CURVE_PRECISIONS]
    octaves = max(failing).bit_length()
    evenly = {round(2 ** (step / STEPS_AN_OCTAVE)) for step in range(STEPS_AN_OCTAVE * octaves + 1)}
    experts = sorted(evenly.union(failing))
    return pd.concat(
        [bounds.equal_total(CURVE_VERTICES, experts, precision=precision) for precision in CURVE_PRECISIONS],
        ignore_index=True,
    )


def width_bounds(vertices: Iterable[int]) -> pd.DataFrame:
    """The widths of theorems 3.2 and 3.3 at these |V|."""
    return bounds.critical_widths(sorted(set(vertices)))


def memory_lines(parameters: Iterable[int]) -> pd.DataFrame:
    """``RATES`` as lines over these sizes, each with its source."""
    lines = capacity_lines(sorted(set(parameters)), {name: rate for name, (rate, _) in RATES.items()})
    return lines.assign(source=lines["line"].map({name: source for name, (_, source) in RATES.items()}))


def rows(made: Iterable[Check]) -> list[dict[str, Any]]:
    """The checks as a table, with their verdicts in words."""
    return [check._asdict() | {"verdict": "holds" if check.passed else "does not hold"} for check in made]


def tally(made: Iterable[Check]) -> str:
    """How many hold."""
    passed = [check.passed for check in made]
    return f"{sum(passed)} of {len(passed)} checks hold."
