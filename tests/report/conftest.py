"""A store of made-up runs of two studies: memorization follows total parameters, reasoning active ones.

One run failed and one is missing.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np
import pytest
from examinations import answer, examine

from parrotlab.analysis.points import Score
from parrotlab.evals.exposure import FILE as EXPOSURES
from parrotlab.evals.exposure import Exposure, Sought, encode
from parrotlab.model.attention import Attention
from parrotlab.model.count import count
from parrotlab.model.feedforwards.dense import Dense
from parrotlab.model.feedforwards.mixture import Mixture
from parrotlab.model.transformer import Transformer
from parrotlab.report import _theory
from parrotlab.report.report import write_report
from parrotlab.results.measurement import Measurement
from parrotlab.results.store import Store
from parrotlab.run import Run
from parrotlab.studies.study import Claim, Study, Verdict
from parrotlab.theory.check import Check
from parrotlab.training.recipe import Recipe

CHECKS = (
    Check("theorem 3.3", "every graph of <4> & 5 vertices: 0 wrong", 21_248, True),
    Check("theorem 3.5", "2 experts forget their labels", 1_000, False),
)
"""In place of the theory's own, which take seconds and all hold."""

STEPS = 200
FAILING = 0.5
"""A learning rate at which training diverges."""
FACTS = {
    "device": "a made-up machine",
    "precision": "float32",
    "threads": 1,
    "commit": "0123456789ab",
    "versions": {"python": "3.11.0", "torch": "2.13.0"},
    "started": "2026-01-02T03:04:05+00:00",
    "seconds": 12.5,
}


@dataclass(frozen=True, kw_only=True)
class PhoneBook:
    entries: int = 2000


@dataclass(frozen=True, kw_only=True)
class ShortestPath:
    vertices: int = 9


@dataclass(frozen=True, kw_only=True)
class LengthTwoPath:
    vertices: int


def designs():
    forwards = [(width, Dense()) for width in (8, 16, 32, 48, 64)]
    forwards += [(width, Mixture(experts=experts)) for width in (16, 32) for experts in (4, 8, 16)]
    for width, feedforward in forwards:
        yield Transformer(layers=2, width=width, attention=Attention(heads=2), feedforward=feedforward)


def runs_of(task):
    tried = [(model, seed, 0.005) for model in designs() for seed in (1, 2)]
    tried.insert(2, (tried[2][0], 1, FAILING))
    return tuple(
        Run(task=task, model=model, recipe=Recipe(steps=STEPS, rows=8, learning_rate=rate), evaluations=(), seed=seed)
        for model, seed, rate in tried
    )


def measurements(run, counts):
    """Recall grows with the logarithm of the parameters that the task can use; the load is a little uneven."""
    rng = np.random.default_rng([counts.total, run.seed])
    used = counts.total if isinstance(run.task, PhoneBook) else counts.active
    score = min(1.0, 0.13 * np.log2(used / 900) + 0.01 * rng.standard_normal())
    yield _measurement("exact_match", "accuracy", score, split="test", step=STEPS)
    if isinstance(run.task, PhoneBook):
        yield _measurement("bits", "bits_memorized", 53000 * score, step=STEPS)
        yield _measurement("bits", "entropy", 53000, step=STEPS)
    for step in range(10, STEPS + 1, 10):
        yield _measurement("training", "loss", 0.02 + 2.3 * np.exp(-3 * score * step / STEPS), step=step)
    for layer in range(2 if isinstance(run.model.feedforward, Mixture) else 0):
        share = np.exp(rng.standard_normal(run.model.feedforward.experts))
        for expert, load in enumerate(share / share.sum()):
            yield _measurement("routing", "load", load, part=f"layer {layer} expert {expert}", step=STEPS)


def _measurement(evaluation, metric, value, *, split="train", part="", step):
    return Measurement(
        evaluation=evaluation, split=split, metric=metric, value=float(value), count=100, step=step, part=part
    )


def _judge(points):
    finished = sum(len(table) for table in points.values())
    if not finished:
        return Verdict(outcome="not run", measured="")
    return Verdict(outcome="holds", measured=f"{finished} points of {', '.join(points)}: <at E=16> & above.")


def _study(task, question):
    claim = Claim(
        says="With the active parameters fixed, more experts keep improving memorization, while reasoning saturates.",
        source="abstract",
        judge=_judge,
    )
    score = Score(evaluation="exact_match", split="test", metric="accuracy", label="exact recall")
    notes = "The learning rate was searched beforehand; sizes are smaller than the paper's."
    return Study(question=question, runs=lambda scale: runs_of(task), score=score, claims=(claim,), notes=notes)


