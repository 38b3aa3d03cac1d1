"""``parrotlab size``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from parrotlab.cli._designs import feedforward
from parrotlab.cli._show import say, show_json, show_table

if TYPE_CHECKING:  # they import torch
    from parrotlab.model.feedforwards.dense import Dense
    from parrotlab.model.feedforwards.mixture import Mixture
    from parrotlab.model.transformer import Transformer


def size(
    *,
    width: int = 256,
    layers: int = 4,
    heads: int = 4,
    experts: int = 0,
    active: int = 2,
    shared: int = 0,
    expansion: float = 1.0,
    gated: bool = False,
    group: int = 1,
    tied: bool = False,
    vocabulary: int = 32_000,
    length: int = 1024,
    tokens: int = 16_384,
    against: int = 0,
    free: Literal["expansion", "width"] = "expansion",
    family: Literal["none", "paper"] = "none",
    json: bool = False,
) -> int:
    """Count a design's parameters, FLOPs and bytes, and find the designs that match it.

    Args:
        width: Channels of the residual stream.
        layers: Blocks.
        heads: Attention heads.
        experts: Experts of each mixture; 0 for dense feed-forwards.
        active: Experts that a token visits.
        shared: Further experts that serve every token.
        expansion: Hidden width of a feed-forward, or of one expert, over the width.
        gated: Feed-forwards are SwiGLU rather than GELU.
        group: Query heads that share one key and value head.
        tied: The head is the embedding.
        vocabulary: Distinct tokens.
        length: Tokens of a row, which attention's FLOPs depend on.
        tokens: Tokens of a batch, which activation memory depends on.
        against: Experts of the designs to match with; 0 for dense ones.
        free: What of them may change until they match: their hidden width (expansion) or their width.
        family: Is paper for all models of the paper's pre-training: the sizes it lists beside ours. No other option
            but json has a say then.
        json: Print JSON.
    """
    if family == "paper":
        return _paper(json)
    from parrotlab.model.attention import Attention
    from parrotlab.model.count import count
    from parrotlab.model.transformer import Transformer

    own = feedforward(experts, active, shared, expansion, gated)
    attention = Attention(heads=heads, group=group)
    base = Transformer(layers=layers, width=width, attention=attention, feedforward=own, tied=tied)
    counts = count(base, vocabulary)
    sizes = counts.row(length) | {"activation_bytes": counts.activation_bytes(tokens)}
    matches = _matches(base, feedforward(against, active, 0, expansion, gated), free, vocabulary, length)
    if json:
        show_json({"counts": sizes, "matches": matches})
        return 0
    show_table([{"of this design": name.replace("_", " "), "value": value} for name, value in sizes.items()])
    say(f"activations: of a batch of {tokens:,} tokens, within a factor of 2; FLOPs: in rows of {length:,} tokens")
    refusals = [match for match in matches if "refused" in match]
    show_table([_line(match) for match in matches if "refused" not in match])
    for match in refusals:
        say(f"same {match['same']}: {match['refused']}")
    return 0


def _paper(json: bool) -> int:
    """The paper's family with both countings."""
    from dataclasses import asdict

    from parrotlab.model import paper

    models = [
        asdict(model) | {"total_off_by": model.total_off_by, "active_off_by": model.active_off_by}
        for model in paper.listed()
    ]
    if json:
        show_json({"vocabulary": paper.VOCABULARY, "layers": paper.LAYERS, "models": models})
        return 0
    show_table(
        [
            {
                "width": model["width"],
                "experts": model["experts"] if model["experts"] > 1 else "dense",
                "listed total": f"{model['listed_total']}M",
                "total": f"{model['total'] / 1e6:.2f}M",
                "off by": f"{model['total_off_by']:+.2%}",
                "listed active": f"{model['listed_active']}M",
                "active": f"{model['active'] / 1e6:.2f}M",
                "active off by": f"{model['active_off_by']:+.2%}",
            }
            for model in models
        ]
    )
    say(
        f"{paper.LAYERS} layers, a tied vocabulary of {paper.VOCABULARY:,}; counted as the paper does: without norms, "
        "and active parameters without routers. It lists whole millions."
    )
    return 0


def _matches(
    base: Transformer, peer: Dense | Mixture, free: Literal["expansion", "width"], vocabulary: int, length: int
) -> list[dict[str, Any]]:
    """For each rule the matched design and what it is off by under all four, or why there is none."""
    from parrotlab.model import family

    matches: list[dict[str, Any]] = []
    for rule in family.RULES:
        try:
            design = family.matched(base, peer, rule, vocabulary=vocabulary, length=length, free=free)
        except ValueError as refusal:
            matches.append({"same": rule, "refused": str(refusal)})
            continue
        matches.append(
            {
                "same": rule,
                "width": design.width,
                "experts": getattr(design.feedforward, "experts", 0),
                "hidden_width": design.feedforward.hidden(design.width),
                "off_by": family.residuals(base, design, vocabulary=vocabulary, length=length),
            }
        )
    return matches


def _line(match: dict[str, Any]) -> dict[str, Any]:
    residuals = {f"{rule} off by": f"{residual:+.1%}" for rule, residual in match["off_by"].items()}
    return {name.replace("_", " "): value for name, value in match.items() if name != "off_by"} | residuals
