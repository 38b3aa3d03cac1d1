"""A prepared corpus: token shards that are mapped, not read, and the manifest that says what they are.

    local_language/manifest.json                 counts, hashes, licence and source of each part
    local_language/tokenizer.json                unless it is bytes
    local_language/parts/dict_foldoc/train-00000.bin, test-00000.bin      little-endian uint16 or uint32

A shard is END, document, END, document, ..., END: whoever reads a document knows that it begins.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from parrotlab.text import hub, tokenizer
from parrotlab.text.tokenizer import Tokenizer

VARIABLE = "PARROTLAB_PREPARED"
MANIFEST, TOKENIZER, PARTS = "manifest.json", "tokenizer.json", "parts"
SHARD_TOKENS = 16_000_000
SAMPLES = Path(__file__).parent / "samples"
"""Two corpora of a few thousand bytes, ``sample_language`` and ``sample_math``, and the rows that they were prepared
from: of our own making, for trials where nothing has been prepared."""


def prepared_folder() -> Path:
    """Where prepared corpora lie: ``PARROTLAB_PREPARED``, or ``prepared`` in the data folder."""
    return Path(os.environ.get(VARIABLE) or hub.data_folder() / "prepared")


def file_sha256(path: Path) -> str:
    """Of a file, as it lies there."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def token_type(vocabulary: int) -> np.dtype:
    """The smallest of the two types that holds every token."""
    return np.dtype("<u2" if vocabulary <= 1 << 16 else "<u4")


@dataclass(frozen=True)
class Corpus:
    """The parts of one prepared corpus."""

    folder: Path
    manifest: dict[str, Any]
    sha256: str
    """Of the manifest, which holds those of all shards."""

    @property
    def vocabulary(self) -> int:
        """Distinct tokens, END among them."""
        return self.manifest["tokenizer"]["vocabulary"]

    @property
    def end(self) -> int:
        """The token between documents."""
        return self.manifest["tokenizer"]["end"]

    @property
    def tokenizer(self) -> Tokenizer:
        """What made the tokens."""
        return _tokenizer(self.folder, self.manifest["tokenizer"]["name"])

    @property
    def parts(self) -> dict[str, dict[str, Any]]:
        """What the manifest says of each part, by name."""
        return self.manifest["parts"]

    def size(self, part: str, split: str, what: str) -> int:
        """A part's ``documents``, ``tokens`` (one END for each document among them) or ``bytes`` (of text)."""
        return self.parts[part][what][split]

    def shards(self, part: str, split: str) -> tuple[np.ndarray, ...]:
        """The mapped shards, each checked against its hash when a process first opens it."""
        return _shards(self.folder, part, split, self.sha256)

    def windows(self, part: str, split: str, length: int) -> int:
        """Rows of that length. They overlap by a token, so that each token is asked for once."""
        return sum(_windows(shard["tokens"], length) for shard in self.parts[part]["shards"][split])

    def rows(self, part: str, split: str, length: int, window_B: np.ndarray) -> np.ndarray:
        """[B, T] int32 the rows at these places among the part's windows."""
        shards = self.shards(part, split)
        first_S = np.cumsum([0] + [_windows(len(shard), length) for shard in shards])
        tokens_BT = np.empty((len(window_B), length), dtype=np.int32)
        for row, (window, shard) in enumerate(zip(window_B, np.searchsorted(first_S, window_B, side="right") - 1)):
            start = int(window - first_S[shard]) * (length - 1)
            tokens_BT[row] = shards[shard][start : start + length]
        return tokens_BT

    def documents(self, part: str, split: str) -> Iterator[np.ndarray]:
        """[T] int32 each document between its two ENDs, in the order of the shards."""
        for shard in self.shards(part, split):
            ends = np.flatnonzero(np.asarray(shard) == self.end)
            for before, behind in itertools.pairwise(ends):
                yield shard[before : behind + 1].astype(np.int32)


def hashes() -> dict[str, str]:
    """The hash of the manifest of every corpus that is prepared here, by name."""
    manifests = (path for folder in (SAMPLES, prepared_folder()) for path in folder.glob(f"*/{MANIFEST}"))
    return {path.parent.name: file_sha256(path) for path in manifests}


def open_corpus(name: str, sha256: str = "") -> Corpus:
    """The prepared corpus of that name, or the sample; with ``sha256``, a manifest of another hash is refused."""
    path = prepared_folder() / name / MANIFEST
    if not path.is_file():
        path = SAMPLES / name / MANIFEST
    if not path.is_file():
        raise hub.DataError(
            f"there is no prepared corpus {name!r} in {prepared_folder()}: make it with `parrotlab prepare ... "
            f"--name {name}`, or set {VARIABLE} to the folder that holds it"
        )
    corpus = _open(path, path.stat().st_mtime_ns)
    if sha256 and corpus.sha256 != sha256:
        raise hub.DataError(f"{path} has sha256 {corpus.sha256}, and the task asks for {sha256}")
    return corpus


@functools.lru_cache(maxsize=8)
def _open(path: Path, changed: int) -> Corpus:
    del changed  # part of the cache's key alone
    content = path.read_bytes()
    try:
        return Corpus(path.parent, json.loads(content), hashlib.sha256(content).hexdigest())
    except ValueError as error:
        raise hub.DataError(f"{path}: not a manifest: {error}") from None


@functools.lru_cache(maxsize=256)
def _shards(folder: Path, part: str, split: str, manifest: str) -> tuple[np.ndarray, ...]:
    corpus = _open(folder / MANIFEST, (folder / MANIFEST).stat().st_mtime_ns)
    assert corpus.sha256 == manifest
    arrays = []
    for shard in corpus.parts[part]["shards"][split]:
        path = folder / PARTS / part / shard["file"]
        if not path.is_file():
            raise hub.DataError(f"the shard {path} is missing: prepare the corpus again")
        found = file_sha256(path)
        if found != shard["sha256"]:
            raise hub.DataError(
                f"the shard {path} has sha256 {found[:12]}... and the manifest says {shard['sha256'][:12]}...: "
                "it is damaged or of another preparation; remove the corpus and prepare it again"
            )
        arrays.append(np.memmap(path, dtype=token_type(corpus.vocabulary), mode="r"))
    return tuple(arrays)


@functools.lru_cache(maxsize=8)
def _tokenizer(folder: Path, name: str) -> Tokenizer:
    return tokenizer.BYTES if name == "bytes" else tokenizer.load(str(folder / TOKENIZER))


def _windows(tokens: int, length: int) -> int:
    return max(0, tokens - 1) // (length - 1)
