"""The harness: lm-evaluation-harness (lm-eval) asks a model the items of a benchmark, and every answer is kept.

A benchmark is a task file of lm-eval, in ``benchmarks/`` or in a folder of one's own. Nothing is fetched from a
network: rows come from files (``sets``), and models of the Hugging Face hub from its local cache.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from parrotlab.evals import judging, sets
from parrotlab.evals.answers import Answer
from parrotlab.results.measurement import Measurement
from parrotlab.spec import nearest
from parrotlab.text.corpus import file_sha256
from parrotlab.text.hub import ENDINGS, DataError

FOLDER = Path(__file__).with_name("benchmarks")
TAG = "parrotlab_"
GROUPS = ("knowledge", "commonsense", "math", "probes")
OWN = "own"
"""The group of a task file that names none of ours."""
QUIET = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE", "TQDM_DISABLE")
"""Environment variables that keep Hugging Face's packages off the network, and bars off the terminal."""

ANSWERS = {
    "choices": judging.choice_answer,
    "blanks": judging.choice_answer,
    "words": judging.words_answer,
    "finals": judging.final_answer,
}
"""How the items of each reader of ``sets`` are answered."""


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """What a task file says of itself."""

    name: str
    group: str
    path: Path
    """The task file."""
    reader: str
    """Of ``sets``: ``choices``, ``blanks``, ``words``, ``finals``."""
    items: str
    """The file of what is asked: ``arc_easy/test``."""
    shots: str
    """The file of what may be shown before; empty where nothing may."""
    default_shots: int
    metrics: tuple[str, ...]
    revision: int
    about: dict[str, Any] = field(hash=False)
    """Its ``metadata``: licence, home, an example row of our own making, where the hub has it."""

    @property
    def split(self) -> str:
        """Of the data set that is asked."""
        return sets.split_of(self.items)

    @property
    def kind(self) -> str:
        """How it is answered: a choice, a few words, or a solution."""
        return {"blanks": "choice", "choices": "choice", "finals": "math"}.get(self.reader, self.reader)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What became of asking a model a benchmark."""

    answers: tuple[Answer, ...]
    scores: tuple[dict[str, float], ...]
    """Of each answer, by metric."""
    measurements: tuple[Measurement, ...]


def benchmarks(own: Sequence[Path] = ()) -> dict[str, Benchmark]:
    """All benchmarks by name: ours, and the task files of folders of one's own, which come first where names agree."""
    found = {}
    for folder in (FOLDER, *own):
        if not folder.is_dir():
            raise ValueError(f"{folder} is not a folder of task files")
        for path in sorted(folder.glob("*.yaml")):
            benchmark = read(path)
            found[benchmark.name] = benchmark
    return found


def chosen(known: dict[str, Benchmark], names: Iterable[str], group: str = "") -> list[Benchmark]:
    """The benchmarks of these names, or of a group, or all of the groups of the paper."""
    if group and group not in (*GROUPS, OWN):
        raise ValueError(f"there is no group {group!r}: {nearest(group, (*GROUPS, OWN))}")
    for name in names:
        if name not in known:
            raise ValueError(f"there is no benchmark {name!r}: {nearest(name, known)}")
    if names:
        return [known[name] for name in names]
    return [one for one in known.values() if (one.group == group if group else one.group != "probes")]


def read(path: Path) -> Benchmark:
    """What a task file says."""
    load_yaml = _engine("tasks._yaml_loader").load_yaml
    try:
        said = load_yaml(path, resolve_func=False)
        reader = said["custom_dataset"].rpartition(".")[2]
        if reader not in ANSWERS:
            raise DataError(
                f"{path}: custom_dataset names no reader of parrotlab.evals.sets: {nearest(reader, ANSWERS)}"
            )
        files = said["dataset_kwargs"]
        tags = [said.get("tag", "")] if isinstance(said.get("tag", ""), str) else said["tag"]
        about = said.get("metadata") or {}
        return Benchmark(
            name=said["task"],
            group=next((tag.removeprefix(TAG) for tag in tags if tag.removeprefix(TAG) in GROUPS), OWN),
            path=path,
            reader=reader,
            items=files["items"],
            shots=files.get("shots", ""),
            default_shots=said.get("num_fewshot") or 0,
            metrics=tuple(metric["metric"] for metric in said["metric_list"]),
            revision=int(about.get("version", 1)),
            about=about,
        )
    except KeyError as error:
        raise DataError(f"{path}: a task file of parrotlab needs the field {error.args[0]!r}") from None
    except DataError:
        raise
    except Exception as error:  # of the YAML parser, of any kind
        raise DataError(f"{path}: not a task file: {' '.join(str(error).split())}") from None


