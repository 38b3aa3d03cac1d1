"""Facts: closed-book recall of real facts; subject and relation are asked, the object is answered, byte by byte.

>>> task = Facts(file="sample", entries=50)
>>> task.text(task.examples("train", 1, seed=0).tokens_BT[0])
'Venus | place in the order of planets -> 2'

The facts come from JSON Lines in the data folder's ``facts/``, or from the few that ship with the package. A line is
an object in one of three forms:

    {"subject": "Andorra", "relation": "capital", "object": "Andorra la Vella"}
    {"subject": "Shanghai", "country": "China", "timezone": "Asia/Shanghai"}     each text attribute is a relation
    {"prompt": "The native language of Anna is", "answer": "French"}             the relation is read from the prompt

Numbers among attributes are passed over, and so is whatever else stands beside subject, relation and object.
"""

from __future__ import annotations

import functools
import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from parrotlab.seeds import stream
from parrotlab.tasks.task import TEST_EXAMPLES, Listed, Split, is_held_out
from parrotlab.text import hub

PAD, END, VOCABULARY = 256, 257, 258
SAMPLE = Path(__file__).with_name("facts_sample.jsonl")
PROMPT = re.compile(r"The (?P<relation>.+?) (?:of|in|by) (?P<subject>.+) is")


@dataclass(frozen=True)
class Fact:
    """One triple."""

    subject: str
    relation: str
    object: str

    @property
    def question(self) -> bytes:
        """What the prompt says."""
        return f"{self.subject}\t{self.relation}\t".encode()


@dataclass(frozen=True)
class Reading:
    """What a file holds."""

    facts: tuple[Fact, ...]
    """One for each subject and relation, the first where there are several."""
    repeated: int
    """Facts left out because their subject and relation had been seen."""
    too_long: int
    """Facts left out because prompt or answer is longer than asked for."""


