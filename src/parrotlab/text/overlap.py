"""Overlap of documents with benchmark test sets: word 13-grams that stand in both (as GPT-3's, arXiv:2005.14165)."""

from __future__ import annotations

import functools
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from parrotlab.text import hub

WORDS = 13
NOT_BENCHMARKS = ("corpora", "facts", "prepared", "prompts", "tokenizers")
WORD = re.compile(r"\w+")


def test_files() -> list[Path]:
    """Files of the data folder that models are judged on: of each benchmark's folder, all but its training files."""
    return sorted(
        path
        for path in hub.data_folder().glob("*/*.jsonl*")
        if path.parent.name not in NOT_BENCHMARKS and path.name.startswith(("test", "dev"))
    )


def grams_of(files: list[Path]) -> np.ndarray:
    """[G] uint64 sorted hashes of all 13-grams in the text fields of these files."""
    parts = [
        grams(text)
        for path in files
        for _, record in hub.records(path)
        for value in record.values()
        for text in _texts(value)
    ]
    return np.unique(np.concatenate([np.empty(0, dtype=np.uint64), *parts]))


def grams(text: str) -> np.ndarray:
    """[G] uint64 hash of each 13 words in a row, whatever their case and punctuation."""
    if len(text) < 2 * WORDS - 1:  # a letter each and spaces between: most answers are left here
        return np.empty(0, dtype=np.uint64)
    word_N = np.array([_word_hash(word) for word in WORD.findall(text.lower())], dtype=np.uint64)
    if len(word_N) < WORDS:
        return np.empty(0, dtype=np.uint64)
    hash_G = np.full(len(word_N) - WORDS + 1, 0xCBF29CE484222325, dtype=np.uint64)
    for place in range(WORDS):
        hash_G = (hash_G ^ word_N[place : place + len(hash_G)]) * np.uint64(0x9E3779B97F4A7C15)
        hash_G ^= hash_G >> np.uint64(29)
    return hash_G


def overlaps(text: str, known_G: np.ndarray) -> bool:
    """Does any 13-gram of the text stand among the known?"""
    if not len(known_G):
        return False
    hash_G = grams(text)
    place_G = np.searchsorted(known_G, hash_G)
    return bool((known_G[np.minimum(place_G, len(known_G) - 1)] == hash_G).any())


@functools.lru_cache(maxsize=1 << 17)
def _word_hash(word: str) -> int:
    return zlib.crc32(word.encode())


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
