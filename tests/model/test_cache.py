"""What a cache computes once is what whole rows give without it."""

import dataclasses

import numpy as np
import pytest
import torch
from fakes import design, mixture

from parrotlab.model.attention import Attention
from parrotlab.model.cache import Branches, Growing, Prefix, Stepping
from parrotlab.model.routers.bias_balanced import BiasBalanced
from parrotlab.model.routers.hashed import Hashed
from parrotlab.model.transformer import build

VOCABULARY, POSITIONS = 11, 40
DESIGNS = {
    "dense": design(),
    "mixture": mixture(),
    "shared": mixture(shared=1, expansion=0.5),
    "bias balanced": mixture(router=BiasBalanced()),
    "hashed": mixture(router=Hashed()),
    "grouped queries": dataclasses.replace(mixture(), attention=Attention(heads=4, group=2)),
    "normalised queries": dataclasses.replace(mixture(), attention=Attention(heads=2, qk_norm=True)),
}
CPU = torch.device("cpu")


@pytest.fixture(params=DESIGNS.values(), ids=DESIGNS)
def model(request):
    return build(request.param, VOCABULARY, 0)


def tokens(rows, positions=POSITIONS, seed=0):
    return torch.randint(VOCABULARY, (rows, positions), generator=torch.Generator().manual_seed(seed))


def seen_by(model, tokens_BT, cache):
    """[B, T, V] logits of tokens that a cache describes."""
    return model.unembed(model.hidden(tokens_BT, cache)[0]).unflatten(0, tokens_BT.shape)


def begun(model, prefix_P):
    prefix = Prefix(len(prefix_P), CPU)
    if len(prefix_P):
        model.hidden(prefix_P[None], prefix)
    return prefix


@torch.no_grad()
@pytest.mark.parametrize("shared", [0, 7])
@pytest.mark.parametrize("steps", [(33,), (5, 28), (20, *[1] * 13)])
def test_rows_read_in_pieces_have_the_logits_of_rows_read_whole(model, shared, steps):
    tokens_BT = tokens(3)
    tokens_BT[:, :shared] = tokens_BT[0, :shared]
    whole_BTV = model(tokens_BT)[0][:, shared : shared + 33]
    cache = Growing(begun(model, tokens_BT[0, :shared]), torch.zeros(3, dtype=torch.long), 33)
    begin, pieces = shared, []
    for step in steps:
        cache.extend(step)
        pieces.append(seen_by(model, tokens_BT[:, begin : begin + step], cache))
        begin += step
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole_BTV, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("shared", [0, 7])
def test_what_stands_left_of_a_rows_beginning_is_not_seen(model, shared):
    tokens_BT, start_B = tokens(3), torch.tensor([0, 4, 9])
    cache = Growing(begun(model, tokens(1, shared, seed=1)[0]), start_B, 14)
    pieces = []
    for begin, end in ((0, 10), (10, 11), (11, 14)):
        cache.extend(end - begin)
        pieces.append(seen_by(model, tokens_BT[:, begin:end], cache))
    cached_BTV = torch.cat(pieces, dim=1)
    for row, start in enumerate(start_B.tolist()):
        alone_BT = torch.cat((tokens(1, shared, seed=1), tokens_BT[row : row + 1, start:14]), dim=1)
        torch.testing.assert_close(cached_BTV[row, start:], model(alone_BT)[0][0, shared:], rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("shared", [0, 7])
def test_each_branch_is_read_as_if_the_others_were_not_there(model, shared):
    trunk, lengths = 6, (3, 0, 5)
    branch_T = torch.tensor([0] * trunk + [1] * 3 + [3] * 5 + [-1] * 2)
    row_BT, prefix_P = tokens(1, len(branch_T)), tokens(1, shared, seed=1)[0]
    logits_TV = seen_by(model, row_BT, Branches(begun(model, prefix_P), branch_T[None]))[0]
    for number in range(1, len(lengths) + 1):
        way = (branch_T == 0) | (branch_T == number)
        alone_BT = torch.cat((prefix_P, row_BT[0, way]))[None]
        torch.testing.assert_close(logits_TV[way], model(alone_BT)[0][0, shared:], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_rows_that_are_kept_go_on_as_if_the_others_had_never_been(model):
    tokens_BT, kept = tokens(4), torch.tensor([1, 3])
    cache = Growing(Prefix(0, CPU), torch.tensor([0, 2, 1, 0]), 12)
    cache.extend(8)
    seen_by(model, tokens_BT[:, :8], cache)
    cache.keep(kept)
    cache.extend(4)
    logits_BTV = seen_by(model, tokens_BT[kept, 8:12], cache)
    for row, (index, start) in enumerate(((1, 2), (3, 0))):
        alone_BTV = model(tokens_BT[index : index + 1, start:12])[0]
        torch.testing.assert_close(logits_BTV[row], alone_BTV[0, -4:], rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("shared", [0, 7])
def test_rows_that_step_see_what_rows_that_grow_see(model, shared):
    prefix, start_B = begun(model, tokens(1)[0, :shared]), torch.tensor([0, 3, 1])
    growing, other = Growing(prefix, start_B, 20), Growing(prefix, start_B, 20)
    for cache in (growing, other):
        cache.extend(6)
        seen_by(model, tokens(3, 6), cache)
    stepping = Stepping(other)
    for token_B in tokens(3, 9, seed=1).T:
        growing.extend(1)
        stepping.extend()
        expected, found = (seen_by(model, token_B[:, None], cache) for cache in (growing, stepping))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        stepping.advance()


def test_a_row_longer_than_its_cache_is_our_mistake():
    cache = Growing(Prefix(0, CPU), torch.zeros(1, dtype=torch.long), 4)
    with pytest.raises(AssertionError, match="5 columns in a cache of 4"):
        cache.extend(5)


def test_positions_count_from_a_rows_own_beginning():
    cache = Growing(Prefix(3, CPU), torch.tensor([0, 2]), 4)
    cache.extend(4)
    np.testing.assert_array_equal(cache.positions_BT, [[3, 4, 5, 6], [3, 3, 3, 4]])
