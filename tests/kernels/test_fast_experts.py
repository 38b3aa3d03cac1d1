"""The experts' kernels against the plain loop; without a GPU under Triton's interpreter, in a process of its own."""

import importlib.util
import os
import subprocess
import sys

import pytest
import torch

from parrotlab.kernels import fast_experts
from parrotlab.kernels._choice import PATHS
from parrotlab.kernels.experts import expert_outputs_by, expert_outputs_reference
from parrotlab.kernels.fast_experts import ALIGNED, fast_expert_outputs, refusal
from parrotlab.model.routers.router import choices

# replicas (0: none), tokens, width, hidden, experts, active, gated: ragged tiles, a lone token, empty experts, ...
SHAPES = [
    (0, 20, 32, 40, 3, 2, True),
    (2, 9, 16, 24, 2, 1, True),
    (0, 1, 33, 17, 6, 3, False),
    (0, 12, 24, 16, 16, 8, False),
    (0, 150, 16, 8, 1, 1, True),
]
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
NAMES = ("output", "tokens", "weights", "up", "down")


def case(replicas, tokens, width, hidden, experts, active, gated, dtype, device, crowded=False):
    """Leaves (tokens, weights, up, down), choices, the output's gradient. Crowded: all on the last experts."""
    stack = (replicas,) if replicas else ()
    generator = torch.Generator().manual_seed(tokens)

    def normal(*shape):
        return torch.randn(*stack, *shape, generator=generator)

    experts_NA = torch.rand(*stack, tokens, experts, generator=generator).topk(active).indices
    if crowded:
        experts_NA = torch.arange(experts - active, experts).expand_as(experts_NA)
    columns = 2 * hidden if gated else hidden
    leaves = [
        normal(tokens, width),
        normal(tokens, active).abs(),
        normal(experts, width, columns) / width**0.5,
        normal(experts, hidden, width) / hidden**0.5,
    ]
    leaves = [leaf.to(device, torch.float32 if at == 1 else dtype).requires_grad_() for at, leaf in enumerate(leaves)]
    return leaves, experts_NA.to(device), normal(tokens, width).to(device, dtype)


def plain(leaves, experts_NA, gated):
    """The reference, replica by replica."""
    x, weights, up, down = leaves
    if experts_NA.dim() == 3:
        return torch.stack([plain(lone, chosen, gated) for *lone, chosen in zip(*leaves, experts_NA)])
    return expert_outputs_reference(x, weights, experts_NA, choices(experts_NA, up.shape[-3]), up, down, gated)


def errors(shape, path, dtype, device, crowded=False, compiled=lambda function: function):
    """Relative distance from the float32 reference, of output and gradients."""
    leaves, experts_NA, grad_ND = case(*shape, dtype, device, crowded)
    exact = [leaf.detach().float().requires_grad_() for leaf in leaves]
    x, weights, up, down = leaves
    counts_E = choices(experts_NA, up.shape[-3])
    ours = compiled(expert_outputs_by)(path, x, weights, experts_NA, counts_E, up, down, shape[-1])
    theirs = plain(exact, experts_NA, shape[-1])
    pairs = [
        (ours, theirs),
        *zip(torch.autograd.grad(ours, leaves, grad_ND), torch.autograd.grad(theirs, exact, grad_ND.float())),
    ]
    return {
        name: ((mine.float() - other).norm() / other.norm().clamp(min=1e-6)).item()
        for name, (mine, other) in zip(NAMES, pairs)
    }


@pytest.mark.skipif(not INTERPRETED, reason="runs in test_every_path_is_the_plain_loop_under_the_interpreter")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("path", [path for path in PATHS if path != "sorted"])
def test_interpreted(shape, path):
    found = errors(shape, path, torch.float32, "cpu", crowded=shape[3] == 24)
    assert max(found.values()) < 1e-5, found


@pytest.mark.skipif(not INTERPRETED, reason="runs in test_every_path_is_the_plain_loop_under_the_interpreter")
def test_interpreted_within_one_compiled_graph():
    found = errors(
        SHAPES[0], "fused", torch.float32, "cpu",
        compiled=lambda function: torch.compile(function, backend="aot_eager", fullgraph=True),
    )  # fmt: skip
    assert max(found.values()) < 1e-5, found


