"""By which path the experts of a mixture are applied on a GPU.

``GPU`` is one path for all, or "by_shape", which takes what ``FASTEST`` says.
"""

from __future__ import annotations

import math
import warnings
from typing import Literal, get_args

import torch
from torch import Tensor

from parrotlab.kernels import fast_experts

Path = Literal["sorted", "folded", "fused"]
"""sorted: a general sort, torch's grouped products. folded: the routing kernels, torch's grouped products, the routing
weight in the activation. fused: see ``fast_experts``."""
PATHS: tuple[Path, ...] = get_args(Path)

GPU: Path | Literal["by_shape"] = "by_shape"
"""What a GPU does."""

ROUTER: Literal["plain", "fused"] = "fused"
"""How a GPU makes logits and choices: as the processor does, or by the kernels of ``exact`` and ``choosing``."""

FASTEST: dict[bool, list[tuple[float, Path]]] = {
    True: [(255, "sorted"), (1024, "fused"), (math.inf, "sorted")],
    False: [(255, "sorted"), (1024, "fused"), (math.inf, "sorted")],
}
"""With gates or without: up to this width, this path, in bfloat16; float32, which has no tensor cores, is sorted. On an
H100 at 16,384 tokens, top-2, from the times of each kernel and of the layers, whose widths were 256 to 1024."""


FEWEST = 2048
"""Tokens from which on shapes are looked at: generation has fewer, which nobody has timed."""
LARGEST = 2
"""Hidden width of an expert over the model's, up to which shapes are looked at: nothing larger has been timed."""


def path(x_ND: Tensor, experts: int, hidden: int, gated: bool) -> Path:
    """For these tokens, in the products' precision, on their device."""
    if not x_ND.is_cuda:
        return "sorted"
    timed = x_ND.numel() >= FEWEST * x_ND.shape[-1] and hidden <= LARGEST * x_ND.shape[-1]
    if GPU == "by_shape" and not (timed and x_ND.dtype == torch.bfloat16):
        return "sorted"
    chosen: Path = "sorted"
    if GPU != "by_shape":
        chosen = GPU
    else:
        for widest, fastest in reversed(FASTEST[gated]):
            chosen = fastest if x_ND.shape[-1] <= widest else chosen
    reason = refusal(chosen, x_ND, experts)
    if reason and GPU != "by_shape":
        _tell(f"{chosen} experts of tokens {tuple(x_ND.shape)}: {reason}; sorted instead")
    return "sorted" if reason else chosen


def refusal(chosen: Path, x_ND: Tensor, experts: int) -> str:
    """Why a path cannot take these tokens; empty if it can."""
    if chosen == "sorted":
        return ""
    if chosen == "folded" and x_ND.dtype != torch.bfloat16:
        return f"torch's grouped product is compiled for bfloat16, not for {x_ND.dtype}"
    return fast_experts.refusal(x_ND, experts)


@torch.compiler.assume_constant_result  # while a step is compiled: a warning would break it in two
def _tell(message: str) -> bool:
    warnings.warn(message, stacklevel=3)
    return True
