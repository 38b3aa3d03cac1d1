"""Our logits are those of transformers' Mistral and Mixtral on the same weights."""

import pytest
import torch
from torch import Tensor

from parrotlab.model.attention import Attention
from parrotlab.model.feedforwards.dense import Dense
from parrotlab.model.feedforwards.mixture import Mixture
from parrotlab.model.transformer import LanguageModel, Transformer, build

transformers = pytest.importorskip("transformers", reason="compares with transformers: pip install parrotlab[test]")

VOCABULARY = 61
ATTENTIONS = [Attention(heads=4), Attention(heads=4, group=2), Attention(heads=6, group=3, rope_theta=500.0)]


def configuration(kind: type, design: Transformer, **more):
    return kind(
        vocab_size=VOCABULARY,
        hidden_size=design.width,
        intermediate_size=design.feedforward.hidden(design.width),
        num_hidden_layers=design.layers,
        num_attention_heads=design.attention.heads,
        num_key_value_heads=design.attention.heads // design.attention.group,
        rms_norm_eps=design.epsilon,
        rope_parameters={"rope_type": "default", "rope_theta": design.attention.rope_theta},
        tie_word_embeddings=design.tied,
        sliding_window=None,
        max_position_embeddings=128,
        **more,
    )


def theirs_from_ours(model: LanguageModel) -> dict[str, Tensor]:
    """Our weights under their names. They keep [outputs, inputs], we keep [inputs, outputs]."""
    head = model.embedding_VD if model.design.tied else model.head_DV.mT
    weights = {
        "model.embed_tokens.weight": model.embedding_VD,
        "model.norm.weight": model.norm.weight_D,
        "lm_head.weight": head,
    }
    for layer, block in enumerate(model.blocks):
        query, key, value = block.attention.qkv_DK.split(block.attention.columns, dim=-1)
        feedforward = block.feedforward
        named = {
            "input_layernorm.weight": block.attention_norm.weight_D,
            "post_attention_layernorm.weight": block.feedforward_norm.weight_D,
            "self_attn.q_proj.weight": query.mT,
            "self_attn.k_proj.weight": key.mT,
            "self_attn.v_proj.weight": value.mT,
            "self_attn.o_proj.weight": block.attention.out_KD.mT,
        }
        if isinstance(model.design.feedforward, Dense):
            gate, up = feedforward.up_DG.chunk(2, dim=-1)
            named |= {
                "mlp.gate_proj.weight": gate.mT,
                "mlp.up_proj.weight": up.mT,
                "mlp.down_proj.weight": feedforward.down_FD.mT,
            }
        else:
            named |= {
                "mlp.gate.weight": feedforward.router.weight_DE.mT,
                "mlp.experts.gate_up_proj": feedforward.up_EDG.mT,
                "mlp.experts.down_proj": feedforward.down_EFD.mT,
            }
        weights |= {f"model.layers.{layer}.{name}": weight for name, weight in named.items()}
    return weights


def largest_difference(model: LanguageModel, theirs) -> float:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:  # fresh norms are 1, and would hide a norm in the wrong place
                weight += 0.3 * torch.randn(weight.shape, generator=generator)
        theirs.load_state_dict(theirs_from_ours(model), strict=True)
        tokens_BT = torch.randint(VOCABULARY, (3, 20), generator=generator)
        ours_BTV, theirs_BTV = model(tokens_BT)[0], theirs.float().eval()(tokens_BT).logits
    assert theirs_BTV.std() > 0.1, "logits near zero agree with anything"
    return (ours_BTV - theirs_BTV).abs().max().item()


@pytest.mark.parametrize("attention", ATTENTIONS, ids=["all heads", "groups of 2", "groups of 3"])
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_a_dense_model_is_a_mistral(attention, tied):
    design = Transformer(layers=3, width=48, attention=attention, feedforward=Dense(expansion=1.5), tied=tied)
    theirs = transformers.MistralForCausalLM(configuration(transformers.MistralConfig, design))
    assert largest_difference(build(design, VOCABULARY, seeds=0), theirs) < 1e-5


@pytest.mark.parametrize("attention", ATTENTIONS, ids=["all heads", "groups of 2", "groups of 3"])
@pytest.mark.parametrize("active", [2, 3])
def test_a_mixture_model_is_a_mixtral(attention, active):
    feedforward = Mixture(experts=5, active=active)
    design = Transformer(layers=3, width=48, attention=attention, feedforward=feedforward)
    experts = {"num_local_experts": feedforward.experts, "num_experts_per_tok": active}
    theirs = transformers.MixtralForCausalLM(configuration(transformers.MixtralConfig, design, **experts))
    assert largest_difference(build(design, VOCABULARY, seeds=0), theirs) < 1e-5
