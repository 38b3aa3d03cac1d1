"""The router's product against float64 and torch's float32; without a GPU under Triton's interpreter, in a process of
its own."""

import importlib.util
import os
import subprocess
import sys

import pytest
import torch

from parrotlab.kernels import _choice, exact
from parrotlab.model.routers.router import scores

# stack, tokens, width, experts, of tokens and of weights
SHAPES = [
    ((), 70, 40, 5, torch.float32, torch.float32),
    ((2,), 33, 64, 8, torch.bfloat16, torch.float32),
    ((), 1, 17, 130, torch.bfloat16, torch.bfloat16),
    ((3,), 300, 16, 16, torch.float32, torch.bfloat16),
    ((2,), 200, 150, 65, torch.bfloat16, torch.float32),
    ((), 130, 40, 12, torch.bfloat16, torch.bfloat16),
]
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def case(shape, device):
    stack, tokens, width, experts, *kinds = shape
    generator = torch.Generator().manual_seed(tokens)

    def normal(*sizes):
        return torch.randn(*stack, *sizes, generator=generator)

    leaves = normal(tokens, width), normal(width, experts) / width**0.5
    leaves = [leaf.to(device, kind).requires_grad_() for leaf, kind in zip(leaves, kinds)]
    return leaves, normal(tokens, experts).to(device)


def far(mine, other):
    return ((mine.double() - other).norm() / other.norm()).item()


def check(shape, device, allowed):
    leaves, grad_NE = case(shape, device)
    ours_NE, exact_NE = exact.logits(*leaves), leaves[0].double() @ leaves[1].double()
    assert ours_NE.dtype == torch.float32
    assert far(ours_NE, exact_NE) < allowed
    ours, theirs = (torch.autograd.grad(y, leaves, grad_NE.to(y.dtype)) for y in (ours_NE, exact_NE))
    for leaf, mine, other in zip(leaves, ours, theirs):
        assert mine.dtype == leaf.dtype
        assert far(mine, other.double()) < (allowed if leaf.dtype == torch.float32 else 5e-3)


@pytest.mark.skipif(not INTERPRETED, reason="runs in test_the_product_is_float32s_under_the_interpreter")
@pytest.mark.parametrize("shape", SHAPES)
def test_interpreted(shape):
    check(shape, "cpu", 2e-7)


@pytest.mark.skipif(not INTERPRETED, reason="runs in test_the_product_is_float32s_under_the_interpreter")
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_interpreted_what_is_not_a_number_shows_in_all_that_it_is_part_of(kind):
    (x_ND, weight_DE), grad_NE = case(((), 20, 24, 8, kind, torch.float32), "cpu")
    grad_NE[3, 5] = torch.nan
    grad_x_ND, grad_weight_DE = torch.autograd.grad(exact.logits(x_ND, weight_DE), (x_ND, weight_DE), grad_NE)
    assert torch.equal(grad_x_ND.isnan().all(dim=1), torch.arange(20) == 3)
    assert torch.equal(grad_weight_DE.isnan().all(dim=0), torch.arange(8) == 5)


@pytest.mark.skipif(INTERPRETED, reason="this is the interpreter's own process")
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_the_product_is_float32s_under_the_interpreter():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", "test_interpreted"]
    done = subprocess.run(command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(SHAPES) + 2} passed" in done.stdout


def test_a_processor_makes_the_product_itself(monkeypatch):
    monkeypatch.setattr(_choice, "ROUTER", "fused")
    leaves, _ = case(SHAPES[0], "cpu")
    assert not exact.fused(*leaves)
    assert torch.equal(scores(*leaves), leaves[0] @ leaves[1])


@pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
@pytest.mark.parametrize(
    ("split", "third", "products"),
    [((False, False), True, 1), ((True, False), True, 3), ((True, True), True, 6), ((True, True), False, 3)],
)
def test_a_split_operand_costs_tensor_cores_two_products_more_and_two_split_ones_five(
    split, third, products, tmp_path, monkeypatch
):
    types = {name: "*fp32" if parts else "*bf16" for name, parts in zip(("left", "right"), split)}
    constants = {"LEFT_SPLIT": split[0], "RIGHT_SPLIT": split[1], "THIRD": third, "left_step": 1, "right_column": 1}
    code = compiled("product", constants, types | {"out_CRMN": "*fp32"}, tmp_path, monkeypatch)
    assert code.count("ttng.warp_group_dot %") == products


@pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_the_tokens_gradient_splits_the_weights_once_for_all_rows(tmp_path, monkeypatch):
    types = {"left_RMK": "*fp32", "right": "*fp32", "out_RMN": "*bf16"}
    code = compiled("wide_product", {"RIGHT_SPLIT": True, "right_step": 1}, types, tmp_path, monkeypatch)
    before, walk = code.split("scf.for", maxsplit=1)
    assert before.count("arith.subf") == 1  # what the weights' first part leaves
    assert walk.count("arith.subf") == 1  # and the gradients'
    assert walk.count("ttng.warp_group_dot %") == 3


def compiled(name, constants, types, folder, monkeypatch):
    """The kernel for an H100, in Triton's own language."""
    import triton
    import triton.language as tl
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from parrotlab.kernels import _exact_triton

    monkeypatch.setenv("TRITON_CACHE_DIR", str(folder))
    kernel = getattr(_exact_triton, name)
    constants = constants | {"PART": tl.bfloat16, "M": 64, "N": 64, "K": 64}
    names = kernel.arg_names
    signature = {each: "constexpr" if each in constants else types.get(each, "i32") for each in names}
    places = {(names.index(each),): constants[each] for each in constants}
    source = ASTSource(fn=kernel, signature=signature, constexprs=places)
    options = {"num_warps": 4, "num_stages": 2}
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["ttgir"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("shape", [*SHAPES, ((), 16_384, 256, 64, torch.float32, torch.float32)])
def test_the_product_is_float32s_on_a_gpu(shape):
    check(shape, "cuda", 1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_choices_are_float32s_but_for_ties(kind):
    (x_ND, weight_DE), _ = case(((), 16_384, 1024, 64, kind, torch.float32), "cuda")
    ours_NE, exact_NE = exact.logits(x_ND, weight_DE), x_ND.double() @ weight_DE.double()
    ours_NA, plain_NA = (logits_NE.topk(2).indices.sort().values for logits_NE in (ours_NE, exact_NE))
    others_N = (ours_NA != plain_NA).any(dim=-1)
    second_NE = exact_NE.sort(descending=True).values[others_N, 1:3]
    assert (second_NE[:, 0] - second_NE[:, 1] < 1e-5).all()
    assert others_N.sum() <= 4
