"""Exposure: how many documents of a prepared corpus hold a fact, or the text of a problem.

A fact is held by a document in which its subject and its object both stand, anywhere and in any words between them.
A longer text is held by a document that shares 13 words in a row with it (``text.overlap``), a shorter one by a
document in which it stands whole. Case and punctuation do not count. Only training shards are read, document by
document; a document read in several epochs is one exposure.
"""

from __future__ import annotations

import io
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from parrotlab.evals.sets import identity
from parrotlab.text.corpus import Corpus
from parrotlab.text.overlap import WORD, WORDS, grams

FILE = "exposures.parquet"
"""The file of an exposure's folder in the store: ``item``, ``documents``."""
NAME = re.compile(r"(?:[A-Z]|\d)[\w'’.-]*(?:(?: (?:of|the|de|and|von|in))? (?:[A-Z]|\d)[\w'’.-]*)*")


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """The items of one file, counted in the training shards of one corpus."""

    file: str
    """A name in the data folder: ``gsm8k/train``."""
    data_sha256: str
    """Of that file."""
    corpus: str
    corpus_sha256: str
    """Of the corpus's manifest."""
    revision: int
    """Raised where documents come to be counted in another way."""


class Sought(NamedTuple):
    """What is looked for: all of the phrases in one document."""

    item: str
    """The item's name, as answers carry it."""
    phrases: tuple[str, ...]


def sought(record: dict[str, Any]) -> Sought | None:
    """Subject and object of a fact, or else the text of a question; None where there is nothing to look for.

    Of a sentence to be completed the longest name is the subject:

    >>> sought({"prompt": "The native language of Louis Dumont is", "answer": "French"}).phrases
    ('Louis Dumont', 'French')
    """
    if "subject" in record and "object" in record:
        phrases: tuple[str, ...] = (str(record["subject"]), str(record["object"]))
    elif "prompt" in record:
        names = NAME.findall(record["prompt"].partition(" ")[2])
        phrases = (max(names, key=len, default=""), str(record.get("answer", "")))
    else:
        phrases = (str(record.get("question") or record.get("context") or ""),)
    return Sought(identity(record), phrases) if all(WORD.search(phrase) for phrase in phrases) else None


def texts(corpus: Corpus) -> Iterator[str]:
    """The documents of the training shards of all parts."""
    for part in corpus.parts:
        for tokens_T in corpus.documents(part, "train"):
            yield corpus.tokenizer.decode(tokens_T[1:-1])


def exposures(items: Sequence[Sought], documents: Iterable[str]) -> np.ndarray:
    """[I] for each item the number of documents that hold all of its phrases."""
    finder = _Finder({phrase for item in items for phrase in item.phrases})
    wanted: defaultdict[str, list[int]] = defaultdict(list)  # by the first phrase, which is the rarer one
    for place, item in enumerate(items):
        wanted[item.phrases[0]].append(place)
    count_I = np.zeros(len(items), dtype=np.int64)
    for document in documents:
        found = finder.found(document)
        for phrase in found & wanted.keys():
            for place in wanted[phrase]:
                count_I[place] += found.issuperset(items[place].phrases)
    return count_I


def encode(items: Sequence[Sought], count_I: np.ndarray) -> bytes:
    """As a Parquet file."""
    sink = io.BytesIO()
    table = pa.table({"item": [item.item for item in items], "documents": pa.array(count_I, pa.int64())})
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


class _Finder:
    """Phrases, and which of them a document holds: the short by their words, the long by any of their 13-grams."""

    def __init__(self, phrases: set[str]) -> None:
        self._short: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
        self._lengths: defaultdict[str, set[int]] = defaultdict(set)
        gram_G, of_G = [np.empty(0, dtype=np.uint64)], [np.empty(0, dtype=np.int64)]
        self._long: list[str] = []
        for phrase in sorted(phrases):
            words = tuple(WORD.findall(phrase.lower()))
            if len(words) < WORDS:
                self._short[words].append(phrase)
                self._lengths[words[0]].add(len(words))
                continue
            hash_G = grams(phrase)
            gram_G.append(hash_G)
            of_G.append(np.full(len(hash_G), len(self._long)))
            self._long.append(phrase)
        order_G = np.argsort(np.concatenate(gram_G), kind="stable")
        self._gram_G, self._of_G = np.concatenate(gram_G)[order_G], np.concatenate(of_G)[order_G]

    def found(self, document: str) -> set[str]:
        words = WORD.findall(document.lower())
        told: set[str] = set()
        for place, word in enumerate(words):
            for length in self._lengths.get(word, ()):
                told.update(self._short.get(tuple(words[place : place + length]), ()))
        if self._long:
            hash_G = np.unique(grams(document))
            first_G = np.searchsorted(self._gram_G, hash_G, side="left")
            last_G = np.searchsorted(self._gram_G, hash_G, side="right")
            for first, last in zip(first_G[last_G > first_G], last_G[last_G > first_G]):
                told.update(self._long[index] for index in self._of_G[first:last])
        return told
