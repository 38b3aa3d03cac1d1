"""``parrotlab exposure``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from tyro.conf import Positional

from parrotlab.cli._show import say, show_json, show_table, words


def exposure(
    items: Positional[tuple[str, ...]], *, corpus: str, store: Path = Path("results"), json: bool = False
) -> int:
    """Count how many training documents of a corpus hold each fact or problem, and store the counts.

    Args:
        items: Files of the data folder, such as facts/bigbench_qa_wikidata or gsm8k/train.
        corpus: Name of a prepared corpus, such as local_language.
        store: The folder of results.
        json: Print JSON.
    """
    import numpy as np

    from parrotlab.evals.exposure import FILE, Exposure, encode, exposures, sought, texts
    from parrotlab.results.provenance import provenance
    from parrotlab.results.store import Store
    from parrotlab.text import hub
    from parrotlab.text.corpus import file_sha256, open_corpus

    prepared, results, rows = open_corpus(corpus), Store(store), []
    for name in items:
        path = hub.find(name)
        asked = Exposure(
            file=name,
            data_sha256=file_sha256(path),
            corpus=corpus,
            corpus_sha256=prepared.sha256,
            revision=1,
        )
        found = results.find(asked)
        if found is None:
            records = [record for _, record in hub.records(path)]
            looked_for = list({item.item: item for item in map(sought, records) if item is not None}.values())
            total = sum(prepared.size(part, "train", "documents") for part in prepared.parts)
            count_I = exposures(looked_for, _watched(texts(prepared), total, name))
            counts = {"items": len(records), "counted": len(looked_for), "documents": total}
            counts |= {"seen": int(np.count_nonzero(count_I)), "most": int(count_I.max(initial=0))}
            found = results.write(asked, "complete", "", counts, provenance(), [], {FILE: encode(looked_for, count_I)})
        rows.append({"of": name, "corpus": corpus} | found.counts)
    (show_json if json else show_table)(rows)
    say(f"the counts are in {store}; parrotlab report sets scores against them")
    return 0


def _watched(documents: Iterable[str], total: int, name: str) -> Iterator[str]:
    from rich.progress import track

    console = words()
    return iter(track(documents, name, total, console=console, disable=not console.is_terminal))
