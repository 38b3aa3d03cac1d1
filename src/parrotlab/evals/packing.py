"""Packing: the rows of benchmarks gathered in one folder that needs no network afterwards.

    pack/manifest.json                 hash, size, rows, licence and source of each file, and which benchmarks read it
    pack/arc_easy/test.jsonl.zst       copied as they are from the data folder, or written from the Hugging Face hub

A pack has the layout of the data folder: ``parrotlab eval --pack FOLDER`` reads it, and so does any lm-eval with
``PARROTLAB_DATA=FOLDER``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from parrotlab.evals import harness, sets
from parrotlab.evals.harness import Benchmark
from parrotlab.text import hub
from parrotlab.text.corpus import file_sha256
from parrotlab.text.hub import DataError

MANIFEST = "manifest.json"


def pack(folder: Path, asked: Sequence[Benchmark], known: Mapping[str, Benchmark]) -> Iterator[str]:
    """Fills a new folder, or adds to an old pack; names each file as it is there. Nothing is half there in the end."""
    path = folder / MANIFEST
    packed = _manifest(folder)["files"] if path.is_file() else {}
    folder.mkdir(parents=True, exist_ok=True)
    readers: dict[str, list[Benchmark]] = {}
    for benchmark in asked:
        for name in dict.fromkeys((benchmark.items, benchmark.shots.partition("#")[0])):
            if name:
                readers.setdefault(name, []).append(benchmark)
    for name, benchmarks in readers.items():
        place, source = _gather(name, folder, known, harness.place(benchmarks[0], ""))
        relative = str(place.relative_to(folder))
        before = packed.get(relative, {})
        packed[relative] = {
            "sha256": file_sha256(place),
            "bytes": place.stat().st_size,
            "rows": None if place.suffix == ".json" else sum(1 for _ in hub.records(place)),
            "licence": before.get("licence") or benchmarks[0].about.get("licence", "unknown"),
            "home": benchmarks[0].about.get("home", ""),
            "source": before.get("source") or source,
            "benchmarks": sorted({*before.get("benchmarks", ()), *(benchmark.name for benchmark in benchmarks)}),
        }
        _write(path, json.dumps({"files": dict(sorted(packed.items()))}, indent=1, ensure_ascii=False) + "\n")
        yield relative


def check(folder: Path) -> None:
    """DataError names the first file of a pack that is not what its manifest says."""
    for name, facts in _manifest(folder)["files"].items():
        path = folder / name
        if not path.is_file():
            raise DataError(f"the pack {folder} lacks {name}: pack it again")
        found = file_sha256(path)
        if found != facts["sha256"]:
            raise DataError(
                f"{path} has sha256 {found[:12]}... and the manifest says {facts['sha256'][:12]}...: "
                "remove it and pack again"
            )


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        raise DataError(f"{folder} is not a pack: it has no {MANIFEST}; make one with `parrotlab pack {folder}`")
    try:
        said = json.loads(path.read_text())
        assert isinstance(said["files"], dict)
    except (ValueError, KeyError, TypeError, AssertionError):
        raise DataError(f"{path} is not the manifest of a pack") from None
    return said


def _gather(name: str, folder: Path, known: Mapping[str, Benchmark], beside: str = "") -> tuple[Path, str]:
    """A set's file in the folder, and where it is from. Those of a task file of one's own lie ``beside`` it."""
    fixed = name.startswith("prompts/")
    path = sets.prompts(name, beside) if fixed else sets.look_for(name, beside)
    if path is None and fixed:
        raise DataError(
            f"the worked examples {name}.json are not in {hub.data_folder()}: put them there as "
            '{"gsm8k": [["question", "solution"], ...]}'
        )
    if path is None:
        return _from_hub(name, folder, known)
    place = folder / Path(name).parent / path.name
    if path.resolve() != place.resolve():
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = place.with_name(f".{place.name}.unfinished")
        shutil.copyfile(path, draft)
        draft.rename(place)
    return place, f"the file {name} of a data folder"


def _from_hub(name: str, folder: Path, known: Mapping[str, Benchmark]) -> tuple[Path, str]:
    """The rows of a set of the Hugging Face hub, each as its benchmark's ``row`` says, in expressions of Jinja."""
    owner, stem = Path(name).parts[0], Path(name).name
    hosts = [one.about["hub"] for one in known.values() if "hub" in one.about and one.items.startswith(f"{owner}/")]
    host = next((host for host in hosts if stem in host["files"]), None)
    if host is None:
        raise DataError(
            f"there is no set {name}[.jsonl[.zst|.gz]] in {hub.data_folder()}, and the hub has it in no form we know: "
            f"set {hub.VARIABLE} to the folder that holds it"
        )
    import datasets
    from jinja2.nativetypes import NativeEnvironment

    try:
        stream = datasets.load_dataset(host["path"], host.get("name"), split=host["files"][stem])
    except Exception as error:  # of any kind: no network, no such set, a licence to accept
        raise DataError(
            f"{name} is not in {hub.data_folder()}, and {host['path']} cannot be fetched from the hub: "
            f"{' '.join(str(error).split())[:200]}"
        ) from None
    environment = NativeEnvironment()
    fields = {field: environment.compile_expression(expression) for field, expression in host["row"].items()}
    rows = ({field: value(**record) for field, value in fields.items()} for record in stream)
    place = folder / f"{name}.jsonl"
    place.parent.mkdir(parents=True, exist_ok=True)
    _write(place, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return place, f"Hugging Face hub, {host['path']} {host.get('name', '')} {host['files'][stem]}".replace("  ", " ")


def _write(path: Path, content: str) -> None:
    draft = path.with_name(f".{path.name}.unfinished")
    draft.write_text(content)
    draft.rename(path)
