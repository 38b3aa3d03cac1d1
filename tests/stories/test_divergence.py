"""A run that diverges is kept as failed with its reason; it is not tried again, and it does not stop the others."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from fakes import Digits, design, mixture

from parrotlab.analysis.points import Score, points
from parrotlab.evals.loss import Loss
from parrotlab.results.store import Store
from parrotlab.run import Run, execute
from parrotlab.training.devices import device
from parrotlab.training.recipe import Recipe

RECIPE = Recipe(steps=20, rows=8, learning_rate=1e-2, warmup=0.0, weight_decay=0.0)
SCORE = Score(evaluation="loss", split="train", metric="loss", label="loss")


def run_of(model, rate, seed=0):
    recipe = dataclasses.replace(RECIPE, learning_rate=rate)
    return Run(task=Digits(), model=model, recipe=recipe, evaluations=(Loss(split="train", count=40),), seed=seed)


def train(runs, folder):
    """The outcomes, the store, and the windows that were trained."""
    windows = []
    outcomes = execute(runs, Store(folder), device("cpu"), lambda _, progress: windows.append(progress))
    return outcomes, Store(folder), windows


@pytest.mark.parametrize("model", [design(), mixture()], ids=["dense", "mixture"])
@pytest.mark.parametrize("rate", [1e12, 1e38], ids=["huge", "not a number"])
def test_a_diverged_run_is_stored_as_failed_with_its_reason(tmp_path, model, rate):
    outcomes, store, windows = train([run_of(model, rate)], tmp_path)
    assert [outcome.status for outcome in outcomes] == ["failed"]
    assert outcomes[0].reason.startswith(f"diverged at step {windows[-1].step}: loss is ")
    row = store.runs().iloc[0]
    assert (row["status"], row["reason"]) == ("failed", outcomes[0].reason)
    assert len(windows) < RECIPE.steps  # the rest was not trained
    assert set(store.table()["evaluation"]) <= {"training", "routing"}  # and nothing was judged
    losses = store.table().query("metric == 'loss'").sort_values("step")["value"]
    assert losses.iloc[0] == pytest.approx(math.log(10), rel=0.5)
    assert not losses.iloc[-1] < 3 * math.log(10)


def test_a_failed_run_is_not_tried_again_until_it_is_discarded(tmp_path):
    run = run_of(design(), 1e12)
    first, store, _ = train([run], tmp_path)
    second, _, windows = train([run], tmp_path)
    assert second == first
    assert windows == []
    store.discard(run.fingerprint)
    third, _, windows = train([run], tmp_path)
    assert third == first
    assert windows


def test_the_others_of_its_stack_complete_as_if_it_had_not_been_there(tmp_path):
    runs = [run_of(mixture(), rate, seed) for rate, seed in [(1e-2, 0), (1e12, 0), (1e-2, 1)]]
    outcomes, store, windows = train(runs, tmp_path / "stack")
    assert [outcome.status for outcome in outcomes] == ["complete", "failed", "complete"]
    assert [outcome.run for outcome in outcomes] == runs
    assert len(windows) == RECIPE.steps
    _, alone, _ = train([runs[2]], tmp_path / "alone")
    of_run = store.table().query(f"fingerprint == '{runs[2].fingerprint}'")
    np.testing.assert_allclose(of_run["value"], alone.table()["value"], rtol=1e-3, atol=1e-4)


def test_a_diverged_seed_is_missing_from_the_points_and_not_left_out_of_them(tmp_path):
    for run in (run_of(design(), 1e-2), run_of(design(width=8), 1e12)):
        train([run], tmp_path)
    scores = points(Store(tmp_path).table(), SCORE).set_index("width")["score"]
    assert scores[16] > 0
    assert math.isnan(scores[8])
