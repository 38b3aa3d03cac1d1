"""``parrotlab prepare``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tyro.conf import Positional

from parrotlab.cli._show import say, short, show_json, show_table, words

if TYPE_CHECKING:
    from parrotlab.text.mixtures import TextMixture
    from parrotlab.text.preparation import Progress as Done

LARGEST_POOL = 16
"""Processes, unless more are asked for: one process reads for all."""


def prepare(
    what: Positional[tuple[str, ...]],
    *,
    tokenizer: str = "bpe",
    vocabulary: int = 0,
    decontaminate: bool = False,
    documents: tuple[str, ...] = (),
    malformed_limit: int = 100,
    workers: int = 0,
    name: str = "",
    out: str = "",
    json: bool = False,
) -> int:
    """Turn documents into tokens to train on: cleaned, without duplicates, packed into shards with a manifest.

    Args:
        what: A mixture (local_language, local_math, paper_language, paper_math), or files: .jsonl[.gz|.zst], .parquet.
        tokenizer: Is bpe to train one on the documents, bytes, a tokenizer.json, or a name in the data's tokenizers/.
        vocabulary: Entries of the trained tokenizer; 0 chooses by the amount of text, 32768 from 98 MB on.
        decontaminate: Remove documents that share 13 words in a row with a benchmark's test set.
        documents: Read at most so many from each source, or, as NAME=280, from that source.
        malformed_limit: Stop when one source has more malformed lines than this.
        workers: Processes; 0 is one for each core.
        name: What the corpus is called; without it, as the mixture or the first file.
        out: The folder to make it in; without it, PARROTLAB_PREPARED, or prepared/ in the data folder.
        json: Print the manifest.
    """
    import json as json_format

    from parrotlab.text import corpus, preparation

    mixture = _limited(_mixture(what, name), documents)
    folder = (Path(out) if out else corpus.prepared_folder()) / mixture.name
    settings = preparation.Settings(
        tokenizer=tokenizer, vocabulary=vocabulary, decontaminate=decontaminate, malformed_limit=malformed_limit
    )
    workers = workers or min(LARGEST_POOL, os.cpu_count() or 1)
    with _bar(len(mixture.sources)) as hear:
        for progress in preparation.prepare(mixture, folder, settings, workers):
            hear(progress)
    path = folder / corpus.MANIFEST
    manifest = json_format.loads(path.read_text())
    if json:
        show_json(manifest)
    else:
        show_table([_row(part, facts) for part, facts in manifest["parts"].items()])
    for line in (line for facts in manifest["parts"].values() for line in facts["malformed_lines"]):
        say(f"malformed: {line}")
    size = manifest["tokenizer"]["vocabulary"]
    say(f"{folder}: corpus={mixture.name} vocabulary={size} sha256={corpus.file_sha256(path)}")
    return 0


def _mixture(what: tuple[str, ...], name: str) -> TextMixture:
    """The named recipe, or the files as sources weighed by their sizes."""
    import dataclasses

    from parrotlab.text import mixtures

    if not what:
        raise ValueError(f"name a mixture ({', '.join(mixtures.RECIPES)}) or files to prepare")
    paths = [Path(word).expanduser() for word in what]
    if len(what) == 1 and not paths[0].exists():
        recipe = mixtures.mixture(what[0])
        return dataclasses.replace(recipe, name=name or recipe.name)
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f"{path} is not a file")
    total = sum(path.stat().st_size for path in paths)
    if not all(path.stat().st_size for path in paths):
        raise ValueError(f"{next(path for path in paths if not path.stat().st_size)} is empty")
    stems = [_stem(path) for path in paths]
    names = [
        stem if stems.count(stem) == 1 else f"{path.resolve().parent.name}_{stem}" for path, stem in zip(paths, stems)
    ]
    sources = tuple(
        mixtures.Source(name=part, place=str(path), weight=path.stat().st_size / total)
        for path, part in zip(paths, names)
    )
    return mixtures.TextMixture(name=name or sources[0].name, sources=sources)


def _limited(mixture: TextMixture, documents: tuple[str, ...]) -> TextMixture:
    """The mixture with at most so many documents of each source; a later word stands over an earlier one."""
    import dataclasses

    from parrotlab.spec import nearest

    limits = {source.name: source.documents for source in mixture.sources}
    for word in documents:
        name, _, number = word.rpartition("=")
        if not number.isdecimal():
            raise ValueError(f"documents must be a number or NAME=NUMBER, not {word!r}")
        if name and name not in limits:
            raise ValueError(f"documents={word}: {mixture.name} has no source {name!r}: {nearest(name, limits)}")
        limits |= dict.fromkeys([name] if name else limits, int(number))
    sources = tuple(dataclasses.replace(source, documents=limits[source.name]) for source in mixture.sources)
    return dataclasses.replace(mixture, sources=sources)


def _stem(path: Path) -> str:
    return path.name.partition(".")[0]


def _row(part: str, facts: dict[str, Any]) -> dict[str, Any]:
    tokens = sum(facts["tokens"].values())
    return {
        "part": part,
        "documents": sum(facts["documents"].values()),
        "held out": facts["documents"]["test"],
        "tokens": tokens,
        "bytes/token": sum(facts["bytes"].values()) / max(1, tokens),
        "duplicates": facts["duplicates"],
        "overlapping": facts["overlapping"],
        "removed": facts["removed"],
        "malformed": facts["malformed"],
        "licence": facts["licence"],
    }


@contextmanager
def _bar(parts: int) -> Iterator[Any]:
    """A function that hears of progress and draws it."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = words()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading", total=parts)

        def hear(progress: Done) -> None:
            if progress.facts is None:
                note = f"{progress.part}: {short(progress.documents)} documents, {short(progress.tokens)} tokens"
                bar.update(task, description=note)
                return
            bar.advance(task)
            if not console.is_terminal:
                say(f"{progress.part}: {short(sum(progress.facts['tokens'].values()))} tokens")

        yield hear
