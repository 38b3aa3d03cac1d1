"""Preparation: a mixture's documents, cleaned, without duplicates, tokenized in parallel, packed into shards.

Every part is made in a hidden folder and renamed when it is whole: an interrupted preparation keeps the finished
parts, and the same call goes on behind them. The manifest comes last, so a corpus is complete or not there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import multiprocessing
import os
import shutil
import signal
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from parrotlab import spec
from parrotlab.text import documents, hub, overlap, tokenizer
from parrotlab.text._shards import Shards
from parrotlab.text.corpus import MANIFEST, PARTS, TOKENIZER, file_sha256, token_type
from parrotlab.text.mixtures import Source, TextMixture

REVISION = 1
"""Raised when preparation comes to make other tokens of the same documents."""
BATCH_BYTES = 1 << 20
PART, HASHES, PLAN = "part.json", "hashes.npy", "plan.json"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How documents become tokens."""

    tokenizer: str = "bpe"
    """``bpe`` is trained on the train split; else a name that ``tokenizer.load`` knows."""
    vocabulary: int = 0
    """Entries of an own BPE; 0 is as many as the amount of text warrants (``tokenizer.own_vocabulary``)."""
    decontaminate: bool = False
    """Remove documents that share a 13-gram with a benchmark's test set; they are counted in any case."""
    malformed_limit: int = 100
    """More malformed lines than this in one source end the preparation."""


@dataclass(frozen=True)
class Progress:
    """What has been done of a part; the last of a part carries its facts."""

    part: str
    documents: int
    tokens: int
    facts: dict[str, Any] | None = None


class _Digest(NamedTuple):
    """A document, ready to be packed."""

    hash: int
    bytes: int
    overlaps: bool
    tokens: np.ndarray


def prepare(mixture: TextMixture, folder: Path, settings: Settings, workers: int) -> Iterator[Progress]:
    """Fills the folder with the mixture's tokens and its manifest."""
    try:
        yield from _prepare(mixture, folder, settings, workers)
    except OSError as error:  # what cannot be read is a DataError already
        raise hub.DataError(
            f"cannot write to {folder}: {error.strerror or error}; finished parts are kept: make room and call again, "
            "or name another folder with --out"
        ) from None


def _prepare(mixture: TextMixture, folder: Path, settings: Settings, workers: int) -> Iterator[Progress]:
    sources = [_named(source) for source in mixture.sources]
    called = Path(settings.tokenizer).parent.name or settings.tokenizer  # as manifests carry no paths
    plan = {
        "revision": REVISION,
        "settings": spec.encode(dataclasses.replace(settings, tokenizer=called)),
        "mixture": spec.encode(dataclasses.replace(mixture, sources=tuple(sources))),
        "sources": {source.name: _source_sha256(source) for source in mixture.sources},
    }
    _agree(folder, plan)
    if (folder / MANIFEST).exists():
        return
    yield Progress("tokenizer", 0, 0)
    known_G = overlap.grams_of(overlap.test_files())
    encoder = _tokenizer(mixture, folder, settings)
    seen: set[int] = set()
    facts: dict[str, Any] = {}
    with _workers(workers, encoder, folder, known_G) as digest:
        for source in mixture.sources:
            place = folder / PARTS / source.name
            if not place.exists():
                yield from _prepare_part(source, place, settings, seen, encoder, digest)
            facts[source.name] = json.loads((place / PART).read_text())
            seen.update(np.load(place / HASHES).tolist())
            yield Progress(source.name, 0, 0, facts[source.name])
    for source in sources:
        facts[source.name] |= {"source": source.place, "sha256": plan["sources"][source.name]}
        facts[source.name] |= {"licence": source.licence, "weight": source.weight, "downstream": source.downstream}
    if not any(part["tokens"]["train"] for part in facts.values()):
        raise hub.DataError(f"the corpus {mixture.name!r} is empty: none of its sources holds a document to train on")
    about = {"name": called, "vocabulary": encoder.vocabulary, "end": encoder.end, "sha256": encoder.sha256}
    _write(folder / MANIFEST, plan | {"tokenizer": about, "parts": facts})


def _prepare_part(
    source: Source,
    place: Path,
    settings: Settings,
    seen: set[int],
    encoder: tokenizer.Tokenizer,
    digest: Callable[[Iterator[list[str]]], Iterator[list[_Digest]]],
) -> Iterator[Progress]:
    """One source into one folder, which appears when it is whole."""
    unfinished = place.with_name(f".{place.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    shards = {
        split: Shards(unfinished, split, encoder.end, token_type(encoder.vocabulary)) for split in ("train", "test")
    }
    counts: Counter[str] = Counter()
    malformed: list[str] = []
    own: list[int] = []
    known = set(seen)
    for documents_of_batch in digest(_batches(source, settings.malformed_limit, malformed)):
        for document in documents_of_batch:
            if document.hash in known:
                counts["duplicates"] += 1
                continue
            known.add(document.hash)
            own.append(document.hash)
            counts["overlapping"] += document.overlaps
            if not (document.overlaps and settings.decontaminate):
                held_out = documents.is_held_out(document.hash)
                shards["test" if held_out else "train"].add(document.tokens, document.bytes)
        yield Progress(source.name, len(own), sum(split.tokens for split in shards.values()))
    listed = {split: packer.close() for split, packer in shards.items()}
    facts = {
        **{
            what: {split: getattr(shards[split], what) for split in shards} for what in ("documents", "tokens", "bytes")
        },
        "duplicates": counts["duplicates"],
        "overlapping": counts["overlapping"],
        "removed": counts["overlapping"] if settings.decontaminate else 0,
        "malformed": len(malformed),
        "malformed_lines": malformed,
        "shards": listed,
    }
    np.save(unfinished / HASHES, np.array(own, dtype=np.uint64))
    _write(unfinished / PART, facts)
    unfinished.rename(place)


