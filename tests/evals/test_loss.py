import math

import pytest
import torch
from fakes import design, guesser, oracle

from parrotlab.evals.bits import Bits
from parrotlab.evals.loss import Loss
from parrotlab.model.transformer import build
from parrotlab.tasks.phone_book import PhoneBook
from parrotlab.tasks.shortest_path import ShortestPath

BOOK = PhoneBook(entries=60)
GRAPHS = ShortestPath(vertices=6, edge_probability=0.4, train_examples=60)


def loss(logits, task):
    (measurement,) = Loss(split="train", count=1000).measure(logits, task, 0, 0)
    return measurement


@pytest.mark.parametrize("task", [BOOK, GRAPHS], ids=lambda task: type(task).__name__)
def test_a_uniform_guess_costs_the_logarithm_of_the_vocabulary(task):
    assert loss(guesser(task), task).value == pytest.approx(math.log(task.vocabulary))


def test_the_oracle_loses_nothing():
    assert loss(oracle(BOOK), BOOK).value == pytest.approx(0, abs=1e-6)


def test_only_tokens_of_the_answer_count():
    asked = GRAPHS.examples("train", 1000, 0).asked_BT.sum()
    assert loss(guesser(GRAPHS), GRAPHS).count == asked
    assert asked < 60 * (GRAPHS.length - GRAPHS.prompt)  # short paths are padded


def test_loss_is_torchs_cross_entropy():
    model = build(design(), BOOK.vocabulary, 0)
    tokens_BT = torch.from_numpy(BOOK.examples("train", 1000, 0).tokens_BT).long()
    logits_NV = model(tokens_BT)[0][:, BOOK.prompt - 1 : -1].flatten(0, 1)
    expected = torch.nn.functional.cross_entropy(logits_NV, tokens_BT[:, BOOK.prompt :].flatten())
    assert loss(lambda tokens: model(tokens)[0], BOOK).value == pytest.approx(expected.item(), rel=1e-5)


def test_bits_memorized_are_the_entropy_less_the_loss_in_bits():
    model = build(design(), BOOK.vocabulary, 0)
    nats = loss(lambda tokens: model(tokens)[0], BOOK)
    bits = {
        row.metric: row.value
        for row in Bits(split="train", count=1000).measure(lambda tokens: model(tokens)[0], BOOK, 0, 0)
    }
    assert bits["bits_memorized"] == pytest.approx(bits["entropy"] - nats.value * nats.count / math.log(2), rel=1e-6)
