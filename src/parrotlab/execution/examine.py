"""Examining: a model that is named in words is asked benchmarks, and the store keeps each examination.

| name                | model                                                                       |
|---------------------|-----------------------------------------------------------------------------|
| a fingerprint       | a stored run of the language task that kept its weights                     |
| `hf:NAME`           | a Hugging Face model: a folder, or a name in the hub's local cache          |
| `random`            | a small transformer with fresh weights: what a model scores that has learned nothing |
| `oracle`, `longest`, `majority` | answerers that read nothing (``evals.answerers``)               |
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from parrotlab.evals import answerers, answers, harness, item_scores
from parrotlab.evals.examination import Examination
from parrotlab.evals.harness import Benchmark
from parrotlab.model.attention import Attention
from parrotlab.model.count import count
from parrotlab.model.feedforwards.dense import Dense
from parrotlab.model.likelihood import BATCH_TOKENS
from parrotlab.model.transformer import Transformer, build
from parrotlab.results.provenance import provenance
from parrotlab.results.store import Record, Store
from parrotlab.run import trained
from parrotlab.spec import fingerprint
from parrotlab.tasks.language import Language
from parrotlab.text import corpus, tokenizer
from parrotlab.text.hub import DataError
from parrotlab.training.devices import Device
from parrotlab.training.recipe import Recipe

HUB = "hf:"
REFERENCES = ("oracle", "longest", "majority")
RANDOM = "random"
UNTRAINED = Transformer(layers=2, width=64, attention=Attention(heads=2), feedforward=Dense())
"""The model that ``random`` is, with the weights of seed 0."""
UNTRAINED_LENGTH = 2048

Hear = Callable[[int, int], None]
"""(items done, items in all)"""


@dataclass(frozen=True, kw_only=True)
class Examinee:
    """A model, ready to be asked."""

    name: str
    """As the store names it."""
    tokenizer: str
    """SHA-256 of what turns text into its tokens; empty for an answerer that reads none."""
    model: Callable[[Benchmark, Any], Any]
    """(a benchmark, its task) -> lm-eval's model."""
    counts: Mapping[str, int] = field(default_factory=dict, hash=False)
    step: int = 0
    """Steps it was trained for, where we know."""


def examinee(
    name: str,
    store: Store,
    device: Device,
    batch_tokens: int = BATCH_TOKENS,
    tokenizer_name: str = "bytes",
    hear: Hear = lambda done, items: None,
) -> Examinee:
    """The model of that name; ValueError says what is missing. ``tokenizer_name`` is what ``random`` reads with."""
    if name in REFERENCES:
        return Examinee(name=name, tokenizer="", model=lambda benchmark, task: _reference(name, benchmark, task))
    if name.startswith(HUB):
        return _hugging_face(name.removeprefix(HUB), device, batch_tokens)
    if name == RANDOM:
        reader = tokenizer.load(tokenizer_name)
        model = build(UNTRAINED, reader.vocabulary, 0, device.name)
        counts = count(UNTRAINED, reader.vocabulary).row(UNTRAINED_LENGTH)
        told = Examinee(name=name, tokenizer=reader.sha256, model=lambda benchmark, task: ours, counts=counts)
        recipe, length, step = Recipe(steps=1, rows=1, learning_rate=0.0, precision="float32"), UNTRAINED_LENGTH, 0
    else:
        run, model = trained(name, store)
        if not isinstance(run.task, Language):
            raise ValueError(
                f"run {name} is of the task {type(run.task).__name__}, which reads no text: examine a run of Language"
            )
        reader, recipe = corpus.open_corpus(run.task.corpus, run.task.sha256).tokenizer, run.recipe
        length, step = run.task.length - 1, run.recipe.steps
        counts = count(run.model, run.task.vocabulary).row(length)
        model.to(device.name)
        told = Examinee(
            name=name, tokenizer=reader.sha256, model=lambda benchmark, task: ours, counts=counts, step=step
        )
    harness.need()
    from parrotlab.evals.our_model import OurModel

    ours = OurModel(model, reader, length, batch_tokens, device.autocast(recipe), hear)
    return told


