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
    from parrotlab.results.store import Record

DEFAULT = -1


def evaluate(
    model: Positional[tuple[str, ...]] = (),
    *,
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
        model: Fingerprints of stored runs with weights, hf:FOLDER_OR_NAME, oracle, random, longest, majority.
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
    folder = str(existing_pack(pack)) if pack else ""
    known = harness.benchmarks(include_path)
    chosen = harness.chosen(known, benchmarks, group)
    if list_all:
        every = chosen if benchmarks or group else list(known.values())
        (show_json if json else show_table)([_listed(benchmark, folder) for benchmark in every])
        return 0
    if not model:
        raise ValueError("name a model: a run's fingerprint, hf:FOLDER, oracle, random, longest or majority")
    if limit < 0 or shots < DEFAULT or batch_tokens < 1:
        raise ValueError(f"limit, shots and batch-tokens count: not {limit}, {shots} and {batch_tokens}")
    rows = []
    for name in model:
        rows += _examined(name, chosen, folder, limit, shots, store, device, batch_tokens, tokenizer)
    (show_json if json else show_table)(rows)
    return 0


def existing_pack(folder: Path) -> Path:
    """The folder of a pack, its files as its manifest says."""
    from parrotlab.evals.packing import check

    check(folder)
    return folder


def _examined(
    name: str,
    chosen: list[Benchmark],
    folder: str,
    limit: int,
    shots: int,
    store: Path,
    device_name: str,
    batch_tokens: int,
    tokenizer: str,
) -> list[dict[str, Any]]:
    """One model's rows. Whatever is missing is found before anything is asked."""
    from parrotlab.execution.examine import can_answer, examine, examinee, sittings
    from parrotlab.results.store import Store
    from parrotlab.training.devices import device

    results, where = Store(store), device(device_name)
    asked = [benchmark for benchmark in chosen if can_answer(name, benchmark)]
    if len(asked) < len(chosen):
        mute = [benchmark.name for benchmark in chosen if benchmark not in asked]
        say(f"{name} takes the longest of several choices: it has no answer to {', '.join(mute)}")
    with _bar(name, len(asked)) as (hear, advance):
        who = examinee(name, results, where, batch_tokens, tokenizer, hear)
        rows = []
        for sitting in sittings(who, asked, results, folder, None if shots == DEFAULT else shots, limit):
            advance(sitting.benchmark.name)
            record = examine(who, sitting, results, where)
            rows.append(_row(record, results))
            cut, items = record.facts["truncated_items"], record.facts["items"]
            if cut:
                say(f"{sitting.benchmark.name}: {cut} of {items} contexts were too long and cut from the left")
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
def _bar(model: str, benchmarks: int) -> Iterator[tuple[Any, Any]]:
    """Two functions: one hears how many items are done, the other which benchmark begins."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = words()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task, begun = bar.add_task(model, total=None), iter(range(1, benchmarks + 1))

        def hear(done: int, items: int) -> None:
            bar.update(task, completed=done, total=items)

        def advance(benchmark: str) -> None:
            line = f"{model}: {benchmark}, {next(begun)} of {benchmarks}"
            bar.reset(task, description=line)
            if not console.is_terminal:
                say(line)

        yield hear, advance
