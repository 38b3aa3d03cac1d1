"""Processes that prepare side by side, and take their times one after the other, on as many GPUs as there are."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

STARTING = threading.Lock()


class Worker:
    """A process with one thing in it, whose methods it calls when it is asked; it sees one GPU, as the first."""

    def __init__(self, gpu: int, make: Callable[..., object], *arguments: object) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, make, arguments), daemon=True)
        with _seeing(gpu):
            self.process.start()
        theirs.close()  # the connection then ends with the process

    def ask(self, method: str, *arguments: object) -> None:
        """For something whose answer is fetched later."""
        with contextlib.suppress(OSError):  # of a process that died: the answer will tell
            self.connection.send((method, arguments))

    def answer(self, deadline: float) -> Any:
        """To the oldest question. A process that raised, died or is late is a RuntimeError; a late one is ended."""
        try:
            if not self.connection.poll(max(0.0, deadline - time.time())):
                self.close()
                raise RuntimeError("out of time")
            failed, answer = self.connection.recv()
        except (EOFError, OSError):
            self.process.join(timeout=5)
            raise RuntimeError(f"its process died with exit code {self.process.exitcode}") from None
        if failed:
            raise RuntimeError(failed)
        return answer

    def close(self) -> None:
        """Ends the process, whatever it does."""
        self.process.kill()
        self.process.join(timeout=5)


def line(error: BaseException) -> str:
    """An error on one line."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"


def _serve(connection: Connection, make: Callable[..., object], arguments: tuple) -> None:
    thing = None
    with contextlib.suppress(EOFError):  # the asking process has ended
        while True:
            method, question = connection.recv()
            try:
                thing = make(*arguments) if thing is None else thing
                told = "", getattr(thing, method)(*question)
            except Exception as error:
                told = line(error), None
            connection.send(told)


@contextlib.contextmanager
def _seeing(gpu: int) -> Iterator[None]:
    """A process started meanwhile sees this GPU alone. Its environment says so, which CUDA reads but once."""
    with STARTING:
        before = os.environ.get("CUDA_VISIBLE_DEVICES")
        os.environ["CUDA_VISIBLE_DEVICES"] = before.split(",")[gpu] if before else str(gpu)
        try:
            yield
        finally:
            if before is None:
                del os.environ["CUDA_VISIBLE_DEVICES"]
            else:
                os.environ["CUDA_VISIBLE_DEVICES"] = before