def _batches(source: Source, limit: int, malformed: list[str]) -> Iterator[list[str]]:
    """The source's documents in lists of about ``BATCH_BYTES``; malformed lines are noted."""
    batch: list[str] = []
    characters = 0
    for item in documents.read(source):
        if isinstance(item, documents.Malformed):
            malformed.append(f"{item.where}: {item.why}")
            if len(malformed) > limit:
                raise hub.DataError(f"more than {limit} malformed lines in {source.name!r}; the last: {malformed[-1]}")
            continue
        batch.append(item)
        characters += len(item)
        if characters >= BATCH_BYTES:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


@contextlib.contextmanager
def _workers(
    count: int, encoder: tokenizer.Tokenizer, folder: Path, known_G: np.ndarray
) -> Iterator[Callable[[Iterator[list[str]]], Iterator[list[_Digest]]]]:
    """A function from batches of texts to digests, in order, done by so many processes; one is this one."""
    if count == 1:
        yield lambda batches: (_digest(batch, encoder, known_G) for batch in batches)
        return
    name = "bytes" if encoder is tokenizer.BYTES else str(folder / TOKENIZER)
    context = multiprocessing.get_context("spawn")  # forking would copy the threads of tokenizers' own pool
    with ProcessPoolExecutor(count, context, initializer=_begin_worker, initargs=(name, known_G)) as pool:

        def digest(batches: Iterator[list[str]]) -> Iterator[list[_Digest]]:
            pending: deque[Future[list[_Digest]]] = deque()  # bounded: the source may be larger than memory
            for batch in batches:
                pending.append(pool.submit(_digest_in_worker, batch))
                if len(pending) > 2 * count:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()

        yield digest


_worker: list[Any] = []  # a worker process's tokenizer and known 13-grams


def _begin_worker(name: str, known_G: np.ndarray) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process stops, and then ends its workers
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are the parallelism
    _worker[:] = [tokenizer.load(name), known_G]


def _digest_in_worker(texts: list[str]) -> list[_Digest]:
    return _digest(texts, *_worker)


def _digest(texts: list[str], encoder: tokenizer.Tokenizer, known_G: np.ndarray) -> list[_Digest]:
    cleaned = [text for text in map(documents.clean, texts) if text]
    return [
        _Digest(documents.text_hash(text), len(text.encode()), overlap.overlaps(text, known_G), tokens_T)
        for text, tokens_T in zip(cleaned, encoder.encode(cleaned))
    ]


def _tokenizer(mixture: TextMixture, folder: Path, settings: Settings) -> tokenizer.Tokenizer:
    """The tokenizer that the settings ask for, a copy of it in the folder."""
    path = folder / TOKENIZER
    if path.exists():
        return tokenizer.load(str(path))
    if settings.tokenizer != "bpe":
        chosen = tokenizer.load(settings.tokenizer)
        if isinstance(chosen, tokenizer.Subwords):
            unfinished = path.with_name(f".{path.name}.unfinished")
            unfinished.write_text(chosen.content)
            unfinished.rename(path)
        return chosen
    vocabulary = settings.vocabulary or tokenizer.own_vocabulary(
        sum(len(text.encode()) for text in _training_texts(mixture))
    )
    return tokenizer.train(_training_texts(mixture), vocabulary, path)


def _training_texts(mixture: TextMixture) -> Iterator[str]:
    """Documents of the train split, from each source its weight's share of what a tokenizer is trained on."""
    for source in mixture.sources:
        left = int(tokenizer.TRAINING_BYTES * source.weight)
        for item in documents.read(source):
            if isinstance(item, documents.Malformed):
                continue
            text = documents.clean(item)
            if text and not documents.is_held_out(documents.text_hash(text)):
                yield text
                left -= len(text.encode())
            if left <= 0:
                break


def _named(source: Source) -> Source:
    """The source under the file's name: manifests carry no paths."""
    path = Path(source.place).expanduser()
    return dataclasses.replace(source, place=path.name) if path.is_file() else source


def _source_sha256(source: Source) -> str:
    return "" if source.place.startswith(documents.HUB) else file_sha256(documents.path_of(source))


def _agree(folder: Path, plan: dict[str, Any]) -> None:
    """What was begun here must have been begun in the same way."""
    path = folder / PLAN
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _write(path, plan)
    elif json.loads(path.read_text()) != plan:
        raise hub.DataError(f"{folder} holds a preparation of other sources or settings: remove it, or name another")


def _write(path: Path, content: Any) -> None:
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    unfinished.rename(path)
