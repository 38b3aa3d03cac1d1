"""``parrotlab eval``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from parrotlab.cli._show import say, show_json, show_table, words

if TYPE_CHECKING:
    from parrotlab.evals.harness import Benchmark
    from parrotlab.execution.rounds import Round
    from parrotlab.results.store import Record

DEFAULT = -1


def evaluate(
    model: Positional[tuple[str, ...]] = (),
    *,
    scale: str = "laptop",
    group: str = "",
    benchmarks: tuple[str, ...] = (),
    limit: int = 0,
    shots: int = DEFAULT,
    pack: Path | None = None,
    include_path: tuple[Path, ...] = (),
    store: Path = Path("results"),
    device: str = "auto",
    batch_tokens: int = 16_384,
    tokenizer: str = "bytes",
    list_all: Annotated[bool, arg(name="list")] = False,
    json: bool = False,
) -> int:
    """Ask models the benchmarks, offline, and keep every answer. What the store has is not asked again.

    Args:
        model: Fingerprints of stored runs with weights, studies, hf:FOLDER_OR_NAME, oracle, random, longest, majority.
        scale: Of the runs that a study's name stands for: smoke, laptop, gpu or paper.
        group: knowledge, commonsense, math, probes, or own; without it, all but the probes.
        benchmarks: By name instead.
        limit: Ask at most so many items of each; 0 is all.
        shots: Examples to show before each item; without it, what the field shows.
        pack: The folder of rows that parrotlab pack made; without it, PARROTLAB_DATA.
        include_path: Folders with task files of your own.
        store: The folder of results.
        device: cpu, cuda, or auto for CUDA where there is one.
        batch_tokens: Tokens of one forward pass; less needs less memory.
        tokenizer: What the model random reads with: bytes, a tokenizer.json, or a name in the data's tokenizers/.
        list_all: Print the benchmarks and where their rows stand, and ask nobody.
        json: Print JSON.
    """
    from parrotlab.evals import harness

    harness.offline()
    from parrotlab.execution.rounds import Round

    folder = str(existing_pack(pack)) if pack else ""
    known = harness.benchmarks(include_path)
    chosen = harness.chosen(known, benchmarks, group)
    if list_all:
        every = chosen if benchmarks or group else list(known.values())
        (show_json if json else show_table)([_listed(benchmark, folder) for benchmark in every])
        return 0
    if not model:
        raise ValueError("name a model: a run's fingerprint, a study, hf:FOLDER, oracle, random, longest or majority")
    if limit < 0 or shots < DEFAULT or batch_tokens < 1:
        raise ValueError(f"limit, shots and batch-tokens count: not {limit}, {shots} and {batch_tokens}")
    asked = Round(benchmarks=tuple(chosen), limit=limit, shots=None if shots == DEFAULT else shots)
    rows = _examined(_named(model, scale, store), asked, folder, store, device, batch_tokens, tokenizer)
    (show_json if json else show_table)(rows)
    return 0


def existing_pack(folder: Path) -> Path:
    """The folder of a pack, its files as its manifest says."""
    from parrotlab.evals.packing import check

    check(folder)
    return folder


def _named(models: tuple[str, ...], scale: str, store: Path) -> list[str]:
    """The models, a study's name replaced by its runs at their best learning rates, if they have weights."""
    from parrotlab.cli._plans import chosen, planned
    from parrotlab.execution.rounds import with_weights
    from parrotlab.results.store import Store
    from parrotlab.studies import study

    results, named = Store(store), []
    for name in models:
        if name not in study.names():
            named.append(name)
            continue
        runs = planned(chosen([name]), scale, study.corpora_of(results.runs()))[name]
        found = with_weights(runs, results)
        say(f"{name}: of {len(runs)} runs at scale {scale}, {len(found)} at their best learning rates have weights")
        named += found
    return list(dict.fromkeys(named))


def _examined(
    names: list[str], asked: Round, folder: str, store: Path, device_name: str, batch_tokens: int, tokenizer: str
) -> list[dict[str, Any]]:
    """The rows of all models. Whatever a model's benchmarks lack is found before it is asked anything."""
    from parrotlab.execution.examine import can_answer, examinee
    from parrotlab.execution.rounds import examine_all
    from parrotlab.results.store import Store
    from parrotlab.training.devices import device

    results, where, rows = Store(store), device(device_name), []
    for name in names:
        mute = [benchmark.name for benchmark in asked.benchmarks if not can_answer(name, benchmark)]
        if mute:
            say(f"{name} takes the longest of several choices: it has no answer to {', '.join(mute)}")
    examinations = sum(can_answer(name, benchmark) for name in names for benchmark in asked.benchmarks)
    with _bar(examinations) as (hear, begin):
        meet = lambda name: examinee(name, results, where, batch_tokens, tokenizer, hear)  # noqa: E731
        for record in examine_all(names, [asked], results, where, meet, folder, begin):
            rows.append(_row(record, results))
            cut, items = record.facts["truncated_items"], record.facts["items"]
            if cut:
                benchmark = record.spec["benchmark"]
                say(f"{benchmark}: {cut} of {items} contexts were too long and cut from the left")
    if len(rows) < examinations:
        say(f"{examinations - len(rows)} of {examinations} are in another process's hands: ask again when it is done")
    return rows


def _row(record: Record, store: Any) -> dict[str, Any]:
    """An examination with its scores."""
    import io

    import pyarrow.parquet as parquet

    from parrotlab.results.store import MEASUREMENTS

    measured = parquet.read_table(io.BytesIO(store.file(record.fingerprint, MEASUREMENTS))).to_pylist()
    row = {name: record.spec[name] for name in ("model", "benchmark", "split", "shots")}
    return row | {
        "items": record.facts["items"],
        "scores": " ".join(f"{row['metric']}={row['value']:.4f}" for row in measured),
        "items/s": record.facts["items"] / max(record.facts["seconds"], 1e-9),
        "fingerprint": record.fingerprint,
    }


def _listed(benchmark: Benchmark, folder: str) -> dict[str, Any]:
    """What a benchmark is, and where its rows stand."""
    from parrotlab.evals import harness
    from parrotlab.text.hub import DataError

    try:
        paths = harness.files(benchmark, folder, benchmark.default_shots)
        stands = str(paths[0])
    except DataError:
        stands = f"missing: parrotlab pack FOLDER --benchmarks {benchmark.name}"
    return {
        "benchmark": benchmark.name,
        "group": benchmark.group,
        "metrics": ", ".join(benchmark.metrics),
        "shots": benchmark.default_shots,
        "split": benchmark.split,
        "licence": benchmark.about.get("licence", "unknown"),
        "rows": stands,
    }


@contextmanager
def _bar(examinations: int) -> Iterator[tuple[Any, Any]]:
    """Two functions: one hears how many items are done, the other which model meets which benchmark now."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = words()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task, begun = bar.add_task("", total=None), iter(range(1, examinations + 1))

        def hear(done: int, items: int) -> None:
            bar.update(task, completed=done, total=items)

        def begin(model: str, benchmark: Benchmark) -> None:
            line = f"{model}: {benchmark.name}, {next(begun)} of {examinations}"
            bar.reset(task, description=line)
            if not console.is_terminal:
                say(line)

        yield hear, begin
