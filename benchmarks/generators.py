"""How fast examples are made on one core, and how much faster than with networkx.

    python benchmarks/generators.py [--output FILE]

networkx makes the same rows from the same distribution, one graph at a time: a random graph, source and target, a
shortest path (any; and the canonical one that ours labels), edges shuffled and turned, tokens in an array. Both are
timed in turns, several times, in seconds of this process, and the best of each is taken. Ratios depend on what else
the machine does: the vector units and caches that ours lives on are shared more than a Python interpreter is.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core for both

import argparse
import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import _facts
import networkx as nx
import numpy as np

from parrotlab.tasks.length_two_path import LengthTwoPath
from parrotlab.tasks.phone_book import PhoneBook
from parrotlab.tasks.shortest_path import ShortestPath

TURNS = 9
OURS, THEIRS = 300_000, 1_500
"""Examples a turn: a fraction of a second each."""
SHORTEST_PATHS = (
    ShortestPath(vertices=20, edge_probability=0.15, train_examples=OURS),
    ShortestPath(vertices=12, edge_probability=0.25, train_examples=OURS),
    ShortestPath(vertices=40, mean_degree=3.0, train_examples=OURS // 4),
)
OTHERS = (
    PhoneBook(entries=OURS),
    LengthTwoPath(vertices=24, train_examples=OURS),
    LengthTwoPath(vertices=24, encoding="edge_list", train_examples=OURS // 4),
)


def networkx_rows(task: ShortestPath, examples: int, seed: int, canonical: bool) -> np.ndarray:
    """The plain twin of the task: rows of the same distribution, one at a time."""
    chance = random.Random(seed)
    tokens_NT = np.full((examples, task.length), task.pad, dtype=np.uint8)
    made = 0
    while made < examples:
        if task.edge_probability:
            graph = nx.gnp_random_graph(task.vertices, task.edge_probability, seed=chance)
        else:
            graph = nx.gnm_random_graph(task.vertices, task.edge_slots, seed=chance)
        source, target = chance.sample(range(task.vertices), 2)
        edges = list(graph.edges)
        if len(edges) > task.edge_slots:
            continue
        try:
            shortest = nx.all_shortest_paths(graph, source, target) if canonical else None
            path = min(shortest) if shortest else nx.shortest_path(graph, source, target)
        except nx.NetworkXNoPath:
            continue
        if not task.min_hops < len(path) <= task.hops + 1:
            continue
        chance.shuffle(edges)
        ends = [end for u, v in edges for end in ((u, v) if chance.random() < 0.5 else (v, u))]
        row = [*ends, source, target, *path[1:], task.end]
        tokens_NT[made, task.prompt - len(ends) - 2 : task.prompt + len(path)] = row
        made += 1
    return tokens_NT


def rate(make: Callable[[], np.ndarray]) -> float:
    """Examples a second of this process."""
    start = time.process_time()
    made = len(make())
    return made / (time.process_time() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("results/benchmarks/generators.json"))
    output = parser.parse_args().output
    results = {}
    for task in SHORTEST_PATHS:
        task.listing("test", 0)  # tables are made once
        turns = [
            (
                rate(partial(task.listing, "train", turn)),
                rate(partial(networkx_rows, task, THEIRS, turn, canonical=False)),
                rate(partial(networkx_rows, task, THEIRS, turn, canonical=True)),
            )
            for turn in range(TURNS)
        ]
        ours, any_path, canonical = (max(column) for column in zip(*turns))
        results[repr(task)] = {
            "examples_per_second": ours,
            "networkx_examples_per_second": canonical,
            "networkx_any_path_examples_per_second": any_path,
            "times_networkx": ours / canonical,
            "times_networkx_any_path": ours / any_path,
        }
        print(f"{task!r}\n  {ours:,.0f} examples/s, networkx {canonical:,.0f}: {ours / canonical:.0f} times as fast")
        print(f"  ({ours / any_path:.0f} times where networkx may answer any shortest path, {any_path:,.0f}/s)")
    for task in OTHERS:
        ours = max(rate(partial(task.listing, "train", turn)) for turn in range(TURNS))
        results[repr(task)] = {"examples_per_second": ours}
        print(f"{task!r}\n  {ours:,.0f} examples/s")
    _facts.write(output, results, "networkx")


if __name__ == "__main__":
    main()
