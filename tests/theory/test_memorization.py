"""Theorem 3.5 holds on real weights, what breaks it is noticed, and theorem 3.6 is sharp."""

import copy
import itertools

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from parrotlab.model.feedforwards.dense import Dense
from parrotlab.theory.memorization import (
    BORDER,
    CONSTANT,
    best_experts,
    bound,
    checks,
    counted,
    labelled_points,
    labellings,
    memorize,
    memorized,
    parameters,
    precision_needed,
    recall,
    sweep,
)
from parrotlab.theory.precision import rounded


def cells(layer, points_ND):
    """[N] the expert of each point."""
    with torch.no_grad():
        return layer.router(points_ND, torch.zeros(len(points_ND))).experts_NA[:, 0]


@pytest.fixture(scope="module")
def book():
    return labelled_points(2000, 16, seed=3)


@pytest.fixture(scope="module")
def knowing(book):
    return memorize(*book, experts=30, seed=3)


@pytest.fixture
def layer(knowing):
    return copy.deepcopy(knowing)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("count", "dimension", "experts"),
    [(300, 16, 1), (1000, 16, 8), (1000, 8, 40), (2000, 32, 100), (3000, 64, 7), (10, 16, 10), (1, 2, 1)],
)
def test_every_label_is_remembered(count, dimension, experts, seed):
    points_ND, labels_N = labelled_points(count, dimension, seed)
    assert recall(memorize(points_ND, labels_N, experts, seed), points_ND, labels_N) == 1


def test_labels_are_random_and_other_labels_are_not_remembered(book, knowing):
    points_ND, labels_N = book
    assert 0.45 < (labels_N > 0).float().mean() < 0.55
    others_N = labelled_points(2000, 16, seed=4)[1]
    assert 0.45 < recall(knowing, points_ND, others_N) < 0.55


def test_one_expert_is_the_dense_layer_beside_a_router_without_a_choice():
    points_ND, labels_N = labelled_points(200, 16, seed=0)
    lone = memorize(points_ND, labels_N, experts=1, seed=0)
    dense = Dense(expansion=lone.design.expansion).build(16, ())
    dense.load_state_dict({"up_DG": lone.up_EDG[0], "down_FD": lone.down_EFD[0]})
    tokens_N = torch.zeros(200)
    assert_close(dense(points_ND, tokens_N)[0], lone(points_ND, tokens_N)[0])
    total, active = parameters(lone)
    assert total == active == 16 + sum(weight.numel() for weight in dense.parameters())


def test_every_entry_of_every_matrix_is_counted(layer):
    hidden = layer.down_EFD.shape[1]
    expert, router = 3 * 16 * hidden, 16 * 30
    assert parameters(layer) == (router + 30 * expert, router + expert)


