import pytest
import torch

from parrotlab.model.attention import Attention
from parrotlab.model.feedforwards.dense import Dense
from parrotlab.model.feedforwards.mixture import Mixture
from parrotlab.model.routers.hashed import Hashed
from parrotlab.model.transformer import Transformer, build
from parrotlab.theory.precision import LEAST_BITS, MOST_BITS, Rounded, decode, encode, rounded

WIDE = torch.randn(4000, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * torch.logspace(
    -9, 9, 4000, dtype=torch.float64
)


def test_16_bits_are_ieee_half_precision():
    numbers = WIDE.clamp(-65504, 65504)
    assert torch.equal(rounded(numbers, 16), numbers.half().double())


def test_what_is_too_large_becomes_the_largest():
    assert rounded(torch.tensor([1e9, -1e9], dtype=torch.float64), 16).tolist() == [65504, -65504]


@pytest.mark.parametrize("bits", range(LEAST_BITS, MOST_BITS + 1))
def test_rounding_moves_a_number_to_the_nearest_and_leaves_it_there(bits):
    once = rounded(WIDE, bits)
    assert torch.equal(rounded(once, bits), once)
    grid = once.unique()  # any other number that was hit is no nearer
    assert ((WIDE - once).abs() <= (WIDE.unsqueeze(-1) - grid[:: max(1, len(grid) // 50)]).abs().amin(dim=-1)).all()


@pytest.mark.parametrize("bits", range(LEAST_BITS, MOST_BITS + 1))
def test_a_number_of_p_bits_is_sent_in_p_bits(bits):
    numbers = rounded(torch.cat((WIDE, torch.zeros(1, dtype=torch.float64))), bits)
    codes = encode(numbers, bits)
    assert codes.min() >= 0
    assert codes.max() < 2**bits
    assert torch.equal(decode(codes, bits), numbers)


@pytest.mark.parametrize("bits", [4, 6, 8])
def test_every_code_but_the_topmost_exponent_and_minus_zero_is_a_number_of_its_own(bits):
    exponent = {4: 3, 6: 4, 8: 4}[bits]
    numbers = decode(torch.arange((2**exponent - 1) << (bits - 1 - exponent)), bits)
    assert (numbers.diff() > 0).all()
    assert torch.equal(rounded(numbers, bits), numbers)


def test_what_does_not_fit_is_not_sent():
    with pytest.raises(ValueError, match="do not fit in 8 bits"):
        encode(torch.tensor([1.01], dtype=torch.float64), 8)


@pytest.mark.parametrize("bits", [3, 33])
def test_a_precision_that_we_do_not_have_is_refused(bits):
    with pytest.raises(ValueError, match=f"4 to 32 bits, not {bits}"):
        rounded(WIDE, bits)


@pytest.mark.parametrize(
    "attention", [Attention(heads=2), Attention(heads=4, group=2, qk_norm=True)], ids=["plain", "grouped"]
)
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    "feedforward",
    [Dense(), Dense(gated=False), Mixture(experts=4), Mixture(experts=4, router=Hashed(), shared=1)],
    ids=["dense", "GELU", "mixture", "hashed"],
)
def test_at_many_bits_the_rounded_model_is_the_model(attention, tied, feedforward):
    model = build(Transformer(layers=1, width=16, attention=attention, feedforward=feedforward, tied=tied), 20, seeds=0)
    tokens_BT = torch.randint(20, (50, 9), generator=torch.Generator().manual_seed(1))
    tokens_BT[:, -1] = 7
    small = Rounded(model, MOST_BITS)
    places = torch.arange(9)
    groups = [small.message(tokens_BT[:, some], some, 7, 8) for some in (places[:3], places[3:7], places[7:])]
    with torch.no_grad():
        expected_BV = model(tokens_BT)[0][:, -1]
    assert expected_BV.std() > 0.1
    torch.testing.assert_close(small.logits(groups, 7).float(), expected_BV, rtol=0, atol=1e-5)


def test_the_model_that_is_rounded_stays_as_it_was():
    model = build(Transformer(layers=1, width=8, attention=Attention(heads=1), feedforward=Dense()), 20, seeds=0)
    before = model.embedding_VD.clone()
    Rounded(model, 4)
    assert torch.equal(model.embedding_VD, before)
