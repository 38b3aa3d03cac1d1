"""The kernels compiled for an H100 on any machine: do they fit its registers and its shared memory?"""

import importlib.util
import os
import re
import subprocess
from pathlib import Path

import pytest

from parrotlab.kernels import _tiles

if importlib.util.find_spec("triton") is None:
    pytest.skip("triton is not installed", allow_module_level=True)
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("the interpreter compiles nothing", allow_module_level=True)

import triton
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import get_ptxas
from triton.compiler import ASTSource
from triton.experimental.gluon import language as gl
from triton.experimental.gluon._runtime import GluonASTSource

from parrotlab.kernels import _fused_triton, _hopper_gluon, _hopper_weights_gluon, _tiled_triton

PTXAS = Path(get_ptxas(90).path)
KERNELS = {
    "hidden_forward": (_tiled_triton.hidden_forward, {"KEEP": True}),
    "rows_product": (_tiled_triton.rows_product, {"TURNED": True}),
    "hidden_backward": (_tiled_triton.hidden_backward, {"AGAIN": False, "KEEP": False}),
    "hidden_again": (_tiled_triton.hidden_backward, {"AGAIN": True, "KEEP": True}),
    "weights_product": (_tiled_triton.weights_product, {"LEFT_GATHERED": True}),
    "fused_forward": (_fused_triton.forward, {"LANES": 256}),
    "fused_backward": (_fused_triton.backward, {"LANES": 256}),
}
COMMON = {"ACTIVE": 2, "TILE": 128} | {f"EVEN_{side}": True for side in "DFKNPQ"}
INTEGERS = ("order_S", "bounds_E", "tiles_T3")
EXACT = ("weights_NA", "grad_weight_CS")
SIZES = ("tiles", "width", "hidden", "choices", "depth", "rows", "columns", "experts", "parts")
SCALARS = ("tiles", "experts", "parts")
SHARED_BYTES = 227 * 1024  # of one program
SPILLED_BYTES = 128  # a few registers that wait in memory while a loop runs


HOPPER = {
    "hidden_forward": (_hopper_gluon.hidden_forward, {"x": "MK", "up": "KN"}),
    "rows_product": (_hopper_gluon.rows_product, {"left": "MK", "right": "NK"}),
    "hidden_backward": (_hopper_gluon.hidden_backward, {"grad": "MK", "down": "NK"}),
    "weights_product": (_hopper_weights_gluon.weights_product, {"left": "KM", "right": "KN"}),
}


def needs(name, cut, gated):
    """Registers of a thread, spilled bytes, shared bytes of a program, and tensor core instructions in the code."""
    kernel, own = KERNELS[name]
    constants = {**COMMON, **own, "GATED": gated, "M": cut.M, "N": cut.N, "K": cut.K}
    signature, aligned = {}, {}
    for place, argument in enumerate(kernel.arg_names):
        integer = "*i32" if argument in INTEGERS else "*fp32"
        kind = "i32" if argument in SIZES else integer if argument in INTEGERS + EXACT else "*bf16"
        signature[argument] = "constexpr" if argument in constants else kind
        if argument not in constants and argument not in SCALARS:
            aligned[(place,)] = [["tt.divisibility", 16]]
    places = {(kernel.arg_names.index(key),): value for key, value in constants.items() if key in kernel.arg_names}
    source = ASTSource(fn=kernel, signature=signature, constexprs=places, attrs=aligned)
    options = {"num_warps": cut.warps, "num_stages": cut.stages}
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    return told_of(compiled)


def needs_on_hopper(name, cut, gated):
    kernel, blocks = HOPPER[name]
    lines = _hopper_gluon.lines(cut.M, cut.N, cut.warps)
    constants = {"TILE": 128, "TURNED": True, "GATED": gated, "STAGES": cut.stages, "LINES": lines, **cut._asdict()}
    signature = {}
    for argument in kernel.arg_names:
        kind = "*i32" if argument in INTEGERS else "*fp32" if argument in EXACT else "*bf16"
        signature[argument] = "constexpr" if argument in constants else "i32" if argument in SIZES else kind
        if argument in blocks:
            block = [constants[side] for side in blocks[argument]]
            layout = gl.NVMMASharedLayout.get_default_for(block, gl.bfloat16)
            signature[argument] = f"tensordesc<bf16{block},{layout!r}>"
    places = {(at,): constants[name] for at, name in enumerate(kernel.arg_names) if name in constants}
    whole = [at for at, name in enumerate(kernel.arg_names) if signature[name][0] in "*i" and name not in SCALARS]
    source = GluonASTSource(
        fn=kernel, signature=signature, constexprs=places, attrs={(at,): [["tt.divisibility", 16]] for at in whole}
    )
    options = {"num_warps": cut.warps, "maxnreg": _hopper_gluon.REGISTERS[cut.warps]}
    return told_of(triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options))


def told_of(compiled):
    code = Path(os.environ["TRITON_CACHE_DIR"]) / "kernel.ptx"
    code.write_text(compiled.asm["ptx"])
    command = [PTXAS, "-v", "-arch=sm_90a", "-o", os.devnull, code]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    registers, spilled = (int(re.search(how, told)[1]) for how in (r"Used (\d+) reg", r"(\d+) bytes spill stores"))
    return registers, spilled, compiled.metadata.shared, compiled.asm["ptx"].count("wgmma.mma_async")


def fits(name, cut, gated):
    _, spilled, shared, products = needs(name, cut, gated)
    return spilled <= SPILLED_BYTES and shared <= SHARED_BYTES and products > 0


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


@pytest.mark.skipif(not PTXAS.exists(), reason="triton ships no ptxas here")
@pytest.mark.parametrize("name", KERNELS)
def test_the_first_way_of_cutting_a_kernel_fits_an_h100_and_uses_its_tensor_cores(name):
    assert fits(name, _tiles.CANDIDATES[name][0], gated=True), needs(name, _tiles.CANDIDATES[name][0], True)


@pytest.mark.slow
@pytest.mark.skipif(not PTXAS.exists(), reason="triton ships no ptxas here")
@pytest.mark.parametrize("name", KERNELS)
def test_every_way_of_cutting_a_kernel_fits_an_h100_with_gates_or_without(name):
    for cut in _tiles.CANDIDATES[name]:
        assert fits(name, cut, gated=False) or fits(name, cut, gated=True), (cut, needs(name, cut, False))


@pytest.mark.skipif(not PTXAS.exists(), reason="triton ships no ptxas here")
@pytest.mark.parametrize("name", HOPPER)
def test_the_first_way_of_cutting_a_hopper_kernel_fits_beside_its_reader(name):
    _, spilled, shared, products = needs_on_hopper(name, _tiles.HOPPER[name, True][0], True)
    assert spilled <= 2 * SPILLED_BYTES
    assert shared <= SHARED_BYTES
    assert products > 0


@pytest.mark.slow
@pytest.mark.skipif(not PTXAS.exists(), reason="triton ships no ptxas here")
@pytest.mark.parametrize(("name", "gated"), list(_tiles.HOPPER))
def test_every_way_of_cutting_a_hopper_kernel_fits_into_its_shared_memory(name, gated):
    assert set(_tiles.HOPPER) == {(name, gated) for name in HOPPER for gated in (False, True)}
    for cut in _tiles.HOPPER[name, gated]:
        assert needs_on_hopper(name, cut, gated)[2] <= SHARED_BYTES


def test_what_was_measured_is_one_of_the_ways():
    assert all(cut in _tiles.CANDIDATES[kernel] for (kernel, *_), cut in _tiles.MEASURED.items())
    assert set(_tiles.CANDIDATES) == set(KERNELS)