@dataclass(frozen=True, kw_only=True)
class Sitting:
    """An examination with all that it needs."""

    benchmark: Benchmark
    examination: Examination
    task: Any
    """lm-eval's, its rows read and checked; None where the store has the examination."""


def sittings(
    who: Examinee,
    benchmarks: Sequence[Benchmark],
    store: Store,
    folder: str = "",
    shots: int | None = None,
    limit: int = 0,
    read: Callable[[Benchmark, str, int], Any] = harness.task,
) -> list[Sitting]:
    """The examinations of a model, before any of them begins; DataError where rows are missing or malformed.

    ``read`` makes lm-eval's task of a benchmark, a folder and a number of shots.
    """
    found = []
    for benchmark in benchmarks:
        shown = benchmark.default_shots if shots is None else shots
        examination = Examination(
            model=who.name,
            benchmark=benchmark.name,
            split=benchmark.split,
            shots=shown,
            limit=limit,
            data_sha256=harness.data_sha256(benchmark, folder, shown),
            tokenizer=who.tokenizer,
            revision=benchmark.revision,
        )
        task = None if store.find(examination) else read(benchmark, folder, shown)
        found.append(Sitting(benchmark=benchmark, examination=examination, task=task))
    return found


def examine(who: Examinee, sitting: Sitting, store: Store, device: Device) -> Record:
    """What the store holds of the examination; the model is asked where it holds nothing."""
    benchmark, examination, task = sitting.benchmark, sitting.examination, sitting.task
    with contextlib.ExitStack() as lock:
        if task is not None:
            lock.enter_context(store.workshop(fingerprint(examination)))
        found = store.find(examination)  # another process may have just finished it
        if found is not None:
            return found
        started, began = datetime.datetime.now(datetime.UTC), time.monotonic()
        asked = harness.ask(who.model(benchmark, task), benchmark, task, examination.limit, who.step)
        facts = {
            "started": started.isoformat(timespec="seconds"),
            "seconds": time.monotonic() - began,
            "items": len(asked.answers),
            "truncated_items": sum(answer.truncated for answer in asked.answers),
            "peak_memory_bytes": device.peak_memory_bytes(),
        }
        return store.write(
            examination,
            "complete",
            "",
            who.counts,
            facts | device.facts() | provenance(),
            asked.measurements,
            {
                answers.FILE: answers.encode(asked.answers),
                item_scores.FILE: item_scores.encode(asked.answers, asked.scores),
            },
        )


def can_answer(name: str, benchmark: Benchmark) -> bool:
    """Has the model a word to say? ``longest`` knows choices only."""
    return name != "longest" or benchmark.kind == "choice"


def _reference(name: str, benchmark: Benchmark, task: Any) -> Any:
    if not can_answer(name, benchmark):
        raise ValueError(f"{name} takes the longest of several choices, and {benchmark.name} offers none")
    answer = {
        "oracle": lambda: answerers.oracle,
        "longest": lambda: answerers.longest,
        "majority": lambda: answerers.always(harness.most_common(benchmark, task)),
    }[name]()
    return answerers.answerer(answer)


def _hugging_face(name: str, device: Device, batch_tokens: int) -> Examinee:
    harness.need()
    from parrotlab.evals import hugging_face_model

    folder = hugging_face_model.local_folder(name)
    try:
        model = hugging_face_model.HuggingFaceModel(folder, device.name, batch_tokens)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"hf:{name} cannot be loaded: {' '.join(str(error).split())[:300]}") from None
    return Examinee(
        name=f"{HUB}{name if name != str(folder) else folder.name}@{hugging_face_model.identity(folder)}",
        tokenizer=_tokenizer_sha256(folder, model),
        model=lambda benchmark, task: model,
        counts=hugging_face_model.counts(model.model, model.config),
    )


def _tokenizer_sha256(folder: Path, model: Any) -> str:
    path = folder / "tokenizer.json"
    if path.is_file():
        return corpus.file_sha256(path)
    words = sorted(model.tokenizer.get_vocab().items())
    return hashlib.sha256(repr(words).encode()).hexdigest()
