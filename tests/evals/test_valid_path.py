import networkx
import numpy as np
import pytest
import torch
from fakes import guesser, oracle

from parrotlab.evals.exact_match import ExactMatch
from parrotlab.evals.valid_path import ValidPath, generate
from parrotlab.tasks.phone_book import PhoneBook
from parrotlab.tasks.shortest_path import ShortestPath

GRAPHS = ShortestPath(vertices=7, edge_probability=0.4, train_examples=80)


def accuracy(evaluation, logits, task=GRAPHS):
    (measurement,) = evaluation(split="train", count=1000).measure(logits, task, 0, 0)
    return measurement.value


def other_answers():
    """[N, T] for each training row an answer that is as good as the label, and another one where there is one."""
    examples = GRAPHS.examples("train", 1000, 0)
    answers_NT = examples.tokens_BT[:, GRAPHS.prompt :].copy()
    for row_T, answer_T in zip(examples.tokens_BT, answers_NT):
        edges = row_T[: GRAPHS.prompt - 2].reshape(-1, 2)
        pairs = [(one, other - GRAPHS.second) for one, other in edges.tolist() if one != GRAPHS.pad]
        source, target = row_T[GRAPHS.prompt - 2 : GRAPHS.prompt].tolist()
        paths = sorted(networkx.all_shortest_paths(networkx.Graph(pairs), source, target))
        answer_T[: len(paths[-1]) - 1] = paths[-1][1:]
    return answers_NT


def speaker(answers_NT):
    """Logits of one who answers the rows of the training set in this way."""
    questions = [row_T[: GRAPHS.prompt].tobytes() for row_T in GRAPHS.examples("train", 1000, 0).tokens_BT]
    answers = dict(zip(questions, answers_NT))

    def logits(tokens_BT):
        logits_BTV = torch.zeros(*tokens_BT.shape, GRAPHS.vocabulary)
        for row, tokens_T in enumerate(tokens_BT.numpy().astype(np.uint8)):
            answer_T = answers[tokens_T[: GRAPHS.prompt].tobytes()]
            for place in range(GRAPHS.prompt - 1, len(tokens_T)):
                logits_BTV[row, place, answer_T[min(place - GRAPHS.prompt + 1, len(answer_T) - 1)]] = 9.0
        return logits_BTV

    return logits


def test_the_oracle_finds_every_path_and_a_guesser_hardly_one():
    assert accuracy(ValidPath, oracle(GRAPHS)) == 1
    assert accuracy(ValidPath, guesser(GRAPHS)) < 0.2


def test_any_shortest_path_counts_where_exact_match_wants_the_label():
    other = speaker(other_answers())
    assert accuracy(ValidPath, other) == 1
    assert 0.3 < accuracy(ExactMatch, other) < 1


def test_what_is_said_after_the_end_does_not_matter_and_a_path_without_an_end_is_wrong():
    answers_NT = GRAPHS.examples("train", 1000, 0).tokens_BT[:, GRAPHS.prompt :].copy()
    babble_NT = np.where(answers_NT == GRAPHS.pad, 0, answers_NT)
    assert accuracy(ValidPath, speaker(babble_NT)) == 1
    endless_NT = np.where(answers_NT == GRAPHS.end, GRAPHS.pad, answers_NT)
    assert accuracy(ValidPath, speaker(endless_NT)) == 0


def test_generation_goes_on_from_its_own_words():
    def counting(tokens_BT):
        return torch.nn.functional.one_hot((tokens_BT + 1) % 10, 10).float()

    assert generate(counting, np.array([[5, 8], [0, 2]], dtype=np.uint8), 4).tolist() == [[9, 0, 1, 2], [3, 4, 5, 6]]


def test_a_task_with_one_right_answer_has_no_judge():
    book = PhoneBook(entries=10)
    with pytest.raises(ValueError, match="PhoneBook cannot judge an answer"):
        accuracy(ValidPath, guesser(book), book)
