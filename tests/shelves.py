"""Small texts for tests: documents of different length, written as JSON Lines and prepared as a corpus."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from parrotlab.seeds import stream
from parrotlab.text.mixtures import Source, TextMixture
from parrotlab.text.preparation import Settings, prepare


def sentences(name: str, count: int) -> list[str]:
    """Documents of different length that share a few words and no window of a row."""
    draw = stream("sentences", name)
    words = [[f"{number:x}" for number in draw.integers(1 << 20, size=3 + n % 20)] for n in range(count)]
    return [f"{name} {n}: the parrot says {' '.join(numbers)}" for n, numbers in enumerate(words)]


class Shelf:
    """A data folder in which corpora are prepared."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, texts: list[str]) -> Source:
        """A JSON Lines file, as one of two sources."""
        path = self.folder / "raw" / f"{name}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        return Source(name=name, place=str(path), weight=0.5)

    def prepare(self, *sources: Source, name: str = "small", **settings: Any) -> dict[str, Any]:
        """The manifest of a corpus made of these sources."""
        folder = self.folder / "prepared" / name
        for _ in prepare(TextMixture(name=name, sources=sources), folder, Settings(**settings), workers=1):
            pass
        return json.loads((folder / "manifest.json").read_text())
