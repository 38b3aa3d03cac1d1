"""The paper's family: our counts of its designs are the sizes that it lists."""

import doctest

import pytest

from parrotlab.model import paper


def test_the_family_has_five_dense_models_and_twelve_mixtures():
    assert [(model.width, model.experts) for model in paper.listed()] == [
        *((width, 1) for width in (256, 512, 1024, 2048, 4096)),
        *((width, experts) for width in (256, 512, 1024) for experts in (8, 16, 32, 64)),
    ]


def test_every_total_is_the_listed_one_to_the_million():
    assert [round(model.total / 1e6) for model in paper.listed()] == [model.listed_total for model in paper.listed()]


@pytest.mark.parametrize(("width", "millions"), [(256, 18.68), (512, 58.33), (1024, 200.54)])
def test_active_sizes_are_the_listed_ones_cut_to_the_million_whatever_the_number_of_experts(width, millions):
    mixtures = [model for model in paper.listed() if model.width == width and model.experts > 1]
    assert {round(model.active / 1e6, 2) for model in mixtures} == {millions}
    assert {int(model.active / 1e6) for model in mixtures} == {model.listed_active for model in mixtures}


def test_a_token_of_a_dense_model_touches_every_parameter():
    assert all(model.active == model.total for model in paper.listed() if model.experts == 1)


def test_differences_are_fractions_of_what_is_listed():
    (model,) = [model for model in paper.listed() if (model.width, model.experts) == (256, 8)]
    assert model.total_off_by == pytest.approx(model.total / 34e6 - 1)
    assert model.active_off_by == pytest.approx(model.active / 18e6 - 1)


def test_the_examples_are_right():
    assert doctest.testmod(paper).failed == 0
