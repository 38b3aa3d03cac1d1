import doctest
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from parrotlab.model import family
from parrotlab.model.attention import Attention
from parrotlab.model.count import count
from parrotlab.model.family import RULES, TOLERANCE, dense_ladder, matched, mixtures, residuals, same_width
from parrotlab.model.feedforwards.dense import Dense
from parrotlab.model.feedforwards.mixture import Mixture
from parrotlab.model.transformer import Transformer

VOCABULARY, LENGTH = 40, 14
DENSE = Transformer(layers=4, width=64, attention=Attention(heads=4), feedforward=Dense())
MOE = replace(DENSE, feedforward=Mixture(experts=8))

feedforwards = st.one_of(
    st.builds(Dense, expansion=st.sampled_from([1.0, 2.5]), gated=st.booleans()),
    st.builds(
        Mixture,
        experts=st.integers(2, 32),
        expansion=st.sampled_from([0.5, 1.0]),
        gated=st.booleans(),
        shared=st.integers(0, 1),
    ),
)
designs = st.builds(
    Transformer,
    layers=st.integers(1, 6),
    width=st.integers(2, 16).map(lambda eighth: 8 * eighth),
    attention=st.builds(Attention, heads=st.sampled_from([1, 2, 4]), group=st.just(1)),
    feedforward=feedforwards,
    tied=st.booleans(),
)
rules = st.sampled_from(RULES)
dials = st.sampled_from(["expansion", "width"])


def sizes_along_the_dial(base, feedforward, rule, free) -> list[int]:
    """Brute force: what every setting of the dial amounts to, up to twice what is needed here."""
    if free == "expansion":
        ladder = [
            replace(base, feedforward=replace(feedforward, expansion=hidden / base.width)) for hidden in range(1, 900)
        ]
    else:
        grain = 2 * base.attention.heads
        ladder = [replace(base, width=grain * step, feedforward=feedforward) for step in range(1, 100)]
    return [family.size(design, rule, VOCABULARY, LENGTH) for design in ladder]


def match_or_refusal(base, feedforward, rule, free) -> Transformer | str:
    try:
        return matched(base, feedforward, rule, vocabulary=VOCABULARY, length=LENGTH, free=free)
    except ValueError as refusal:
        return str(refusal)


@settings(deadline=None, max_examples=150)
@given(designs, feedforwards, rules, dials)
def test_a_match_is_within_two_percent(base, feedforward, rule, free):
    match = match_or_refusal(base, feedforward, rule, free)
    assume(not isinstance(match, str))
    assert abs(residuals(base, match, vocabulary=VOCABULARY, length=LENGTH)[rule]) <= 0.02
    assert type(match.feedforward) is type(feedforward)
    assert (match.layers, match.attention, match.tied) == (base.layers, base.attention, base.tied)


@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from([DENSE, MOE, replace(DENSE, width=16, layers=2)]),
    feedforwards,
    st.sampled_from(["active", "total", "flops"]),
    dials,
)
def test_no_setting_of_the_dial_comes_nearer_than_the_match_or_the_one_a_refusal_names(base, feedforward, rule, free):
    target = family.size(base, rule, VOCABULARY, LENGTH)
    sizes = sizes_along_the_dial(base, feedforward, rule, free)
    assert sizes[-1] > target, "the brute force has to reach beyond the target"
    least = min(abs(size - target) for size in sizes)
    match = match_or_refusal(base, feedforward, rule, free)
    assert isinstance(match, str) == (least / target > TOLERANCE)
    if isinstance(match, str):
        assert any(f"the nearest feasible one has {size:,} " in match for size in (target - least, target + least))
    else:
        assert abs(family.size(match, rule, VOCABULARY, LENGTH) - target) == least


@settings(deadline=None, max_examples=30)
@given(designs)
def test_equal_designs_have_no_residual_and_match_themselves(base):
    assert set(residuals(base, base, vocabulary=VOCABULARY, length=LENGTH).values()) == {0.0}
    for rule in RULES:
        again = matched(base, base.feedforward, rule, vocabulary=VOCABULARY, length=LENGTH)
        assert count(again, VOCABULARY) == count(base, VOCABULARY)


