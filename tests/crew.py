"""N processes of one machine that know each other as torchrun's do: children of a process that imported torch once.

Whoever calls it must have computed nothing with torch, so that its children are as good as fresh processes.
"""

from __future__ import annotations

import os
import socket
import time
import traceback
from collections.abc import Callable

import torch

PATIENCE_SECONDS = 300.0
"""A GPU's processes compile."""


def crew(size: int, work: Callable[..., None], *arguments) -> list[int]:
    """Does the work in each process; returns how they ended: 0, another exit code, or minus a signal."""
    port = _free_port()
    children = [_child(rank, size, port, work, arguments) for rank in range(size)]
    return [_ended(child) for child in children]


def _child(rank: int, size: int, port: int, work: Callable[..., None], arguments: tuple) -> int:
    child = os.fork()
    if child:
        return child
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
    torch.set_num_threads(1)
    code = 1
    try:
        work(*arguments)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _ended(child: int) -> int:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    raise TimeoutError(f"a process was still at work after {PATIENCE_SECONDS:.0f} s")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
