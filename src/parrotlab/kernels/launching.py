"""How a chain of small kernels is launched: each while the one before it still runs, if the GPU can.

Between two kernels a GPU stands still for about a microsecond, and empties and fills again for a few more, which at a
width of 256 is a fifth of a mixture layer. From Hopper on a kernel may be launched as soon as all programs of the one
before run or are done (programmatic dependent launch); it does what needs no inputs, and waits for them. The kernels
that come after are launched when this one waits for nothing any more, so all that came earlier is done too.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

HOPPER = 9
"""The first generation that launches early."""


def early(tensor: Tensor) -> dict[str, Any]:
    """Arguments for a kernel that calls ``await_inputs``, on a tensor's device."""
    if tensor.is_cuda and _major(tensor.device) >= HOPPER:
        return {"EARLY": True, "launch_pdl": True}
    return {"EARLY": False}


@functools.cache
def _major(device: torch.device) -> int:
    return torch.cuda.get_device_capability(device)[0]
