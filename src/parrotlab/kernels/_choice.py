"""By which path the experts of a mixture are applied on a GPU.

Until benchmarks/moe_layer.py has been run there, ``GPU`` is the path of before; "by_shape" takes what ``FASTEST`` says.
"""

from __future__ import annotations

import warnings
from typing import Literal, get_args

import torch
from torch import Tensor

from parrotlab.kernels.fast_experts import Way, takes

Path = Literal[Way, "sorted", "folded"]
"""sorted: a general sort, torch's grouped products. folded: the routing kernels, torch's grouped products, the routing
weight in the activation. The others: see ``fast_experts.Way``."""
PATHS: tuple[Path, ...] = ("sorted", "folded", *get_args(Way))

GPU: Path | Literal["by_shape"] = "sorted"
"""What a GPU does."""

FASTEST: list[tuple[int, Path]] = [(256, "half_fused"), (512, "recomputed")]
"""Up to this width, this path; wider layers are "folded"."""


def path(x_ND: Tensor, experts: int) -> Path:
    """For these tokens, in the products' precision, on their device."""
    if not x_ND.is_cuda:
        return "sorted"
    width = x_ND.shape[-1]
    chosen: Path = "folded"
    if GPU != "by_shape":
        chosen = GPU
    else:
        for widest, fastest in reversed(FASTEST):
            chosen = fastest if width <= widest else chosen
    reason = refusal(chosen, x_ND, experts)
    if reason and GPU != "by_shape":
        _tell(f"{chosen} experts of tokens {tuple(x_ND.shape)}: {reason}; sorted instead")
    return "sorted" if reason else chosen


def refusal(chosen: Path, x_ND: Tensor, experts: int) -> str:
    """Why a path cannot take these tokens; empty if it can."""
    if chosen == "sorted":
        return ""
    if chosen == "folded":
        if x_ND.dtype != torch.bfloat16:
            return f"torch's grouped product is compiled for bfloat16, not for {x_ND.dtype}"
        return takes("saved", x_ND, experts)
    return takes(chosen, x_ND, experts)


@torch.compiler.assume_constant_result  # while a step is compiled: a warning would break it in two
def _tell(message: str) -> bool:
    warnings.warn(message, stacklevel=3)
    return True
