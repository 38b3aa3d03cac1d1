import math

import numpy as np
import pytest
import torch
from fakes import Digits, design, guesser, oracle

from parrotlab.evals.bits import Bits
from parrotlab.model.transformer import build
from parrotlab.tasks.facts import Facts
from parrotlab.tasks.phone_book import PhoneBook
from parrotlab.tasks.shortest_path import ShortestPath
from parrotlab.training.devices import device
from parrotlab.training.loop import train
from parrotlab.training.recipe import Recipe
from parrotlab.training.step import Step

BOOK = PhoneBook(entries=60)
ENTROPY = 60 * 8 * math.log2(10)


def bits(logits, task, split="train", count=1000):
    """Bits memorized, and the bits there were."""
    rows = {row.metric: row.value for row in Bits(split=split, count=count).measure(logits, task, 0, 0)}
    return rows["bits_memorized"], rows["entropy"]


def digits_guesser(tokens_BT):
    """One who knows that numbers are made of digits, and nothing else."""
    return torch.where(torch.arange(BOOK.vocabulary) >= 26, 0.0, -1e9).expand(*tokens_BT.shape, -1)


@pytest.mark.parametrize("task", [BOOK, Digits(), Facts(entries=50)], ids=lambda task: type(task).__name__)
def test_a_look_up_table_holds_the_whole_entropy(task):
    known, entropy = bits(oracle(task), task)
    assert known == pytest.approx(entropy, rel=1e-6)
    assert entropy == pytest.approx(task.answer_bits("train", 1000, 0).sum())


def test_a_book_holds_the_logarithm_of_ten_for_each_digit():
    assert bits(oracle(BOOK), BOOK)[1] == pytest.approx(ENTROPY)


def test_a_guess_among_the_digits_holds_nothing():
    assert bits(digits_guesser, BOOK)[0] == pytest.approx(0, abs=1e-3)
    assert bits(guesser(Digits()), Digits())[0] == pytest.approx(0, abs=1e-3)


def test_who_does_not_even_know_what_a_number_is_holds_less_than_nothing():
    wasted = 60 * 8 * (math.log2(BOOK.vocabulary) - math.log2(10))
    assert bits(guesser(BOOK), BOOK)[0] == pytest.approx(-wasted)


def test_who_knows_half_of_the_book_holds_half_of_its_bits():
    knowing = oracle(BOOK)

    def half(tokens_BT):
        logits_BTV = digits_guesser(tokens_BT).clone()
        logits_BTV[:30] = knowing(tokens_BT)[:30]
        return logits_BTV

    assert bits(half, BOOK)[0] == pytest.approx(ENTROPY / 2, rel=1e-5)


def test_certainty_about_held_out_entries_costs_bits():
    known, entropy = bits(oracle(BOOK), BOOK, split="test", count=200)
    assert entropy == pytest.approx(200 * 8 * math.log2(10))
    assert known < -entropy


def test_training_memorizes_its_own_book_and_nothing_of_another():
    recipe = Recipe(steps=120, rows=20, learning_rate=2e-2, weight_decay=0.0)
    model = build(design(width=32, layers=1), BOOK.vocabulary, 0)
    step = Step(model, recipe, [recipe.learning_rate], device("cpu"))
    losses = [progress.loss_R[0] for progress in train(step, BOOK, recipe, [0], device("cpu"))]
    assert np.isfinite(losses).all()
    known, entropy = bits(lambda tokens_BT: model(tokens_BT)[0], BOOK)
    assert known > 0.2 * entropy
    control, entropy = bits(lambda tokens_BT: model(tokens_BT)[0], BOOK, split="test", count=500)
    assert control < 0.01 * entropy


def test_answers_that_can_be_worked_out_have_no_bits():
    graphs = ShortestPath(vertices=6, edge_probability=0.4, train_examples=20)
    with pytest.raises(ValueError, match="ShortestPath has no answer_bits"):
        bits(guesser(graphs), graphs)
