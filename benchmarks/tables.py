"""The tables of the pages under docs/, from the files under results/benchmarks/.

    python benchmarks/tables.py            prints them
    python benchmarks/tables.py --write    puts them into the pages, between their markers

A benchmark without a file, or a number that its file lacks, is "not measured yet".
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGES, RESULTS = sorted((ROOT / "docs").glob("*.md")), ROOT / "results" / "benchmarks"
ABSENT = "not measured yet"
MIXTRALS = ("transformers grouped_mm, compiled", "transformers grouped_mm", "transformers eager", "Liger")
"""Contenders of ``moe_layer.py`` that others made; the first is their fastest."""
Row = Mapping[str, Any]


def training_step(results: Row) -> list[dict[str, str]]:
    """Million tokens a second, and memory where it was measured."""
    return [
        {
            "model": f"{row['kind']}, d = {row['width']}, {row['layers']} layers",
            "batch": f"{row['rows']} x {row['length']}",
            "plain": _number(row, "plain"),
            "graph": _number(row, "graph"),
            "stacked": f"{_number(row, 'stacked')} ({row['replicas']} replicas)",
            "transformers' Trainer": _number(row, "trainer"),
            "without balancing": _number(row, "trainer_unbalanced") if row["kind"] == "mixture" else "",
            "ratio": _number(row, "ratio"),
            "MFU": f"{row['mfu']:.1%}" if "mfu" in row else ABSENT,
            "MB, graph (its)": f"{_whole(row, 'graph_megabytes')} ({_whole(row, 'trainer_megabytes')})",
        }
        for row in results["rows"]
    ]


def memory(results: Row) -> list[dict[str, str]]:
    """Megabytes of a whole stack."""
    return [
        {
            "study": row["study"],
            "model": f"d = {row['width']}, " + (f"{row['experts']} experts" if row["experts"] > 1 else "dense"),
            "replicas": str(row["replicas"]),
            "estimate, MB": f"{row['estimate_bytes'] / 1e6:.0f}",
            "measured peak, MB": f"{row['peak_bytes'] / 1e6:.0f}",
            "ratio": _number(row, "ratio"),
        }
        for row in results["rows"]
    ]


def study(results: Row) -> list[dict[str, str]]:
    """Seconds from nothing to the exchange rates."""
    return [
        {
            "study": f"{row['study']}, {row['scale']}",
            "runs": str(row["runs"]),
            "stacks": str(row["stacks"]),
            "stacked, s": _number(row, "seconds"),
            "one process a run, s": _number(row, "alone_seconds"),
            "ratio": _number(row, "ratio"),
        }
        for row in results["rows"]
    ]


def cpu(results: Row) -> list[dict[str, str]]:
    """Thousand tokens a second of one thread."""
    return [
        {
            "batch": f"{row['task']}, {row['rows']} x {row['length']}",
            "d": str(row["width"]),
            "experts": str(row["experts"] or "dense"),
            "ours": f"{row['tokens_per_second'] / 1e3:.1f}",
            "transformers": f"{row['transformers_tokens_per_second'] / 1e3:.1f}",
            "its fastest variant": row["transformers_variant"],
            "ratio": _number(row, "ratio"),
        }
        for row in results["rows"]
    ]


def generators(results: Row) -> list[dict[str, str]]:
    """Thousand examples a second of one core."""
    return [
        {
            "task": task.replace("|", "\\|"),
            "thousand examples/s": f"{row['examples_per_second'] / 1e3:.1f}",
            "times networkx": _number(row, "times_networkx") if "times_networkx" in row else "",
        }
        for task, row in results.items()
    ]


def moe_layer(results: Row) -> list[dict[str, str]]:
    """Forward and backward: milliseconds of the dense layer as a replayed graph, and ratios to it; Liger's, which no
    graph holds, to the dense layer launched as it is. Memory beside the leanest peer's; GELU has no peers.
    """
    table = []
    for row in results["rows"]:
        layers = row["layers"]
        dense, ours = layers.get("dense", {}), layers.get("fused", {})
        compiled, liger = (layers.get(name, {}) for name in (MIXTRALS[0], MIXTRALS[-1]))
        peers = [layers[name] for name in MIXTRALS if "megabytes" in layers.get(name, {})]
        leanest = min(peers, key=lambda layer: layer["megabytes"], default={})
        errors = ours.get("errors")
        table.append(
            {
                "D, F, E": f"{row['width']}, {row['hidden']}, {row['experts']}",
                "activation": "SwiGLU" if row["gated"] else "GELU",
                "tokens": f"{row['tokens']:,}",
                "dense, ms": _number(dense, "both"),
                "kernels": _over(ours, dense, "both"),
                "sorted": _over(layers.get("sorted", {}), dense, "both"),
                "transformers, compiled": _over(compiled, dense, "both") if row["gated"] else "",
                "Liger, launched": _over(liger, dense, "launched") if row["gated"] else "",
                "error of the kernels": f"{max(errors.values()):.1e}" if errors else ABSENT,
                "their MB": _whole(ours, "megabytes"),
                "over the leanest peer's": _over(ours, leanest, "megabytes") if row["gated"] else "",
            }
        )
    return table


def expert_tax(results: Row) -> list[dict[str, str]]:
    """Thousand tokens a second of three models in training, and the mixture's speed over the other two's."""

    def told(row: Row, name: str) -> str:
        mfu = f" ({row[f'{name}_mfu']:.1%})" if f"{name}_mfu" in row else ""
        return f"{row[name] / 1e3:.0f}{mfu}" if name in row else row.get(f"{name}_error", ABSENT)

    return [
        {
            "d": str(row["width"]),
            "E": str(row["experts"]),
            "layers": str(row["layers"]),
            "tokens a step": f"{row['rows'] * row['length']:,}",
            "mixture, ktok/s (MFU)": told(row, "mixture"),
            "dense, ktok/s (MFU)": told(row, "dense"),
            "Mixtral, ktok/s": told(row, "mixtral"),
            "mixture / dense": _number(row, "mixture_over_dense"),
            "times Mixtral": _number(row, "times_mixtral"),
        }
        for row in results["rows"]
    ]


def evaluation(results: Row) -> list[dict[str, str]]:
    """Items a second, and the geometric means of the ratios."""
    rows = [
        {
            "question": f"{row['benchmark']}, {row['shots']} examples",
            "model": row["model"],
            "items": str(row["items"]),
            "items/s": _number(row, "items_per_second"),
            "lm-eval's backend": _number(row, "peer_items_per_second"),
            "ratio": _number(row, "ratio"),
        }
        for row in results["rows"]
    ]
    means = {"all likelihoods": "likelihood_ratio", "all generation": "generation_ratio"}
    for told, name in means.items():
        empty = dict.fromkeys(rows[0], "")
        rows.append(empty | {"question": f"{told}, geometric mean", "ratio": _number(results, name)})
    return rows


def pretrain(results: Row) -> list[dict[str, str]]:
    """One big run on one GPU and on two; a job that failed says why."""
    return [
        {
            "job": f"{row['name']}: {row['error']}" if "error" in row else row["name"],
            "GPUs": str(row["gpus"]),
            "layers": str(row["layers"]),
            "rows, parts": f"{row.get('rows', results['settings']['rows'])}, {row['accumulate']}",
            "thousand tokens/s": f"{row['tokens_per_second'] / 1e3:.0f}" if "tokens_per_second" in row else "",
            "MFU": f"{row['mfu']:.1%}" if "mfu" in row else "",
            "scaling": _number(row, "scaling_efficiency") if row["gpus"] > 1 and "scaling_efficiency" in row else "",
            "GB a GPU": _number(row, "gigabytes"),
            "last loss": f"{row['losses'][-1]:.3f}" if "losses" in row else ABSENT,
            "losses off by": f"{row['largest_relative_loss_difference']:.0e}"
            if "largest_relative_loss_difference" in row
            else "",
        }
        for row in results["rows"]
    ]


def optimizer(results: Row) -> list[dict[str, str]]:
    """Milliseconds of a step, and in brackets its launches; of ours the speed of memory that they mean."""

    def told(row: Row, name: str) -> str:
        return f"{row[name]['milliseconds']:.3g} ({row[name]['launches']})" if name in row else ABSENT

    return [
        {
            "model": f"{row['layers']} layers, d = {row['width']}, {row['experts']} experts",
            "replicas": str(row["replicas"]),
            "million parameters": f"{row['parameters'] / 1e6:.3g}",
            "tensors": str(row["tensors"]),
            "one pass, ms": told(row, "one pass"),
            "compiled": told(row, "compiled"),
            "torch fused": told(row, "torch fused"),
            "TB/s": _number(row.get("one pass", {}), "terabytes_per_second"),
        }
        for row in results["rows"]
    ]


def head(results: Row) -> list[dict[str, str]]:
    """Milliseconds forward and backward, and in brackets the megabytes above what was there before."""

    def told(row: Row, name: str) -> str:
        return f"{row[name]['milliseconds']:.3g} ({row[name]['megabytes']:.0f})" if name in row else ABSENT

    return [
        {
            "d": str(row["width"]),
            "vocabulary": f"{row['vocabulary']:,}",
            "tokens": f"{row['tokens']:,}",
            "by chunks, ms (MB)": told(row, "chunks"),
            "all logits": told(row, "plain"),
            "Liger": told(row, "liger"),
            "error": f"{row['chunks']['error']:.1e}" if "chunks" in row else ABSENT,
            "of all logits": f"{row['plain']['error']:.1e}" if "plain" in row else ABSENT,
            "of Liger": f"{row['liger']['error']:.1e}" if "liger" in row else ABSENT,
        }
        for row in results["rows"]
    ]


TABLES: dict[str, Callable[[Row], list[dict[str, str]]]] = {
    table.__name__: table
    for table in (
        training_step, memory, study, cpu, generators, moe_layer, expert_tax, evaluation, pretrain, optimizer, head,
    )
} | {"evaluation_gpu": evaluation}  # fmt: skip


def table(name: str) -> str:
    """One benchmark's table in Markdown, under a line that names the machine and the versions."""
    path = RESULTS / f"{name}.json"
    if not path.exists():
        return f"*{ABSENT}*"
    told = json.loads(path.read_text())
    rows = TABLES[name](told["results"])
    hardware, versions = told["hardware"], told["versions"]
    device = "" if hardware["device"] == "cpu" else f"{hardware['device']}, "
    packages = ", ".join(f"{package} {version}" for package, version in versions.items())
    lines = [f"{device}{hardware['processor']}, {hardware['cores']} cores; {packages}.", ""]
    lines += [_line(rows[0]), _line(["---"] * len(rows[0])), *(_line(row.values()) for row in rows)]
    return "\n".join(lines)


def filled(page: str) -> str:
    """The page with each table that it has a place for as the files have it now."""
    for name in TABLES:
        marked = re.compile(f"(<!-- table: {name} -->\n).*?(\n<!-- end -->)", re.DOTALL)
        page = marked.sub(lambda found, name=name: found[1] + table(name) + found[2], page)
    return page


def _line(cells) -> str:
    return f"| {' | '.join(cells)} |"


def _number(row: Row, name: str) -> str:
    return f"{row[name]:.3g}" if name in row else ABSENT


def _over(row: Row, other: Row, name: str) -> str:
    return f"{row[name] / other[name]:.3g}" if name in row and name in other else ABSENT


def _whole(row: Row, name: str) -> str:
    return f"{row[name]:.0f}" if name in row else ABSENT


def main() -> None:
    """Prints the tables, or writes them into the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    if parser.parse_args().write:
        for page in PAGES:
            page.write_text(filled(page.read_text()))
    else:
        for name in TABLES:
            print(f"{name}\n\n{table(name)}\n")


if __name__ == "__main__":
    main()
