"""The choosing kernels against the plain router; without a GPU under Triton's interpreter, in a process of its own."""

import importlib.util
import os
import subprocess
import sys

import pytest
import torch

from parrotlab.kernels import _choice
from parrotlab.kernels.choosing import chosen
from parrotlab.model.routers.router import routed

# stack, tokens, experts, active, renormalise
SHAPES = [
    ((), 300, 8, 2, True),
    ((2,), 33, 5, 3, False),
    ((), 1, 64, 1, False),
    ((3,), 9, 16, 16, True),
    ((), 40, 130, 2, True),
    ((), 140, 1, 1, True),
    ((2,), 20, 300, 2, False),
]
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


@pytest.fixture(autouse=True)
def plain_router(monkeypatch):
    """``routed`` is the plain twin here."""
    monkeypatch.setattr(_choice, "ROUTER", "plain")


def check(shape, device):
    stack, tokens, experts, active, renormalise = shape
    generator = torch.Generator().manual_seed(tokens)
    # Few different values: of equals the first is chosen.
    logits_NE = torch.randint(-3, 4, (*stack, tokens, experts), generator=generator).float().to(device)
    bias_NE = torch.randint(0, 2, (*stack, 1, experts), generator=generator).to(device)
    grad_NA = torch.randn(*stack, tokens, active, generator=generator).to(device)
    compare(logits_NE, lambda leaf_NE: leaf_NE, grad_NA, active, renormalise)
    compare(logits_NE, lambda leaf_NE: leaf_NE + bias_NE, grad_NA, active, renormalise)


def compare(logits_NE, ranked, grad_NA, active, renormalise):
    found = []
    for choose in (lambda *arguments: chosen(*arguments), lambda *arguments: routed(*arguments)):
        leaf_NE = logits_NE.clone().requires_grad_()
        answer = choose(leaf_NE, ranked(leaf_NE), active, renormalise)
        weights_NA, experts_NA, choices_E = answer if len(answer) == 3 else (*answer[:2], answer[3])
        gradient_NE = torch.autograd.grad((weights_NA * grad_NA).sum() + leaf_NE.square().sum(), leaf_NE)[0]
        found.append((experts_NA, choices_E, weights_NA, gradient_NE))
    (experts_NA, choices_E, *ours), (plain_NA, plain_E, *theirs) = found
    assert torch.equal(experts_NA, plain_NA)
    assert torch.equal(choices_E, plain_E)
    for mine, other in zip(ours, theirs):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(not INTERPRETED, reason="runs in test_the_kernels_choose_as_the_router_under_the_interpreter")
@pytest.mark.parametrize("shape", SHAPES)
def test_interpreted(shape):
    check(shape, "cpu")


@pytest.mark.skipif(INTERPRETED, reason="this is the interpreter's own process")
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_the_kernels_choose_as_the_router_under_the_interpreter():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", "test_interpreted"]
    done = subprocess.run(command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(SHAPES)} passed" in done.stdout


@pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
@pytest.mark.parametrize("experts", [8, 1024])
@pytest.mark.parametrize("name", ["choose", "choose_backward"])
def test_the_kernels_compile_for_an_h100_anywhere_and_add_whole_numbers_alone_among_programs(
    name, experts, tmp_path, monkeypatch
):
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from parrotlab.kernels import _choosing_triton
    from parrotlab.kernels.choosing import _sizes

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernel = getattr(_choosing_triton, name)
    constants = {"E": experts, "A": 2, "RANKED": True, "RENORMALISE": True, "SLOTS": 2, **_sizes(experts)}
    kinds = {"experts_NA": "*i64", "counts_E": "*i32", "tokens": "i32"}
    signature = {each: "constexpr" if each in constants else kinds.get(each, "*fp32") for each in kernel.arg_names}
    places = {(at,): constants[each] for at, each in enumerate(kernel.arg_names) if each in constants}
    source = ASTSource(fn=kernel, signature=signature, constexprs=places)
    code = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 4}).asm["ptx"]
    added = [line for line in code.splitlines() if "atom.global" in line or "red.global" in line]
    assert not any("f32" in line or "f64" in line for line in added)
    assert bool(added) == (name == "choose")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("shape", [*SHAPES, ((), 16_384, 64, 2, True)])
def test_the_kernels_choose_as_the_router_on_a_gpu(shape):
    check(shape, "cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_router_takes_the_kernels_within_one_compiled_graph(monkeypatch):
    logits_NE = torch.randn(500, 16, device="cuda", requires_grad=True)
    plain = routed(logits_NE, logits_NE, 2, True)
    monkeypatch.setattr(_choice, "ROUTER", "fused")
    ours = torch.compile(routed, fullgraph=True)(logits_NE, logits_NE, 2, True)
    assert torch.equal(ours.experts_NA, plain.experts_NA)
    torch.testing.assert_close(ours.weights_NA, plain.weights_NA)
