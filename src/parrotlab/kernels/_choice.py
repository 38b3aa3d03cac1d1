"""By which path the experts of a mixture are applied on a GPU, and how its router chooses."""

from __future__ import annotations

import warnings
from typing import Literal, get_args

import torch
from torch import Tensor

from parrotlab.kernels import fast_experts

Path = Literal["sorted", "fused"]
"""sorted: a general sort, torch's grouped products. fused: the kernels of ``fast_experts``."""
PATHS: tuple[Path, ...] = get_args(Path)

GPU: Path = "fused"
"""What a GPU does with bfloat16 at the shapes below; other shapes, and float32, are sorted."""

ROUTER: Literal["plain", "fused"] = "fused"
"""How a GPU makes logits and choices: as the processor does, or by the kernels of ``exact`` and ``choosing``."""

WIDTHS = range(256, 2049)
"""Model widths at which the kernels were timed, and faster (docs/mixture_layer.md)."""
FEWEST = 2048
"""Tokens from which on the kernels are taken: generation has fewer, which nobody has timed."""
LARGEST = 4
"""Hidden width of an expert over the model's, up to which they are taken: nothing larger was timed."""


def path(x_ND: Tensor, experts: int, hidden: int) -> Path:
    """For these tokens, in the products' precision, on their device."""
    width = x_ND.shape[-1]
    timed = width in WIDTHS and hidden <= LARGEST * width and x_ND.numel() >= FEWEST * width
    if not x_ND.is_cuda or GPU == "sorted" or x_ND.dtype != torch.bfloat16 or not timed:
        return "sorted"
    reason = fast_experts.refusal(x_ND, experts)
    if reason:
        _tell(f"experts of tokens {tuple(x_ND.shape)}: {reason}; sorted instead")
    return "sorted" if reason else "fused"


@torch.compiler.assume_constant_result  # while a step is compiled: a warning would break it in two
def _tell(message: str) -> bool:
    warnings.warn(message, stacklevel=3)
    return True
