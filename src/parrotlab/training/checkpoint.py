"""Checkpoints: safetensors, never pickle, written beside the old one and put in its place by a rename."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor


def write(path: Path, tensors: dict[str, Tensor], notes: dict[str, Any]) -> None:
    """Replaces the file at once or not at all; ``notes`` is JSON and travels in the header."""
    data = save(
        {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}, {"notes": json.dumps(notes)}
    )
    fresh = path.with_name(f".{path.name}.new")
    with open(fresh, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)


def read_notes(path: Path) -> dict[str, Any]:
    """The notes alone, without reading a tensor. ValueError as from ``read``."""
    try:
        with safe_open(path, framework="pt") as file:
            return json.loads((file.metadata() or {}).get("notes", "{}"))
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole checkpoint ({error}): delete it to train from the start") from None


def read(path: Path, device: str = "cpu") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What ``write`` wrote. ValueError names the file if it is not a whole checkpoint."""
    try:
        with safe_open(path, framework="pt", device=device) as file:
            notes = json.loads((file.metadata() or {}).get("notes", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, notes  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole checkpoint ({error}): delete it to train from the start") from None
