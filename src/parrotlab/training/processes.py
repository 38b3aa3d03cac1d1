"""The processes of one big run: who they are, what they agree on, and which rows of a batch each of them takes.

``torchrun`` starts them and tells each its rank; a process that it did not start is a run of one.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from parrotlab.training.devices import Device
from parrotlab.training.devices import device as device_of

PATIENCE = datetime.timedelta(minutes=30)
"""How long a process waits for the others: the first may be storing a run, or reading a corpus."""

ALONE = {"LOCAL_RANK": 0, "WORLD_SIZE": 1}
"""What torchrun would tell a process that nobody started."""

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """N processes, one a device, in a mesh of N / P by P: P of them hold the experts of every mixture once."""

    rank: int
    size: int
    device: Device
    everyone: DeviceMesh
    """[N]"""
    mesh: DeviceMesh
    """[N / P, P], dimensions ``data`` and ``expert``."""
    words: dist.ProcessGroup
    """For what is said on the host: it never waits for a device."""

    @property
    def experts(self) -> int:
        """P, over how many processes the experts are shared out."""
        return self.mesh["expert"].size()

    @property
    def is_first(self) -> bool:
        """Is it the one that writes and speaks?"""
        return self.rank == 0

    def rows(self, batch_BT: Tensor) -> Tensor:
        """This process's rows of a batch."""
        return batch_BT.chunk(self.size)[self.rank]

    def sum_(self, tensor: Tensor) -> Tensor:
        """Adds up the tensor over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def largest(self, value: int) -> int:
        """The largest of all processes' values."""
        if self.size == 1:
            return value
        word = torch.tensor(value)
        dist.all_reduce(word, dist.ReduceOp.MAX, group=self.words)
        return int(word)

    def agree(self, action: Callable[[], T]) -> T:
        """What the first process's action returns or raises, in all processes; only the first one acts."""
        told: list[Any] = [None, None]
        if self.is_first:
            try:
                told[0] = action()
            except Exception as error:
                if self.size == 1:
                    raise
                told[1] = error
        if self.size > 1:
            dist.broadcast_object_list(told, 0, group=self.words)
        if told[1] is not None:
            raise told[1]
        return told[0]


@contextlib.contextmanager
def joined(device_name: str, expert_parallel: int = 1, fast_steps: bool = True) -> Iterator[Processes]:
    """Joins the processes that torchrun started, and leaves them at the end: NCCL on CUDA, gloo on CPUs.

    On CUDA each process takes the device of its local rank.
    """
    started = {name: int(os.environ.get(name, default)) for name, default in ALONE.items()}
    device = device_of(device_name, fast_steps)
    if device.is_cuda:
        if started["LOCAL_RANK"] >= torch.cuda.device_count():
            raise ValueError(
                f"{started['LOCAL_RANK'] + 1} processes on a machine with {torch.cuda.device_count()} CUDA devices: "
                "start one process a device"
            )
        if started["WORLD_SIZE"] > 1:
            device = device_of(f"cuda:{started['LOCAL_RANK']}", fast_steps)
            torch.cuda.set_device(device.name)
    size = started["WORLD_SIZE"]
    if expert_parallel < 1 or size % expert_parallel:
        raise ValueError(f"expert_parallel must divide the {size} processes, and {expert_parallel} does not")
    where = {"rank": 0, "world_size": 1, "store": dist.HashStore()} if size == 1 else {}
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.is_cuda else "gloo", timeout=PATIENCE, **where)
    ended_well = False
    try:
        kind = "cuda" if device.is_cuda else "cpu"
        yield Processes(
            rank=dist.get_rank(),
            size=size,
            device=device,
            everyone=init_device_mesh(kind, (size,)),
            mesh=init_device_mesh(kind, (size // expert_parallel, expert_parallel), mesh_dim_names=("data", "expert")),
            words=host_group(),
        )
        ended_well = True
    finally:
        # A process that failed just dies: to leave in good order it would wait for others, and they for it.
        if ended_well or size == 1:
            dist.destroy_process_group()


def is_loss_of_another(error: RuntimeError) -> bool:
    """Is it what a process hears when another one dies? gloo has no class for it."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)


def host_group() -> dist.ProcessGroup:
    """A new group of all processes that talks on the host."""
    group = dist.new_group(backend="gloo", timeout=PATIENCE)
    assert isinstance(group, dist.ProcessGroup)
    return group
