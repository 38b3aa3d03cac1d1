"""Experts on several processes answer as experts on one."""

from __future__ import annotations

import os
import subprocess
import sys

import torch
from crew import crew

from parrotlab.kernels.experts import expert_outputs_reference
from parrotlab.model.routers.router import choices
from parrotlab.training.expert_exchange import ExpertExchange
from parrotlab.training.processes import joined

EXPERTS, WIDTH, HIDDEN = 4, 6, 5
CHOSEN = {
    "everywhere": [[[0, 3], [1, 2], [3, 1]], [[2, 0], [0, 1], [1, 3]]],
    "all to the first process": [[[0, 1], [1, 0], [0, 1]], [[1, 0], [0, 1], [1, 0]]],
    "one expert forgotten": [[[0, 2], [0, 2], [2, 0]], [[2, 3], [3, 0], [0, 3]]],
}
"""[process, N, A]"""


def drawn(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def exchange() -> None:
    """In each of two processes: the outputs of its tokens, and the gradients of its tokens, weights and experts."""
    with joined("cpu", 2) as processes:
        rank, apart = processes.rank, ExpertExchange(processes.mesh["expert"].get_group())
        for chosen in CHOSEN.values():
            xs, weights = [drawn(3, WIDTH, seed=r) for r in range(2)], [drawn(3, 2, seed=2 + r) for r in range(2)]
            up, down = drawn(EXPERTS, WIDTH, HIDDEN, seed=4), drawn(EXPERTS, HIDDEN, WIDTH, seed=5)
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


def test_experts_on_two_processes_answer_and_learn_as_on_one():
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, __file__], env=environment, check=True)


if __name__ == "__main__":
    sys.exit(crew(2, exchange) != [0, 0])
