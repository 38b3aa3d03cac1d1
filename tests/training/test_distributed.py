"""Many processes train as one does."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from crew import crew
from fakes import Digits, design, mixture
from torch.distributed.fsdp import fully_shard

from parrotlab.model.feedforwards.mixture import Mixture
from parrotlab.model.routers.bias_balanced import BiasBalanced
from parrotlab.model.transformer import build
from parrotlab.training import sharding
from parrotlab.training.devices import device
from parrotlab.training.distributed import DistributedStep, Parallelism, train
from parrotlab.training.loop import train as train_alone
from parrotlab.training.processes import joined
from parrotlab.training.recipe import Recipe
from parrotlab.training.sharding import UNIT_BYTES
from parrotlab.training.step import Step

RECIPE = Recipe(steps=5, rows=24, learning_rate=1e-2)
UNBALANCED = dataclasses.replace(RECIPE, load_balance=0.0)
SAME, CLOSE = 1e-6, 1e-4
"""Relative: float32 sums in another order, at the first step and after it. AdamW makes much of small differences."""

MODELS = {
    "dense": design(tied=True),
    "mixture": mixture(),
    "shared": mixture(shared=1, gated=False),
    "biased": mixture(router=BiasBalanced(rate=0.01)),
    "few": mixture(experts=2, active=2),
    "one choice": mixture(active=1, renormalise=False),
    "deep": design(layers=5, tied=True),
    "deep mixture": design(Mixture(experts=4), layers=5),
}
WAYS = {
    "sliced": Parallelism(),
    "whole": Parallelism(fsdp=False),
    "recomputed": Parallelism(checkpoint_activations=True),
    "accumulated": Parallelism(accumulate=2),
    "both": Parallelism(accumulate=2, checkpoint_activations=True),
    "small units": Parallelism(),
    "small units, both": Parallelism(accumulate=2, checkpoint_activations=True),
}
CREWS = {"1": (1, 1), "2": (2, 1), "3": (3, 1), "2 for experts": (2, 2), "4, 2 for experts": (4, 2)}
CASES = [
    ("1", "dense", "sliced"),
    ("1", "mixture", "sliced"),
    ("2", "dense", "sliced"),
    ("2", "dense", "whole"),
    ("2", "dense", "both"),
    ("2", "mixture", "sliced"),
    ("2", "mixture", "accumulated"),
    ("2", "biased", "accumulated"),
    ("2 for experts", "mixture", "sliced"),
    ("2 for experts", "mixture", "whole"),
    ("2 for experts", "shared", "recomputed"),
    ("2 for experts", "biased", "both"),
    ("2 for experts", "few", "sliced"),
    ("2 for experts", "one choice", "sliced"),  # which travels: there are more processes than choices
    ("3", "dense", "sliced"),  # 16 rows of a matrix, sliced unevenly
    ("4, 2 for experts", "mixture", "sliced"),
    ("4, 2 for experts", "shared", "both"),
    ("4, 2 for experts", "one choice", "sliced"),
    ("2", "deep", "small units"),
    ("2", "deep", "small units, both"),
    ("2", "deep mixture", "small units"),
    ("2 for experts", "deep mixture", "small units, both"),
    ("4, 2 for experts", "deep mixture", "small units"),
]
SMALL_UNIT_BYTES = 8192
"""More than of one deep block, or of a deep mixture's without its experts; less than of one with them."""
SMALL_UNITS = {
    ("2", "deep"): [2, 2, 1],
    ("2", "deep mixture"): [1, 1, 1, 1, 1],
    ("2 for experts", "deep mixture"): [2, 2, 1],
    ("4, 2 for experts", "deep mixture"): [2, 2, 1],
}
"""How many blocks are gathered together."""
GPU_CASES = [
    ("2", "dense", "both"),
    ("2", "mixture", "sliced"),
    ("2 for experts", "mixture", "sliced"),
    ("2 for experts", "shared", "recomputed"),
    ("2", "deep", "small units, both"),
    ("2 for experts", "deep mixture", "small units, both"),
]
"""A GPU compiles each for a quarter of a minute."""


def recipe_of(way):
    """With micro-batches the load-balancing loss is the mean of theirs: another number, so it is left out there."""
    return UNBALANCED if WAYS[way].accumulate > 1 else RECIPE


def told(progress):
    return {
        "loss": float(progress.loss_R[0]),
        "norm": float(progress.gradient_norm_R[0]),
        "choices": progress.choices_LRE.tolist(),
    }


