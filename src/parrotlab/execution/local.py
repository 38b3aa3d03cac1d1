"""Many runs on this machine: processes train them side by side, and whoever asked hears the news.

On CPUs each worker has one thread: several models side by side are faster than one after the other on many
threads. On CUDA a few share each GPU, and more where the Multi-Process Service runs. A worker hears its next stack
of runs through a pipe of its own and answers through it, so that one that is killed takes nothing with it but its
current stack, which goes on from its checkpoint next time; and a worker whose parent has died notices and stops too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import multiprocessing
import os
import signal
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Any, Literal

import torch

from parrotlab import run as house
from parrotlab.execution import estimate, watching
from parrotlab.results.store import WORK, Busy, Store
from parrotlab.run import MEMORY_SHARE, Interrupted, Run
from parrotlab.training.devices import Device, each
from parrotlab.training.loop import Progress

HEARTBEAT_SECONDS = 0.5
"""How soon a request to stop is noticed."""
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
"""Of a worker on a CPU, before it imports torch: the spinning threads of several workers slow each other down."""

CUDA_WORKERS = 3
"""Processes that share a GPU: while one trains, the others compile their next steps, which takes half a minute."""
SERVED_WORKERS = 10
"""Where CUDA's Multi-Process Service runs: kernels of many processes are on a GPU at once, and small ones fill it."""
SERVICE = "/tmp/nvidia-mps"
"""Where the service listens, unless CUDA_MPS_PIPE_DIRECTORY says another folder."""

State = Literal["training", "complete", "failed", "interrupted", "busy", "broken", "lost"]


@dataclass(frozen=True, kw_only=True)
class News:
    """What became of runs: one of ``training`` is of a whole stack, all others are of one run and its last."""

    worker: int
    runs: tuple[Run, ...]
    state: State
    """``failed`` runs are in the store, with their reason; ``broken`` ones raised an error of ours, ``busy`` ones
    are in another process's hands, and the worker of ``lost`` ones died."""
    fraction: float = 0.0
    """Of the training done."""
    loss: float = math.nan
    """Mean over the stack, nats a token asked for."""
    step: int = 0
    """At the end of the window that this is news of."""
    losses: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Of each run in training, by its fingerprint."""
    reason: str = ""


def train_all(
    runs: Sequence[Run],
    store: Store,
    device: Device,
    workers: int,
    stopping: Callable[[], bool] = lambda: False,
    execute: Callable[..., list[house.Outcome]] = house.execute,
) -> Generator[News, None, None]:
    """Trains the runs, the longest first. Asked to stop, it waits until each worker has saved a checkpoint.

    Closing the generator kills the workers; what they saved last stays.
    """
    if workers < 1:
        raise ValueError(f"at least 1 worker must do the work, not {workers}")

    def seconds(stack: tuple[Run, ...]) -> float:
        return sum(estimate.seconds(run, device.name) for run in stack)

    waiting = deque(sorted(stacks(runs, device, workers, watching.begun(store)), key=seconds, reverse=True))
    places = each(device)
    room = _room(runs, places, workers)
    crew: list[_Worker] = []
    stopped = False

    def hire(number: int) -> _Worker:
        return _Worker(number, store, places[number % len(places)], execute)

    try:
        while True:
            if stopping() and not stopped:
                stopped = True
                waiting.clear()
                for worker in crew:
                    worker.tell(None)
            crew = [worker for worker in crew if worker.is_alive]
            _hand_out(waiting, crew, room, hire)
            busy = {worker.pipe: worker for worker in crew if worker.stack}
            if not busy:
                return
            for pipe in connection.wait(list(busy), timeout=HEARTBEAT_SECONDS):
                yield from busy[pipe].listen()  # type: ignore[index]
    finally:
        for worker in crew:
            worker.kill()
        for worker in crew:  # after the last was told: a process that leaves a GPU takes seconds
            worker.process.join()


def stacks(
    runs: Sequence[Run], device: Device, workers: int, begun: Sequence[Sequence[str]] = ()
) -> list[tuple[Run, ...]]:
    """The runs as they will train together; the workers on a GPU share its memory, and on a CPU none is idle.

    Runs that have ``begun`` together, by their fingerprints, stay together: they have one checkpoint.
    """
    left, kept = {run.fingerprint: run for run in runs}, []
    for members in begun:
        if left.keys() >= set(members):
            kept.append(tuple(left.pop(member) for member in members))
    fresh = _fresh_stacks(list(left.values()), device, workers)
    while not device.is_cuda and len(kept) + len(fresh) < workers and any(len(stack) > 1 for stack in fresh):
        stack = max(fresh, key=len)
        fresh.remove(stack)
        fresh += [stack[: len(stack) // 2], stack[len(stack) // 2 :]]
    return kept + fresh


def _fresh_stacks(runs: Sequence[Run], device: Device, workers: int) -> list[tuple[Run, ...]]:
    places = each(device)
    memory_bytes = min(place.memory_bytes for place in places) / math.ceil(_room(runs, places, workers) / len(places))
    return house.stacks(runs, dataclasses.replace(device, memory_bytes=memory_bytes))


def _room(runs: Sequence[Run], places: Sequence[Device], workers: int) -> int:
    """How many workers there is room for: on each GPU a few whose largest runs it can hold, on a CPU all."""
    if not places[0].is_cuda:
        return workers
    largest = max((house.bytes_needed(run) for run in runs), default=1)
    held = MEMORY_SHARE * min(place.memory_bytes for place in places) / largest
    served = Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY", SERVICE), "control").exists()
    return min(workers, int(max(1, min(held, SERVED_WORKERS if served else CUDA_WORKERS))) * len(places))


def _hand_out(waiting: deque[tuple[Run, ...]], crew: list[_Worker], room: int, hire: Callable[[int], _Worker]) -> None:
    """Gives each idle worker a stack; hires as long as there is work and room."""
    idle = [worker for worker in crew if not worker.stack]
    while waiting and (idle or len(crew) < room):
        if not idle:
            taken = {worker.number for worker in crew}
            idle.append(hire(min(set(range(room)) - taken)))
            crew.append(idle[0])
        idle.pop().tell(waiting.popleft())


class _Worker:
    """The parent's end: a process, the pipe to it, and the stack that it trains."""

    def __init__(self, number: int, store: Store, device: Device, execute: Callable[..., Any]) -> None:
        self.number, self.is_alive = number, True
        self.stack: tuple[Run, ...] = ()
        self.pipe, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self.process = context.Process(target=_work, args=(theirs, store, device, execute))
        with _birth({} if device.is_cuda else ENVIRONMENT):
            self.process.start()
        theirs.close()  # so that the pipe ends when the process does

    def tell(self, stack: tuple[Run, ...] | None) -> None:
        """Hands over a stack; None asks to save the present one and stop."""
        self.stack = stack or self.stack
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it died: listen() will hear that
            self.pipe.send(stack)

    def listen(self) -> Iterator[News]:
        """The news that lies in the pipe, or that the worker has died."""
        try:
            message: Any = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.is_alive = False
            message = [("lost", self._death())] * len(self.stack)
        if isinstance(message, tuple):
            yield News(worker=self.number, runs=self.stack, state="training", **_window(*message))
            return
        stack, self.stack = self.stack, ()
        for run, (state, reason) in zip(stack, message):
            yield News(worker=self.number, runs=(run,), state=state, fraction=1.0, reason=reason)

    def _death(self) -> str:
        self.process.join()
        code = self.process.exitcode or 0
        how = "was killed by signal 9, as a machine out of memory does" if code == -9 else f"ended with code {code}"
        return f"its worker {how}; the same command goes on from the last checkpoint"

    def kill(self) -> None:
        """Ends the process: at once if it is at work, and else as it hears that no more work comes. To be joined."""
        if self.stack:
            self.process.kill()
        self.pipe.close()


