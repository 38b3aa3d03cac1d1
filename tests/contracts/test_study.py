"""Every study of the folder keeps the contract of studies/study.py, at every scale."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from importlib import import_module
from pathlib import Path

import pytest

from parrotlab.analysis.points import points
from parrotlab.evals.elsewhere import Elsewhere
from parrotlab.model.count import count
from parrotlab.model.family import TOLERANCE
from parrotlab.model.feedforwards.dense import Dense
from parrotlab.model.feedforwards.mixture import Mixture
from parrotlab.results.store import Store
from parrotlab.run import costs, execute
from parrotlab.studies.study import SCALES, load, names
from parrotlab.training.devices import device

SEEDS = {"smoke": 1, "laptop": 2, "gpu": 3, "paper": 3}
RATES = {"smoke": 1, "laptop": 1, "gpu": 2, "paper": 2}
PRETRAINING_SEEDS = {"smoke": 1, "laptop": 2, "gpu": 2, "paper": 1}
CASES = [(name, scale) for name in names() for scale in SCALES]
PRETRAINING = ("math", "natural_language")
"""Their runs are few and long, with one learning rate for each width; at the paper's scale they are its own family."""
LADDERS = [name for name in names() if hasattr(import_module(f"parrotlab.studies.{name}"), "GRIDS")]
"""The studies that hold mixtures against a dense ladder at equal active parameters."""
MATCHED = [(name, scale) for name, scale in CASES if name in LADDERS and not (name in PRETRAINING and scale == "paper")]


def each(cases):
    return pytest.mark.parametrize(("name", "scale"), cases, ids=[f"{name} {scale}" for name, scale in cases])


EACH = each(CASES)
EACH_LADDER = each(MATCHED)
EACH_LADDER_BUT_SMOKE = each([case for case in MATCHED if case[1] != "smoke"])


def designs(runs, kind):
    """The designs with that kind of feed-forward, with their counts."""
    vocabulary = runs[0].task.vocabulary
    models = dict.fromkeys(run.model for run in runs if isinstance(run.model.feedforward, kind))
    return [(model, count(model, vocabulary)) for model in models]


@pytest.mark.parametrize("name", names())
def test_a_study_asks_a_question_and_its_claims_say_who_said_so(name):
    study = load(name)
    assert study.question.endswith("?")
    assert study.claims
    assert all(claim.says.endswith(".") and claim.source for claim in study.claims)


@EACH
def test_every_run_has_a_name_of_its_own(name, scale):
    runs = load(name).runs(scale)
    assert runs
    assert len({run.fingerprint for run in runs}) == len(runs)


@EACH
def test_runs_are_the_same_each_time_they_are_asked_for(name, scale):
    assert load(name).runs(scale) == load(name).runs(scale)


@EACH
def test_every_design_is_trained_under_enough_seeds_and_learning_rates(name, scale):
    seeds, rates = defaultdict(set), defaultdict(set)
    for run in load(name).runs(scale):
        rates[run.model].add(run.recipe.learning_rate)
        seeds[run.model, run.recipe.learning_rate].add(run.seed)
    assert min(map(len, seeds.values())) >= (PRETRAINING_SEEDS if name in PRETRAINING else SEEDS)[scale]
    assert min(map(len, rates.values())) >= (1 if name in PRETRAINING else RATES[scale])
    assert len({frozenset(each) for each in seeds.values()}) == 1


@EACH_LADDER
def test_dense_models_are_a_ladder_and_mixtures_grow_in_total_alone(name, scale):
    runs = load(name).runs(scale)
    sizes = [counts.total for _, counts in designs(runs, Dense)]
    assert len(sizes) >= 2
    assert sizes == sorted(set(sizes))
    totals = [counts.total for _, counts in designs(runs, Mixture)]
    assert totals == sorted(set(totals))


@EACH_LADDER
def test_a_mixture_matches_the_dense_model_of_its_width_in_active_parameters(name, scale):
    runs = load(name).runs(scale)
    rungs = {model.width: counts.active for model, counts in designs(runs, Dense)}
    for model, counts in designs(runs, Mixture):
        assert counts.active == pytest.approx(rungs[model.width], rel=TOLERANCE)


@EACH_LADDER_BUT_SMOKE
def test_the_ladder_goes_from_what_the_mixtures_activate_far_beyond_it(name, scale):
    runs = load(name).runs(scale)
    sizes = [counts.total for _, counts in designs(runs, Dense)]
    for _, counts in designs(runs, Mixture):
        assert min(sizes) < (1 + TOLERANCE) * counts.active
        assert max(sizes) > 2 * counts.active


@pytest.mark.parametrize("scale", ["laptop", "gpu"])
@pytest.mark.parametrize("name", ["phone_book", "facts"])
def test_where_memory_should_follow_the_total_the_ladder_reaches_it(name, scale):
    runs = load(name).runs(scale)
    assert max(c.total for _, c in designs(runs, Dense)) > max(c.total for _, c in designs(runs, Mixture))


@EACH_LADDER
def test_on_one_task_runs_differ_in_model_rate_and_seed_alone(name, scale):
    everything = load(name).runs(scale)
    for task in {run.task for run in everything}:
        runs = [run for run in everything if run.task == task]
        assert len({run.evaluations for run in runs}) == 1
        assert len({dataclasses.replace(run.recipe, learning_rate=0.0) for run in runs}) == 1
        assert {run.model for run in runs} == {run.model for run in everything}


@EACH
def test_the_cost_of_every_run_is_known_before_it_runs(name, scale):
    for run in load(name).runs(scale):
        cost = costs(run)
        assert cost["total_parameters"] >= cost["active_parameters"] > 0
        assert cost["training_flops"] == cost["training_tokens"] * cost["training_flops_per_token"] > 0


@EACH
def test_models_are_judged_on_what_they_were_trained_on_and_on_what_they_were_not(name, scale):
    for run in load(name).runs(scale):
        inner = [each.evaluation if isinstance(each, Elsewhere) else each for each in run.evaluations]
        assert {getattr(each, "split", None) for each in inner} == {"train", "test"}


@pytest.mark.parametrize("name", names())
def test_without_measurements_no_claim_is_judged(name):
    study = load(name)
    nothing = points(Store(Path("nowhere")).table(), study.score)
    for claim in study.claims:
        assert claim.judge({}).outcome == "not run"
        assert claim.judge(dict.fromkeys(names(), nothing)).outcome == "not run"


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_the_smoke_scale_gives_every_design_and_seed_its_score_and_every_claim_a_verdict(name, tmp_path):
    study, store = load(name), Store(tmp_path)
    runs = study.runs("smoke")
    for run in runs:
        (outcome,) = execute([run], store, device("cpu"))
        assert outcome.status == "complete"
    found = points(store.table(), study.score)
    assert len(found) == len(runs)
    assert found["score"].notna().all()
    for claim in study.claims:
        assert claim.judge({name: found}).measured or claim.judge({name: found}).outcome == "not run"
