import dataclasses

import pytest
import torch

from parrotlab.model.attention import Attention, AttentionLayer, plainly_gathered, rotate, rotation

WIDTH, POSITIONS, ROWS = 24, 7, 3
DESIGNS = [
    Attention(heads=4),
    Attention(heads=4, group=2),
    Attention(heads=6, group=6),
    Attention(heads=2, qk_norm=True),
]
EACH = pytest.mark.parametrize("design", DESIGNS, ids=str)


def layer_of(design):
    layer = AttentionLayer(design, WIDTH, 1e-5)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in layer.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) / WIDTH**0.5)
    return layer


def inputs(rows=ROWS):
    return torch.randn(rows * POSITIONS, WIDTH, generator=torch.Generator().manual_seed(1))


def angles(design, positions=POSITIONS):
    return rotation(positions, WIDTH // design.heads, design.rope_theta, torch.device("cpu"))


def by_hand(layer, x_ND):
    """One row, one head and one position at a time."""
    design, channels = layer.design, WIDTH // layer.design.heads
    cosine_TC, sine_TC = angles(design)
    y_ND = torch.zeros_like(x_ND)
    for row in range(0, len(x_ND), POSITIONS):
        query_TK, key_TK, value_TK = (x_ND[row : row + POSITIONS] @ layer.qkv_DK).split(layer.columns, dim=-1)
        for head in range(design.heads):
            own = slice(head * channels, (head + 1) * channels)
            shared = slice(head // design.group * channels, (head // design.group + 1) * channels)
            query_TC, key_TC = query_TK[:, own], key_TK[:, shared]
            if design.qk_norm:
                query_TC, key_TC = layer.query_norm(query_TC), layer.key_norm(key_TC)
            query_TC, key_TC = (rotate(part, (cosine_TC, sine_TC)) for part in (query_TC, key_TC))
            for now in range(POSITIONS):
                share_T = (key_TC[: now + 1] @ query_TC[now] / channels**0.5).softmax(dim=-1)
                y_ND[row + now, own] = share_T @ value_TK[: now + 1, shared]
    return y_ND @ layer.out_KD


@EACH
@torch.no_grad()
def test_attention_is_a_softmax_over_the_positions_so_far(design):
    layer = layer_of(design)
    torch.testing.assert_close(layer(inputs(), angles(design)), by_hand(layer, inputs()), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_queries_that_share_keys_act_as_heads_with_equal_keys():
    few = layer_of(Attention(heads=4, group=2))
    many = layer_of(dataclasses.replace(few.design, group=1))
    query_DK, key_DK, value_DK = few.qkv_DK.split(few.columns, dim=-1)
    repeated = [part.unflatten(-1, (2, -1)).repeat_interleave(2, dim=1).flatten(1) for part in (key_DK, value_DK)]
    many.qkv_DK.copy_(torch.cat((query_DK, *repeated), dim=-1))
    many.out_KD.copy_(few.out_KD)
    torch.testing.assert_close(few(inputs(), angles(few.design)), many(inputs(), angles(many.design)))


@torch.no_grad()
def test_normalised_queries_do_not_care_about_their_length():
    layer = layer_of(Attention(heads=2, qk_norm=True))
    before = layer(inputs(), angles(layer.design))
    layer.qkv_DK[:, : layer.columns[0]] *= 100
    torch.testing.assert_close(layer(inputs(), angles(layer.design)), before, rtol=1e-3, atol=1e-4)


def test_rotated_products_depend_on_the_distance_alone():
    generator = torch.Generator().manual_seed(2)
    query_C, key_C = torch.randn(8, generator=generator), torch.randn(8, generator=generator)
    turn = rotation(20, 8, 100.0, torch.device("cpu"))
    query_TC, key_TC = (rotate(part.expand(20, 8), turn) for part in (query_C, key_C))
    products_TT = query_TC @ key_TC.T
    for distance in range(20):
        diagonal = products_TT.diagonal(-distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=1e-4, atol=1e-4)
    assert products_TT[:, 0].std() > 0.1  # and on the distance it does depend
    torch.testing.assert_close(query_TC.norm(dim=-1), query_C.norm().expand(20))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Attention(heads=3).columns(16), "width 16 cannot be divided among 3 heads"),
        (lambda: Attention(heads=4).columns(12), "even number of channels a head, not 12 / 4 = 3"),
        (lambda: Attention(heads=4, group=3), "4 heads cannot be shared in groups of 3"),
        (lambda: Attention(heads=0), "at least 1 head"),
    ],
    ids=["width", "odd channels", "group", "no head"],
)
def test_impossible_heads_are_refused_with_their_numbers(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_plain_products_gather_as_torchs_kernel_does():
    query, key, value = torch.randn(3, 2, 4, 6, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        plainly_gathered(query, key, value),
        torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True),
    )
