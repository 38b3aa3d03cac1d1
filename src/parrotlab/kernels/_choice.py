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
    if GPU != "by_shape":
        chosen = GPU
    else:
        chosen = next((path for widest, path in FASTEST if width <= widest), "folded")
    reason = takes("saved" if chosen == "folded" else chosen, x_ND, experts) if chosen != "sorted" else ""
    if chosen == "folded" and x_ND.dtype != torch.bfloat16:
        reason = "torch's grouped product compiles for bfloat16 alone"
    if not reason:
        return chosen
    if GPU != "by_shape":
        warnings.warn(f"{chosen} experts of {tuple(x_ND.shape)} tokens: {reason}; sorted instead", stacklevel=3)
    return "sorted"
