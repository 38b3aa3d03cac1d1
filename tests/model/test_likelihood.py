import copy

import numpy as np
import pytest
import torch
from fakes import design, mixture

from parrotlab.model.likelihood import Text, batches, common, likelihoods, shared_prefix
from parrotlab.model.transformer import build
from parrotlab.seeds import stream

VOCABULARY = 13
MODELS = {"dense": build(design(), VOCABULARY, 0), "mixture": build(mixture(), VOCABULARY, 1)}
EACH = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)


def group(number, prefix=0):
    """Texts that begin alike: the examples, a question, and choices of different length."""
    draw = stream("texts", number)
    before = stream("texts").integers(VOCABULARY, size=prefix)
    question = draw.integers(VOCABULARY, size=2 + number % 5)
    choices = [draw.integers(VOCABULARY, size=length) for length in (1, 4, 2, 4)]
    choices[3][:2] = choices[1][:2]  # these two begin alike themselves
    return [Text(np.concatenate((before, question, choice)), len(choice)) for choice in choices]


def plainly(model, text):
    """By reading the whole text alone."""
    tokens = torch.from_numpy(text.tokens_T).long()
    with torch.no_grad():
        nats_TV = model(tokens[None, :-1])[0][0].log_softmax(dim=-1)[-text.asked :]
    asked = tokens[-text.asked :]
    return nats_TV.gather(-1, asked[:, None]).sum().item(), bool((nats_TV.argmax(-1) == asked).all())


@EACH
@pytest.mark.parametrize("prefix", [0, 1, 20])
@pytest.mark.parametrize("batch_tokens", [1, 60, 10_000])
def test_many_at_once_are_what_each_is_alone(model, prefix, batch_tokens):
    groups = [group(number, prefix) for number in range(9)]
    found = dict(likelihoods(model, groups, batch_tokens))
    assert found.keys() == set(range(9))
    for index, texts in enumerate(groups):
        for likelihood, text in zip(found[index], texts, strict=True):
            nats, greedy = plainly(model, text)
            assert likelihood.nats == pytest.approx(nats, abs=1e-4)
            assert likelihood.greedy == greedy


@EACH
def test_the_likeliest_ending_is_greedy(model):
    tokens = [3, 1]
    for _ in range(4):
        with torch.no_grad():
            tokens.append(int(model(torch.tensor([tokens]))[0][0, -1].argmax()))
    [(_, [likely, other])] = likelihoods(
        model, [[Text(np.array(tokens), 4), Text(np.array([*tokens[:-1], (tokens[-1] + 1) % VOCABULARY]), 4)]]
    )
    assert likely.greedy
    assert not other.greedy
    assert likely.nats > other.nats


def test_what_all_texts_begin_with_is_computed_once():
    texts = [text.tokens_T for number in range(3) for text in group(number, prefix=20)]
    assert shared_prefix(MODELS["dense"], texts, most=1000).length >= 20
    assert shared_prefix(MODELS["dense"], texts, most=7).length == 7
    assert shared_prefix(MODELS["dense"], [], most=0).length == 0


def test_common_is_the_number_of_equal_tokens_at_the_beginning():
    one, other = np.array([1, 2, 3, 4]), np.array([1, 2, 4])
    assert common(one, other) == 2
    assert common(one, one[:3]) == 3
    assert common(one, one[:0]) == 0


@pytest.mark.parametrize("enough", [1, 20, 1000])
def test_a_batch_with_its_padding_is_bounded_and_every_row_is_in_one(enough):
    lengths = [3, 50, 7, 7, 1, 30]
    found = list(batches(lengths, 40, enough))
    assert sorted(index for batch in found for index in batch) == list(range(6))
    assert all(len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= 40 for batch in found)


def test_a_batch_that_is_large_enough_takes_no_row_that_is_much_shorter():
    assert list(batches([16, 16, 15, 13, 4, 4], 1000, 8)) == [[0, 1, 2], [3], [4, 5]]
    assert list(batches([16, 16, 15, 13, 4, 4], 1000, 1000)) == [[0, 1, 2, 3, 4, 5]]


def test_no_text_no_likelihood():
    assert list(likelihoods(MODELS["dense"], [])) == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@EACH
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("prefix", [0, 20])
def test_a_gpu_finds_the_likelihoods_that_a_cpu_finds(model, precision, prefix):
    groups = [group(number, prefix) for number in range(40)]
    there = copy.deepcopy(model).cuda()
    with torch.autocast("cuda", dtype=torch.bfloat16, enabled=precision == torch.bfloat16):
        found = dict(likelihoods(there, groups))
    pairs = [pair for index, expected in likelihoods(model, groups) for pair in zip(found[index], expected)]
    apart = np.abs([one.nats - other.nats for one, other in pairs])
    if precision == torch.float32:
        assert apart.max() < 1e-3
    else:  # a rounded input now and then chooses another expert, and then a likelihood is another
        assert np.mean(apart) < 0.15
