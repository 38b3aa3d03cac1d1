"""The one-pass kernels against the plain step; without a GPU under Triton's interpreter, in a process of its own."""

import importlib.util
import math
import os
import subprocess
import sys

import pytest
import torch
from fakes import mixture

from parrotlab.kernels import adamw
from parrotlab.kernels.adamw import PIECE, OnePass
from parrotlab.model.transformer import build
from parrotlab.training.optimizer import AdamW
from parrotlab.training.recipe import Recipe

# replicas (0: none), sizes of the weights: ragged pieces, lone numbers, odd sizes whose replicas lie unaligned
SHAPES = [
    (0, [(PIECE + 12,), (3, 5), (1,)]),
    (3, [(7, 9), (4, 32), (2 * PIECE + 1,)]),
    (2, [(1,), (PIECE,)]),
    (1, [(2, 3, 4)] * (adamw.NOTED + 3)),
]
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
RECIPE = Recipe(steps=10, rows=1, learning_rate=1e-2, clip=0.5)


class Weights(torch.nn.Module):
    """Weights of any shapes; every other one is spared the decay."""

    def __init__(self, stack, shapes, device):
        super().__init__()
        generator = torch.Generator().manual_seed(len(shapes))
        for at, shape in enumerate(shapes):
            weight = torch.nn.Parameter(torch.randn(*stack, *shape, generator=generator).to(device))
            layer = torch.nn.Module()
            layer.register_parameter("weight_D", weight)
            self.add_module(f"{at}{'norm' if at % 2 else ''}", layer)


def noise(model, step, spread=False):
    """Gradients large enough to be clipped; ``spread``: so that they do not lie together."""
    generator = torch.Generator().manual_seed(step)
    gradients = [torch.randn(weight.shape, generator=generator).to(weight.device) for weight in model.parameters()]
    return [torch.stack([gradient, gradient], dim=-1)[..., 0] if spread else gradient for gradient in gradients]


def pair(models, rates, copied):
    """The model of the kernels with its optimizer, and the plain step's; and copies of every other weight, or none."""
    ours, theirs = models
    kernels, plain = (AdamW(model, RECIPE, rates) for model in (ours, theirs))
    state = kernels.weights, kernels.first, kernels.second
    copies = {at: kernels.weights[at].bfloat16() for at in range(0, len(state[0]), 2)} if copied else {}
    kernels.one_pass = OnePass(*state, kernels.decays, kernels.shares, tuple(rates.shape), copies)
    return kernels, plain, copies


def check(shape, device, copied=False):
    """Weights and moments after a few steps at a changing rate, and the norms."""
    replicas, shapes = shape
    stack = (replicas,) if replicas else ()
    rates = 1e-2 / (1 + torch.arange(max(1, replicas), device=device).float().view(stack))
    models = [Weights(stack, shapes, device) for _ in range(2)]
    kernels, plain, copies = pair(models, rates, copied)
    for step in range(4):
        schedule = torch.tensor(1 / (1 + step), device=device)
        mine, theirs = noise(models[0], step, spread=step == 2), noise(models[1], step)
        for at in copies:
            mine[at] = mine[at].bfloat16()
            theirs[at] = theirs[at].bfloat16().float()
        norm_R = kernels._single_step_(kernels.one_pass, mine, schedule)
        torch.testing.assert_close(norm_R, plain._plain_step_(theirs, schedule))
    for at, copy in copies.items():
        torch.testing.assert_close(copy, kernels.weights[at].bfloat16(), rtol=2**-7, atol=0)  # the interpreter cuts off
    for name, tensor in kernels.state().items():
        torch.testing.assert_close(tensor, plain.state()[name], rtol=1e-5, atol=1e-7)
    for mine, other in zip(*(model.parameters() for model in models)):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(not INTERPRETED, reason="runs in test_the_kernels_step_as_the_plain_twin_under_the_interpreter")
def test_interpreted_a_gradient_counts_by_its_share():
    weights = [torch.zeros(3), torch.zeros(5)]
    one_pass = OnePass(weights, weights, weights, [0.0, 0.0], [0.25, 1.0], ())
    assert one_pass.square([torch.full((3,), 2.0), torch.full((5,), 1.0)]).item() == 3 + 5


@pytest.mark.skipif(not INTERPRETED, reason="runs in test_the_kernels_step_as_the_plain_twin_under_the_interpreter")
@pytest.mark.parametrize("copied", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_interpreted(shape, copied):
    with torch.no_grad():
        check(shape, "cpu", copied)


@pytest.mark.skipif(INTERPRETED, reason="this is the interpreter's own process")
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_the_kernels_step_as_the_plain_twin_under_the_interpreter():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", "test_interpreted"]
    done = subprocess.run(command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{2 * len(SHAPES) + 1} passed" in done.stdout


@pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
@pytest.mark.parametrize(("name", "fours"), [("squares", 1 + 0.5), ("move", 4 + 3.5)])
def test_the_kernels_compile_for_an_h100_anywhere_and_move_aligned_numbers_by_fours(name, fours, tmp_path, monkeypatch):
    """Without copies and with them, where bfloat16 gradients come by eights."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from parrotlab.kernels import _adamw_triton

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernel = getattr(_adamw_triton, name)
    constants = {"PIECE": PIECE, "BETA1": 0.9, "BETA2": 0.95, "EPSILON": 1e-8}
    constants |= {"LOG_BETA1": math.log(0.9), "LOG_BETA2": math.log(0.95)}
    kinds = {"addresses_5W": "*i64", "sizes_W": "*i64", "pieces_P2": "*i32", "pieces": "i32", "tensors": "i32"}
    kinds |= {"clip": "fp32"}
    signature = {each: "constexpr" if each in constants else kinds.get(each, "*fp32") for each in kernel.arg_names}
    places = {(at,): constants[each] for at, each in enumerate(kernel.arg_names) if each in constants}
    source = ASTSource(fn=kernel, signature=signature, constexprs=places)
    code = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 4}).asm["ptx"]
    assert code.count("ld.global.v4.b32") == fours * PIECE // (4 * 4 * 32)
    assert "atom.global" not in code


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("copied", [False, True])
@pytest.mark.parametrize("shape", [*SHAPES, (2, [(300_001,), (4096, 512)]), (0, [(40, 512, 1024)])])
def test_the_kernels_step_as_the_plain_twin_on_a_gpu(shape, copied):
    with torch.no_grad():
        check(shape, "cuda", copied)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_captured_step_of_a_stack_ends_in_the_same_bits_as_one_launched_by_the_host():
    rates = torch.tensor([1e-2, 1e-3], device="cuda")
    models = [build(mixture(experts=4), 10, [0, 1], "cuda") for _ in range(2)]
    captured, launched = (AdamW(model, RECIPE, rates) for model in models)
    assert captured.one_pass is not None
    schedule, gradients = torch.ones((), device="cuda"), noise(models[0], 0)
    captured.step_(gradients, schedule)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        norm_R = captured.step_([gradient + 0.0 for gradient in gradients], schedule)
    launched.step_(noise(models[1], 0), schedule)
    for step in range(1, 4):
        for mine, new in zip(gradients, noise(models[0], step)):
            mine.copy_(new)
        schedule.fill_(1 / step)
        graph.replay()
        assert torch.equal(norm_R, launched.step_(noise(models[1], step), schedule))
    for name, tensor in captured.state().items():
        assert torch.equal(tensor, launched.state()[name])
    for mine, other in zip(*(model.parameters() for model in models)):
        assert torch.equal(mine, other)
