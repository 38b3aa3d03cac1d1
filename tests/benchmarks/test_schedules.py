import importlib
import os
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def benchmark_module(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module


def test_all_rows_are_compared_with_dense_before_anything_else_is_measured(benchmark_module):
    bench = benchmark_module("_moe_bench")
    first, second, *rest = bench.stages([16, 64])
    assert first == [(16, name, "both") for name in bench.FIRST]
    assert second == [(64, name, "both") for name in bench.FIRST]
    assert not {(task.name, task.quantity) for stage in rest for task in stage} & {
        (name, "both") for name in bench.FIRST
    }


def test_a_stage_is_one_count_of_tokens_and_no_number_is_measured_twice(benchmark_module):
    stages = benchmark_module("_moe_bench").stages([16, 64])
    assert all(len({task.tokens for task in stage}) == 1 for stage in stages)
    tasks = [task for stage in stages for task in stage]
    assert len(set(tasks)) == len(tasks)


def test_our_memory_is_measured_and_so_is_that_of_every_peer(benchmark_module):
    stages = benchmark_module("_moe_bench").stages([16])
    weighed = {task.name for stage in stages for task in stage if task.quantity == "megabytes"}
    assert weighed >= {"fused", "sorted", "dense", *benchmark_module("tables").MIXTRALS}


def test_what_is_wrong_is_no_way_of_cutting_a_kernel(benchmark_module):
    right = benchmark_module("_moe_bench").right
    kernel = benchmark_module("parrotlab.kernels._tiles").KERNELS[0]
    told = [
        {"kernel": kernel, "gated": True, "cut": "wrong", "failed": "not the plain loop"},
        {"kernel": kernel, "gated": True, "cut": "right"},
        {"path": "fused"},
    ]
    cuts = right(told)
    assert (cuts[kernel, True], cuts[kernel, False]) == (["right"], [])


def test_geometries_of_one_model_share_a_group_and_the_largest_models_come_first(benchmark_module):
    tax = benchmark_module("expert_tax")

    def geometry(width, experts, rows):
        fixed = {"active": 2, "expansion": 1.0, "layers": 2, "length": 8, "vocabulary": 64}
        return tax.Geometry(width=width, experts=experts, rows=rows, **fixed)

    groups = tax.groups([geometry(width, experts, rows) for width in (8, 16) for experts in (2, 4) for rows in (1, 3)])
    assert [[(one.width, one.experts, one.rows) for one in group] for group in groups] == [
        [(width, experts, 1), (width, experts, 3)] for width, experts in ((16, 4), (16, 2), (8, 4), (8, 2))
    ]


def test_a_worker_answers_what_it_was_asked_in_order_and_sees_its_gpu_alone(benchmark_module, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    worker = benchmark_module("_workers").Worker(1, importlib.import_module, "os")
    worker.ask("getenv", "CUDA_VISIBLE_DEVICES")
    worker.ask("listdir", "/no/such/folder")
    worker.ask("fspath", "here")
    soon = time.time() + 60
    assert worker.answer(soon) == "1"
    with pytest.raises(RuntimeError, match="FileNotFoundError"):
        worker.answer(soon)
    assert worker.answer(soon) == "here"
    worker.close()
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_a_dead_worker_says_so_and_is_not_waited_for(benchmark_module):
    worker = benchmark_module("_workers").Worker(0, importlib.import_module, "os")
    worker.ask("_exit", 3)
    with pytest.raises(RuntimeError, match="exit code 3"):
        worker.answer(time.time() + 60)
    worker.ask("fspath", "here")
    with pytest.raises(RuntimeError, match="died"):
        worker.answer(time.time() + 60)


def test_a_late_worker_is_ended(benchmark_module):
    worker = benchmark_module("_workers").Worker(0, importlib.import_module, "time")
    worker.ask("sleep", 60)
    with pytest.raises(RuntimeError, match="out of time"):
        worker.answer(time.time())
    assert not worker.process.is_alive()
