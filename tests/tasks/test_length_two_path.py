from __future__ import annotations

import itertools

import numpy as np
import pytest

from parrotlab.tasks.length_two_path import LengthTwoPath

SPLIT = LengthTwoPath(vertices=12, train_examples=4000)
EDGES = LengthTwoPath(vertices=12, encoding="edge_list", other_edges=4, train_examples=4000)


def sets(task: LengthTwoPath, tokens_BT: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[B, M] neighbours of source and of destination in the split encoding."""
    shown_BT = tokens_BT % 2 == 1
    return shown_BT[:, list(task.alice_positions)], shown_BT[:, list(task.bob_positions)]


def graph(task: LengthTwoPath, row_T: np.ndarray) -> tuple[list[set[int]], int, int]:
    *ends, source, destination = row_T[: task.prompt].tolist()
    return [{u, v} for u, v in zip(ends[::2], ends[1::2]) if u != task.question], source, destination


def every_pair(middle: int) -> tuple[np.ndarray, np.ndarray]:
    every = np.array(list(itertools.product([False, True], repeat=2 * middle)))
    return every[:, :middle], every[:, middle:]


def test_a_hand_drawn_row():
    task = LengthTwoPath(vertices=5)
    batch = task.rows(np.array([[True, False, True]]), np.array([[False, False, True]]))
    assert batch.tokens_BT.tolist() == [[1, 2, 5, 6, 8, 11, 12, task.yes]]
    assert batch.asked_BT.tolist() == [[False] * 7 + [True]]
    assert task.text(batch.tokens_BT[0]) == "source 101 destination 001: yes"


def test_no_token_sees_both_ends():
    task = LengthTwoPath(vertices=5)
    source_NM, destination_NM = every_pair(3)
    tokens_NT = task.rows(source_NM, destination_NM).tokens_BT
    for sets_NM, positions in ((source_NM, task.alice_positions), (destination_NM, task.bob_positions)):
        for key in np.unique(sets_NM, axis=0):
            assert len(np.unique(tokens_NT[(sets_NM == key).all(axis=1)][:, list(positions)], axis=0)) == 1


def test_every_token_of_the_split_encoding_says_where_it_stands():
    tokens_NT = LengthTwoPath(vertices=5).rows(*every_pair(3)).tokens_BT
    tokens = [set(column_N.tolist()) for column_N in tokens_NT.T]
    assert [len(one) for one in tokens] == [2] * 6 + [1, 2]
    assert len(set().union(*tokens)) == LengthTwoPath(vertices=5).vocabulary


@pytest.mark.parametrize("task", [SPLIT, EDGES], ids=["split", "edge_list"])
def test_answers_are_balanced(task):
    for split in ("train", "test"):
        answers = task.examples(split, 2000, 0).tokens_BT[:, -1]
        assert (answers == task.yes).sum() == (answers == task.no).sum() == 1000


def test_the_answer_is_whether_the_sets_meet():
    tokens_BT = SPLIT.examples("train", 4000, 0).tokens_BT
    source_BM, destination_BM = sets(SPLIT, tokens_BT)
    common_B = (source_BM & destination_BM).sum(axis=1)
    assert np.array_equal(common_B, tokens_BT[:, -1] == SPLIT.yes)  # one common vertex, or none


def test_an_edge_list_answers_whether_a_path_of_two_edges_joins_its_ends():
    for row_T in EDGES.examples("train", 500, 0).tokens_BT:
        edges, source, destination = graph(EDGES, row_T)
        found = any({source, v} in edges and {v, destination} in edges for v in range(EDGES.vertices))
        assert found == (row_T[-1] == EDGES.yes)
        assert {source, destination} not in edges
        assert len({frozenset(edge) for edge in edges}) == len(edges)
        assert sum(not edge & {source, destination} for edge in edges) == EDGES.other_edges


def test_numbers_of_edges_do_not_give_the_answer_away():
    source_BM, destination_BM = sets(SPLIT, SPLIT.examples("train", 4000, 0).tokens_BT)
    answers_B = SPLIT.examples("train", 4000, 0).tokens_BT[:, -1] == SPLIT.yes
    sizes_B = source_BM.sum(axis=1) * 100 + destination_BM.sum(axis=1)
    guesses = {size: answers_B[:2000][sizes_B[:2000] == size].mean() > 0.5 for size in np.unique(sizes_B)}
    accuracy = np.mean([guesses[size] == answer for size, answer in zip(sizes_B[2000:], answers_B[2000:])])
    assert accuracy == pytest.approx(0.5, abs=0.05)  # standard error 0.011


def test_one_end_alone_does_not_give_the_answer_away():
    source_BM, destination_BM = sets(SPLIT, SPLIT.examples("train", 4000, 0).tokens_BT)
    answers_B = SPLIT.examples("train", 4000, 0).tokens_BT[:, -1] == SPLIT.yes
    for sets_BM in (source_BM, destination_BM):
        gap_M = sets_BM[answers_B].mean(axis=0) - sets_BM[~answers_B].mean(axis=0)
        assert np.abs(gap_M).max() < 0.06  # standard error 0.014


def test_rows_of_an_edge_list_agree_with_the_split_rows():
    split, edges = LengthTwoPath(vertices=6), LengthTwoPath(vertices=6, encoding="edge_list", other_edges=4)
    source_NM, destination_NM = every_pair(4)
    yes_N = split.rows(source_NM, destination_NM).tokens_BT[:, -1] == split.yes
    rows_NT = edges.rows(source_NM, destination_NM).tokens_BT
    assert np.array_equal(rows_NT[:, -1] == edges.yes, yes_N)
    for row_T, source_M, destination_M in zip(rows_NT, source_NM, destination_NM):
        shown, source, destination = graph(edges, row_T)
        expected = [{v, 4} for v in np.flatnonzero(source_M)] + [{v, 5} for v in np.flatnonzero(destination_M)]
        assert (shown, source, destination) == (expected, 4, 5)


def test_the_split_of_an_edge_list_does_not_depend_on_order_or_orientation():
    tokens_BT = EDGES.examples("train", 50, 0).tokens_BT
    turned_BT = tokens_BT.copy()
    turned_BT[:, : EDGES.prompt - 2] = tokens_BT[:, : EDGES.prompt - 2][:, ::-1]
    assert np.array_equal(EDGES.hashes(turned_BT), EDGES.hashes(tokens_BT))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"vertices": 2}, "4 to 254 vertices"),
        ({"vertices": 3}, "the numbers of edges tell the answer"),
        ({"vertices": 9, "encoding": "pairs"}, "'split' or 'edge_list', not 'pairs'"),
        ({"vertices": 9, "other_edges": 1}, "other_edges 0 to 0, not 1"),
        ({"vertices": 5, "encoding": "edge_list", "other_edges": 4}, "other_edges 0 to 3, not 4"),
        ({"vertices": 9, "train_examples": 0}, "train_examples=0"),
    ],
)
def test_impossible_questions_are_refused_with_their_numbers(fields, message):
    with pytest.raises(ValueError, match=message):
        LengthTwoPath(**fields)


def test_rows_refuse_sets_that_do_not_fit():
    with pytest.raises(ValueError, match=r"source_NM must be bool \[N, 3\], not int64 \(1, 3\)"):
        LengthTwoPath(vertices=5).rows(np.array([[1, 0, 1]]), np.array([[True, False, True]]))
    with pytest.raises(ValueError, match="a row shows 2 edges, not 4"):
        LengthTwoPath(vertices=5, encoding="edge_list").rows(np.ones((1, 3), bool), np.array([[True, False, False]]))
    with pytest.raises(ValueError, match="split encoding only"):
        _ = LengthTwoPath(vertices=5, encoding="edge_list").alice_positions