def test_residuals_are_signed_fractions_of_the_first():
    table = residuals(DENSE, replace(DENSE, width=128), vocabulary=VOCABULARY, length=LENGTH)
    assert table["width"] == 1.0
    assert table["active"] == table["total"] > 1.0
    back = residuals(replace(DENSE, width=128), DENSE, vocabulary=VOCABULARY, length=LENGTH)
    assert (1 + table["flops"]) * (1 + back["flops"]) == pytest.approx(1)


def test_what_cannot_match_is_refused_with_the_nearest_feasible_design():
    small = replace(DENSE, layers=2, width=16)
    with pytest.raises(ValueError, match="nearest feasible one") as refusal:
        matched(small, Mixture(experts=64), "active", vocabulary=VOCABULARY, length=LENGTH)
    nearest = replace(small, feedforward=Mixture(experts=64, expansion=1 / 16))
    counts, target = count(nearest, VOCABULARY), count(small, VOCABULARY).active
    assert f"{target:,}" in str(refusal.value)
    assert f"{counts.active:,} ({counts.active / target - 1:+.1%})" in str(refusal.value)
    assert "hidden width 1 (expansion 0.0625)" in str(refusal.value)


@pytest.mark.parametrize("same", [family.same_active, family.same_total])
def test_a_mixture_and_its_dense_match_are_one_pair_from_either_side(same):
    dense = same(MOE, Dense(), vocabulary=VOCABULARY)
    again = same(dense, Mixture(experts=8), vocabulary=VOCABULARY)
    assert again.feedforward.hidden(64) == MOE.feedforward.hidden(64)


def test_more_experts_grow_the_total_and_leave_active_parameters_and_width():
    members = mixtures(DENSE, experts=(4, 8, 16, 32), vocabulary=VOCABULARY)
    counts = [count(member, VOCABULARY) for member in members]
    assert [member.feedforward.experts for member in members] == [4, 8, 16, 32]
    assert {member.width for member in members} == {DENSE.width}
    dense = count(DENSE, VOCABULARY).active
    assert all(abs(one.active / dense - 1) <= TOLERANCE for one in counts)
    assert sorted({one.total for one in counts}) == [one.total for one in counts]


def test_experts_share_the_dense_hidden_width_less_what_the_router_takes():
    wide = replace(DENSE, feedforward=Dense(expansion=2.0))
    (member,) = mixtures(wide, experts=(6,), vocabulary=VOCABULARY)
    # 2 experts of 63 with three matrices are 6 columns short of 128, which is what a router of 6 experts has
    assert member.feedforward.hidden(64) == 63
    assert count(member, VOCABULARY).active == count(wide, VOCABULARY).active


def test_the_same_flops_depend_on_the_length_of_rows_only_when_the_width_is_free():
    base = replace(MOE, width=512)

    def dense(length: int, free: family.Dial) -> Transformer:
        return family.same_flops(base, Dense(), vocabulary=VOCABULARY, length=length, free=free)

    assert dense(1, "expansion") == dense(4096, "expansion")
    assert dense(1, "width").width > dense(4096, "width").width


def test_the_same_width_leaves_the_feedforward_as_asked():
    assert same_width(MOE, Dense(gated=False)) == replace(MOE, feedforward=Dense(gated=False))


def test_a_dense_ladder_keeps_all_but_the_width():
    assert dense_ladder(DENSE, widths=(32, 64)) == (replace(DENSE, width=32), DENSE)


def test_a_mixtures_dense_ladder_lays_the_experts_of_a_token_side_by_side():
    base = replace(MOE, feedforward=Mixture(experts=8, active=2, expansion=0.5, shared=1, gated=False))
    (dense,) = dense_ladder(base, widths=(64,))
    assert dense.feedforward == Dense(expansion=1.5, gated=False)
    counts = count(base, VOCABULARY)
    assert count(dense, VOCABULARY).active == counts.active - counts.routers


def test_the_example_is_true():
    assert doctest.testmod(family).attempted > 0
    assert doctest.testmod(family).failed == 0
