"""Designs as the settings of transformers' architectures, and back; what one side cannot express is named."""

from __future__ import annotations

from typing import Any

from parrotlab.model.attention import Attention
from parrotlab.model.feedforwards.dense import Dense
from parrotlab.model.feedforwards.mixture import Mixture
from parrotlab.model.routers.top_k import TopK
from parrotlab.model.transformer import Transformer

ARCHITECTURES = ("mistral", "llama", "mixtral", "olmoe")

POSITIONS = 4096
"""Longest row that an exported folder announces; rotary positions themselves have no end."""


PLAIN_EXPERTS = "eager"
"""transformers' experts one after the other, for any width."""


def settings(design: Transformer, vocabulary: int, positions: int = POSITIONS) -> dict[str, Any]:
    """The fields of config.json, ``model_type`` among them; ValueError names what no architecture can express."""
    if missing := _inexpressible(design):
        raise ValueError(f"Mistral, Mixtral and OLMoE cannot express {'; '.join(missing)}: the export is refused")
    attention, feedforward = design.attention, design.feedforward
    fields = {
        "vocab_size": vocabulary,
        "hidden_size": design.width,
        "intermediate_size": feedforward.hidden(design.width),
        "num_hidden_layers": design.layers,
        "num_attention_heads": attention.heads,
        "num_key_value_heads": attention.heads // attention.group,
        "hidden_act": "silu",
        "rms_norm_eps": design.epsilon,
        "rope_parameters": {"rope_type": "default", "rope_theta": attention.rope_theta},
        "tie_word_embeddings": design.tied,
        "max_position_embeddings": positions,
        **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id")),  # our tasks know none; their defaults do
    }
    if isinstance(feedforward, Dense):
        return fields | {"model_type": "mistral", "sliding_window": None}
    assert isinstance(feedforward, Mixture)
    fields["num_experts_per_tok"] = feedforward.active
    if attention.qk_norm:
        return fields | {
            "model_type": "olmoe",
            "num_experts": feedforward.experts,
            "norm_topk_prob": feedforward.renormalise,
        }
    return fields | {"model_type": "mixtral", "num_local_experts": feedforward.experts, "sliding_window": None}


def grouped_products_fit(design: Transformer) -> bool:
    """Can transformers multiply all experts at once? torch wants rows of whole 16 bytes: 8 channels of bfloat16."""
    return isinstance(design.feedforward, Dense) or not (
        design.width % 8 or design.feedforward.hidden(design.width) % 8
    )


def foreign(configuration: Any) -> list[str]:
    """What of their configuration our model does not have."""

    def value(name: str) -> Any:
        return getattr(configuration, name, None)

    heads, rope = configuration.num_attention_heads, configuration.rope_parameters
    strange = [name for name in ("attention_bias", "mlp_bias", "clip_qkv", "quantization_config") if value(name)]
    if value("hidden_act") != "silu":
        strange.append(f"activation {value('hidden_act')!r}")
    if rope["rope_type"] != "default" or rope.get("partial_rotary_factor", 1.0) != 1.0:
        strange.append(f"rotary positions {rope}")
    if (value("head_dim") or configuration.hidden_size // heads) * heads != configuration.hidden_size:
        strange.append(f"{heads} heads of {value('head_dim')} channels at width {configuration.hidden_size}")
    if value("sliding_window") and value("sliding_window") < configuration.max_position_embeddings:
        strange.append(f"a sliding window of {value('sliding_window')} positions")
    if configuration.model_type == "olmoe" and heads > 1:
        strange.append(f"QK-norm over {heads} heads at once (ours is over each)")
    return strange


def design_of(configuration: Any) -> Transformer:
    """The design that their configuration describes."""
    heads, width = configuration.num_attention_heads, configuration.hidden_size
    is_olmoe, expansion = configuration.model_type == "olmoe", configuration.intermediate_size / width
    feedforward: Dense | Mixture = Dense(expansion=expansion)
    if configuration.model_type in ("mixtral", "olmoe"):
        feedforward = Mixture(
            experts=configuration.num_local_experts,
            active=configuration.num_experts_per_tok,
            expansion=expansion,
            renormalise=not is_olmoe or configuration.norm_topk_prob,
        )
    return Transformer(
        layers=configuration.num_hidden_layers,
        width=width,
        attention=Attention(
            heads=heads,
            group=heads // configuration.num_key_value_heads,
            qk_norm=is_olmoe,
            rope_theta=float(configuration.rope_parameters["rope_theta"]),
        ),
        feedforward=feedforward,
        tied=configuration.tie_word_embeddings,
        epsilon=configuration.rms_norm_eps,
    )


def _inexpressible(design: Transformer) -> list[str]:
    """What of a design no architecture has."""
    attention, feedforward = design.attention, design.feedforward
    assert isinstance(feedforward, (Dense, Mixture))
    missing = [] if feedforward.gated else ["ungated feed-forwards (GELU)"]
    if isinstance(feedforward, Dense):
        return missing + ["QK-norm in a dense model"] * attention.qk_norm
    if not isinstance(feedforward.router, TopK):
        missing.append(f"a router of type {type(feedforward.router).__name__}")
    if feedforward.shared:
        missing.append(f"shared experts ({feedforward.shared})")
    if attention.qk_norm and attention.heads > 1:
        missing.append(f"QK-norm over each of {attention.heads} heads (OLMoE's is over all at once)")
    if not (attention.qk_norm or feedforward.renormalise):
        missing.append("expert weights that do not sum to 1, without QK-norm (OLMoE always has it)")
    return missing
