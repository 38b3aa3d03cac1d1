import os

import pytest
import torch

from parrotlab.training.devices import Device, device, each
from parrotlab.training.recipe import Recipe

RECIPE = Recipe(steps=1, rows=1, learning_rate=0.1, precision="bfloat16")


def test_without_a_gpu_the_device_is_the_cpu_and_its_steps_are_plain(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device() == device("cpu") == device("cpu", fast_steps=False) == Device("cpu", fast_steps=False)


def test_with_a_gpu_it_is_taken_and_its_steps_are_fast_unless_told_otherwise(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda name: {"cuda": (70, 80), "cuda:1": (7, 8)}[name])
    assert device() == Device("cuda", fast_steps=True, memory_bytes=70)
    assert device("cuda:1", fast_steps=False) == Device("cuda:1", fast_steps=False, memory_bytes=7)
    assert device("cuda:1").is_cuda


def test_a_gpu_that_is_not_there_is_one_clear_line(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"device 'cuda' was asked for, but torch .* sees no CUDA device: use 'cpu'"):
        device("cuda")


def test_an_unknown_device_is_one_clear_line():
    with pytest.raises(ValueError, match="must be 'auto', 'cpu' or 'cuda', not 'abacus'"):
        device("abacus")


def test_a_cpu_computes_in_float32_and_a_gpu_as_the_recipe_says():
    cpu, gpu = Device("cpu", fast_steps=False), Device("cuda:0", fast_steps=True)
    assert cpu.precision(RECIPE) == "float32"
    assert gpu.precision(RECIPE) == "bfloat16"
    assert gpu.precision(Recipe(steps=1, rows=1, learning_rate=0.1, precision="float32")) == "float32"
    with cpu.autocast(RECIPE):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_the_facts_name_the_machine_and_its_threads():
    facts = device("cpu").facts()
    assert facts["device"]
    assert facts["threads"] == torch.get_num_threads()
    assert facts["fast_steps"] is False


def test_the_peak_of_memory_is_in_bytes():
    held = torch.ones(25_000_000)
    assert held.nbytes <= device("cpu").peak_memory_bytes()
    assert device("cpu").peak_memory_bytes() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_cuda_is_every_gpu_of_the_machine_and_any_other_name_is_itself(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda name: {"cuda:0": (7, 8), "cuda:1": (6, 8)}[name])
    both = [Device(f"cuda:{index}", fast_steps=True, memory_bytes=7 - index) for index in range(2)]
    assert each(Device("cuda", fast_steps=True, memory_bytes=7)) == both
    for one in (Device("cuda:1", fast_steps=True, memory_bytes=6), Device("cpu", fast_steps=False)):
        assert each(one) == [one]
