from dataclasses import replace

import pytest
from fakes import design, mixture

from parrotlab.kernels.experts import GROUPS
from parrotlab.kernels.linear_cross_entropy import CHUNK_BYTES, LARGE
from parrotlab.run import MEMORY_SHARE, STACKED_NUMBERS, STACKED_RUNS, WORKSPACE_BYTES, Run, bytes_needed, stacks
from parrotlab.tasks.language import Language
from parrotlab.tasks.phone_book import PhoneBook
from parrotlab.training.devices import Device
from parrotlab.training.recipe import Recipe

RECIPE = Recipe(steps=10, rows=4, learning_rate=1e-2)
RUN = Run(task=PhoneBook(entries=20), model=design(), recipe=RECIPE, evaluations=(), seed=0)
REPLICAS = [
    replace(RUN, seed=seed, recipe=replace(RECIPE, learning_rate=rate)) for seed in range(5) for rate in (1e-2, 1e-3)
]
LONGER = replace(RUN, recipe=replace(RECIPE, steps=11))
CPU = Device("cpu", fast_steps=False)


def gpu(runs_that_fit: float) -> Device:
    return Device("cuda", fast_steps=True, memory_bytes=(bytes_needed(RUN, runs_that_fit) + 1) / MEMORY_SHARE)


def test_runs_that_differ_in_seed_and_rate_alone_are_a_stack():
    assert stacks([*REPLICAS, LONGER], gpu(100)) == [tuple(REPLICAS), (LONGER,)]
    assert stacks([*REPLICAS[:3], LONGER], CPU) == [tuple(REPLICAS[:3]), (LONGER,)]


def test_on_a_cpu_stacks_are_small_and_large_steps_are_not_shared():
    split = stacks(REPLICAS, CPU)
    assert [run for stack in split for run in stack] == REPLICAS
    assert {len(stack) for stack in split} <= {STACKED_RUNS - 1, STACKED_RUNS}
    tokens = RUN.task.length - 1
    for excess in (0, 1):
        rows = STACKED_NUMBERS // (tokens * RUN.model.width) + excess
        wide = [replace(run, recipe=replace(run.recipe, rows=rows)) for run in REPLICAS[:2]]
        assert len(stacks(wide, CPU)) == 1 + excess


@pytest.mark.parametrize(
    ("fitting", "sizes"), [(100, [10]), (10, [10]), (9.9, [5, 5]), (4, [3, 3, 4]), (1, [1] * 10), (0.1, [1] * 10)]
)
def test_a_stack_too_large_for_memory_is_split_evenly_and_loses_no_run(fitting, sizes):
    split = stacks(REPLICAS, gpu(fitting))
    assert [len(stack) for stack in split] == sizes
    assert [run for stack in split for run in stack] == REPLICAS


def test_a_run_needs_more_memory_with_every_row_and_every_channel():
    def alone(run: Run) -> int:
        return bytes_needed(run) - WORKSPACE_BYTES

    assert alone(replace(RUN, recipe=replace(RECIPE, rows=5))) > alone(RUN)
    assert alone(replace(RUN, model=replace(RUN.model, width=2 * RUN.model.width))) > 2 * alone(RUN)
    assert bytes_needed(RUN, 3) == WORKSPACE_BYTES + 3 * alone(RUN)


def test_logits_of_a_large_vocabulary_take_a_chunk_of_memory_whatever_the_rows_and_replicas():
    def needed(vocabulary: int, rows: int, replicas: int) -> int:
        task = Language(corpus="none", vocabulary=vocabulary, length=1025)
        return bytes_needed(replace(RUN, task=task, recipe=replace(RECIPE, rows=rows)), replicas)

    def logits(rows: int, replicas: int) -> int:
        """What a vocabulary twice as large needs beside its weights, gradients and moments."""
        head = 4 * 4 * (1 if RUN.model.tied else 2) * RUN.model.width * LARGE * replicas
        return needed(2 * LARGE, rows, replicas) - needed(LARGE, rows, replicas) - head

    assert logits(rows=64, replicas=1) == logits(rows=64, replicas=8) == logits(rows=128, replicas=1) == 0
    assert 0 < logits(rows=1, replicas=1) < CHUNK_BYTES
    small, large = (needed(vocabulary, 64, 1) for vocabulary in (LARGE - 1, LARGE))
    assert large < small - 64 * 1024 * 2 * 4 * (LARGE - 1) + 2 * CHUNK_BYTES


def test_no_stack_has_more_experts_than_the_grouped_product_takes():
    wide = [replace(run, model=mixture(experts=300)) for run in REPLICAS]
    split = stacks(wide, Device("cuda", fast_steps=True))
    assert max(len(stack) for stack in split) * 300 <= GROUPS
    assert [run for stack in split for run in stack] == wide
