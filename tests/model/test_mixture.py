import pytest
import torch

from parrotlab.model.feedforwards.dense import Dense
from parrotlab.model.feedforwards.mixture import Mixture
from parrotlab.model.routers.bias_balanced import BiasBalanced
from parrotlab.model.routers.hashed import Hashed
from parrotlab.model.routers.top_k import TopK

WIDTH, TOKENS = 6, 20
ROUTERS = pytest.mark.parametrize("router", [TopK(), BiasBalanced(), Hashed()], ids=lambda r: type(r).__name__)


def layer_of(design, seed=0):
    layer = design.build(WIDTH, ())
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in layer.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator))
    return layer


def inputs(tokens=TOKENS):
    generator = torch.Generator().manual_seed(9)
    return torch.randn(tokens, WIDTH, generator=generator), torch.randint(20, (tokens,), generator=generator)


def dense_of(mixture_layer, expert=0):
    """One of the experts as a dense layer."""
    design = mixture_layer.design
    dense = Dense(expansion=design.expansion, gated=design.gated).build(WIDTH, ())
    dense.load_state_dict({"up_DG": mixture_layer.up_EDG[expert], "down_FD": mixture_layer.down_EFD[expert]})
    return dense


@ROUTERS
@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("active", [2, 3])
def test_equal_experts_act_as_one_dense_layer(router, gated, active):
    layer = layer_of(Mixture(experts=4, active=active, gated=gated, expansion=1.5, router=router))
    with torch.no_grad():
        layer.up_EDG[:], layer.down_EFD[:] = layer.up_EDG[0].clone(), layer.down_EFD[0].clone()
    torch.testing.assert_close(layer(*inputs())[0], dense_of(layer)(*inputs())[0], rtol=1e-4, atol=1e-5)


def test_weights_that_are_not_renormalised_scale_equal_experts_by_their_sum():
    layer = layer_of(Mixture(experts=4, renormalise=False))
    with torch.no_grad():
        layer.up_EDG[:], layer.down_EFD[:] = layer.up_EDG[0].clone(), layer.down_EFD[0].clone()
    y_ND, routing = layer(*inputs())
    share_N1 = routing.weights_NA.sum(dim=-1, keepdim=True)
    torch.testing.assert_close(y_ND, share_N1 * dense_of(layer)(*inputs())[0], rtol=1e-4, atol=1e-5)


@ROUTERS
def test_one_expert_is_a_dense_layer(router):
    layer = layer_of(Mixture(experts=1, active=1, renormalise=False, router=router))
    torch.testing.assert_close(layer(*inputs())[0], dense_of(layer)(*inputs())[0])


@ROUTERS
def test_the_output_is_the_weighted_sum_over_all_experts_with_weight_zero_for_those_not_chosen(router):
    layer = layer_of(Mixture(experts=5, renormalise=False, router=router))
    y_ND, routing = layer(*inputs())
    weights_NE = torch.zeros(TOKENS, 5).scatter(-1, routing.experts_NA, routing.weights_NA)
    outputs_NED = torch.stack([dense_of(layer, expert)(*inputs())[0] for expert in range(5)], dim=1)
    torch.testing.assert_close(y_ND, (weights_NE.unsqueeze(-1) * outputs_NED).sum(dim=1), rtol=1e-4, atol=1e-5)


@ROUTERS
def test_an_unchosen_expert_weighs_exactly_nothing(router):
    layer, (x_ND, tokens_N) = layer_of(Mixture(experts=6, router=router)), inputs(1)
    y_ND, routing = layer(x_ND, tokens_N)
    unchosen = [expert for expert in range(6) if expert not in routing.experts_NA]
    with torch.no_grad():
        layer.up_EDG[unchosen], layer.down_EFD[unchosen] = torch.nan, torch.nan  # 0 times which would still show
    assert torch.equal(layer(x_ND, tokens_N)[0], y_ND)


@ROUTERS
def test_only_chosen_experts_learn(router):
    layer = layer_of(Mixture(experts=6, router=router))
    y_ND, routing = layer(*inputs(2))
    y_ND.square().sum().backward()
    chosen = set(routing.experts_NA.flatten().tolist())
    assert len(chosen) < 6
    for gradient_EXX in (layer.up_EDG.grad, layer.down_EFD.grad):
        assert {expert for expert in range(6) if gradient_EXX[expert].any()} == chosen


def test_shared_experts_serve_every_token():
    layer = layer_of(Mixture(experts=4, shared=2, expansion=0.5))
    shared_ND = layer.shared(*inputs())[0]
    assert layer.shared.down_FD.shape[0] == 2 * layer.down_EFD.shape[1]
    with torch.no_grad():
        layer.down_EFD.zero_()
    assert shared_ND.any(dim=-1).all()
    assert torch.equal(layer(*inputs())[0], shared_ND)


def test_a_token_is_served_alike_alone_and_in_a_crowd():
    layer, (x_ND, tokens_N) = layer_of(Mixture(experts=4)), inputs()
    crowd_ND = layer(x_ND, tokens_N)[0]
    for token in range(TOKENS):
        alone_ND = layer(x_ND[token : token + 1], tokens_N[token : token + 1])[0]
        torch.testing.assert_close(alone_ND[0], crowd_ND[token], rtol=1e-4, atol=1e-5)


def router_gradient(active, renormalise):
    """Of a layer put together without the spec, which refuses one of the cases."""
    layer = layer_of(Mixture(experts=4, active=active, renormalise=False))
    layer.router.renormalise = renormalise
    layer(*inputs())[0].square().sum().backward()
    return layer.router.weight_DE.grad.abs().max()


def test_a_single_renormalised_choice_teaches_its_router_nothing_and_is_refused():
    assert router_gradient(active=1, renormalise=True) < 1e-6 * router_gradient(active=1, renormalise=False)
    assert router_gradient(active=2, renormalise=True) > 1e-6
    with pytest.raises(ValueError, match=r"router's gradient vanishes.*renormalise=False or active=2"):
        Mixture(experts=4, active=1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"experts": 8, "active": 9}, "cannot visit 9 of 8 experts"),
        ({"experts": 8, "active": 0}, "cannot visit 0 of 8 experts"),
        ({"experts": 4, "shared": -1}, "0 or more, not -1"),
    ],
)
def test_impossible_mixtures_are_refused_with_their_numbers(fields, message):
    with pytest.raises(ValueError, match=message):
        Mixture(**fields)


@pytest.mark.parametrize("design", [Dense(expansion=0.05), Mixture(experts=2, expansion=0.05)])
def test_a_feedforward_without_a_hidden_channel_is_refused(design):
    with pytest.raises(ValueError, match="no hidden channel at width 6"):
        design.hidden(WIDTH)
