import copy

import numpy as np
import pytest
import torch
from fakes import design, mixture

from parrotlab.kernels import likeliest as likely
from parrotlab.model.generation import generate
from parrotlab.model.transformer import build
from parrotlab.seeds import stream

VOCABULARY, MOST = 13, 9
MODELS = {"dense": build(design(), VOCABULARY, 0), "mixture": build(mixture(), VOCABULARY, 1)}
EACH = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)


def prompts(prefix=0):
    shared = stream("shared").integers(VOCABULARY, size=prefix)
    return [
        np.concatenate((shared, stream("prompt", n).integers(VOCABULARY, size=1 + n % 4), [n]))
        for n in range(VOCABULARY)
    ]


def plainly(model, prompt, over):
    """One prompt, read whole for each new token."""
    tokens = list(map(int, prompt))
    said = []
    while len(said) < MOST and not (said and over(said)):
        with torch.no_grad():
            said.append(int(model(torch.tensor([tokens + said]))[0][0, -1].argmax()))
    return said


@EACH
@pytest.mark.parametrize("prefix", [0, 20])
@pytest.mark.parametrize("batch_tokens", [1, 40, 10_000])
@pytest.mark.parametrize("over", [lambda said: False, lambda said: said[-1] < 5], ids=["to the end", "until a token"])
def test_many_at_once_say_what_each_says_alone(model, prefix, batch_tokens, over):
    asked = prompts(prefix)
    said = dict(generate(model, asked, MOST, over, batch_tokens))
    assert said == {index: plainly(model, prompt, over) for index, prompt in enumerate(asked)}


def test_no_prompt_no_answer():
    assert list(generate(MODELS["dense"], [], MOST, lambda said: False)) == []


def test_a_large_head_in_panels_says_the_same(monkeypatch):
    model, expected = MODELS["dense"], {}
    asked = prompts()
    for large in (10**9, 1):
        monkeypatch.setattr(likely, "LARGE", large)
        monkeypatch.setattr(likely, "PANEL", 4)
        said = dict(generate(model, asked, MOST, lambda said: said[-1] < 5))
        expected = expected or said
        assert said == expected


GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
LENGTHY = 40
"""Tokens to be said: several strides of a captured step, and rows leave it more than once."""


@pytest.mark.gpu
@GPU
@pytest.mark.parametrize("prefix", [0, 20])
def test_a_captured_step_says_what_plain_ones_say(prefix, recwarn):
    asked, model = prompts(prefix), copy.deepcopy(MODELS["dense"]).cuda()
    for over in (lambda said: False, lambda said: said[-1] < 2):
        plain = dict(generate(model, asked, LENGTHY, over, capture=False))
        assert dict(generate(model, asked, LENGTHY, over)) == plain
    assert not [warning for warning in recwarn if "CUDA graph" in str(warning.message)]


@pytest.mark.gpu
@GPU
@EACH
def test_a_captured_step_in_bfloat16_says_what_plain_ones_say_but_for_rounding(model, recwarn):
    asked, there = prompts(20), copy.deepcopy(model).cuda()
    with torch.autocast("cuda", dtype=torch.bfloat16):
        plain, captured = (
            dict(generate(there, asked, LENGTHY, lambda said: said[-1] < 2, capture=capture))
            for capture in (False, True)
        )
    assert np.mean([captured[index][:3] == said[:3] for index, said in plain.items()]) > 0.7
    assert not [warning for warning in recwarn if "CUDA graph" in str(warning.message)]


@pytest.mark.gpu
@GPU
def test_where_no_step_can_be_captured_plain_ones_are_taken_with_one_warning(monkeypatch):
    asked, model = prompts(), copy.deepcopy(MODELS["dense"]).cuda()
    plain = dict(generate(model, asked, LENGTHY, lambda said: False, capture=False))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: 1 / 0)
    with pytest.warns(UserWarning, match="no CUDA graph of generation's step, going on without: division by zero"):
        assert dict(generate(model, asked, LENGTHY, lambda said: False)) == plain


@pytest.mark.gpu
@GPU
@EACH
@pytest.mark.parametrize("prefix", [0, 20])
def test_a_gpu_says_what_a_cpu_says(model, prefix):
    asked, there = prompts(prefix), copy.deepcopy(model).cuda()
    expected = dict(generate(model, asked, MOST, lambda said: said[-1] < 5))
    assert dict(generate(there, asked, MOST, lambda said: said[-1] < 5)) == expected
    with torch.autocast("cuda", dtype=torch.bfloat16):
        rounded = dict(generate(there, asked, MOST, lambda said: said[-1] < 5))
    assert np.mean([rounded[index][0] == said[0] for index, said in expected.items()]) > 0.7
