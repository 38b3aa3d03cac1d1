"""The README of an exported model: what it is, how large, where it came from, and that it is the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from parrotlab.model.count import count
from parrotlab.model.transformer import LanguageModel
from parrotlab.spec import encode


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a model cannot tell of itself."""

    task: str = ""
    """What it was trained on, in words or as the spec of a task."""
    fingerprint: str = ""
    """Of the run that trained it."""
    license: str = "unknown"
    """Of the weights: an identifier of the hub, such as apache-2.0."""


PLAIN = Card()


def model_card(model: LanguageModel, certificate: Mapping[str, Any], has_tokenizer: bool, card: Card) -> str:
    """The text of README.md, with the header that the hub reads."""
    counts = count(model.design, model.vocabulary)
    decimal = f'a word is the decimal number of a token, "0" to "{model.vocabulary - 1}"'
    agreement = (
        f"Largest difference of two logits {certificate['largest_difference']:.2g}, at a standard deviation of "
        f"{certificate['deviation']:.2g}, in float32 on {certificate['tokens']} random tokens."
    )
    if certificate["same_experts"]:
        shares = ", ".join(f"{share:.4f}" for share in certificate["same_experts"])
        agreement += f" Fraction of tokens sent to the same experts, by layer: {shares}."
    lines = [
        "---",
        f"license: {card.license}",
        "library_name: transformers",
        "pipeline_tag: text-generation",
        "tags: [parrotlab]",
        "---",
        "",
        f"# A {certificate['architecture'].capitalize()} from parrotlab",
        "",
        f"- **Parameters**: {counts.total:,} in total, {counts.active:,} active for one token",
        f"- **Trained on**: {card.task or 'not stated'}",
        f"- **Run**: {card.fingerprint or 'not stated'}",
        f"- **Licence of the weights**: {card.license}",
        f"- **Tokenizer**: {'its own' if has_tokenizer else decimal}",
        f"- **Agreement of parrotlab and transformers**: {agreement}",
        "",
        "## Design",
        "",
        "```json",
        json.dumps(encode(model.design), indent=1),
        "```",
    ]
    return "\n".join(lines) + "\n"
