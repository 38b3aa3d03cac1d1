"""Our logits are those of transformers' Mistral, Mixtral and OLMoE on the same weights."""

from dataclasses import replace

import pytest
import torch

from parrotlab.model.attention import Attention
from parrotlab.model.feedforwards.dense import Dense
from parrotlab.model.feedforwards.mixture import Mixture
from parrotlab.model.huggingface import settings, views
from parrotlab.model.transformer import Transformer, build

transformers = pytest.importorskip("transformers", reason="compares with transformers: pip install parrotlab[test]")

VOCABULARY = 61
ATTENTIONS = [Attention(heads=4), Attention(heads=4, group=2), Attention(heads=6, group=3, rope_theta=500.0)]


def largest_difference(design: Transformer, kind: type) -> float:
    model, generator = build(design, VOCABULARY, seeds=0), torch.Generator().manual_seed(1)
    configuration = transformers.AutoConfig.for_model(**settings(design, VOCABULARY))
    theirs = transformers.AutoModelForCausalLM.from_config(configuration)
    assert isinstance(theirs, kind)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:  # fresh norms are 1, and would hide a norm in the wrong place
                weight += 0.3 * torch.randn(weight.shape, generator=generator)
        theirs.load_state_dict(views(model), strict=True)
        tokens_BT = torch.randint(VOCABULARY, (3, 20), generator=generator)
        ours_BTV, theirs_BTV = model(tokens_BT)[0], theirs.float().eval()(tokens_BT).logits
    assert theirs_BTV.std() > 0.1, "logits near zero agree with anything"
    return (ours_BTV - theirs_BTV).abs().max().item()


@pytest.mark.parametrize("attention", ATTENTIONS, ids=["all heads", "groups of 2", "groups of 3"])
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_a_dense_model_is_a_mistral(attention, tied):
    design = Transformer(layers=3, width=48, attention=attention, feedforward=Dense(expansion=1.5), tied=tied)
    assert largest_difference(design, transformers.MistralForCausalLM) < 1e-5


@pytest.mark.parametrize("attention", ATTENTIONS, ids=["all heads", "groups of 2", "groups of 3"])
@pytest.mark.parametrize("active", [2, 3])
def test_a_mixture_model_is_a_mixtral(attention, active):
    feedforward = Mixture(experts=5, active=active)
    design = Transformer(layers=3, width=48, attention=attention, feedforward=feedforward)
    assert largest_difference(design, transformers.MixtralForCausalLM) < 1e-5


@pytest.mark.parametrize("renormalise", [False, True])
@pytest.mark.parametrize("active", [2, 3])
def test_a_mixture_of_one_head_with_qk_norm_is_an_olmoe(renormalise, active):
    feedforward = Mixture(experts=5, active=active, renormalise=renormalise)
    attention = Attention(heads=1, qk_norm=True)
    design = Transformer(layers=3, width=48, attention=attention, feedforward=feedforward)
    assert largest_difference(design, transformers.OlmoeForCausalLM) < 1e-5
    if not renormalise:
        switch = replace(design, feedforward=replace(feedforward, active=1))
        assert largest_difference(switch, transformers.OlmoeForCausalLM) < 1e-5
