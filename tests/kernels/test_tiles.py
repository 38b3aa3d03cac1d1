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
from triton.experimental.gluon._runtime import GluonASTSource

from parrotlab.kernels import (
    _hopper_gluon,
    _hopper_hidden_gluon,
    _hopper_rows_gluon,
    _hopper_weights_gluon,
    _tiled_triton,
)

PTXAS = Path(get_ptxas(90).path)
PORTABLE = {name: getattr(_tiled_triton, name) for name in _tiles.KERNELS}
HOPPER = {
    "rows_product": (_hopper_rows_gluon.rows_product, {"left": "MK", "right": "NK", "out": "MN"}),
    "weights_product": (_hopper_weights_gluon.weights_product, {"left": "KM", "right": "KN", "out": "MN"}),
    "hidden_forward": (_hopper_hidden_gluon.hidden_forward, {"x": "MK", "up": "KA"}),
    "hidden_backward": (_hopper_hidden_gluon.hidden_backward, {"grad": "MK", "down": "NK"}),
}
"""Each kernel, and the blocks that it reads and writes; a block A has half a tile's columns if gates lie apart."""
WAYS = sorted({(name, False) for name in HOPPER} | _tiles.FUSED)
"""Kernels, gated or not."""
COMMON = {"TILE": 128, "TURNED": True} | {f"EVEN_{side}": True for side in "DFKNPQ"}
INTEGERS = ("order_S", "bounds_E", "tiles_T3")
EXACT = ("weights_NA", "grad_weight_CS")
SIZES = ("tiles", "width", "hidden", "choices", "depth", "rows", "columns", "experts", "parts")
SCALARS = ("tiles", "experts", "parts")
SHARED_BYTES = 227 * 1024  # of one program
SPILLED_BYTES = 128  # a few registers that wait in memory while a loop runs


def needs(name, cut):
    """Registers of a thread, spilled bytes, shared bytes of a program, and tensor core instructions in the code."""
    kernel = PORTABLE[name]
    source = ASTSource(**arguments(kernel, COMMON | {"M": cut.M, "N": cut.N, "K": cut.K}, {}))
    options = {"num_warps": cut.warps, "num_stages": cut.stages}
    return told_of(triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options))


def needs_on_hopper(name, cut, gated=False):
    kernel, blocks = HOPPER[name]
    constants = COMMON | {"STAGES": cut.stages, "HELD": cut.holds, "GATED": gated, **cut._asdict()}
    written = cut.slice if "hidden" in name else cut.N
    constants["LINES"] = _hopper_gluon.lines(cut.M, written, cut.warps)
    constants["SLICE"], constants["WHOLE"] = (_hopper_gluon.room(block) for block in ([cut.M, written], [cut.K, cut.N]))
    sizes = constants | {"A": cut.N // 2 if gated else cut.N}
    descriptors = {}
    for argument, sides in blocks.items():
        block = [sizes[side] for side in sides]
        descriptors[argument] = f"tensordesc<bf16{block},{_hopper_gluon.room(block)!r}>"
    source = GluonASTSource(**arguments(kernel, constants, descriptors))
    options = {"num_warps": cut.warps, "maxnreg": _hopper_gluon.REGISTERS[cut.programs]}
    return told_of(triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options))


def arguments(kernel, constants, descriptors):
    """What a kernel is compiled for: pointers and sizes that 16 divides, descriptors, constants."""
    signature, aligned = {}, {}
    for place, name in enumerate(kernel.arg_names):
        integer = "*i32" if name in INTEGERS else "*fp32"
        kind = "i32" if name in SIZES else integer if name in INTEGERS + EXACT else "*bf16"
        signature[name] = "constexpr" if name in constants else descriptors.get(name, kind)
        if name not in constants and name not in descriptors and name not in SCALARS:
            aligned[(place,)] = [["tt.divisibility", 16]]
    places = {(at,): constants[name] for at, name in enumerate(kernel.arg_names) if name in constants}
    return {"fn": kernel, "signature": signature, "constexprs": places, "attrs": aligned}


def told_of(compiled):
    code = Path(os.environ["TRITON_CACHE_DIR"]) / "kernel.ptx"
    code.write_text(compiled.asm["ptx"])
    command = [PTXAS, "-v", "-arch=sm_90a", "-o", os.devnull, code]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    registers, spilled = (int(re.search(how, told)[1]) for how in (r"Used (\d+) reg", r"(\d+) bytes spill stores"))
    return registers, spilled, compiled.metadata.shared, compiled.asm["ptx"].count("wgmma.mma_async")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


@pytest.mark.skipif(not PTXAS.exists(), reason="triton ships no ptxas here")
@pytest.mark.parametrize("name", PORTABLE)
def test_a_portable_kernel_fits_an_h100_and_uses_its_tensor_cores(name):
    _, spilled, shared, products = needs(name, _tiles.PORTABLE[name])
    assert spilled <= SPILLED_BYTES
    assert shared <= SHARED_BYTES
    assert products > 0


@pytest.mark.skipif(not PTXAS.exists(), reason="triton ships no ptxas here")
@pytest.mark.parametrize(("name", "gated"), WAYS)
def test_every_way_of_cutting_a_hopper_kernel_fits_beside_its_reader(name, gated):
    for cut in _tiles.HOPPER[name]:
        _, spilled, shared, products = needs_on_hopper(name, cut, gated)
        assert spilled <= 5 * SPILLED_BYTES  # once a tile
        assert cut.programs * shared <= SHARED_BYTES
        assert products > 0


def test_what_was_measured_is_one_of_the_ways():
    assert all(cut in _tiles.HOPPER[kernel] for (kernel, _), cut in _tiles.MEASURED.items())
    assert set(_tiles.HOPPER) == set(HOPPER)
    assert set(_tiles.PORTABLE) == set(_tiles.KERNELS)
