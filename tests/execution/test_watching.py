"""Whoever watches sees what the last checkpoint says, and disturbs nobody."""

from __future__ import annotations

import doctest

import pytest
from fakes import Digits, mixture

from parrotlab import cli
from parrotlab.cli import _plot
from parrotlab.execution import watching
from parrotlab.execution.watching import underway
from parrotlab.results.store import Store
from parrotlab.run import CHECKPOINT, Interrupted, Run, execute
from parrotlab.training.devices import device
from parrotlab.training.recipe import Recipe


def run_of(model, seed):
    return Run(
        task=Digits(), model=model, recipe=Recipe(steps=20, rows=8, learning_rate=1e-2), evaluations=(), seed=seed
    )


STACK = [run_of(mixture(), seed) for seed in (0, 1)]


@pytest.fixture
def begun(tmp_path):
    """A store in which a stack of two was stopped at step 7, and what its progress said."""
    seen = []
    with pytest.raises(Interrupted):
        execute(
            STACK,
            Store(tmp_path),
            device("cpu"),
            watch=lambda runs, progress: seen.append((progress.step, *progress.loss_R.tolist())),
            stopping=lambda: seen[-1][0] == 7,
        )
    return Store(tmp_path), seen


def test_the_runs_of_a_stack_are_known_to_have_begun_together(begun):
    assert watching.begun(begun[0]) == [[run.fingerprint for run in STACK]]


def test_each_run_of_a_stack_is_seen_with_its_own_losses(begun):
    store, seen = begun
    one, other = underway(store)
    assert [run.fingerprint for run in (one, other)] == [run.fingerprint for run in STACK]
    assert one.losses == tuple((step, loss) for step, loss, _ in seen)
    assert other.losses == tuple((step, loss) for step, _, loss in seen)
    assert (one.step, one.steps, one.title) == (7, 20, "Digits MoE d=16 E=4 top-2 seed 0")


def test_what_is_finished_is_not_under_way(begun):
    store, _ = begun
    execute(STACK, store, device("cpu"))
    assert underway(store) == []


def test_a_torn_checkpoint_is_passed_over(begun):
    store, _ = begun
    (path,) = (store.root / ".work").glob(f"*/{CHECKPOINT}")
    path.write_bytes(path.read_bytes()[:40])
    assert underway(store) == []


def test_a_look_shows_every_run_with_its_step_and_its_last_loss(begun, capsys):
    store, seen = begun
    assert cli.main(["watch", "--store", str(store.root), "--once"]) == 0
    shown = capsys.readouterr().out
    assert "0 runs finished, 2 with a checkpoint" in shown
    for seed, loss in enumerate(seen[-1][1:]):
        assert f"seed {seed}  step 7 of 20  loss {loss:.3f}" in shown


def test_a_store_that_is_not_there_is_one_clear_line(tmp_path, capsys):
    assert cli.main(["watch", "--store", str(tmp_path / "nowhere"), "--once"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_curves_are_drawn_as_the_docstring_shows_and_without_what_is_not_finite():
    assert doctest.testmod(_plot).failed == 0
    assert _plot.curve([(0, float("nan"))], width=3, height=2, last_x=1) == ["   ", "   "]
    falling = _plot.curve([(step, 100.0 - step) for step in range(100)], width=40, height=4, last_x=99)
    heights = [next(row for row, line in enumerate(falling) if line[column] != "⠀") for column in range(40)]
    assert heights == sorted(heights)
    assert (heights[0], heights[-1]) == (0, 3)
