from __future__ import annotations

from dataclasses import replace

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parrotlab.tasks import _graphs
from parrotlab.tasks.shortest_path import ShortestPath

TASK = ShortestPath(vertices=8, edge_probability=0.3, train_examples=300)


def read(task: ShortestPath, row_T: np.ndarray) -> tuple[list[tuple[int, int]], int, int, list[int]]:
    """Edges as shown, source, target and the answer without END of one row."""
    source, target = row_T[task.prompt - 2 : task.prompt].tolist()
    ends = [end - task.second * (index % 2) for index, end in enumerate(row_T[: task.prompt - 2].tolist())]
    edges = [(u, v) for u, v in zip(ends[::2], ends[1::2]) if u != task.pad]
    answer = row_T[task.prompt :].tolist()
    return edges, source, target, answer[: answer.index(task.end)]


def row(task: ShortestPath, edges: list[tuple[int, int]], source: int, target: int) -> np.ndarray:
    ends = [end for edge in edges for end in edge]
    return np.array([*[task.pad] * (task.prompt - 2 - len(ends)), *ends, source, target])


def is_right(task: ShortestPath, prompt: np.ndarray, *answer: int) -> bool:
    padded = [*answer, *[task.pad] * (task.hops + 1 - len(answer))]
    return bool(task.right(prompt[None], np.array([padded]))[0])


@settings(max_examples=20, deadline=None)
@given(vertices=st.integers(4, 40), degree=st.floats(1.2, 6), fixed=st.booleans(), seed=st.integers(0, 99))
def test_the_label_is_the_lexicographically_smallest_shortest_path_of_networkx(vertices, degree, fixed, seed):
    degree = min(degree, vertices - 1)
    graphs = {"mean_degree": degree} if fixed else {"edge_probability": degree / (vertices - 1)}
    task = ShortestPath(vertices=vertices, **graphs, train_examples=20, spare_labels=seed % 3)
    for row_T in task.examples("train", 20, seed).tokens_BT:
        edges, source, target, answer = read(task, row_T)
        assert [source, *answer] == min(nx.all_shortest_paths(nx.Graph(edges), source, target))


@settings(max_examples=20, deadline=None)
@given(st.integers(3, 64), st.floats(0.02, 0.9), st.integers(0, 99))
def test_the_fast_paths_agree_with_a_breadth_first_search_of_networkx(vertices, probability, seed):
    graph = nx.gnp_random_graph(vertices, probability, seed=seed)
    present_1P = np.array([[graph.has_edge(u, v) for u, v in _graphs.pairs(vertices).tolist()]], dtype=np.float32)
    masks_V1 = _graphs.neighbours(present_1P, vertices)
    for v in range(vertices):
        assert int(masks_V1[v, 0]) == sum(1 << other for other in graph[v])
    distances = nx.single_source_shortest_path_length(graph, 0)
    target_N = np.arange(1, vertices)
    masks_VN = np.repeat(masks_V1, len(target_N), axis=1)
    paths_NH, hops_N = _graphs.shortest_paths(masks_VN, np.zeros_like(target_N), target_N, most_hops=5)
    assert np.array_equal(hops_N, (paths_NH >= 0).sum(axis=1))
    for target, length in enumerate((paths_NH >= 0).sum(axis=1).tolist(), start=1):
        assert length == (distances[target] if distances.get(target, 9) <= 5 else 0)


def test_any_shortest_path_is_right_and_nothing_else():
    task = ShortestPath(vertices=6, mean_degree=7 / 3, max_hops=4, train_examples=1)
    prompt = row(task, [(0, 1), (2, 0), (1, 3), (3, 2), (3, 4), (0, 5), (5, 1)], 0, 4)
    end = task.end
    assert is_right(task, prompt, 1, 3, 4, end)
    assert is_right(task, prompt, 2, 3, 4, end)
    assert not is_right(task, prompt, 5, 1, 3, 4, end)  # a path, but longer
    assert not is_right(task, prompt, 5, 3, 4, end)  # no edge 5-3
    assert not is_right(task, prompt, 1, 3, end)  # stops before the target
    assert not is_right(task, prompt, 1, 3, 4, 3)  # does not end
    assert not is_right(task, prompt, 1, 3, 4)  # nor here
    assert not is_right(task, prompt, 1, end, 3, 4)
    assert not is_right(task, prompt, task.pad, task.pad, 4, end)
    assert not is_right(task, prompt, end)


def test_every_label_is_right_and_every_changed_label_of_one_hop_is_wrong():
    batch = TASK.examples("train", 300, 0)
    prompt_BP, answer_BT = batch.tokens_BT[:, : TASK.prompt], batch.tokens_BT[:, TASK.prompt :].copy()
    assert TASK.right(prompt_BP, answer_BT).all()
    answer_BT[:, 0] = prompt_BP[:, -2]  # back to the source
    assert not TASK.right(prompt_BP, answer_BT).any()


def test_a_hand_drawn_example():
    task = ShortestPath(vertices=4, mean_degree=2.0, train_examples=1)
    masks_V1 = np.array([[0b0110], [0b1001], [0b1001], [0b0110]], dtype=np.uint32)  # a square: 0-1, 0-2, 1-3, 2-3
    path_1H, hops_1 = _graphs.shortest_paths(masks_V1, np.array([0]), np.array([3]), task.hops)
    assert (path_1H.tolist(), hops_1.tolist()) == ([[1, 3, -1]], [2])
    prompt = row(task, [(0, 1), (2, 0), (3, 1), (2, 3)], 0, 3)
    assert task.text(np.array([*prompt, 1, 3, task.end, task.pad])) == "0-1 2-0 3-1 2-3 · 0 to 3: 1 3 END"