@dataclass(frozen=True, kw_only=True)
class Facts(Listed):
    """Facts of one file. The fact's own hash decides its split; held-out facts are a control, as none is trained on."""

    file: str = "sample"
    """``sample``, a file of the data folder's ``facts/`` (its ending may be left out), or any ``*.jsonl[.zst|.gz]``."""
    entries: int
    """Facts to train on, chosen by the seed."""
    max_prompt: int = 64
    """Bytes of subject, relation and the two tabs behind them; shorter prompts are padded on the left."""
    max_answer: int = 32
    """Bytes of the object."""
    sha256: str = ""
    """Of the file, as it lies there; where given, another file of that name is refused."""

    def __post_init__(self) -> None:
        for name in ("entries", "max_prompt", "max_answer"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, not {getattr(self, name)}")

    @property
    def vocabulary(self) -> int:
        """Bytes, padding, END."""
        return VOCABULARY

    @property
    def prompt(self) -> int:
        """Padding, subject, relation."""
        return self.max_prompt

    @property
    def length(self) -> int:
        """Prompt, object, END."""
        return self.max_prompt + self.max_answer + 1

    def asked(self, tokens_BT: np.ndarray) -> np.ndarray:
        """The object and END."""
        return super().asked(tokens_BT) & (tokens_BT != PAD)

    def reading(self) -> Reading:
        """The facts of the file, and how many were left out."""
        return _read(self._path(), self.max_prompt, self.max_answer)

    def listing(self, split: Split, seed: int) -> np.ndarray:
        """[N, T] uint16 the chosen facts."""
        facts = self._chosen(split, seed)
        tokens_NT = np.full((len(facts), self.length), PAD, dtype=np.uint16)
        for row_T, fact in zip(tokens_NT, facts):
            answer = fact.object.encode()
            row_T[self.prompt - len(fact.question) : self.prompt] = list(fact.question)
            row_T[self.prompt : self.prompt + len(answer) + 1] = [*answer, END]
        return tokens_NT

    def answer_bits(self, split: Split, count: int, seed: int) -> np.ndarray:
        """[B] -log2 of the object's frequency within its relation, among the facts trained on.

        So a guesser that knows each relation's frequencies and nothing of the subject has memorized 0 bits. A held-out
        fact is counted as if it had been among them.
        """
        train = self._chosen("train", seed)
        relations = Counter(fact.relation for fact in train)
        objects = Counter((fact.relation, fact.object) for fact in train)
        extra = split == "test"
        return np.array(
            [
                math.log2((relations[fact.relation] + extra) / (objects[fact.relation, fact.object] + extra))
                for fact in self._chosen(split, seed)[:count]
            ]
        )

    def text(self, tokens_T: np.ndarray) -> str:
        """Subject, relation, object."""
        prompt, answer = (
            bytes(token for token in part.tolist() if token < PAD).decode(errors="replace")
            for part in (tokens_T[: self.prompt], tokens_T[self.prompt :])
        )
        return f"{' | '.join(prompt.strip().split(chr(9)))} -> {answer}"

    def _path(self) -> Path:
        path = SAMPLE if self.file == "sample" else Path(self.file)
        if self.file != "sample" and not self.file.endswith(hub.ENDINGS[1:]):
            path = hub.find(f"facts/{self.file}")
        if self.sha256:
            _check(path, self.sha256)
        return path

    def _chosen(self, split: Split, seed: int) -> tuple[Fact, ...]:
        """The facts of a split, in the order of the seed."""
        reading = self.reading()
        held_out_N = is_held_out(_hashes(reading.facts))
        belongs = np.flatnonzero(held_out_N == (split == "test"))
        if split == "train" and self.entries > len(belongs):
            raise ValueError(
                f"{self.file} has {len(belongs)} facts to train on, not entries={self.entries}: {held_out_N.sum()} are "
                f"held out, {reading.too_long} exceed max_prompt={self.max_prompt} or max_answer={self.max_answer}, "
                f"{reading.repeated} repeat a subject and relation"
            )
        order = stream("facts", seed, split).permutation(belongs)
        return tuple(reading.facts[i] for i in order[: self.entries if split == "train" else TEST_EXAMPLES])


@functools.lru_cache(maxsize=8)
def _read(path: Path, max_prompt: int, max_answer: int) -> Reading:
    facts: dict[bytes, Fact] = {}
    repeated = too_long = 0
    for number, record in hub.records(path):
        for fact in _facts(record, f"{path}, line {number}"):
            if fact.question in facts:
                repeated += 1
            elif len(fact.question) > max_prompt or len(fact.object.encode()) > max_answer:
                too_long += 1
            else:
                facts[fact.question] = fact
    return Reading(tuple(facts.values()), repeated, too_long)


def _facts(record: dict[str, Any], where: str) -> Iterator[Fact]:
    """The facts of one line."""
    if "prompt" in record and "answer" in record:
        parts = PROMPT.fullmatch(str(record["prompt"]))
        subject, relation = parts["subject"] if parts else str(record["prompt"]), parts["relation"] if parts else ""
        yield _fact(subject, relation, record["answer"], where)
    elif "subject" in record and ("relation" in record or "object" in record):
        yield _fact(record["subject"], record.get("relation"), record.get("object"), where)
    elif "subject" in record and len(record) > 1:
        for relation, value in record.items():
            if relation != "subject" and isinstance(value, str):
                yield _fact(record["subject"], relation, value, where)
    else:
        raise hub.DataError(
            f'{where}: expected {{"subject", "relation", "object"}}, {{"subject", attributes...}} or '
            f'{{"prompt", "answer"}}, got fields {", ".join(map(repr, record))}'
        )


def _fact(subject: Any, relation: Any, answer: Any, where: str) -> Fact:
    for name, value in (("subject", subject), ("relation", relation), ("object", answer)):
        if not isinstance(value, str):
            raise hub.DataError(f"{where}: {name} must be a text, not {value!r}")
    return Fact(*(" ".join(value.split()) for value in (subject, relation, answer)))


@functools.lru_cache(maxsize=8)
def _hashes(facts: tuple[Fact, ...]) -> np.ndarray:
    """[N] uint64 hash of each question, whatever its padding."""
    digests = [hashlib.blake2b(fact.question, digest_size=8).digest() for fact in facts]
    return np.frombuffer(b"".join(digests), dtype="<u8")


def _check(path: Path, sha256: str) -> None:
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        raise hub.DataError(f"{path} is another file than asked for: its sha256 is {found}, not {sha256}")
