import numpy as np
import torch
from fakes import Digits, mixture
from hypothesis import given, settings
from hypothesis import strategies as st

from parrotlab.model.balance import entropy, load
from parrotlab.model.routers.bias_balanced import BiasBalanced
from parrotlab.model.routers.hashed import Hashed
from parrotlab.model.routers.router import highest
from parrotlab.model.routers.top_k import TopK
from parrotlab.model.transformer import build
from parrotlab.training.devices import device
from parrotlab.training.loop import train
from parrotlab.training.recipe import Recipe
from parrotlab.training.step import Step

WIDTH, EXPERTS = 6, 4


def balanced_layer(rate=0.1):
    layer = BiasBalanced(rate=rate).build(WIDTH, EXPERTS, 2, True, ())
    torch.nn.init.normal_(layer.weight_DE, generator=torch.Generator().manual_seed(0))
    return layer


def inputs(tokens=50):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(tokens, WIDTH, generator=generator), torch.randint(20, (tokens,), generator=generator)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=8), st.data())
def test_the_highest_come_first_and_of_equals_the_first(ranks, data):
    active = data.draw(st.integers(1, len(ranks)))
    sorted_by_hand = sorted(range(len(ranks)), key=lambda expert: (-ranks[expert], expert))
    assert highest(torch.tensor([ranks], dtype=torch.float32), active).tolist() == [sorted_by_hand[:active]]


def test_a_bias_rises_with_too_few_choices_and_falls_with_too_many_by_the_rate():
    layer = balanced_layer(rate=0.25)
    layer.adjust_(torch.tensor([0.0, 2.0, 6.0, 0.0]))
    assert layer.bias_E.tolist() == [0.25, 0.0, -0.25, 0.25]


def test_a_bias_changes_who_is_chosen_and_never_the_logits_or_a_gradient():
    layer, (x_ND, tokens_N) = balanced_layer(), inputs()
    before = layer(x_ND, tokens_N)
    layer.bias_E[:] = torch.tensor([2.0, 2.0, 0.0, 0.0])  # no probability outweighs it
    after = layer(x_ND, tokens_N)
    assert set(after.experts_NA.flatten().tolist()) == {0, 1}
    assert torch.equal(after.logits_NE, before.logits_NE)
    shares_NE = after.logits_NE[:, :2].softmax(dim=-1)  # renormalised probabilities, the bias not in them
    torch.testing.assert_close(after.weights_NA, shares_NE.gather(-1, after.experts_NA))
    assert [name for name, _ in layer.named_parameters()] == ["weight_DE"]


def test_biases_that_follow_the_load_balance_it():
    layer, (x_ND, tokens_N) = balanced_layer(rate=0.01), inputs(400)
    x_ND = x_ND + 1.0  # a common direction: some experts are everyone's favourites
    first = load(layer(x_ND, tokens_N))
    for _ in range(200):
        layer.adjust_(layer(x_ND, tokens_N).choices_E)
    assert (first - 1 / EXPERTS).abs().max() > 0.1
    assert (load(layer(x_ND, tokens_N)) - 1 / EXPERTS).abs().max() < 0.02


def test_a_training_run_with_biases_is_more_balanced_than_one_without():
    recipe = Recipe(steps=60, rows=16, learning_rate=1e-2, load_balance=0.0, z_loss=0.0)

    def balance(router):
        model = build(mixture(8, router=router), 10, 0)
        *_, last = train(Step(model, recipe, [1e-2], device("cpu")), Digits(), recipe, [0], device("cpu"))
        load_LE = last.choices_LRE[:, 0] / last.choices_LRE[:, 0].sum(axis=-1, keepdims=True)
        return np.mean([entropy(torch.from_numpy(load_E)).item() for load_E in load_LE])

    assert balance(BiasBalanced(rate=0.01)) > balance(TopK()) + 0.02


def test_a_hash_depends_on_the_token_alone_and_has_no_weights():
    layer, (x_ND, tokens_N) = Hashed().build(WIDTH, EXPERTS, 2, True, ()), inputs()
    routing = layer(x_ND, tokens_N)
    assert not list(layer.parameters())
    assert torch.equal(routing.experts_NA, layer(-x_ND, tokens_N).experts_NA)
    homes = {token: set() for token in tokens_N.tolist()}
    for token, experts in zip(tokens_N.tolist(), routing.experts_NA.tolist()):
        homes[token].add(tuple(experts))
    assert all(len(places) == 1 for places in homes.values())
    assert len(set().union(*homes.values())) > EXPERTS  # and tokens differ
    assert (routing.weights_NA == 0.5).all()


def test_hashes_spread_a_large_vocabulary_evenly():
    tokens_N = torch.arange(20_000)
    load_E = load(Hashed().build(WIDTH, 8, 2, True, ())(torch.zeros(20_000, WIDTH), tokens_N))
    assert (load_E * 8 - 1).abs().max() < 0.05
