"""Every task file of the folder is placed alike by whoever asks it and by whoever analyses its answers."""

from __future__ import annotations

import pytest

from parrotlab.analysis.benchmarks import placed
from parrotlab.evals.harness import benchmarks

BENCHMARKS = benchmarks()
ITS_OWN_TRAINING_SET = "_train"


@pytest.mark.parametrize("name", [name for name in BENCHMARKS if not name.endswith(ITS_OWN_TRAINING_SET)])
def test_a_benchmark_is_analysed_in_the_group_in_which_it_is_asked(name):
    benchmark = BENCHMARKS[name]
    assert placed(name, benchmark.kind)[0] == benchmark.group


@pytest.mark.parametrize("name", [name for name in BENCHMARKS if name.endswith(ITS_OWN_TRAINING_SET)])
def test_what_is_asked_of_a_training_set_is_a_probe_of_the_benchmark_it_belongs_to(name):
    assert BENCHMARKS[name].group == "probes"
    assert BENCHMARKS[name.removesuffix(ITS_OWN_TRAINING_SET)].group == "math"


def test_the_papers_nineteen_are_there():
    groups = [benchmark.group for benchmark in BENCHMARKS.values()]
    assert [groups.count(group) for group in ("knowledge", "commonsense", "math")] == [5, 9, 5]
