"""A kernel that is launched EARLY, while the one before it still runs: see ``launching``."""

# ruff: noqa: N803, RUF100
from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait


@triton.jit
def await_inputs(EARLY: tl.constexpr):
    """Before anything is read or written: lets the next kernel come, and waits for all that the last one wrote."""
    if EARLY:
        gdc_launch_dependents()
        gdc_wait()
