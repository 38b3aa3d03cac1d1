"""``parrotlab pack``."""

from __future__ import annotations

from pathlib import Path

from tyro.conf import Positional

from parrotlab.cli._show import say, show_json, show_table


def pack(
    folder: Positional[Path],
    *,
    group: str = "",
    benchmarks: tuple[str, ...] = (),
    include_path: tuple[Path, ...] = (),
    json: bool = False,
) -> int:
    """Gather the rows of benchmarks in one folder, with hashes, licences and sources, to be asked without a network.

    Args:
        folder: A new folder, or an older pack to add to.
        group: knowledge, commonsense, math, probes, or own; without it, all but the probes.
        benchmarks: By name instead.
        include_path: Folders with task files of your own.
        json: Print the manifest.
    """
    import json as codec

    from parrotlab.evals import harness, packing

    known = harness.benchmarks(include_path)
    for name in packing.pack(folder, harness.chosen(known, benchmarks, group), known):
        say(name)
    manifest = codec.loads((folder / packing.MANIFEST).read_text())
    if json:
        show_json(manifest)
        return 0
    kept = ("rows", "bytes", "licence", "source")
    show_table([{"file": name} | {field: facts[field] for field in kept} for name, facts in manifest["files"].items()])
    say(f"the pack: {folder}; ask it with parrotlab eval MODEL --pack {folder}")
    return 0
