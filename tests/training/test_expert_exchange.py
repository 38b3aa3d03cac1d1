"""Experts on several processes answer as experts on one, whether tokens travel or go everywhere."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys

import pytest
import torch
from crew import crew
from fakes import mixture

from parrotlab.kernels.experts import expert_outputs_reference
from parrotlab.model.attention import rotation
from parrotlab.model.routers.router import choices
from parrotlab.training.expert_exchange import ExpertExchange
from parrotlab.training.expert_gather import ExpertGather
from parrotlab.training.processes import joined
from parrotlab.training.sharding import sharded

EXPERTS = 4
SIZES = ((6, 5), (96, 100))
"""[D, F]: of grouped products, and of a product an expert."""
CHOSEN = {
    "everywhere": [[[0, 3], [1, 2], [3, 1]], [[2, 0], [0, 1], [1, 3]]],
    "all to the first process": [[[0, 1], [1, 0], [0, 1]], [[1, 0], [0, 1], [1, 0]]],
    "one expert forgotten": [[[0, 2], [0, 2], [2, 0]], [[2, 3], [3, 0], [0, 3]]],
}
"""[process, N, A]"""


def drawn(*shape, seed):
    numbers = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return numbers.div_(shape[-1] ** 0.5).requires_grad_()


def answer(way: type[ExpertExchange | ExpertGather]) -> None:
    """In each of two processes: the outputs of its tokens, and the gradients of its tokens, weights and experts."""
    torch.use_deterministic_algorithms(True)  # unwritten memory is NaN
    with joined("cpu", 2) as processes:
        rank, apart = processes.rank, way(processes.mesh["expert"].get_group())
        for chosen, (width, hidden) in itertools.product(CHOSEN.values(), SIZES):
            xs, weights = [drawn(3, width, seed=r) for r in range(2)], [drawn(3, 2, seed=2 + r) for r in range(2)]
            up, down = drawn(EXPERTS, width, hidden, seed=4), drawn(EXPERTS, hidden, width, seed=5)
            routes = [torch.tensor(route) for route in chosen]
            outputs = [
                expert_outputs_reference(x, weight, route, choices(route, EXPERTS), up, down, gated=False)
                for x, weight, route in zip(xs, weights, routes)
            ]
            expected = torch.autograd.grad(sum(y.square().sum() for y in outputs), [xs[rank], weights[rank], up, down])

            mine = slice(2 * rank, 2 * rank + 2)
            parts = [part.detach()[mine].clone().requires_grad_() for part in (up, down)]
            y = apart(xs[rank], weights[rank], routes[rank], choices(routes[rank], EXPERTS), *parts, gated=False)
            found = torch.autograd.grad(y.square().sum(), [xs[rank], weights[rank], *parts])
            torch.testing.assert_close(y, outputs[rank])
            torch.testing.assert_close(list(found), [*expected[:2], *(whole[mine] for whole in expected[2:])])


def trace() -> None:
    """In each of two processes: a block in one piece, or an error that says where it breaks."""
    with joined("cpu", 2) as processes:
        design = mixture()
        block = sharded(design, 10, 3, processes, fsdp=False).model.blocks[0]
        angles = rotation(4, design.width // design.attention.heads, design.attention.rope_theta, torch.device("cpu"))
        inputs = torch.randn(8, design.width), torch.zeros(8, dtype=torch.long), angles
        traced = torch.compile(block.forward, backend="aot_eager", fullgraph=True, dynamic=False)
        answers = []
        for forward in (traced, block.forward):
            with torch.autocast("cpu", torch.bfloat16):  # as on a GPU; traced grouped products take no other precision
                y, _ = forward(*inputs)
            answers.append([y, *torch.autograd.grad(y.square().sum(), list(block.parameters()))])
        torch.testing.assert_close(*answers, rtol=0.05, atol=0.05)


WORKS = {"travel": (answer, ExpertExchange), "everywhere": (answer, ExpertGather), "in one piece": (trace,)}


def done(work: str) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, __file__, work], env=environment, check=True)


@pytest.mark.parametrize("way", ["travel", "everywhere"])
def test_experts_on_two_processes_answer_and_learn_as_on_one(way):
    done(way)


def test_a_block_whose_tokens_go_everywhere_is_compiled_in_one_piece():
    done("in one piece")


if __name__ == "__main__":
    sys.exit(crew(2, *WORKS[sys.argv[1]]) != [0, 0])
