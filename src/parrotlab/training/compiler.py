"""torch's compiler, as training uses it. Two of its mistakes are mended on the way in; nothing else here is compiled.

- A looped reduction may store a buffer in one loop and read it back in the next. Triton may lay the two out
  differently, so that a thread reads what another has not written yet (pytorch #190517, triton #10924): now and then
  the gradient of a norm's input was whatever lay in memory. A barrier goes between the loops.
- The backward pass of a compiled function is traced under the autocast around its call, and so a product that was
  kept in float32 forward, as a router's is, had its gradients rounded to bfloat16. Backward takes tensors as they are.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch


def compiled(function: Callable) -> Callable:
    """The function, compiled for the shapes of its first call."""
    _mend()
    return torch.compile(function, dynamic=False)


@functools.cache
def _mend() -> None:
    """Once a process, before anything is compiled."""
    from torch._functorch import config
    from torch._inductor.codegen.triton import TritonKernel

    config.backward_pass_autocast = "off"
    TritonKernel.load = _after_a_barrier(TritonKernel.load)
    torch.compiler.config.cache_key_tag = "parrotlab"  # what was cached without the barriers is not taken up


def _after_a_barrier(load: Callable) -> Callable:
    """``TritonKernel.load`` where a buffer that an earlier loop stored is read behind a barrier."""

    @functools.wraps(load)
    def guarded(kernel: Any, name: str, index: Any) -> Any:
        if name in kernel.cse.invalidated_stores:
            kernel.body.writeline("tl.debug_barrier()")  # the body ends where the loop of this load will begin
        return load(kernel, name, index)

    return guarded
