"""Hugging Face in and out: our models as folders of transformers, each with a certificate that both compute the same.

| architecture    | is ours with                                                                     |
|-----------------|----------------------------------------------------------------------------------|
| Mistral, Llama  | gated dense feed-forwards                                                        |
| Mixtral         | gated mixtures, top-k, renormalised weights                                      |
| OLMoE           | gated mixtures, top-k, weights of either kind, QK-norm, and a single head        |

OLMoE normalises queries and keys over all heads at once, we over each head: the two are equal for one head only.
What an architecture cannot express is refused, never approximated.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from parrotlab.model._huggingface_settings import (
    ARCHITECTURES,
    PLAIN_EXPERTS,
    POSITIONS,
    design_of,
    foreign,
    grouped_products_fit,
    settings,
)
from parrotlab.model._model_card import PLAIN, Card, model_card
from parrotlab.model.attention import AttentionLayer
from parrotlab.model.feedforwards.dense import DenseLayer
from parrotlab.model.feedforwards.mixture import MixtureLayer
from parrotlab.model.routers.top_k import TopKRouter
from parrotlab.model.transformer import Block, LanguageModel
from parrotlab.seeds import stream
from parrotlab.text.tokenizer import ENDS

CERTIFIED = (4, 32)
"""Rows and positions of the random tokens on which a certificate is made."""

TOLERANCE = 1e-3
"""Largest difference of two logits, over their standard deviation, that rounding in float32 may explain."""


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """How far our logits and transformers' agree, in float32, on the same random tokens."""

    architecture: str
    tokens: int
    largest_difference: float
    """Of two logits."""
    deviation: float
    """Standard deviation of the logits: the scale on which to read the difference."""
    same_experts: tuple[float, ...]
    """For each mixture layer, the fraction of tokens that both send to the same set of experts."""


def export(
    model: LanguageModel, folder: Path, *, tokenizer: str = "", positions: int = POSITIONS, card: Card = PLAIN
) -> Certificate:
    """Writes a model as a folder that ``AutoModelForCausalLM`` loads; the folder appears whole and certified, or not.

    ``tokenizer`` is the text of a tokenizer.json. Without one, a word is the decimal number of a token: "12 7 40".
    """
    engine = _engine()
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ValueError(f"{folder} exists already: name a new folder")
    configuration = engine.AutoConfig.for_model(**settings(model.design, model.vocabulary, positions))
    theirs = engine.AutoModelForCausalLM.from_config(configuration, dtype=torch.float32)
    theirs.load_state_dict(views(model), strict=True)
    theirs.generation_config.do_sample = False  # as in our evaluations: the likeliest token
    end, end_token = _end_of(tokenizer)
    theirs.config.eos_token_id = theirs.generation_config.eos_token_id = end_token
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as hidden:
        draft = Path(hidden) / folder.name
        theirs.save_pretrained(draft)
        if not grouped_products_fit(model.design):
            _add(draft / "config.json", {"experts_implementation": PLAIN_EXPERTS})
        (draft / "tokenizer.json").write_text(tokenizer or decimal_tokenizer(model.vocabulary))
        told = {"tokenizer_class": "PreTrainedTokenizerFast"} | ({"eos_token": end} if end else {})
        (draft / "tokenizer_config.json").write_text(json.dumps(told))
        _check_tokenizer(engine, draft, model.vocabulary)
        certificate = certify(model, _read(engine, draft), configuration.model_type)
        (draft / "README.md").write_text(model_card(model, vars(certificate), bool(tokenizer), card))
        os.replace(draft, folder)
    return certificate


def load(folder: Path) -> tuple[LanguageModel, Certificate]:
    """A Mistral, Llama, Mixtral or OLMoE of a local folder as our model, in float32."""
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} is not a Hugging Face model: it has no config.json")
    engine = _engine()
    try:
        architecture = json.loads((folder / "config.json").read_text()).get("model_type")
    except ValueError as error:
        raise ValueError(f"{folder / 'config.json'} is not JSON: {error}") from None
    if architecture not in ARCHITECTURES:
        raise ValueError(f"{folder} holds the architecture {architecture!r}: expected {', '.join(ARCHITECTURES)}")
    configuration = engine.AutoConfig.from_pretrained(folder, local_files_only=True)
    if strange := foreign(configuration):
        raise ValueError(f"{folder} asks for what our model cannot express: {'; '.join(strange)}")
    theirs = _read(engine, folder)
    model = LanguageModel(design_of(configuration), configuration.vocab_size)
    weights, places = theirs.state_dict(), views(model)
    assert weights.keys() == places.keys(), f"{architecture} has other weights: {weights.keys() ^ places.keys()}"
    with torch.no_grad():
        for name, place in places.items():
            place.copy_(weights[name])
    return model, certify(model, theirs, architecture)


def certify(model: LanguageModel, theirs: Any, architecture: str) -> Certificate:
    """Compares the two on random tokens; ValueError where they differ by more than rounding."""
    tokens_BT = torch.from_numpy(stream("certificate", model.vocabulary).integers(model.vocabulary, size=CERTIFIED))
    tokens_BT = tokens_BT.to(model.embedding_VD.device)
    with torch.no_grad():
        ours_BTV, routings = model(tokens_BT)
        asked = {"output_router_logits": True} if routings else {}
        output = theirs.to(tokens_BT.device)(tokens_BT, use_cache=False, **asked)
    chosen = [routing.experts_NA for routing in routings]
    same = [
        (ours_NA.sort().values == logits_NE.topk(ours_NA.shape[-1]).indices.sort().values).all(dim=-1)
        for ours_NA, logits_NE in zip(chosen, output.router_logits if routings else ())
    ]
    certificate = Certificate(
        architecture=architecture,
        tokens=tokens_BT.numel(),
        largest_difference=(ours_BTV - output.logits).abs().max().item(),
        deviation=ours_BTV.std().item(),
        same_experts=tuple(same_N.float().mean().item() for same_N in same),
    )
    if not certificate.largest_difference <= TOLERANCE * certificate.deviation:
        raise ValueError(
            f"our logits and those of transformers' {architecture} differ by {certificate.largest_difference:.2g} "
            f"at a standard deviation of {certificate.deviation:.2g}: they are not the same model"
        )
    return certificate