def alone(folder: Path, kind: str) -> None:
    """Every model by the plain trainer."""
    here = device(kind, fast_steps=False)
    for name, model in MODELS.items():
        for recipe in (RECIPE, UNBALANCED):
            step = Step(build(model, 10, 3, here.name), recipe, [recipe.learning_rate], here)
            story = [told(progress) for progress in train_alone(step, Digits(), recipe, [3], here)]
            (folder / f"{name}-{recipe.load_balance}.json").write_text(json.dumps(story))


def together(folder: Path, kind: str, who: str) -> None:
    """The cases of this crew."""
    with joined(kind, CREWS[who][1]) as processes:
        for whose, name, way in CASES if kind == "cpu" else GPU_CASES:
            if whose == who:
                sharding.UNIT_BYTES = SMALL_UNIT_BYTES if "small units" in way else UNIT_BYTES
                step = DistributedStep(MODELS[name], 10, recipe_of(way), 3, processes, WAYS[way])
                if processes.size > 1 and WAYS[way].fsdp and kind == "cpu":  # a GPU's blocks have half the bytes
                    expected = SMALL_UNITS[who, name] if "small units" in way else [MODELS[name].layers]
                    assert units(step.model) == expected, (who, name, way)
                story = [told(progress) for _, progress in train(step, Digits(), 3) if progress]
                if processes.is_first:
                    (folder / f"{who}-{name}-{way}.json").write_text(json.dumps(story))


def units(model) -> list[int]:
    """How many blocks each unit of FSDP has."""
    states = itertools.groupby(fully_shard.state(block) for block in model.blocks)
    return [len(list(blocks)) for _, blocks in states]


def measure(folder: Path, kind: str) -> None:
    assert crew(1, alone, folder, kind) == [0]
    for who, (size, _) in CREWS.items():
        if kind == "cpu" or any(who == case[0] for case in GPU_CASES):
            assert crew(size, together, folder, kind, who) == [0] * size


def measured(folder: Path, kind: str) -> Path:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, __file__, folder, kind], env=environment, check=True)
    return folder


@pytest.fixture(scope="module")
def stories(tmp_path_factory) -> Path:
    return measured(tmp_path_factory.mktemp("stories"), "cpu")


@pytest.fixture(scope="module")
def gpu_stories(tmp_path_factory) -> Path:
    return measured(tmp_path_factory.mktemp("gpu_stories"), "cuda")


@pytest.mark.parametrize(("who", "name", "way"), CASES)
def test_many_processes_train_as_one_does(stories, who, name, way):
    one = json.loads((stories / f"{name}-{recipe_of(way).load_balance}.json").read_text())
    many = json.loads((stories / f"{who}-{name}-{way}.json").read_text())
    assert len(many) == RECIPE.steps
    for what in ("loss", "norm"):
        np.testing.assert_allclose(many[0][what], one[0][what], rtol=SAME)
        np.testing.assert_allclose([p[what] for p in many], [p[what] for p in one], rtol=CLOSE)
    np.testing.assert_array_equal([p["choices"] for p in many], [p["choices"] for p in one])


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
@pytest.mark.parametrize(("who", "name", "way"), GPU_CASES)
def test_two_gpus_train_as_one_does(gpu_stories, who, name, way):
    """The blocks are compiled; bfloat16 rounds to 1 in 256, and later steps drift apart."""
    one = json.loads((gpu_stories / f"{name}-{recipe_of(way).load_balance}.json").read_text())
    many = json.loads((gpu_stories / f"{who}-{name}-{way}.json").read_text())
    for what in ("loss", "norm"):
        np.testing.assert_allclose(many[0][what], one[0][what], rtol=0.02)
    np.testing.assert_allclose([p["loss"] for p in many], [p["loss"] for p in one], rtol=0.1)


def test_one_process_trains_as_the_plain_trainer_bit_for_bit(stories):
    for name in ("dense", "mixture"):
        assert (stories / f"1-{name}-sliced.json").read_text() == (
            stories / f"{name}-{RECIPE.load_balance}.json"
        ).read_text()


def test_rows_that_cannot_be_shared_out_are_refused():
    with joined("cpu") as processes, pytest.raises(ValueError, match=r"rows=24 cannot be divided .* a multiple of 5"):
        DistributedStep(design(), 10, RECIPE, 0, processes, Parallelism(accumulate=5))


def test_experts_cannot_be_shared_out_over_more_processes_than_there_are():
    with (
        pytest.raises(ValueError, match="expert_parallel must divide the 1 processes, and 2 does not"),
        joined("cpu", 2),
    ):
        pass


if __name__ == "__main__":
    measure(Path(sys.argv[1]), sys.argv[2])
