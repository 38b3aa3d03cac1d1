"""Packing: documents behind each other into files of bounded size."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import numpy as np

from parrotlab.text import corpus


class Shards:
    """The shards of one split of one part, while they are written."""

    def __init__(self, folder: Path, split: str, end: int, dtype: np.dtype) -> None:
        self.folder, self.split, self.end, self.dtype = folder, split, end, dtype
        self.documents = self.tokens = self.bytes = 0
        self._sizes: list[int] = []
        self._file: IO[bytes] | None = None

    def add(self, tokens_T: np.ndarray, text_bytes: int) -> None:
        """A document, and END behind it. It opens a new shard where it does not fit; a longer one is cut."""
        self.documents += 1
        self.tokens += len(tokens_T) + 1
        self.bytes += text_bytes
        left_T = np.append(tokens_T, self.end).astype(self.dtype)
        if self._sizes and self._sizes[-1] + len(left_T) > corpus.SHARD_TOKENS:
            self._close_file()
        while len(left_T):
            if self._file is None:
                self._open_file()
            room = corpus.SHARD_TOKENS - self._sizes[-1]
            self._put(left_T[:room])
            left_T = left_T[room:]
            if len(left_T):
                self._close_file()

    def close(self) -> list[dict[str, Any]]:
        """The shards for the manifest."""
        self._close_file()
        paths = [self._path(index) for index in range(len(self._sizes))]
        return [
            {"file": path.name, "tokens": size, "sha256": corpus.file_sha256(path)}
            for path, size in zip(paths, self._sizes)
        ]

    def _open_file(self) -> None:
        self._file = self._path(len(self._sizes)).open("wb")
        self._sizes.append(0)
        self._put(np.array([self.end], dtype=self.dtype))

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _put(self, tokens_T: np.ndarray) -> None:
        assert self._file is not None
        self._file.write(tokens_T.tobytes())
        self._sizes[-1] += len(tokens_T)

    def _path(self, index: int) -> Path:
        return self.folder / f"{self.split}-{index:05}.bin"
