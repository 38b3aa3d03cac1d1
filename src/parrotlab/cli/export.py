"""``parrotlab export``."""

from __future__ import annotations

from pathlib import Path

from tyro.conf import Positional

from parrotlab.cli._show import say, show_json, show_table


def export(
    fingerprint: Positional[str],
    output: Positional[Path],
    *,
    store: Path = Path("results"),
    tokenizer: Path | None = None,
    license: str = "unknown",  # noqa: A002 (the hub's word)
    json: bool = False,
) -> int:
    """Write the model of a run as a Hugging Face folder, and certify that transformers computes the same.

    Args:
        fingerprint: The run, which must have been made with --keep-weights.
        output: The new folder.
        store: The folder of results.
        tokenizer: A tokenizer.json to put in; None for one whose words are the decimal numbers of tokens.
        license: Of the weights, for the model card.
        json: Print the certificate as JSON.
    """
    import json as codec

    from parrotlab.cli.sql import existing
    from parrotlab.model import huggingface
    from parrotlab.results.store import Store
    from parrotlab.run import trained
    from parrotlab.spec import encode

    run, model = trained(fingerprint, Store(existing(store)))
    card = huggingface.Card(task=f"`{codec.dumps(encode(run.task))}`", fingerprint=fingerprint, license=license)
    words = tokenizer.read_text() if tokenizer else ""
    certificate = vars(huggingface.export(model, output, tokenizer=words, card=card))
    if json:
        show_json(certificate)
    else:
        show_table([{"certificate": name.replace("_", " "), "value": value} for name, value in certificate.items()])
    say(f"the model: {output}")
    return 0
