"""The routing kernels against their plain twin; without a GPU under Triton's interpreter, in a process of its own."""

import importlib.util
import os
import subprocess
import sys

import pytest
import torch

from parrotlab.kernels.routing import combined, most_tiles, route, route_reference

# replicas, tokens, experts, active: several blocks, several tiles an expert, lone tokens, one expert, odd numbers,
# blocks that share a group, more groups than are added up at once
SHAPES = [
    (1, 300, 8, 2),
    (1, 1, 5, 1),
    (3, 70, 4, 3),
    (2, 129, 16, 8),
    (1, 260, 1, 1),
    (1, 40, 128, 4),
    (1, 700, 3, 1),
    (2, 700, 128, 7),
    (1, 2100, 1000, 4),
]
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def chosen(replicas, tokens, experts, active, device="cpu"):
    generator = torch.Generator().manual_seed(tokens)
    score = torch.rand(replicas, tokens, experts, generator=generator)
    return score.topk(active).indices.to(device)


def check_routes(shape, device):
    experts = shape[2]
    crowded = torch.full((*shape[:2], 1), experts - 1, device=device)
    for experts_RNA in (chosen(*shape, device), crowded):
        ours, theirs = route(experts_RNA, experts), route_reference(experts_RNA, experts)
        assert all(torch.equal(mine, other) for mine, other in zip(ours, theirs))
    order_S, place_S, *_ = route(chosen(*shape, device), experts)
    assert torch.equal(place_S[order_S.long()].cpu(), torch.arange(len(order_S), dtype=torch.int32))


def check_sums(shape, device):
    active = shape[3]
    place_S = route_reference(chosen(*shape, device), shape[2]).place_S
    rows_SD = torch.randn(len(place_S), 20, device=device)
    expected_ND = rows_SD[place_S.long()].view(-1, active, 20).sum(dim=1)
    torch.testing.assert_close(combined(rows_SD, place_S, active), expected_ND)


def test_no_routing_needs_more_tiles_than_are_reserved():
    for experts, choices in [(1, 1), (4, 512), (16, 300), (128, 64)]:
        worst = torch.arange(choices).clamp(max=experts - 1).flip(0)  # one token on each expert, the rest on the last
        tiles_T3 = route_reference(worst.view(1, -1, 1), experts).tiles_T3
        assert len(tiles_T3) == most_tiles(choices, experts)
        used = [(expert, row) for expert, row, _ in tiles_T3.tolist() if expert >= 0]
        assert len(set(used)) == len(used)


@pytest.mark.skipif(not INTERPRETED, reason="runs in test_the_kernels_are_their_twins_under_the_interpreter")
@pytest.mark.parametrize("shape", SHAPES)
def test_interpreted(shape):
    check_routes(shape, "cpu")
    check_sums(shape, "cpu")


@pytest.mark.skipif(INTERPRETED, reason="this is the interpreter's own process")
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_the_kernels_are_their_twins_under_the_interpreter():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", "interpreted"]
    done = subprocess.run(command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(SHAPES)} passed" in done.stdout


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("shape", [*SHAPES, (1, 16384, 64, 2), (4, 5000, 128, 8)])
def test_the_kernels_are_their_twins_on_a_gpu(shape):
    check_routes(shape, "cuda")
    check_sums(shape, "cuda")
