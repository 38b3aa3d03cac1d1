"""``parrotlab import``."""

from __future__ import annotations

from pathlib import Path

from tyro.conf import Positional

from parrotlab.cli._show import show_json, show_table


def import_(folder: Positional[Path], *, length: int = 1024, json: bool = False) -> int:
    """Read a Hugging Face Mistral, Llama, Mixtral or OLMoE; print its design, counts and certificate.

    Args:
        folder: The local folder with config.json and safetensors.
        length: Tokens of a row, which attention's FLOPs depend on.
        json: Print JSON.
    """
    from parrotlab.model import huggingface
    from parrotlab.model.count import count
    from parrotlab.spec import encode, flatten

    model, certificate = huggingface.load(folder)
    design = encode(model.design) | {"vocabulary": model.vocabulary}
    counts = count(model.design, model.vocabulary).row(length)
    if json:
        show_json({"design": design, "counts": counts, "certificate": vars(certificate)})
        return 0
    for title, part in (("design", flatten(design)), ("counts", counts), ("certificate", vars(certificate))):
        show_table([{title: name.replace("_", " "), "value": value} for name, value in part.items()])
    return 0
