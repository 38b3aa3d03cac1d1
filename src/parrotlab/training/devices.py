"""What a machine can do: where a model trains, in which precision, compiled or captured or step by step."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import platform
import resource
import sys
from dataclasses import dataclass
from typing import Literal

import torch

from parrotlab.training.recipe import Recipe


@dataclass(frozen=True)
class Device:
    """Where and how to run. Results do not depend on it beyond rounding, so it is no part of a run's spec."""

    name: str
    """``cpu`` or ``cuda``, as torch names it."""
    fast_steps: bool
    """Compile the step and capture it whole in a CUDA graph."""
    memory_bytes: float = math.inf
    """What stacks of runs may fill: a CUDA device's free memory as we found it; on a CPU nobody counts."""

    @property
    def is_cuda(self) -> bool:
        """Is it a CUDA device?"""
        return self.name.startswith("cuda")

    def precision(self, recipe: Recipe) -> Literal["bfloat16", "float32"]:
        """The recipe's, except on CPUs, where bfloat16 products are up to 16 times slower than float32."""
        return recipe.precision if self.is_cuda else "float32"

    def autocast(self, recipe: Recipe) -> contextlib.AbstractContextManager:
        """The context in which the forward pass runs."""
        if self.precision(recipe) == "bfloat16":
            return torch.autocast(self.name.partition(":")[0], dtype=torch.bfloat16)
        return contextlib.nullcontext()

    def facts(self) -> dict[str, object]:
        """What a reader of a result must know of the machine."""
        name = torch.cuda.get_device_name(self.name) if self.is_cuda else _processor()
        return {"device": name, "threads": torch.get_num_threads(), "fast_steps": self.fast_steps}

    def peak_memory_bytes(self) -> int:
        """The most memory in use since ``forget_peak``: the device's allocator's; or the process's ever, on a CPU."""
        if self.is_cuda:
            return torch.cuda.max_memory_allocated(self.name)
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

    def forget_peak(self) -> None:
        """From here on, ``peak_memory_bytes`` tells of what comes; a CPU does not forget."""
        if self.is_cuda:
            torch.cuda.reset_peak_memory_stats(self.name)


def device(name: str = "auto", fast_steps: bool = True) -> Device:
    """The device of that name; ``auto`` is CUDA where there is one. Fast steps exist on CUDA only."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device {name!r} was asked for, but torch {torch.__version__} sees no CUDA device: use 'cpu'")
    if not name.startswith(("cuda", "cpu")):
        raise ValueError(f"device must be 'auto', 'cpu' or 'cuda', not {name!r}")
    if name.startswith("cpu"):
        return Device(name, fast_steps=False)
    return Device(name, fast_steps, torch.cuda.mem_get_info(name)[0])


def each(device: Device) -> list[Device]:
    """The single devices that a device stands for: ``cuda`` is every GPU of the machine, any other name is itself."""
    gpus = torch.cuda.device_count() if device.name == "cuda" and torch.cuda.is_available() else 0
    if gpus < 2:
        return [device]
    names = [f"cuda:{index}" for index in range(gpus)]
    return [dataclasses.replace(device, name=name, memory_bytes=torch.cuda.mem_get_info(name)[0]) for name in names]


def _processor() -> str:
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
