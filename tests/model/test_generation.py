import copy

import numpy as np
import pytest
import torch
from fakes import design, mixture

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


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@EACH
@pytest.mark.parametrize("prefix", [0, 20])
def test_a_gpu_says_what_a_cpu_says(model, prefix):
    asked, there = prompts(prefix), copy.deepcopy(model).cuda()
    expected = dict(generate(model, asked, MOST, lambda said: said[-1] < 5))
    assert dict(generate(there, asked, MOST, lambda said: said[-1] < 5)) == expected
    with torch.autocast("cuda", dtype=torch.bfloat16):
        rounded = dict(generate(there, asked, MOST, lambda said: said[-1] < 5))
    assert np.mean([rounded[index][0] == said[0] for index, said in expected.items()]) > 0.7