def files(benchmark: Benchmark, folder: str = "", shots: int = 1) -> list[Path]:
    """The files that asking with so many shots reads; DataError names the first that is missing."""
    places = [sets.find(benchmark.items, place(benchmark, folder))]
    if shots:
        name, fixed, _ = benchmark.shots.partition("#")
        if not name:
            raise DataError(f"{benchmark.name} has no examples to show: ask it with --shots 0")
        fixed_path = sets.prompts(name, folder) if fixed else None
        if fixed and fixed_path is None:
            raise DataError(f"{benchmark.name} shows the examples of {name}.json, which is not in the data folder")
        places.append(fixed_path or sets.find(name, place(benchmark, folder)))
    return places


def data_sha256(benchmark: Benchmark, folder: str, shots: int) -> str:
    """Of the rows that are asked and, with shots, of those that may be shown."""
    hashes = [file_sha256(path) for path in files(benchmark, folder, shots)]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def task(benchmark: Benchmark, folder: str = "", shots: int | None = None) -> Any:
    """lm-eval's task, its rows read and checked."""
    shots = benchmark.default_shots if shots is None else shots
    files(benchmark, folder, shots)
    said = _engine("tasks._yaml_loader").load_yaml(benchmark.path)
    said["dataset_kwargs"] = said["dataset_kwargs"] | {"folder": place(benchmark, folder)}
    said["num_fewshot"] = shots
    said["doc_to_text"] = _compiled(said["doc_to_text"])
    for name in ("tag", "group"):
        said.pop(name, None)
    made = _engine("api.task").ConfigurableTask(config=said)
    shown = len(made.dataset[sets.SHOTS])
    if shots > shown:
        raise DataError(f"{benchmark.name} has {shown} examples to show, not {shots}: ask for fewer --shots")
    return made


def ask(model: Any, benchmark: Benchmark, asked: Any, limit: int = 0, step: int = 0) -> Asked:
    """What lm-eval's model says to a task, as ``task`` made it, and what that is worth; ``limit`` 0 is all items."""
    results = _engine("evaluator").evaluate(
        model, {"tasks": {benchmark.name: asked}}, limit=limit or None, bootstrap_iters=0, log_samples=True
    )
    samples = sorted(results["samples"][benchmark.name], key=lambda sample: sample["doc_id"])
    cut = getattr(model, "cut", frozenset())
    answers = tuple(
        ANSWERS[benchmark.reader](
            sample["doc"],
            sample["filtered_resps"],
            benchmark=benchmark.name,
            split=benchmark.split,
            truncated=sample["doc_id"] in cut,
        )
        for sample in samples
    )
    measurements = tuple(
        Measurement(
            evaluation=benchmark.name,
            split=benchmark.split,
            metric=metric,
            value=sum(sample[metric] for sample in samples) / len(samples),
            count=len(samples),
            step=step,
        )
        for metric in benchmark.metrics
    )
    scores = tuple({metric: float(sample[metric]) for metric in sample["metrics"]} for sample in samples)
    return Asked(answers=answers, scores=scores, measurements=measurements)


def most_common(benchmark: Benchmark, asked: Any) -> str:
    """The answer that is right most often: a choice's index, or a text. The first of several."""
    rows = asked.dataset[sets.ITEMS]
    right = rows["label"] if benchmark.kind == "choice" else [answers[0] for answers in rows["answers"]]
    return str(Counter(right).most_common(1)[0][0])


def offline() -> None:
    """From here on nothing is fetched; to be said before Hugging Face's packages are imported, which read it once."""
    for name in QUIET:
        os.environ.setdefault(name, "1")


def need() -> None:
    """DataError, if lm-evaluation-harness is not installed."""
    _engine("api.model")


def place(benchmark: Benchmark, folder: str) -> str:
    """Where its files are looked for: in the given folder; or beside a task file of one's own, if they are there."""
    beside = benchmark.path.parent
    if folder or beside == FOLDER:
        return folder
    return str(beside) if any((beside / f"{benchmark.items}{ending}").is_file() for ending in ENDINGS) else ""


def _compiled(template: Any) -> Any:
    """A template of lm-eval as a function of a row: lm-eval itself compiles it anew for every row and example."""
    if not isinstance(template, str) or "{" not in template:
        return template
    compiled = _engine("utils").env.from_string(template)
    return lambda row: compiled.render(**row)


def _engine(module: str) -> Any:
    """A module of lm-eval, quiet."""
    import importlib

    try:
        found = importlib.import_module(f"lm_eval.{module}")
    except ImportError:
        raise DataError("benchmarks need lm-evaluation-harness: pip install 'parrotlab[eval]'") from None
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    return found
