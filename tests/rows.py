"""Rows of every benchmark, varied from the examples that its task file shows: a data folder of our own making."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from parrotlab.evals import harness

WORKED = [[f"A parrot has {n} seeds and finds 2. How many has it?", f"The answer is {n + 2}."] for n in range(8)]


def varied(example: dict[str, Any], number: int) -> dict[str, Any]:
    """The example with a number in its words, and its choices turned."""
    row = dict(example)
    for name in ("question", "context", "prompt"):
        if row.get(name):
            row[name] = f"{number}. {row[name]}"
    if "choices" in row:
        turn = number % len(row["choices"])
        row["choices"] = row["choices"][turn:] + row["choices"][:turn]
        row["label"] = (row["label"] - turn) % len(row["choices"])
    return row


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """As JSON Lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def fill(folder: Path, count: int = 12) -> Path:
    """A data folder with so many rows in every file that a benchmark reads."""
    for benchmark in harness.benchmarks().values():
        for number, name in enumerate((benchmark.items, benchmark.shots)):
            if name and "#" not in name and not (folder / f"{name}.jsonl").exists():
                rows = [varied(benchmark.about["example"], 100 * number + n) for n in range(count)]
                write(folder / f"{name}.jsonl", rows)
    (folder / "prompts").mkdir(exist_ok=True)
    (folder / "prompts" / "cot_fewshot.json").write_text(json.dumps({"gsm8k": WORKED, "minerva_math": WORKED[:4]}))
    return folder