def guarded(leaf):
    """The same values amid others that would spoil every result."""
    margin, size = 4096, leaf.numel()
    whole = torch.full((size + 2 * margin,), torch.nan, dtype=leaf.dtype, device=leaf.device)
    whole[margin : margin + size] = leaf.detach().flatten()
    return whole[margin : margin + size].view(leaf.shape).requires_grad_()


@pytest.mark.skipif(not INTERPRETED, reason="runs in test_every_path_is_the_plain_loop_under_the_interpreter")
def test_interpreted_reads_nothing_beyond_its_tensors():
    leaves, experts_NA, grad_ND = case(0, 21, 48, 80, 3, 2, True, torch.float32, "cpu")
    x, weights, up, down = leaves = [guarded(leaf) for leaf in leaves]
    y_ND = expert_outputs_by("fused", x, weights, experts_NA, choices(experts_NA, 3), up, down, True)
    for found in (y_ND, *torch.autograd.grad(y_ND, leaves, guarded(grad_ND))):
        assert found.isfinite().all()


@pytest.mark.parametrize(("width", "hidden", "gated"), [(40, 24, True), (33, 17, False), (64, 96, True), (1, 1, False)])
def test_the_kernels_see_aligned_widths_alone(width, hidden, gated, monkeypatch):
    """Others are read an element at a time, which an H100's assembler has turned into illegal memory accesses."""
    seen = []

    def forward(x, weights, up, down, *rest):
        seen.extend([*x.shape[1:], *up.shape[1:], *down.shape[1:]])
        return x @ up[0, :, : down.shape[1]] @ down[0], None, None

    monkeypatch.setattr(fast_experts, "_forward", forward)
    monkeypatch.setattr(fast_experts, "route", lambda *arguments: ())
    (x, weights, up, down), experts_NA, _ = case(0, 3, width, hidden, 2, 1, gated, torch.float64, "cpu")
    y_ND = fast_expert_outputs(x, weights, experts_NA, up, down, gated)
    assert len(seen) == 5
    assert not any(size % ALIGNED for size in seen)
    assert torch.allclose(y_ND, x @ up[0, :, :hidden] @ down[0])


@pytest.mark.skipif(INTERPRETED, reason="this is the interpreter's own process")
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_every_path_is_the_plain_loop_under_the_interpreter():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", "interpreted"]
    done = subprocess.run(command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(SHAPES) * (len(PATHS) - 1) + 2} passed" in done.stdout


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(
    "shape", [SHAPES[1], SHAPES[2], (0, 2000, 256, 256, 8, 2, True), (2, 900, 128, 512, 16, 2, False)]
)
@pytest.mark.parametrize("path", PATHS)
def test_every_path_is_the_plain_loop_on_a_gpu(shape, path):
    for crowded in (False, True):
        found = errors(shape, path, torch.bfloat16, "cuda", crowded)
        assert max(found.values()) < 1e-2, found


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_every_kernel_is_the_plain_loop_in_float32_on_a_gpu():
    found = errors((0, 300, 64, 96, 4, 2, True), "fused", torch.float32, "cuda")
    assert max(found.values()) < 1e-5, found


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_every_run_gives_the_same_bits():
    leaves, experts_NA, grad_ND = case(0, 3000, 128, 256, 8, 2, True, torch.bfloat16, "cuda")
    x, weights, up, down = leaves
    runs = []
    for _ in range(3):
        y_ND = expert_outputs_by("fused", x, weights, experts_NA, choices(experts_NA, 8), up, down, True)
        runs.append([y_ND, *torch.autograd.grad(y_ND, leaves, grad_ND)])
    for other in runs[1:]:
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(runs[0], other))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_captured_pass_follows_its_inputs():
    leaves, experts_NA, grad_ND = case(0, 500, 64, 64, 4, 2, True, torch.bfloat16, "cuda")
    x, weights, up, down = leaves

    def both():
        y_ND = expert_outputs_by("fused", x, weights, experts_NA, choices(experts_NA, 4), up, down, True)
        return [y_ND, *torch.autograd.grad(y_ND, leaves, grad_ND)]

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        both()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = both()
    experts_NA.copy_(3 - experts_NA)
    graph.replay()
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(captured, both()))


def test_what_no_kernel_takes_is_refused_with_a_reason():
    x_ND = torch.empty(1, 16)
    assert "float64" in refusal(x_ND.double(), 4) or "triton" in refusal(x_ND, 4)
    assert "2000 experts" in refusal(x_ND, 2000) or "triton" in refusal(x_ND, 4)
