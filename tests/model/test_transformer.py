import dataclasses

import pytest
import torch
from fakes import design, mixture

from parrotlab.model.attention import Attention
from parrotlab.model.feedforwards.dense import Dense
from parrotlab.model.feedforwards.mixture import Mixture
from parrotlab.model.routers.bias_balanced import BiasBalanced
from parrotlab.model.routers.hashed import Hashed
from parrotlab.model.transformer import Transformer, build

VOCABULARY, ROWS, POSITIONS = 11, 4, 9
DESIGNS = {
    "dense": design(),
    "dense, tied and ungated": design(Dense(gated=False, expansion=2.0), tied=True),
    "top-k": mixture(),
    "top-1, not renormalised": mixture(active=1, renormalise=False),
    "shared": mixture(shared=1, expansion=0.5),
    "bias balanced": mixture(router=BiasBalanced()),
    "hashed": mixture(router=Hashed()),
    "grouped queries": dataclasses.replace(mixture(), attention=Attention(heads=4, group=2)),
    "normalised queries": dataclasses.replace(mixture(), attention=Attention(heads=2, qk_norm=True)),
}
EACH = pytest.mark.parametrize("model_design", DESIGNS.values(), ids=DESIGNS)


def tokens(*stack: int, seed=0):
    return torch.randint(VOCABULARY, (*stack, ROWS, POSITIONS), generator=torch.Generator().manual_seed(seed))


def weights(model):
    return dict(model.named_parameters())


@EACH
@torch.no_grad()
def test_later_tokens_change_no_earlier_logit(model_design):
    model, tokens_BT = build(model_design, VOCABULARY, 0), tokens()
    before_BTV = model(tokens_BT)[0]
    for now in range(1, POSITIONS):
        changed_BT = tokens_BT.clone()
        changed_BT[:, now:] = (changed_BT[:, now:] + 1) % VOCABULARY
        after_BTV = model(changed_BT)[0]
        torch.testing.assert_close(after_BTV[:, :now], before_BTV[:, :now], rtol=1e-4, atol=1e-5)
        assert (after_BTV[:, now] - before_BTV[:, now]).abs().max() > 1e-3


@EACH
@torch.no_grad()
def test_a_row_is_read_alike_whatever_stands_beside_it(model_design):
    model, tokens_BT = build(model_design, VOCABULARY, 0), tokens()
    together_BTV = model(tokens_BT)[0]
    for row in range(ROWS):
        torch.testing.assert_close(model(tokens_BT[row : row + 1])[0][0], together_BTV[row], rtol=1e-4, atol=1e-5)


@EACH
@torch.no_grad()
def test_a_replica_answers_as_its_seed_does_alone(model_design):
    stack, tokens_RBT = build(model_design, VOCABULARY, [5, 6, 5]), tokens(3)
    logits_RBTV, routings = stack(tokens_RBT)
    for index, seed in enumerate([5, 6, 5]):
        alone, replica = build(model_design, VOCABULARY, seed), stack.replica(index)
        assert weights(replica).keys() == weights(alone).keys()
        assert all(torch.equal(weights(replica)[name], weight) for name, weight in weights(alone).items())
        logits_BTV, lone_routings = replica(tokens_RBT[index])
        torch.testing.assert_close(logits_RBTV[index], logits_BTV, rtol=1e-4, atol=1e-5)
        for routing, lone in zip(routings, lone_routings, strict=True):
            assert torch.equal(routing.choices_E[index], lone.choices_E)


def test_a_replica_shares_the_memory_of_its_stack_with_buffers_too():
    stack = build(mixture(router=BiasBalanced(rate=0.5)), VOCABULARY, [0, 1])
    replica = stack.replica(1)
    with torch.no_grad():
        routings = stack(tokens(2))[1]
        stack.adjust_(routings)
        stack.embedding_VD[1] = 7.0
    assert (replica.embedding_VD == 7.0).all()
    for block, routing in zip(replica.blocks, routings):
        choices_E = routing.choices_E[1]
        assert torch.equal(block.feedforward.router.bias_E, 0.5 * (choices_E.mean() - choices_E).sign())


def test_every_mixture_layer_tells_its_routing_and_dense_ones_have_none():
    assert build(design(), VOCABULARY, 0)(tokens())[1] == []
    routings = build(mixture(experts=4), VOCABULARY, 0)(tokens())[1]
    assert [routing.choices_E.sum().item() for routing in routings] == [2 * ROWS * POSITIONS] * 2


def test_the_same_seed_gives_the_same_weights_and_neighbours_share_none():
    one, again, other = (weights(build(mixture(), VOCABULARY, seed)) for seed in (0, 0, 1))
    for name, weight in one.items():
        assert torch.equal(weight, again[name])
        if not name.endswith("norm.weight_D"):
            assert not (weight == other[name]).any()


@torch.no_grad()
def test_a_tied_head_is_the_embedding():
    model = build(design(tied=True), VOCABULARY, 0)
    untied = build(design(), VOCABULARY, 0)
    assert weights(untied).keys() - weights(model).keys() == {"head_DV"}
    untied.head_DV.copy_(model.embedding_VD.mT)
    torch.testing.assert_close(model(tokens())[0], untied(tokens())[0])


def test_fresh_logits_are_of_one_size_at_every_width():
    spreads = [build(design(width=width), VOCABULARY, 0)(tokens())[0].std().item() for width in (16, 64, 128)]
    assert max(spreads) < 1.5 * min(spreads)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"width": 15}, "width 15 cannot be divided among 2 heads"),
        ({"width": 6}, "even number of channels a head"),
        ({"layers": 0}, "at least 1, not 0 and 16"),
        ({"feedforward": Mixture(experts=2, expansion=0.01)}, "no hidden channel at width 16"),
    ],
    ids=["heads", "channels", "layers", "hidden"],
)
def test_impossible_designs_are_refused_before_any_weight_exists(fields, message):
    possible = {"layers": 1, "width": 16, "attention": Attention(heads=2), "feedforward": Dense()}
    with pytest.raises(ValueError, match=message):
        Transformer(**possible | fields)
