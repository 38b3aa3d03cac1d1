from types import SimpleNamespace

import pytest
import torch

from parrotlab.training.compiler import compiled


def norm_and_sum(gradient_ND, other_ND, x_ND, weight_D):
    """Like the backward pass of a norm whose output two others have read: the sum is kept, and reduced."""
    total_ND = gradient_ND + other_ND
    along_N1 = (total_ND * x_ND * weight_D).sum(dim=-1, keepdim=True)
    return total_ND, total_ND * weight_D - x_ND * along_N1


def looped_kernel(monkeypatch, function, arguments):
    """The Triton that the compiler makes of a function, its reductions in loops; on a CPU that has no Triton."""
    triton = pytest.importorskip("triton")
    from torch._inductor import config
    from torch._inductor.codegen.triton import TritonKernel
    from triton.backends.compiler import GPUTarget

    class Written(Exception):
        """The kernel is written: nobody can run it here."""

    def codegen_kernel(kernel, name=None):
        raise Written(codegen(kernel, name))

    codegen = TritonKernel.codegen_kernel
    monkeypatch.setattr(TritonKernel, "codegen_kernel", codegen_kernel)
    hopper = SimpleNamespace(
        get_current_target=lambda: GPUTarget("cuda", 90, 32), get_active_torch_device=lambda: torch.device("cpu")
    )
    monkeypatch.setattr(triton.runtime.driver, "_active", hopper)
    settings = {"cpu_backend": "triton", "triton.persistent_reductions": False, "fx_graph_cache": False}
    with config.patch(settings), pytest.raises(Exception) as raised:
        compiled(function)(*arguments)
    torch.compiler.reset()
    return str(raised.value)


def test_what_a_loop_stored_is_read_back_behind_a_barrier(monkeypatch):
    source = looped_kernel(monkeypatch, norm_and_sum, [*torch.randn(3, 64, 256), torch.randn(256)])
    first, second = source.split("tl.sum(")
    stored = first.index("tl.store(out_ptr0")
    assert stored > first.index("for r0_offset")
    assert second.index("tl.debug_barrier()") < second.index("for r0_offset") < second.index("tl.load(out_ptr0")


def test_a_product_kept_in_float32_has_its_gradient_in_float32():
    x_ND, weight_DE = torch.randn(64, 16), torch.randn(16, 4, requires_grad=True)

    def logits(x_ND, weight_DE):
        with torch.autocast("cpu", enabled=False):
            return x_ND @ weight_DE

    compiled(logits)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        through = torch.compile(logits, backend="aot_eager")(x_ND, weight_DE)
    slope_NE = torch.randn(64, 4)
    (gradient_DE,) = torch.autograd.grad(through, weight_DE, slope_NE)
    torch.testing.assert_close(gradient_DE, x_ND.T @ slope_NE, rtol=1e-5, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_a_looped_reduction_reads_what_it_stored():
    from torch._inductor import config

    gradient_ND, other_ND, x_ND = torch.randn(3, 16_384, 256, device="cuda").unbind()
    weight_D = torch.randn(256, device="cuda")
    arguments = (gradient_ND, other_ND.bfloat16(), x_ND, weight_D)
    with config.patch({"triton.persistent_reductions": False}):
        ours = compiled(norm_and_sum)
        for _ in range(50):
            for mine, plain in zip(ours(*arguments), norm_and_sum(*arguments)):
                torch.testing.assert_close(mine, plain, rtol=1e-4, atol=1e-2)
