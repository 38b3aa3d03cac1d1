"""Are two mathematical answers equal? math-verify says so, in processes that may neither last nor grow.

What a model wrote may be built to hang a parser or to fill the memory. So the comparison is made by a child process
with limits of the operating system on its memory, CPU time, files and children; one that does not answer in time is
killed, its question counts as wrong, and the next question gets a new child. The child reads LaTeX by its grammar
(``_symbolic_worker``): nothing that a model wrote is evaluated.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib.util
import json
import os
import queue
import select
import subprocess
import sys
import time
from pathlib import Path

SECONDS = 5.0
"""For one comparison, on the clock."""
START_SECONDS = 60.0
"""For a child to begin: it imports sympy."""
WORKER = Path(__file__).with_name("_symbolic_worker.py")


@functools.lru_cache(maxsize=1 << 16)
def equal(gold: str, answer: str) -> bool:
    """Is the LaTeX of the answer equal to that of the right one?"""
    if not available():
        raise ValueError("comparing formulas needs the package math-verify: pip install 'parrotlab[eval]'")
    child = _idle_child()
    verdict = child.ask(gold, answer, SECONDS)
    if verdict is None:
        child.kill()
        return False
    _idle.put(child)
    return verdict


def available() -> bool:
    """Is math-verify installed?"""
    return importlib.util.find_spec("math_verify") is not None


class Child:
    """One process that compares, question after question."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(WORKER)],  # -P: its folder holds modules of ours that would hide others
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        if self._line(START_SECONDS) is None:
            self.kill()
            raise ValueError(f"the process that compares formulas does not start: try python {WORKER.name} by hand")

    def ask(self, gold: str, answer: str, seconds: float) -> bool | None:
        """The verdict; None where none came in time, or where the child died of the question."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write((json.dumps([gold, answer]) + "\n").encode())
            self.process.stdin.flush()
        except OSError:
            return None
        line = self._line(seconds)
        return None if line is None else line == b"equal\n"

    def kill(self) -> None:
        """Ends the process, whatever it is doing."""
        self.process.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr] # both are pipes
        self.process.wait()

    def _line(self, seconds: float) -> bytes | None:
        assert self.process.stdout is not None
        descriptor, line, end = self.process.stdout.fileno(), b"", time.monotonic() + seconds
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([descriptor], [], [], max(0.0, end - time.monotonic()))
            read = os.read(descriptor, 1024) if ready else b""
            if not read:
                return None
            line += read
        return line


_idle: queue.SimpleQueue[Child] = queue.SimpleQueue()


def _idle_child() -> Child:
    try:
        return _idle.get_nowait()
    except queue.Empty:
        return Child()


@atexit.register
def _end() -> None:
    while not _idle.empty():
        _idle.get_nowait().kill()