def test_the_split_of_a_question_does_not_depend_on_the_order_or_orientation_of_its_edges():
    tokens_BT = TASK.examples("train", 50, 0).tokens_BT
    shuffled_BT = tokens_BT.copy()
    ends_BS2 = TASK._edges(tokens_BT)
    order = np.random.default_rng(0).permutation(ends_BS2.shape[1])
    shuffled_BT[:, : TASK.prompt - 2] = ends_BS2[:, order, ::-1].reshape(50, -1)
    assert (shuffled_BT != tokens_BT).any()
    assert np.array_equal(TASK.hashes(shuffled_BT), TASK.hashes(tokens_BT))
    shuffled_BT[:, TASK.prompt - 2] = tokens_BT[:, TASK.prompt - 1]  # another question
    assert not (TASK.hashes(shuffled_BT) == TASK.hashes(tokens_BT)).any()


@pytest.mark.parametrize("vertices", [3, 20, 31, 64])
def test_the_hash_of_masks_is_the_hash_of_the_edges(vertices):
    present_1P = np.random.default_rng(0).random((1, len(_graphs.pairs(vertices)))) < 0.4
    edges_1S2 = _graphs.pairs(vertices)[present_1P[0]][None]
    masks_V1 = _graphs.neighbours(present_1P.astype(np.float32), vertices)
    assert _graphs.hash_masks(masks_V1) == _graphs.hash_edges(edges_1S2)


def test_edges_are_present_with_their_probability_in_random_order_and_orientation():
    task = ShortestPath(vertices=12, edge_probability=0.5, train_examples=4000)
    rows = [read(task, row_T)[0] for row_T in task.examples("train", 4000, 0).tokens_BT]
    counts = np.array([len(edges) for edges in rows])
    assert counts.mean() == pytest.approx(33, abs=0.3)  # standard error 0.06
    assert counts.std() == pytest.approx(np.sqrt(66 / 4), abs=0.2)
    first = [edges[0] for edges in rows]
    assert np.mean([u < v for u, v in first]) == pytest.approx(0.5, abs=0.04)
    assert np.mean([min(edge) for edge in first]) == pytest.approx(
        np.mean([min(edge) for edges in rows for edge in edges]), abs=0.2
    )


def test_a_fixed_mean_degree_gives_every_graph_the_same_number_of_edges():
    task = ShortestPath(vertices=10, mean_degree=3.0, train_examples=100)
    rows = [read(task, row_T)[0] for row_T in task.examples("train", 100, 0).tokens_BT]
    assert {len(edges) for edges in rows} == {15}
    assert all(len({tuple(sorted(edge)) for edge in edges}) == 15 for edges in rows)


def test_a_complete_graph_is_complete_and_every_answer_one_hop():
    task = ShortestPath(vertices=5, edge_probability=1.0, train_examples=5)
    for row_T in task.examples("train", 5, 0).tokens_BT:
        edges, _, target, answer = read(task, row_T)
        assert len({tuple(sorted(edge)) for edge in edges}) == 10
        assert answer == [target]


def test_distances_asked_keep_to_their_limits():
    task = replace(TASK, min_hops=2, max_hops=3)
    lengths = {len(read(task, row_T)[3]) for row_T in task.examples("train", 300, 0).tokens_BT}
    assert lengths == {2, 3}


def test_a_larger_graph_can_be_asked_of_the_same_vocabulary():
    small = ShortestPath(vertices=6, mean_degree=2.0, train_examples=50, spare_labels=2)
    large = replace(small, vertices=8, spare_labels=0)
    assert small.vocabulary == large.vocabulary
    labels = {
        label for row_T in small.examples("train", 50, 0).tokens_BT for edge in read(small, row_T)[0] for label in edge
    }
    assert labels == set(range(8))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"edge_probability": 1.5}, "edge_probability is a probability, from 0 to 1, not 1.5"),
        ({"edge_probability": -0.1}, "not -0.1"),
        ({}, "either edge_probability or mean_degree"),
        ({"edge_probability": 0.2, "mean_degree": 2.0}, "either edge_probability or mean_degree"),
        ({"mean_degree": 5.0}, "vertices - 1 = 4, not 5.0"),
        ({"vertices": 65, "mean_degree": 2.0}, "3 to 64 vertices, not vertices=65"),
        ({"mean_degree": 2.0, "min_hops": 5}, "min_hops=5"),
        ({"mean_degree": 2.0, "train_examples": 0}, "train_examples=0"),
    ],
)
def test_impossible_graphs_are_refused_with_their_numbers(fields, message):
    with pytest.raises(ValueError, match=message):
        ShortestPath(**({"vertices": 5} | fields))


def test_a_task_without_questions_says_so_instead_of_searching_for_ever():
    with pytest.raises(ValueError, match="no example for the train split"):
        ShortestPath(vertices=5, edge_probability=1.0, min_hops=2, train_examples=5).examples("train", 1, 0)
