"""What every benchmark says of itself: the hardware, the versions, and a JSON file."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import Any


def hardware() -> dict[str, Any]:
    """Processor, cores, and the accelerator where torch is there to name it."""
    told = {"processor": _processor(), "cores": os.cpu_count(), "system": platform.platform()}
    try:
        import torch
    except ImportError:
        return told
    return told | {"device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"}


def versions(*packages: str) -> dict[str, str]:
    """Of Python and of those packages that are installed."""
    told = {"python": platform.python_version()}
    for package in packages:
        try:
            told[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            told[package] = "not installed"
    return told


def write(path: Path, results: dict[str, Any], *packages: str) -> None:
    """Results with hardware and versions, as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    told = {"hardware": hardware(), "versions": versions("numpy", "torch", *packages), "results": results}
    path.write_text(json.dumps(told, indent=2) + "\n")
    print(f"written to {path}")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())
