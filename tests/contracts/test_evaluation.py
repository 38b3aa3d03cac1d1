"""Every evaluation of the folder keeps the contract of evals/evaluation.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes import guesser, oracle

import parrotlab.evals
from parrotlab import spec
from parrotlab.evals.bits import Bits
from parrotlab.evals.elsewhere import Elsewhere
from parrotlab.evals.evaluation import Evaluation
from parrotlab.evals.exact_match import ExactMatch
from parrotlab.evals.loss import Loss
from parrotlab.evals.valid_path import ValidPath
from parrotlab.tasks.phone_book import PhoneBook
from parrotlab.tasks.shortest_path import ShortestPath

BOOK = PhoneBook(entries=50)
GRAPHS = ShortestPath(vertices=6, edge_probability=0.4, train_examples=50, spare_labels=1)
FURTHER = ShortestPath(vertices=7, edge_probability=0.3, train_examples=50)
NEEDS_DATA = {"perplexity"}  # reads a prepared corpus: tests/evals/test_perplexity.py holds its contract

SPECIMENS = {
    "exact_match": (ExactMatch(split="train", count=30), BOOK),
    "loss": (Loss(split="train", count=30), BOOK),
    "bits": (Bits(split="train", count=30), BOOK),
    "valid_path": (ValidPath(split="train", count=30), GRAPHS),
    "elsewhere": (Elsewhere(task=FURTHER, evaluation=ExactMatch(split="train", count=30), part="vertices=7"), GRAPHS),
}
BETTER = {"accuracy": 1, "bits_memorized": 1, "loss": -1, "entropy": 0}
"""Is more better, or worse, or no matter of the model?"""
MODULES = {
    path.stem
    for folder in parrotlab.evals.__path__
    for path in Path(folder).glob("*.py")
    if path.stem != "evaluation" and "    def measure(" in path.read_text()
}


@pytest.fixture(params=SPECIMENS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def measured(name, logits=None, count=30, step=12):
    evaluation, task = SPECIMENS[name]
    judged = evaluation.task if isinstance(evaluation, Elsewhere) else task
    evaluation = spec.decode(_with_count(spec.encode(evaluation), count))
    return list(evaluation.measure(logits or guesser(judged), task, 0, step))


def _with_count(data, count):
    return {
        field: count if field == "count" else _with_count(value, count) if field == "evaluation" else value
        for field, value in data.items()
    }


def test_every_evaluation_of_the_folder_has_a_specimen_here():
    assert SPECIMENS.keys() == MODULES - NEEDS_DATA


def test_an_evaluation_is_an_evaluation_and_survives_its_codec(name):
    evaluation, _ = SPECIMENS[name]
    assert isinstance(evaluation, Evaluation)
    assert spec.decode(spec.encode(evaluation)) == evaluation


def test_measurements_say_who_measured_what_after_which_step(name):
    evaluation, _ = SPECIMENS[name]
    rows = measured(name, step=77)
    inner = evaluation.evaluation if isinstance(evaluation, Elsewhere) else evaluation
    module = type(inner).__module__.rpartition(".")[2]
    assert rows
    assert {(row.evaluation, row.split, row.step) for row in rows} == {(module, "train", 77)}
    assert {row.part for row in rows} == {getattr(evaluation, "part", "")}
    assert len({row.metric for row in rows}) == len(rows)


def test_no_more_items_are_judged_than_asked_for_or_than_there_are(name):
    _, task = SPECIMENS[name]
    longest = task.length - task.prompt if name == "loss" else 1  # whose items are tokens
    assert {row.count for row in measured(name, count=7)} == {7 * longest}
    assert {row.count for row in measured(name, count=10**6)} == {50 * longest}


def test_the_size_of_a_batch_changes_nothing(name, monkeypatch):
    evaluation, task = SPECIMENS[name]
    judged = evaluation.task if isinstance(evaluation, Elsewhere) else task
    whole = measured(name, oracle(judged))
    monkeypatch.setattr("parrotlab.evals._batches.TOKENS", 4 * judged.length)
    batched = measured(name, oracle(judged))
    assert [row.count for row in batched] == [row.count for row in whole]
    assert [row.value for row in batched] == pytest.approx([row.value for row in whole])


def test_who_knows_everything_is_judged_better_than_who_knows_nothing(name):
    evaluation, task = SPECIMENS[name]
    judged = evaluation.task if isinstance(evaluation, Elsewhere) else task
    for knowing, guessing in zip(measured(name, oracle(judged)), measured(name, guesser(judged)), strict=True):
        difference = BETTER[knowing.metric] * (knowing.value - guessing.value)
        assert difference > 0.5 or BETTER[knowing.metric] == 0
