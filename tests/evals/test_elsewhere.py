from dataclasses import replace

import pytest
from fakes import oracle

from parrotlab.evals.elsewhere import Elsewhere
from parrotlab.evals.loss import Loss
from parrotlab.evals.valid_path import ValidPath
from parrotlab.tasks.shortest_path import ShortestPath

TRAINED = ShortestPath(vertices=6, edge_probability=0.4, max_hops=4, train_examples=40, spare_labels=1)
LARGER = replace(TRAINED, vertices=7, spare_labels=0)
VALID = ValidPath(split="train", count=100)


def test_the_other_task_is_asked_and_the_measurement_names_it():
    (measurement,) = Elsewhere(task=LARGER, evaluation=VALID, part="vertices=7").measure(oracle(LARGER), TRAINED, 0, 5)
    assert measurement == next(replace(m, part="vertices=7") for m in VALID.measure(oracle(LARGER), LARGER, 0, 5))
    assert measurement.value == 1


def test_another_vocabulary_is_refused_by_name_and_numbers():
    stranger = replace(TRAINED, vertices=9)
    elsewhere = Elsewhere(task=stranger, evaluation=Loss(split="test", count=5), part="vertices=9")
    expected = f"vertices=9: a model with {TRAINED.vocabulary} tokens cannot be asked about {stranger.vocabulary}"
    with pytest.raises(ValueError, match=expected):
        list(elsewhere.measure(oracle(TRAINED), TRAINED, 0, 0))
