"""The loss by chunks against its plain twin; without a GPU under Triton's interpreter, in a process of its own."""

import importlib.util
import os
import subprocess
import sys

import pytest
import torch
from fakes import design

from parrotlab.kernels import linear_cross_entropy as kernels
from parrotlab.kernels.linear_cross_entropy import (
    LARGE,
    chunk_tokens,
    linear_cross_entropy,
    linear_cross_entropy_reference,
)
from parrotlab.model.transformer import build

# replicas (0: none), tokens, width, vocabulary, tied: ragged chunks and lanes, a lone token, a vocabulary of one
SHAPES = [(0, 23, 8, 50, False), (3, 10, 5, 33, True), (0, 1, 4, 64, True), (2, 7, 3, 1, False), (0, 30, 16, 129, True)]
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
NAMES = ("loss", "tokens", "head")


def errors(shape, dtype, device, compiled=lambda function: function):
    """Relative distance from the plain twin in float32, of the loss and its gradients."""
    replicas, tokens, width, vocabulary, tied = shape
    stack = (replicas,) if replicas else ()
    generator = torch.Generator().manual_seed(tokens)
    x_ND = torch.randn(*stack, tokens, width, generator=generator)
    embedding_VD = torch.randn(*stack, vocabulary, width, generator=generator) / width**0.5
    weight = embedding_VD if tied else embedding_VD.mT.contiguous()
    targets_N = torch.randint(vocabulary, (*stack, tokens), generator=generator).to(device)
    weights_N = (torch.rand(*stack, tokens, generator=generator) * (torch.arange(tokens) % 3 > 0)).to(device)
    share_R = 1 + torch.arange(max(1, replicas), device=device).view(stack)  # each replica's loss weighs something else
    found = []
    for loss, precision in ((compiled(linear_cross_entropy), dtype), (linear_cross_entropy_reference, torch.float32)):
        leaves = [leaf.to(device, copy=True).requires_grad_() for leaf in (x_ND, weight)]
        loss_R = loss(leaves[0], leaves[1].mT if tied else leaves[1], targets_N, weights_N, precision)
        found.append((loss_R, *torch.autograd.grad((loss_R * share_R).sum(), leaves)))
    return {
        name: ((mine.float() - other).norm() / other.norm().clamp(min=1e-6)).item()
        for name, mine, other in zip(NAMES, *found)
    }


@pytest.mark.skipif(not INTERPRETED, reason="runs in test_chunks_give_the_plain_loss_under_the_interpreter")
@pytest.mark.parametrize("shape", SHAPES)
def test_interpreted(shape, monkeypatch):
    replicas, _, _, vocabulary, _ = shape
    monkeypatch.setattr(kernels, "LANES", 32)
    monkeypatch.setattr(kernels, "CHUNK_BYTES", 4 * 7 * vocabulary * max(1, replicas))
    for compiled in (lambda loss: loss, lambda loss: torch.compile(loss, backend="aot_eager", fullgraph=True)):
        found = errors(shape, torch.float32, "cpu", compiled)
        assert max(found.values()) < 1e-5, found


@pytest.mark.skipif(not INTERPRETED, reason="runs in test_chunks_give_the_plain_loss_under_the_interpreter")
def test_interpreted_a_model_learns_the_same_of_chunks_as_of_logits(monkeypatch):
    tokens_BT = torch.randint(10, (2, 3, 6), generator=torch.Generator().manual_seed(0))
    asked_BT = torch.arange(6).expand(2, 3, 6) > 2
    for tied in (False, True):
        found = []
        for large in (True, False):
            monkeypatch.setattr(kernels, "takes", lambda x_ND, vocabulary, large=large: large)
            model = build(design(tied=tied), 10, [0, 1])
            loss_R, _ = model.loss(tokens_BT, asked_BT)
            found.append([loss_R, *torch.autograd.grad(loss_R.sum(), list(model.parameters()))])
        for mine, other in zip(*found):
            torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)


@pytest.mark.skipif(INTERPRETED, reason="this is the interpreter's own process")
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_chunks_give_the_plain_loss_under_the_interpreter():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", "test_interpreted"]
    done = subprocess.run(command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(SHAPES) + 1} passed" in done.stdout


def test_chunks_hold_all_tokens_and_no_more_logits_than_they_may():
    for replicas, tokens, vocabulary in ((1, 16_384, 32_000), (8, 4096, 50_257), (1, 7, 1 << 40), (3, 1, LARGE)):
        chunk = chunk_tokens(replicas, tokens, vocabulary, 2)
        assert 1 <= chunk <= tokens
        assert chunk == 1 or chunk * replicas * vocabulary * 2 <= kernels.CHUNK_BYTES
        fewest = -(-tokens // max(1, kernels.CHUNK_BYTES // (replicas * vocabulary * 2)))
        assert -(-tokens // chunk) == fewest


def test_a_processor_and_a_small_vocabulary_take_the_plain_loss():
    assert not kernels.takes(torch.empty(1, 1), LARGE)
    assert not kernels.takes(torch.empty(1, 1), LARGE - 1)


@pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_the_kernel_compiles_for_an_h100_anywhere(tmp_path, monkeypatch):
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from parrotlab.kernels import _linear_cross_entropy_triton

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernel = _linear_cross_entropy_triton.losses
    constants = {"V": 32_000, "LANES": kernels.LANES}
    kinds = {"logits_RCV": "*bf16", "targets_RN": "*i64"} | dict.fromkeys(
        ("chunk", "begin", "tokens", "row_stride"), "i32"
    )
    signature = {each: "constexpr" if each in constants else kinds.get(each, "*fp32") for each in kernel.arg_names}
    places = {(at,): constants[each] for at, each in enumerate(kernel.arg_names) if each in constants}
    source = ASTSource(fn=kernel, signature=signature, constexprs=places)
    code = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 8}).asm["ptx"]
    assert "atom.global" not in code


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("shape", [*SHAPES[:3], (0, 3000, 256, 8192, True), (2, 700, 64, 32_000, False)])
def test_chunks_give_the_plain_loss_on_a_gpu(shape, monkeypatch):
    monkeypatch.setattr(kernels, "CHUNK_BYTES", 1 << 24)
    for dtype, bound in ((torch.float32, 1e-4), (torch.bfloat16, 1e-2)):
        found = errors(shape, dtype, "cuda")
        assert max(found.values()) < bound, found


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("tied", [False, True])
def test_chunks_give_the_plain_loss_within_one_compiled_graph(tied):
    found = errors(
        (2, 500, 64, 10_000, tied),
        torch.bfloat16,
        "cuda",
        lambda loss: torch.compile(loss, dynamic=False, fullgraph=True),
    )
    assert max(found.values()) < 1e-2, found
