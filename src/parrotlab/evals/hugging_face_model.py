"""Hugging Face models as lm-evaluation-harness's own backend asks them, from a folder or the hub's local cache."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lm_eval.models.huggingface import HFLM  # type: ignore[import-not-found]
from torch import nn

from parrotlab.text.corpus import file_sha256
from parrotlab.text.hub import DataError

ROW_TOKENS = 512
"""A row of a batch is taken to be so long: lm-eval's batches count rows."""
EXPERTS, CHOSEN = ("num_local_experts", "num_experts", "n_routed_experts"), "num_experts_per_tok"
"""What configurations call the experts of a layer, and those that a token visits."""


class HuggingFaceModel(HFLM):
    """lm-eval's backend, which also notes the items whose context did not fit (``cut``)."""

    def __init__(self, folder: Path, device: str, batch_tokens: int) -> None:
        super().__init__(
            pretrained=str(folder),
            device=device,
            dtype="float32" if device.startswith("cpu") else "auto",
            batch_size=max(1, batch_tokens // ROW_TOKENS),
        )
        self.cut: set[int] = set()
        self._items: list[int] = []

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """As lm-eval's."""
        self.cut.clear()
        self._items = [request.doc_id for request in requests]
        return super().loglikelihood(requests, disable_tqdm=disable_tqdm)

    def _loglikelihood_tokens(self, requests: Sequence[Any], *words: Any, **named: Any) -> list[tuple[float, bool]]:
        for item, (_, context, continuation) in zip(self._items, requests):
            if len(context) + len(continuation) > self.max_length + 1:
                self.cut.add(item)
        return super()._loglikelihood_tokens(requests, *words, **named)

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """As lm-eval's; where the model's context is short, half of it is left to the prompt, as with our models."""
        self.cut.clear()
        for request in requests:
            context, asked = request.args
            asked["max_gen_toks"] = min(asked.get("max_gen_toks", self.max_gen_toks), self.max_length // 2)
            if len(self.tok_encode(context)) > self.max_length - asked["max_gen_toks"]:
                self.cut.add(request.doc_id)
        return super().generate_until(requests, disable_tqdm=disable_tqdm)


def local_folder(name: str) -> Path:
    """The folder of a model: itself, or where the hub's cache keeps it. Nothing is fetched."""
    folder = Path(name).expanduser()
    if (folder / "config.json").is_file():
        return folder
    if folder.is_dir() or name.startswith((".", "/", "~")):
        raise DataError(f"{name} is not a Hugging Face model: it has no config.json")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except Exception as error:  # of any kind: no such name, not in the cache
        del error
        raise DataError(
            f"the model {name} is neither a folder nor in the local cache of the Hugging Face hub, and nothing is "
            f"fetched while models are examined: run `hf download {name}` where there is a network"
        ) from None


def identity(folder: Path) -> str:
    """16 hexadecimal digits of the SHA-256 of its configuration and weights."""
    files = sorted(path for path in folder.iterdir() if path.name == "config.json" or path.suffix == ".safetensors")
    return hashlib.sha256("".join(map(file_sha256, files)).encode()).hexdigest()[:16]


def counts(model: nn.Module, configuration: Any) -> dict[str, int]:
    """Parameters, with the names of ``model.count``: a token touches all of them but the experts it does not choose."""
    text = configuration.get_text_config()
    experts = next((count for name in EXPERTS if (count := getattr(text, name, None))), 1)
    chosen = getattr(text, CHOSEN, None) or experts
    sizes = {name: weight.numel() for name, weight in model.named_parameters()}  # a tied head is named once
    in_experts = sum(size for name, size in sizes.items() if ".experts." in name)
    ends = {id(layer.weight): layer.weight.numel() for layer in _ends(model)}
    total, unchosen = sum(sizes.values()), in_experts * (experts - chosen) // experts
    return {
        "total_parameters": total,
        "active_parameters": total - unchosen,
        "total_body_parameters": total - sum(ends.values()),
        "active_body_parameters": total - unchosen - sum(ends.values()),
    }


def _ends(model: Any) -> list[Any]:
    """Its embedding and its head, where it has them."""
    return [layer for layer in (model.get_input_embeddings(), model.get_output_embeddings()) if layer is not None]
