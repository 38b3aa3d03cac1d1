"""Every task of the folder keeps the contract of tasks/task.py."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import numpy as np
import pytest

import parrotlab.tasks
from parrotlab import spec
from parrotlab.tasks.facts import Facts
from parrotlab.tasks.length_two_path import LengthTwoPath
from parrotlab.tasks.phone_book import PhoneBook
from parrotlab.tasks.shortest_path import ShortestPath
from parrotlab.tasks.task import Memorable, Task, rows_of_step

SPECIMENS = {
    "phone_book": PhoneBook(entries=50),
    "phone_book, name asked": PhoneBook(entries=50, ask_name=True),
    "shortest_path": ShortestPath(vertices=8, edge_probability=0.3, train_examples=50),
    "shortest_path, renamed": ShortestPath(vertices=7, mean_degree=2.5, train_examples=50, spare_labels=3),
    "length_two_path, split": LengthTwoPath(vertices=9, train_examples=50),
    "length_two_path, edge list": LengthTwoPath(vertices=9, encoding="edge_list", other_edges=2, train_examples=50),
    "facts": Facts(entries=50),
}
ROWS, EPOCH = 10, 5
NEEDS_DATA = {"language"}
"""Tasks whose examples need files that do not ship with the package; their own tests hold their laws."""
MODULES = sorted(
    m.name for m in pkgutil.iter_modules(parrotlab.tasks.__path__) if m.name != "task" and m.name[0] != "_"
)


@pytest.fixture(params=SPECIMENS, ids=str)
def task(request: pytest.FixtureRequest) -> Task:
    return SPECIMENS[request.param]


def rows_of(tokens_BT: np.ndarray) -> set[bytes]:
    return {row_T.tobytes() for row_T in tokens_BT}


def test_every_task_of_the_folder_has_a_specimen_here():
    assert {name.partition(",")[0] for name in SPECIMENS} == set(MODULES) - NEEDS_DATA


@pytest.mark.parametrize("module", sorted(set(MODULES) - NEEDS_DATA))
def test_the_row_that_a_task_draws_in_its_docstring_is_true(module: str):
    result = doctest.testmod(importlib.import_module(f"parrotlab.tasks.{module}"))
    assert result.attempted > 0
    assert result.failed == 0


def test_a_task_is_a_task_and_survives_its_codec(task: Task):
    assert isinstance(task, Task)
    assert spec.decode(spec.encode(task)) == task


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_same_arguments_give_the_same_batch(task: Task, split):
    one, other = task.batch(split, 3, ROWS, 7), task.batch(split, 3, ROWS, 7)
    one.tokens_BT[:] = 0  # what a caller does to its batch stays with the caller
    again = task.batch(split, 3, ROWS, 7)
    assert np.array_equal(other.tokens_BT, again.tokens_BT)
    assert np.array_equal(other.asked_BT, again.asked_BT)


def test_an_example_is_in_exactly_one_split(task: Task):
    train, test = (rows_of(task.examples(split, 1000, 0).tokens_BT[:, : task.prompt]) for split in ("train", "test"))
    assert train
    assert test
    assert not train & test


def test_rows_of_a_step_are_examples_of_the_split(task: Task):
    examples = rows_of(task.examples("train", 1000, 0).tokens_BT)
    assert rows_of(task.batch("train", 12, ROWS, 0).tokens_BT) <= examples


def test_every_epoch_visits_every_example_once_in_an_order_of_its_own(task: Task):
    examples = sorted(row_T.tolist() for row_T in task.examples("train", 1000, 0).tokens_BT)
    assert len(examples) == ROWS * EPOCH
    orders = []
    for epoch in range(2):
        steps = range(epoch * EPOCH, (epoch + 1) * EPOCH)
        orders.append([row for step in steps for row in task.batch("train", step, ROWS, 0).tokens_BT.tolist()])
        assert sorted(orders[-1]) == examples
    assert orders[0] != orders[1]


def test_the_first_examples_are_the_beginning_of_more_examples(task: Task):
    assert np.array_equal(task.examples("test", 3, 0).tokens_BT, task.examples("test", 30, 0).tokens_BT[:3])


def test_rows_have_the_length_and_tokens_that_the_task_declares(task: Task):
    batch = task.batch("train", 0, ROWS, 0)
    assert batch.tokens_BT.shape == batch.asked_BT.shape == (ROWS, task.length)
    assert batch.tokens_BT.max() < task.vocabulary
    assert not batch.asked_BT[:, 0].any()


def test_examples_ask_for_the_answer_alone_without_gaps_behind_the_prompt(task: Task):
    asked_BT = task.examples("test", 30, 0).asked_BT
    assert not asked_BT[:, : task.prompt].any()
    assert asked_BT[:, task.prompt].all()
    assert (np.diff(asked_BT[:, task.prompt :].astype(int), axis=1) <= 0).all()


def test_neighbouring_seeds_share_no_example(task: Task):
    if isinstance(task, Facts):
        pytest.skip("there is one world to draw facts from")
    if isinstance(task, LengthTwoPath) and task.encoding == "split":
        task = LengthTwoPath(vertices=40, train_examples=50)  # 9 vertices have too few different questions
    assert not rows_of(task.examples("train", 50, 0).tokens_BT) & rows_of(task.examples("train", 50, 1).tokens_BT)


def test_a_row_can_be_read_by_a_person(task: Task):
    text = task.text(task.examples("train", 1, 0).tokens_BT[0])
    assert text.isprintable()
    assert len(text) > 5


def test_answers_to_be_known_by_heart_have_bits_for_each_example(task: Task):
    if not isinstance(task, Memorable):
        pytest.skip("answers can be worked out")
    for split in ("train", "test"):
        bits_B = task.answer_bits(split, 20, 0)
        assert len(bits_B) == len(task.examples(split, 20, 0).tokens_BT)
        assert (bits_B >= 0).all()


def test_steps_cross_epochs_without_losing_or_repeating_rows():
    visited = np.concatenate([rows_of_step(7, step, 3, seed=0) for step in range(7)])
    assert all(sorted(visited[start : start + 7].tolist()) == list(range(7)) for start in (0, 7, 14))
