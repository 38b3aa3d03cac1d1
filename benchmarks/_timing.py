"""How a piece of a training step is timed on a GPU, and what it needs of its memory."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

ROUNDS = 5


def milliseconds(run: Callable[[], object], times: int, graph: bool = True) -> float:
    """Of one run: the fastest of a few rounds of ``times`` runs, as a replayed graph or launched by the host."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    if graph:
        captured = torch.cuda.CUDAGraph()
        with torch.cuda.graph(captured):
            run()
        run = captured.replay
    run()
    rounds = []
    for _ in range(ROUNDS):
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        for _ in range(times):
            run()
        last.record()
        last.synchronize()
        rounds.append(first.elapsed_time(last) / times)
    return min(rounds)


def peak_bytes(run: Callable[[], object]) -> int:
    """The most memory that a run needs above what is there before, once it is warm."""
    run()
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    return torch.cuda.max_memory_allocated() - before


def kernels(run: Callable[[], object]) -> Counter[str]:
    """The kernels that a run launches, by name."""
    run()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        run()
        torch.cuda.synchronize()
    return Counter(event.name for event in seen.events() or [] if event.device_type == torch.autograd.DeviceType.CUDA)
