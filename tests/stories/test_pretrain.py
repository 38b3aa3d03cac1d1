"""A run on many processes that is killed or stopped goes on, also on another number of processes."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from crew import crew
from fakes import Digits, design
from safetensors.numpy import load_file

from parrotlab.evals.loss import Loss
from parrotlab.execution.pretrain import pretrain
from parrotlab.model.feedforwards.mixture import Mixture
from parrotlab.results.store import Store, StoreError
from parrotlab.run import WEIGHTS, Interrupted, Run, execute
from parrotlab.training.devices import device
from parrotlab.training.distributed import Parallelism
from parrotlab.training.distributed_checkpoint import DistributedCheckpoint
from parrotlab.training.processes import joined
from parrotlab.training.recipe import Recipe

STEPS, SAVE_EVERY = 101, 11  # windows of two steps: some checkpoints lie within one


MODEL = design(Mixture(experts=4, shared=1), layers=1)


def run_of(seed=0):
    recipe = Recipe(steps=STEPS, rows=8, learning_rate=1e-3)
    evaluations = (Loss(split="train", count=40),)
    return Run(task=Digits(), model=MODEL, recipe=recipe, evaluations=evaluations, seed=seed)


RUN = run_of()


def attempt(folder: Path, expert_parallel: int = 1, stop: int = 0, kill: int = 0) -> None:
    """Trains, and perhaps is stopped or loses its last process after a step."""
    reached = [0]
    with joined("cpu", expert_parallel) as processes:
        is_last = processes.rank == processes.size - 1

        def watch(step, progress):
            reached[0] = step
            if step == kill and is_last:
                os.kill(os.getpid(), signal.SIGKILL)

        def stopping():
            return is_last and reached[0] == stop

        ending = pytest.raises(Interrupted, match=f"stopped at step {stop} of") if stop else contextlib.nullcontext()
        with ending:
            pretrain(RUN, Store(folder), processes, Parallelism(), SAVE_EVERY, watch, stopping, keep_weights=True)


def plainly(folder: Path) -> None:
    execute([RUN], Store(folder), device("cpu"), keep_weights=True)


def torment(folder: Path) -> None:
    assert crew(1, plainly, folder / "plain") == [0]
    assert crew(2, attempt, folder / "whole", 2) == [0, 0]

    codes = crew(2, attempt, folder / "killed", 2, 0, 38)
    assert codes[1] == -signal.SIGKILL
    assert codes[0] > 0
    assert (folder / "killed" / ".work" / RUN.fingerprint / "latest").read_text() >= "step-00000022"
    assert crew(2, attempt, folder / "killed", 2) == [0, 0]

    assert crew(2, attempt, folder / "two, one, two", 2, 21) == [0, 0]
    assert crew(1, attempt, folder / "two, one, two", 1, 44) == [0]
    assert crew(2, attempt, folder / "two, one, two", 1) == [0, 0]


@pytest.fixture(scope="module")
def graveyard(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("graveyard")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, __file__, folder], env=environment, check=True, stderr=subprocess.DEVNULL)
    return folder


def values(store: Path) -> list[float]:
    return Store(store).measurements().column("value").to_pylist()


def test_a_run_that_lost_a_process_ends_bit_for_bit_like_one_that_did_not(graveyard):
    assert values(graveyard / "killed") == values(graveyard / "whole")
    weights = [load_file(graveyard / name / RUN.fingerprint / WEIGHTS) for name in ("killed", "whole")]
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[1])


@pytest.mark.parametrize("name", ["whole", "two, one, two"])
def test_on_any_processes_a_run_ends_like_the_plain_one(graveyard, name):
    np.testing.assert_allclose(values(graveyard / name), values(graveyard / "plain"), rtol=2e-3, atol=1e-6)
    mine, plain = (load_file(graveyard / which / RUN.fingerprint / WEIGHTS) for which in (name, "plain"))
    assert mine.keys() == plain.keys()
    for weight, same in zip((mine[name] for name in plain), plain.values()):
        np.testing.assert_allclose(weight, same, atol=1e-3)


def test_the_stored_run_is_the_plain_one_and_says_how_it_was_spread_out(graveyard):
    plain, spread = (
        json.loads((graveyard / name / RUN.fingerprint / "run.json").read_text()) for name in ("plain", "whole")
    )
    assert all(spread[name] == plain[name] for name in ("fingerprint", "status", "spec", "counts"))
    assert (spread["facts"]["processes"], spread["facts"]["expert_parallel"], spread["facts"]["fsdp"]) == (2, 2, True)
    assert spread["facts"]["tokens_per_second"] > 0
    assert 0 < spread["facts"]["mfu"] < 1
    assert plain["facts"].keys() <= spread["facts"].keys()
    assert list((graveyard / "whole" / ".work").iterdir()) == []


def next_step(folder: Path, last: int = 0) -> int:
    """Trains up to a step, or for one step, and is stopped; returns the first step it took."""
    seen = []
    with joined("cpu") as processes, pytest.raises(Interrupted):
        pretrain(
            RUN,
            Store(folder),
            processes,
            Parallelism(),
            SAVE_EVERY,
            lambda at, _: seen.append(at),
            lambda: seen[-1] >= last,
        )
    return seen[0]


def stopped(folder: Path) -> Path:
    """The checkpoints of a run that was stopped after step 25."""
    assert next_step(folder, 25) == 1
    return folder / ".work" / RUN.fingerprint


def test_a_checkpoint_of_another_run_is_refused_in_one_line(tmp_path):
    other = run_of(seed=1)
    work = stopped(tmp_path)
    shutil.move(work, work.with_name(other.fingerprint))
    with joined("cpu") as processes, pytest.raises(ValueError, match=f"is of run {RUN.fingerprint}") as error:
        pretrain(other, Store(tmp_path), processes, Parallelism(), SAVE_EVERY)
    assert "\n" not in str(error.value)


def test_a_half_written_checkpoint_is_never_resumed(tmp_path):
    work = stopped(tmp_path)
    shutil.copytree(work / "step-00000025", work / "step-00000040")
    (work / "step-00000040" / ".metadata").unlink()  # as all processes died while they wrote
    assert next_step(tmp_path) == 26


def test_a_damaged_checkpoint_is_one_line_that_names_it(tmp_path):
    (stopped(tmp_path) / "step-00000025" / ".metadata").unlink()
    with (
        joined("cpu") as processes,
        pytest.raises(ValueError, match="step-00000025 is not a whole checkpoint") as error,
    ):
        pretrain(RUN, Store(tmp_path), processes, Parallelism(), SAVE_EVERY)
    assert "\n" not in str(error.value)


def test_a_full_disk_is_one_line_and_the_run_goes_on_from_before(tmp_path, monkeypatch):
    work = stopped(tmp_path)
    with monkeypatch.context() as full:
        full.setattr(DistributedCheckpoint, "write", _with_a_full_disk(DistributedCheckpoint.write))
        with joined("cpu") as processes, pytest.raises(StoreError, match=r"cannot write to .* is untouched") as error:
            pretrain(RUN, Store(tmp_path), processes, Parallelism(), SAVE_EVERY)
    assert "\n" not in str(error.value)
    assert (work / "latest").read_text() == "step-00000025"
    assert next_step(tmp_path) == 26


def _with_a_full_disk(write):
    """Writes under a limit that none of the tensors' files fits into."""

    def written(self, state, notes):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
        try:
            write(self, state, notes)
            self.settle()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return written


if __name__ == "__main__":
    torment(Path(sys.argv[1]))