def views(model: LanguageModel) -> dict[str, Tensor]:
    """Our weights under their names: views, so that copying into them loads a model.

    They keep [outputs, inputs], we keep [inputs, outputs]; they keep queries, keys and values apart, we do not.
    """
    assert not model.stack, "a stack of models has no place in one folder: take a replica"
    named = {
        "model.embed_tokens.weight": model.embedding_VD,
        "model.norm.weight": model.norm.weight_D,
        "lm_head.weight": model.embedding_VD if model.design.tied else model.head_DV.mT,
    }
    for layer, block in enumerate(model.blocks):
        assert isinstance(block, Block)
        named |= {f"model.layers.{layer}.{name}": view for name, view in _block_views(block).items()}
    return {name: view.detach() for name, view in named.items()}


def decimal_tokenizer(vocabulary: int) -> str:
    """A tokenizer.json whose words, parted by spaces, are the numbers of the tokens: "0" to the vocabulary's last."""
    words = {str(token): token for token in range(vocabulary)}
    return json.dumps(
        {
            "version": "1.0",
            "added_tokens": [],
            "pre_tokenizer": {"type": "WhitespaceSplit"},
            # an unknown word is an error: no token stands for it
            "model": {"type": "WordLevel", "vocab": words, "unk_token": "<unknown>"},
        }
    )


def _block_views(block: Block) -> dict[str, Tensor]:
    attention, feedforward = block.attention, block.feedforward
    assert isinstance(attention, AttentionLayer)
    query, key, value = attention.qkv_DK.split(attention.columns, dim=-1)
    named = {
        "input_layernorm.weight": block.attention_norm.weight_D,
        "post_attention_layernorm.weight": block.feedforward_norm.weight_D,
        "self_attn.q_proj.weight": query.mT,
        "self_attn.k_proj.weight": key.mT,
        "self_attn.v_proj.weight": value.mT,
        "self_attn.o_proj.weight": attention.out_KD.mT,
    }
    if attention.design.qk_norm:
        named["self_attn.q_norm.weight"] = attention.query_norm.weight_D
        named["self_attn.k_norm.weight"] = attention.key_norm.weight_D
    if isinstance(feedforward, DenseLayer):
        gate, up = feedforward.up_DG.chunk(2, dim=-1)
        return named | {
            "mlp.gate_proj.weight": gate.mT,
            "mlp.up_proj.weight": up.mT,
            "mlp.down_proj.weight": feedforward.down_FD.mT,
        }
    assert isinstance(feedforward, MixtureLayer)
    assert isinstance(feedforward.router, TopKRouter)
    return named | {
        "mlp.gate.weight": feedforward.router.weight_DE.mT,
        "mlp.experts.gate_up_proj": feedforward.up_EDG.mT,
        "mlp.experts.down_proj": feedforward.down_EFD.mT,
    }


def _read(engine: Any, folder: Path) -> Any:
    """Their model in float32; ValueError where a weight is absent, too many or broken: they would make it up."""
    try:
        theirs, told = engine.AutoModelForCausalLM.from_pretrained(
            folder,
            output_loading_info=True,
            local_files_only=True,
            use_safetensors=True,
            dtype=torch.float32,
            experts_implementation=PLAIN_EXPERTS,
        )
    except (OSError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"the weights in {folder} cannot be read: {error}") from None
    if wrong := {what: sorted(map(str, names)) for what, names in told.items() if names}:
        raise ValueError(f"the weights in {folder} are not those of its config.json: {wrong}")
    return theirs


def _end_of(tokenizer: str) -> tuple[str, int | None]:
    """The token of a tokenizer.json that ends a text, and its number, if one does."""
    try:
        added = json.loads(tokenizer)["added_tokens"]
        tokens = {entry["content"]: entry["id"] for entry in added}
    except (ValueError, KeyError, TypeError):
        return "", None  # what is no tokenizer.json is refused when it is read
    end = next((end for end in ENDS if end in tokens), "")
    return end, tokens.get(end)


def _check_tokenizer(engine: Any, folder: Path, vocabulary: int) -> None:
    try:
        words = len(engine.AutoTokenizer.from_pretrained(folder, local_files_only=True))
    except Exception as error:  # tokenizers raises nothing narrower
        raise ValueError(f"the tokenizer is not a tokenizer.json: {error}") from None
    if words > vocabulary:
        raise ValueError(f"the tokenizer has {words} tokens and the model {vocabulary}: it is another model's")


def _add(path: Path, fields: dict[str, Any]) -> None:
    """Fields that transformers reads from a config.json, but does not write."""
    path.write_text(json.dumps(json.loads(path.read_text()) | fields, indent=2, sort_keys=True) + "\n")


def _engine() -> Any:
    """transformers, without its progress bars: nothing below the command line prints."""
    try:
        import transformers
    except ImportError:
        raise ValueError("Hugging Face models need transformers: pip install 'transformers>=5'") from None
    transformers.utils.logging.disable_progress_bar()
    return transformers