@pytest.fixture(scope="session", autouse=True)
def quick_checks():
    """Reports that show ``CHECKS``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_theory, "checks", lambda: CHECKS)
        yield


@pytest.fixture(scope="session")
def studies():
    return {
        "phone_book": _study(PhoneBook(), "Does an expert's parameter store as many numbers as a dense one?"),
        "shortest_path": _study(ShortestPath(), "Do experts help to find a shortest path?"),
    }


def fill(store, runs, measured=lambda run, counts: measurements(run, counts)):
    """Writes the runs as if they had been trained."""
    for run in runs:
        counts = count(run.model, 40)
        row = counts.row(length=13) | {"training_flops": counts.training_flops_per_token(13) * STEPS * 8 * 13}
        failed = run.recipe.learning_rate == FAILING
        reason = "diverged at step 120: loss is nan" if failed else ""
        store.write(
            run, "failed" if failed else "complete", reason, row, FACTS, [] if failed else measured(run, counts)
        )


@pytest.fixture(scope="session")
def store(studies, tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("store"))
    for study in studies.values():
        fill(store, study.runs("laptop")[:-1])  # the last is missing
    return store


@dataclass(frozen=True, kw_only=True)
class Language:
    corpus: str = "small"


def language(run, counts):
    """The better, the more a model can use, experts a little less."""
    used = (counts.total * counts.active) ** 0.5
    yield from measurements(run, counts)
    yield _measurement("perplexity", "perplexity", 400 * used**-0.25, split="test", step=STEPS)


def language_runs(scale):
    """Of each design one seed; of mixtures those of one width."""
    return tuple(run for run in runs_of(Language())[::2] if run.model.width != 32 or run.model.feedforward == Dense())


BENCHMARKS = {"triviaqa": 0.1, "nq_open": 0.05, "arc_easy": 0.0, "piqa": 0.0, "gsm8k": 0.02}
"""By how much each doubling of a model's parameters raises its skill. Choices stay at chance."""


@pytest.fixture(scope="session")
def examined(tmp_path_factory):
    """A store of language models and their examinations: knowledge grows with the total, choices are guessed."""
    store = Store(tmp_path_factory.mktemp("examined"))
    runs = language_runs("laptop")
    fill(store, runs, language)
    for run in (run for run in runs if run.recipe.learning_rate != FAILING):
        doublings = np.log2(count(run.model, 40).total / 1500)
        for benchmark, slope in BENCHMARKS.items():
            examine(store, run.fingerprint, benchmark, slope * doublings, items=200)
        examine(store, run.fingerprint, "gsm8k_train", 0.04 * doublings, split="train", items=200)
        examine(store, run.fingerprint, "facts", 0.1 * doublings, items=200)
    for benchmark in (*BENCHMARKS, "facts"):
        for model, skill in (("oracle", 1.0), ("random", 0.0), ("majority", 0.02)):
            examine(store, model, benchmark, skill, items=200)
    counted = [Sought(answer("", "facts", "test", item, 0).item, ()) for item in range(200)]
    exposure = Exposure(file="facts", data_sha256="0" * 64, corpus="small", corpus_sha256="0" * 64, revision=1)
    exposures = encode(counted, np.arange(200) // 2)
    store.write(exposure, "complete", "", {}, FACTS, [], {EXPOSURES: exposures})
    return store


@pytest.fixture(scope="session")
def studied():
    """The study of that store's runs."""
    study = _study(Language(), "What do experts buy of language?")
    return {"language": dataclasses.replace(study, runs=language_runs)}


@pytest.fixture(scope="session")
def examined_folder(examined, studied, tmp_path_factory):
    """The report of that store, of a study of its runs."""
    folder = tmp_path_factory.mktemp("benchmarks")
    write_report(examined, studied, "laptop", folder)
    return folder


@pytest.fixture(scope="session")
def two_books(studies, tmp_path_factory):
    """A store and a study of books of two sizes; all runs are there."""
    runs = runs_of(PhoneBook(entries=1000)) + runs_of(PhoneBook(entries=2000))
    store = Store(tmp_path_factory.mktemp("books"))
    fill(store, runs)
    return store, dataclasses.replace(studies["phone_book"], runs=lambda scale: runs)


@pytest.fixture(scope="session")
def swept_folder(studies, tmp_path_factory):
    """The report of a study that sweeps the width on graphs of two sizes; all runs are there."""
    runs = runs_of(LengthTwoPath(vertices=8)) + runs_of(LengthTwoPath(vertices=16))
    folder = tmp_path_factory.mktemp("swept")
    store = Store(folder / "store")
    fill(store, runs)
    study = dataclasses.replace(studies["shortest_path"], runs=lambda scale: runs)
    write_report(store, {"critical_width": study}, "laptop", folder)
    return folder


@pytest.fixture(scope="session")
def folder(store, studies, tmp_path_factory):
    """The report of the store."""
    folder = tmp_path_factory.mktemp("report")
    assert write_report(store, studies, "laptop", folder) == folder / "report.html"
    return folder


@pytest.fixture(scope="session")
def empty_folder(studies, tmp_path_factory):
    """The report of a store that holds nothing yet."""
    folder = tmp_path_factory.mktemp("empty")
    write_report(Store(folder / "none"), studies, "laptop", folder)
    return folder