@pytest.mark.parametrize(("count", "dimension"), [(1000, 16), (4000, 32)])
def test_both_counts_stay_within_a_constant_of_the_bounds_and_the_active_ones_fall_and_rise_with_them(count, dimension):
    best = best_experts(count, dimension)
    table = sweep(count, dimension, [max(1, best // 4), best, 2 * best, 16 * best], seed=1)
    assert (table["recall"] == 1).all()
    assert (table["total"] <= CONSTANT * table["bound_total"]).all()
    assert (table["active"] <= CONSTANT * table["bound_active"]).all()
    assert table["active"].idxmin() in (1, 2)
    assert (table["least_total"] <= table["total"]).all()


@pytest.mark.parametrize(("count", "dimension"), [(1000, 16), (100_000, 64), (50, 60), (777, 3)])
def test_the_bound_is_least_at_the_best_number_of_experts(count, dimension):
    least = min(bound(count, dimension, experts).active for experts in range(1, count + 1))
    assert bound(count, dimension, best_experts(count, dimension)).active <= 1.02 * least


def test_an_expert_knows_its_own_cell_and_nothing_else(layer, book):
    points_ND, labels_N = book
    cell_N = cells(layer, points_ND)
    layer.up_EDG.data[7] *= -1
    gone_N = cell_N == 7
    assert 0 < gone_N.sum() < 2000
    assert recall(layer, points_ND[~gone_N], labels_N[~gone_N]) == 1
    assert recall(layer, points_ND[gone_N], labels_N[gone_N]) < 1


@pytest.mark.parametrize("name", ["router.weight_DE", "up_EDG", "down_EFD"])
def test_a_broken_weight_fails_the_check(layer, book, name):
    assert memorized(layer, *book).passed
    layer.get_parameter(name).data[0] *= -1
    assert not memorized(layer, *book).passed


def test_a_wasteful_layer_fails_the_check(book):
    points_ND, labels_N = book
    wasteful = memorize(points_ND, labels_N, experts=1, seed=0)
    wasteful.shared = torch.nn.Linear(16, 10 * CONSTANT * 2000)  # parameters that serve nothing
    assert recall(wasteful, points_ND, labels_N) == 1
    assert not memorized(wasteful, points_ND, labels_N).passed


def test_a_router_moved_within_the_border_sends_a_point_elsewhere_and_forgets_none(layer, book):
    points_ND, labels_N = book
    before_N = cells(layer, points_ND)
    best_N2 = (points_ND @ layer.router.weight_DE.detach()).topk(2).values
    gap, point = (best_N2[:, 0] - best_N2[:, 1]).min(dim=0)
    assert gap < BORDER / 2
    layer.router.weight_DE.data[:, before_N[point]] -= 1.5 * gap * points_ND[point] / 16  # no logit moves by more
    assert cells(layer, points_ND)[point] != before_N[point]
    assert recall(layer, points_ND, labels_N) == 1


def test_precision_needed_suffices_and_one_bit_less_does_not(layer, book):
    bits = precision_needed(layer, *book)
    assert bits < 20
    for fewer, right in [(0, True), (1, False)]:
        coarse = copy.deepcopy(layer)
        for weight in coarse.parameters():
            weight.data = rounded(weight.data, bits - fewer)
        assert (recall(coarse, *book) == 1) == right


def test_a_layer_too_small_to_be_true_fails_the_counting_check(layer, book):
    points_ND, labels_N = book
    assert counted(layer, points_ND, labels_N).passed
    many = 10 * parameters(layer).total  # a single fact, claimed to be so many
    assert not counted(layer, points_ND[:1].expand(many, 16), labels_N[:1].expand(many)).passed


def test_the_same_names_give_the_same_layer_and_others_do_not(book, knowing):
    again, other = memorize(*book, experts=30, seed=3), memorize(*book, experts=30, seed=4)
    assert torch.equal(again.up_EDG, knowing.up_EDG)
    assert not torch.equal(other.router.weight_DE, knowing.router.weight_DE)


def test_what_cannot_be_memorized_is_refused():
    points_ND, labels_N = labelled_points(20, 16, seed=0)
    with pytest.raises(ValueError, match="21 experts cannot share 20 points: ask for 1 to 20"):
        memorize(points_ND, labels_N, 21, 0)
    with pytest.raises(ValueError, match=r"labels are -1 or 1, not \[0.0, 1.0\]"):
        memorize(points_ND, labels_N.clamp(min=0), 2, 0)
    with pytest.raises(ValueError, match="they may repeat"):
        memorize(points_ND[:1].expand(2, 16), torch.tensor([1.0, -1.0]), 1, 0)


@pytest.mark.parametrize("weights", [1, 2, 5, 8])
def test_weights_of_one_bit_reach_every_labelling_of_as_many_points_and_no_more(weights):
    assert labellings(torch.eye(weights)) == 2**weights
    further_ND = torch.from_numpy(np.random.default_rng(weights).random((weights + 3, weights), dtype="float32"))
    settings_RD = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=weights)))
    brute = {tuple(row) for row in (settings_RD @ further_ND.T > 0).tolist()}
    assert labellings(further_ND) == len(brute) <= 2**weights


def test_all_checks_pass_and_speak_of_both_theorems():
    rows = list(checks())
    assert all(row.passed for row in rows), [row.what for row in rows if not row.passed]
    assert {row.theorem for row in rows} == {"theorem 3.5", "theorem 3.6"}
