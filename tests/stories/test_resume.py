"""A run that is killed at any moment and started again ends bit for bit like one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from fakes import Digits, design, mixture

from parrotlab.evals.bits import Bits
from parrotlab.evals.exact_match import ExactMatch
from parrotlab.evals.loss import Loss
from parrotlab.evals.perplexity import Perplexity
from parrotlab.model.routers.bias_balanced import BiasBalanced
from parrotlab.results.store import Store
from parrotlab.run import Interrupted, Run, execute
from parrotlab.seeds import stream
from parrotlab.tasks.language import Language
from parrotlab.training.devices import device
from parrotlab.training.recipe import Recipe

WINDOWS = 30
KILLS = 6
"""At windows that are drawn; two more come while the trained model is judged and stored."""


def run_of(model, seed=0, rate=1e-2):
    evaluations = (Bits(split="train", count=40), Loss(split="train", count=40), ExactMatch(split="train", count=40))
    recipe = Recipe(steps=WINDOWS, rows=8, learning_rate=rate)
    return Run(task=Digits(), model=model, recipe=recipe, evaluations=evaluations, seed=seed)


STACKS = {
    "dense": [run_of(design())],
    "mixture": [run_of(mixture(shared=1))],
    "stack": [run_of(mixture(router=BiasBalanced(rate=0.01)), seed, rate) for seed, rate in [(0, 1e-2), (1, 3e-3)]],
}
EACH = pytest.mark.parametrize("runs", STACKS.values(), ids=STACKS)


def contents(store: Store, runs) -> list[tuple[bytes, dict]]:
    """What was measured, byte for byte, and what is said of each run but for times and places."""
    folders = [store.root / run.fingerprint for run in runs]
    records = [json.loads((folder / "run.json").read_text()) for folder in folders]
    told = [{name: record[name] for name in ("status", "reason", "spec", "counts")} for record in records]
    return [((folder / "measurements.parquet").read_bytes(), record) for folder, record in zip(folders, told)]


def attempt(runs, store: Store, last: int, delay: float) -> bool:
    """Executes the runs in a process that is killed a moment after that window; True if it got through before.

    The child of a process that has computed nothing with torch is as good as a fresh one, and need not import it.
    """

    def watch(_, progress):
        if progress.step >= last:
            threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()

    child = os.fork()
    if not child:
        code = 1
        try:
            execute(runs, store, device("cpu"), watch, save_seconds=0)
            code = 0
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL)
    return status == 0


def torment(folder: Path) -> None:
    """Executes each stack twice, once in peace; writes down how often it was killed."""
    torch.set_num_threads(1)
    kills = dict.fromkeys(STACKS, 0)
    for name, runs in STACKS.items():
        assert attempt(runs, Store(folder / name / "whole"), WINDOWS + 1, 0.0)
        chance = stream("torment", name)
        for last in [*sorted(chance.integers(1, WINDOWS - 5, size=KILLS)), WINDOWS, WINDOWS, WINDOWS + 1]:
            if attempt(runs, Store(folder / name / "killed"), last, chance.uniform(0, 0.005)):
                break
            kills[name] += 1
    (folder / "kills.json").write_text(json.dumps(kills))


@pytest.fixture(scope="module")
def graveyard(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("graveyard")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, __file__, folder], env=environment, check=True)
    return folder


@pytest.mark.parametrize("name", STACKS)
def test_a_run_that_was_killed_again_and_again_ends_like_one_that_was_not(graveyard, name):
    whole, killed = Store(graveyard / name / "whole"), Store(graveyard / name / "killed")
    assert json.loads((graveyard / "kills.json").read_text())[name] >= KILLS
    assert contents(killed, STACKS[name]) == contents(whole, STACKS[name])
    assert list((killed.root / ".work").iterdir()) == []


@EACH
def test_a_run_that_was_stopped_again_and_again_ends_like_one_that_was_not(tmp_path, runs):
    whole, stopped = Store(tmp_path / "whole"), Store(tmp_path / "stopped")
    execute(runs, whole, device("cpu"))
    moments, seen = {1, 2, 11, 29}, []
    for moment in sorted(moments):
        with pytest.raises(Interrupted, match=f"stopped at step {moment} of {WINDOWS}"):
            execute(
                runs,
                stopped,
                device("cpu"),
                watch=lambda _, progress: seen.append(progress.step),
                stopping=lambda: seen[-1] in moments,
            )
        assert not any(stopped.has(run.fingerprint) for run in runs)
    execute(runs, stopped, device("cpu"), lambda _, progress: seen.append(progress.step))
    assert seen == list(range(1, WINDOWS + 1))  # no window is trained twice
    assert contents(stopped, runs) == contents(whole, runs)


def test_reading_text_goes_on_where_it_stopped(tmp_path, monkeypatch):
    monkeypatch.setenv("PARROTLAB_DATA", str(tmp_path / "nothing"))
    monkeypatch.delenv("PARROTLAB_PREPARED", raising=False)
    task = Language(
        corpus="sample_math", vocabulary=257, length=33, weights=(("sample_lemmas", 0.7), ("sample_sums", 0.3))
    )
    judges = (Perplexity(documents=3), Loss(split="train", count=20))
    recipe = Recipe(steps=WINDOWS, rows=8, learning_rate=1e-2)
    runs = [Run(task=task, model=mixture(), recipe=recipe, evaluations=judges, seed=0)]
    whole, stopped, steps = Store(tmp_path / "whole"), Store(tmp_path / "stopped"), []
    execute(runs, whole, device("cpu"))
    with pytest.raises(Interrupted):
        execute(runs, stopped, device("cpu"), lambda _, p: steps.append(p.step), lambda: steps[-1] == 13)
    execute(runs, stopped, device("cpu"))
    assert contents(stopped, runs) == contents(whole, runs)


def test_a_checkpoint_of_another_grouping_is_not_taken_for_ones_own(tmp_path):
    runs = STACKS["stack"]
    with pytest.raises(Interrupted):
        execute(runs, Store(tmp_path / "regrouped"), device("cpu"), stopping=lambda: True)
    for store in (Store(tmp_path / "regrouped"), Store(tmp_path / "alone")):
        execute(runs[:1], store, device("cpu"))
    assert contents(Store(tmp_path / "regrouped"), runs[:1]) == contents(Store(tmp_path / "alone"), runs[:1])


def test_what_is_finished_is_not_trained_again(tmp_path):
    windows = []
    for _ in range(2):
        outcomes = execute(STACKS["dense"], Store(tmp_path), device("cpu"), lambda _, p: windows.append(p.step))
        assert [outcome.status for outcome in outcomes] == ["complete"]
    assert windows == list(range(1, WINDOWS + 1))


def test_seconds_of_all_attempts_are_added(tmp_path):
    with pytest.raises(Interrupted):
        execute(
            STACKS["dense"],
            Store(tmp_path),
            device("cpu"),
            watch=lambda _, progress: time.sleep(0.3),
            stopping=lambda: True,
        )
    execute(STACKS["dense"], Store(tmp_path), device("cpu"))
    assert Store(tmp_path).runs().iloc[0]["training_seconds"] > 0.3


if __name__ == "__main__":
    torment(Path(sys.argv[1]))
