"""What every benchmark tells of itself: the machine, the versions, and where the numbers went."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path

from parrotlab.results.provenance import provenance


def hardware() -> dict[str, object]:
    """Processor, accelerator if torch sees one, commit and versions."""
    facts: dict[str, object] = {"processor": _processor(), "cores": os.cpu_count(), **provenance()}
    try:
        import torch

        facts["accelerator"] = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    except ImportError:
        pass
    return facts


def write(path: Path, data: dict[str, object]) -> None:
    """Writes the numbers as JSON and says where."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=1) + "\n")
    print(f"wrote {path}")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