def _window(step: int, steps: int, losses: dict[str, float]) -> dict[str, Any]:
    """What the news of a window says; of diverged runs there is no loss to average."""
    finite = [loss for loss in losses.values() if math.isfinite(loss)]
    loss = sum(finite) / len(finite) if finite else math.nan
    return {"fraction": step / steps, "loss": loss, "step": step, "losses": losses}


def _work(pipe: connection.Connection, store: Store, device: Device, execute: Callable[..., Any]) -> None:
    """A worker's life: stacks in, (step, steps, losses) at each window and a list of (state, reason) at the end out."""
    if ":" in device.name and device.is_cuda:  # kernels and graphs are launched on the current device
        torch.cuda.set_device(device.name)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the parent is gone
        while stack := pipe.recv():
            pipe.send(_attempt(stack, pipe, store, device, execute))


def _attempt(
    stack: tuple[Run, ...], pipe: connection.Connection, store: Store, device: Device, execute: Callable[..., Any]
) -> list[tuple[State, str]]:
    """What became of each run of a stack, whatever it raises."""

    def watch(runs: Sequence[Run], progress: Progress) -> None:
        losses = {run.fingerprint: loss for run, loss in zip(runs, progress.loss_R.tolist())}
        pipe.send((progress.step, progress.steps, losses))

    problem = ""
    try:
        # Whatever arrives during the work, word or end of the pipe, means stop.
        outcomes = execute(stack, store, device, watch=watch, stopping=pipe.poll)
        return [(outcome.status, outcome.reason) for outcome in outcomes]
    except (BrokenPipeError, ConnectionResetError):
        raise
    except Interrupted as stop:
        return [("interrupted", str(stop))] * len(stack)
    except Busy as busy:
        return [("busy", str(busy))] * len(stack)
    except torch.OutOfMemoryError:
        problem = _out_of_memory(stack, device)
    except Exception as error:
        return [("broken", f"{type(error).__name__}: {error}{_kept_traceback(stack[0], store)}")] * len(stack)
    # Out of memory. By now the error is gone, and with it the frames that held the stack's tensors.
    torch.cuda.empty_cache()
    if len(stack) == 1:
        return [("broken", problem)]
    half = len(stack) // 2
    return [end for part in (stack[:half], stack[half:]) for end in _attempt(part, pipe, store, device, execute)]


def _out_of_memory(stack: Sequence[Run], device: Device) -> str:
    """What a run needed, about, and how to need less."""
    run, needed = stack[0], house.bytes_needed(stack[0])
    return (
        f"out of memory: run {run.fingerprint} needs about {needed / 1e9:.3g} GB for a step of {run.recipe.rows} rows "
        f"on {device.name}, which had {device.memory_bytes / 1e9:.3g} GB free: lower the recipe's rows, the model's "
        "width or its experts, or the number of workers"
    )


def _kept_traceback(run: Run, store: Store) -> str:
    """Keeps the traceback beside the run's checkpoint, and says where."""
    path = store.root / WORK / run.fingerprint / "traceback.txt"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(traceback.format_exc())
    except OSError:  # the disk may be what broke
        return ""
    return f" (traceback in {path})"


@contextlib.contextmanager
def _birth(variables: dict[str, str]) -> Iterator[None]:
    """Processes that start meanwhile have these variables, unless the user set others, and are deaf to Ctrl-C.

    A terminal sends it to every process: the parent decides what it means. Ignored signals stay ignored in a child,
    from its first instant on.
    """
    added = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(added)
    heard = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in heard.items():
            signal.signal(number, handler)
        for name in added:
            del os.environ[name]
