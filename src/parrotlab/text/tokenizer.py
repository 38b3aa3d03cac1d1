"""Tokenizers: bytes, any ``tokenizer.json``, or byte-level BPE trained on one's own documents.

>>> BYTES.decode(BYTES.encode(["né"])[0])
'né'
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from parrotlab.text import hub

END = "<|endoftext|>"
ENDS = (END, "<|end_of_text|>", "</s>", "<eos>")
"""What the token between two documents is called; the first that a tokenizer has is its END."""
LARGEST_VOCABULARY, SMALLEST_VOCABULARY = 32_768, 512
BYTES_PER_ENTRY = 3_000
"""An own vocabulary is the largest power of two that leaves each entry so much text: 32k from 98 MB on."""
TRAINING_BYTES = 200_000_000
"""An own vocabulary is learned on at most so much text."""


class Tokenizer(Protocol):
    """Text into numbers and back."""

    vocabulary: int
    end: int
    """The token that stands between documents."""
    sha256: str
    """Of the tokenizer's file; of its name where it has none."""

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The tokens of each text, without END."""
        ...

    def decode(self, tokens_T: np.ndarray) -> str:
        """The text; END is left out."""
        ...


class Bytes:
    """UTF-8, byte by byte; END is 256."""

    vocabulary, end = 257, 256
    sha256 = hashlib.sha256(b"bytes").hexdigest()

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """[T] uint8 each."""
        return [np.frombuffer(text.encode(), dtype=np.uint8) for text in texts]

    def decode(self, tokens_T: np.ndarray) -> str:
        """Bytes that are no UTF-8 become the replacement character."""
        return bytes(token for token in tokens_T.tolist() if token < 256).decode(errors="replace")


BYTES = Bytes()


class Subwords:
    """A ``tokenizer.json`` of the package tokenizers."""

    def __init__(self, path: Path) -> None:
        try:
            content = path.read_text()
            self._inner = _package().Tokenizer.from_str(content)
        except hub.DataError:
            raise
        except Exception as error:  # tokenizers raises bare exceptions
            raise hub.DataError(f"{path}: not a tokenizer.json: {str(error).partition(chr(10))[0]}") from None
        self._inner.encode_special_tokens = True  # an END that a document spells out is text, not an end
        self._inner.no_padding()
        self._inner.no_truncation()
        self.content = content
        self.vocabulary = self._inner.get_vocab_size()
        ends = [self._inner.token_to_id(end) for end in ENDS if self._inner.token_to_id(end) is not None]
        if not ends:
            raise hub.DataError(f"{path}: the tokenizer has no token for the end of a text, none of {', '.join(ENDS)}")
        self.end = ends[0]
        self.sha256 = hashlib.sha256(content.encode()).hexdigest()

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """[T] uint32 each."""
        encodings = self._inner.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(encoding.ids, dtype=np.uint32) for encoding in encodings]

    def decode(self, tokens_T: np.ndarray) -> str:
        """Special tokens are left out."""
        return self._inner.decode(tokens_T.tolist())


def load(name: str) -> Tokenizer:
    """The tokenizer of that name: ``bytes``, a ``tokenizer.json``, or a name in the data folder's ``tokenizers/``."""
    if name == "bytes":
        return BYTES
    for path in (Path(name).expanduser(), hub.data_folder() / "tokenizers" / name / "tokenizer.json"):
        if path.is_file():
            return Subwords(path)
    raise hub.DataError(
        f"there is no tokenizer {name!r}: give bytes, bpe, the path of a tokenizer.json, "
        f"or a name in {hub.data_folder() / 'tokenizers'}"
    )


def own_vocabulary(text_bytes: int) -> int:
    """Entries of a vocabulary to be trained on so much text.

    >>> [own_vocabulary(megabytes * 10**6) for megabytes in (1, 10, 100, 10_000)]
    [512, 2048, 32768, 32768]
    """
    entries = max(1, text_bytes // BYTES_PER_ENTRY)
    return min(LARGEST_VOCABULARY, max(SMALLEST_VOCABULARY, 1 << (entries.bit_length() - 1)))


def train(texts: Iterable[str], vocabulary: int, path: Path) -> Tokenizer:
    """Learns byte-level BPE from the texts and writes it to ``path``, a ``tokenizer.json``."""
    if vocabulary <= 256:
        raise ValueError(f"a BPE vocabulary holds 256 bytes, END and more, not {vocabulary}")
    tokenizers = _package()
    inner = tokenizers.Tokenizer(tokenizers.models.BPE())
    inner.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(texts, trainer)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_text(inner.to_str(pretty=True))
    unfinished.rename(path)
    return Subwords(path)


def _package() -> Any:
    try:
        import tokenizers
    except ImportError:
        raise hub.DataError("a tokenizer.json needs the package tokenizers: pip install tokenizers") from None
    return tokenizers
