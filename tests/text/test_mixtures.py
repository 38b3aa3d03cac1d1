from __future__ import annotations

import pytest

from parrotlab import spec
from parrotlab.text import mixtures
from parrotlab.text.mixtures import Source, TextMixture


@pytest.mark.parametrize("name", mixtures.RECIPES)
def test_a_recipe_is_found_by_its_name_and_survives_its_codec(name):
    recipe = mixtures.mixture(name)
    assert recipe.name == name
    assert spec.decode(spec.encode(recipe)) == recipe


@pytest.mark.parametrize("name", mixtures.RECIPES)
def test_a_whole_recipe_has_the_weights_that_it_states_so_that_runs_are_called_alike_on_every_machine(name):
    recipe = mixtures.mixture(name)
    assert recipe.weights() == tuple((source.name, source.weight) for source in recipe.sources)


@pytest.mark.parametrize("name", mixtures.RECIPES)
def test_without_the_downstream_sets_the_others_keep_their_proportions(name):
    recipe = mixtures.mixture(name)
    all_of_it, without = dict(recipe.weights()), dict(recipe.weights(downstream=False))
    assert without.keys() == {source.name for source in recipe.sources if not source.downstream}
    assert sum(without.values()) == pytest.approx(1)
    ratios = [without[part] / all_of_it[part] for part in without]
    assert ratios == pytest.approx([ratios[0]] * len(ratios))


def test_weights_that_do_not_sum_to_1_are_refused():
    half = Source(name="half", place="x", weight=0.5)
    with pytest.raises(ValueError, match=r"mixture 'm': weights must sum to 1, not 0\.5"):
        TextMixture(name="m", sources=(half,))
    with pytest.raises(ValueError, match="'half' stands there twice"):
        TextMixture(name="m", sources=(half, half))
    with pytest.raises(ValueError, match=r"weight must lie above 0 and be at most 1, not 0"):
        Source(name="none", place="x", weight=0)


def test_a_misspelt_recipe_is_told_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'local_math'"):
        mixtures.mixture("local_maths")
