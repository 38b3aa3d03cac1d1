import pytest
import torch
from fakes import Digits, design, guesser, oracle

from parrotlab.evals.exact_match import ExactMatch
from parrotlab.evals.valid_path import generate
from parrotlab.model.transformer import build
from parrotlab.tasks.phone_book import PhoneBook
from parrotlab.tasks.shortest_path import ShortestPath

TASKS = [Digits(), PhoneBook(entries=60), ShortestPath(vertices=6, edge_probability=0.4, train_examples=60)]


def accuracy(logits, task, split="train", count=1000):
    (measurement,) = ExactMatch(split=split, count=count).measure(logits, task, 0, 0)
    return measurement.value


def absent_minded(task, knowledge):
    """An oracle who is drowned out, here and there, by a model that learned nothing."""
    model, knowing = build(design(), task.vocabulary, 3), oracle(task)
    return lambda tokens_BT: knowledge * knowing(tokens_BT) + model(tokens_BT)[0]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: type(task).__name__)
def test_exact_match_is_what_greedy_generation_gets_right(task):
    logits = absent_minded(task, knowledge=0.03)
    examples = task.examples("train", 1000, 0)
    answers_BT = generate(logits, examples.tokens_BT[:, : task.prompt], task.length - task.prompt)
    wrong_BT = (answers_BT != examples.tokens_BT[:, task.prompt :]) & examples.asked_BT[:, task.prompt :]
    right = 1 - wrong_BT.any(axis=1).mean()
    assert 0.05 < right < 0.95
    assert accuracy(logits, task) == pytest.approx(right)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: type(task).__name__)
def test_the_oracle_is_always_right(task):
    assert accuracy(oracle(task), task) == 1


def test_one_wrong_digit_makes_a_row_wrong_and_a_wrong_letter_of_the_name_does_not():
    task = PhoneBook(entries=10)

    def slip(place):
        """The oracle, but for the token at that place of the first row."""
        knowing = oracle(task)

        def logits(tokens_BT):
            logits_BTV = knowing(tokens_BT)
            logits_BTV[0, place - 1] = torch.roll(logits_BTV[0, place - 1], 1)
            return logits_BTV

        return logits

    assert accuracy(slip(task.length - 1), task) == pytest.approx(0.9)
    assert accuracy(slip(task.prompt), task) == pytest.approx(0.9)
    assert accuracy(slip(task.prompt - 1), task) == 1


def test_a_guesser_of_eight_digits_is_never_right():
    task = PhoneBook(entries=60)
    assert accuracy(guesser(task), task) == 0
