import math

import networkx as nx
import numpy as np
import pytest
import torch

from parrotlab.theory.length_two_path import (
    Pairs,
    at_precision,
    check_precision,
    construction,
    design,
    every_graph,
    every_kind,
    every_pair,
    in_float32,
    mistakes,
    random_pairs,
    smallest_precision,
    split_task,
    stated_precision,
    weights,
)

SIZES = (8, 16, 32, 64)


def asked(vertices):
    """The construction in float32 and at the stated precision."""
    model = construction(vertices)
    return in_float32(model), at_precision(model, stated_precision(vertices))


@pytest.mark.parametrize("vertices", [4, 5])
def test_it_solves_every_graph(vertices):
    assert [mistakes(logits, every_graph(vertices)) for logits in asked(vertices)] == [0, 0]


@pytest.mark.parametrize("vertices", [4, 5, 6, 7])
def test_it_solves_every_pair_of_neighbour_sets(vertices):
    pairs = every_pair(vertices)
    assert len(np.unique(np.concatenate(pairs, axis=1), axis=0)) == 4 ** (vertices - 2)
    assert [mistakes(logits, pairs) for logits in asked(vertices)] == [0, 0]


@pytest.mark.parametrize("vertices", SIZES)
def test_it_solves_random_pairs_of_all_densities(vertices):
    pairs = random_pairs(vertices, 2500, seed=1)
    assert [mistakes(logits, pairs) for logits in asked(vertices)] == [0, 0]


@pytest.mark.parametrize("vertices", [4, 9, 33, 64])
def test_it_solves_every_kind_of_pair_at_the_stated_precision_and_at_any_higher_one(vertices):
    model, pairs = construction(vertices), every_kind(vertices)
    assert mistakes(in_float32(model), pairs) == 0
    for bits in range(stated_precision(vertices), 33, 3):
        assert mistakes(at_precision(model, bits), pairs) == 0


def test_one_bit_for_each_of_log_n_is_not_enough():
    bits = stated_precision(8) // 2
    assert bits == math.ceil(math.log2(split_task(8).prompt))
    assert mistakes(at_precision(construction(8), bits), every_kind(8)) > 0


@pytest.mark.parametrize("vertices", [5, 12])
def test_its_logits_depend_on_the_kind_of_a_pair_alone(vertices):
    logits, generator = in_float32(construction(vertices)), np.random.Generator(np.random.PCG64(0))
    source_NM, destination_NM = random_pairs(vertices, 60, seed=0)
    order_M = generator.permutation(vertices - 2)
    with torch.no_grad():
        plain, turned = logits(Pairs(source_NM, destination_NM)), logits(Pairs(destination_NM, source_NM))
        renamed = logits(Pairs(source_NM[:, order_M], destination_NM[:, order_M]))
    torch.testing.assert_close(turned, plain)
    torch.testing.assert_close(renamed, plain)


@pytest.mark.parametrize("vertices", SIZES)
def test_the_margin_is_as_derived(vertices):
    # The constant channel ends at 1 or more (no path), at -5/3 or less (path); its sign survives the last norm.
    pairs, task, model = every_kind(vertices), split_task(vertices), construction(vertices)
    seen = []
    model.norm.register_forward_hook(lambda norm, inputs, output: seen.append(inputs[0]))
    with torch.no_grad():
        in_float32(model)(pairs)
    channel_N = seen[0].unflatten(0, (-1, task.prompt))[:, -1, vertices - 2]
    meet_N = torch.from_numpy((pairs.source_NM & pairs.destination_NM).any(axis=1))
    assert channel_N[~meet_N].min() >= 0.999
    assert channel_N[meet_N].max() <= -0.999 * 5 / 3


@pytest.mark.parametrize("vertices", range(4, 20))
def test_its_width_is_at_most_the_number_of_vertices(vertices):
    assert vertices - 1 <= design(vertices).width <= vertices
    assert {name: tensor.shape for name, tensor in weights(vertices).items()} == {
        name: tensor.shape for name, tensor in construction(vertices).state_dict().items()
    }


def test_every_graph_is_asked_as_networkx_would_answer():
    source_NM, destination_NM = every_graph(4)
    answers = []
    for source in range(4):
        for destination in range(4):
            if source == destination:
                continue
            for bits in range(2**6):
                edges = [pair for place, pair in enumerate(nx.complete_graph(4).edges) if bits >> (5 - place) & 1]
                graph = nx.Graph(edges)
                graph.add_nodes_from(range(4))
                answers.append(any(True for _ in nx.common_neighbors(graph, source, destination)))
    assert (source_NM & destination_NM).any(axis=1).tolist() == answers


def test_random_pairs_hold_the_hard_ones():
    meeting_N = np.sum(np.logical_and(*random_pairs(20, 3000, seed=0)), axis=1)
    assert (meeting_N[0::3] == 0).all()
    assert (meeting_N[1::3] == 1).all()
    assert meeting_N[2::3].max() > 10
    assert (np.sum(np.logical_or(*random_pairs(20, 3000, seed=0)), axis=1)[:2] == 18).all()


def test_transformers_gives_the_same_answers():
    transformers = pytest.importorskip("transformers", reason="compares with transformers: pip install parrotlab[test]")
    for vertices in (4, 9, 24):
        model, pairs, task = construction(vertices), random_pairs(vertices, 200, seed=2), split_task(vertices)
        theirs = as_mistral(transformers, model)
        tokens_BT = torch.from_numpy(task.rows(*pairs).tokens_BT[:, : task.prompt].astype(np.int64))
        with torch.no_grad():
            logits_BV = theirs(tokens_BT).logits[:, -1]
            torch.testing.assert_close(logits_BV, in_float32(model)(pairs), rtol=1e-4, atol=1e-4)
        meet_B = (pairs.source_NM & pairs.destination_NM).any(axis=1)
        assert logits_BV.argmax(dim=-1).tolist() == np.where(meet_B, task.yes, task.no).tolist()


def as_mistral(transformers, model):
    ours, design = model.state_dict(), model.design
    theirs = transformers.MistralForCausalLM(
        transformers.MistralConfig(
            vocab_size=model.vocabulary,
            hidden_size=design.width,
            intermediate_size=design.feedforward.hidden(design.width),
            num_hidden_layers=1,
            num_attention_heads=1,
            num_key_value_heads=1,
            rms_norm_eps=design.epsilon,
            sliding_window=None,
            tie_word_embeddings=False,
        )
    )
    query, key, value = ours["blocks.0.attention.qkv_DK"].chunk(3, dim=1)
    gate, up = ours["blocks.0.feedforward.up_DG"].chunk(2, dim=1)
    layer = {
        "input_layernorm": ours["blocks.0.attention_norm.weight_D"],
        "post_attention_layernorm": ours["blocks.0.feedforward_norm.weight_D"],
        "self_attn.q_proj": query.T,
        "self_attn.k_proj": key.T,
        "self_attn.v_proj": value.T,
        "self_attn.o_proj": ours["blocks.0.attention.out_KD"].T,
        "mlp.gate_proj": gate.T,
        "mlp.up_proj": up.T,
        "mlp.down_proj": ours["blocks.0.feedforward.down_FD"].T,
    }
    ends = {
        "model.embed_tokens": ours["embedding_VD"],
        "model.norm": ours["norm.weight_D"],
        "lm_head": ours["head_DV"].T,
    }
    named = ends | {f"model.layers.0.{name}": tensor for name, tensor in layer.items()}
    theirs.load_state_dict({f"{name}.weight": tensor for name, tensor in named.items()}, strict=True)
    return theirs.float().eval()


@pytest.mark.parametrize("name", [name for name in weights(4) if "norm" not in name])
def test_a_broken_weight_makes_mistakes(name):
    model = construction(8)
    weight = model.get_parameter(name)
    with torch.no_grad():
        place = weight.abs().flatten().argmax()
        weight.view(-1)[place] *= -1
    assert mistakes(in_float32(model), every_pair(8)) > 0


def test_a_tie_is_no_answer():
    pairs = every_pair(4)
    assert mistakes(lambda some: torch.zeros(len(some.source_NM), split_task(4).vocabulary), pairs) == 16


@pytest.mark.parametrize(("vertices", "bits", "smallest"), [(24, 5, 6), (8, 4, 6), (64, 3, 4)])
def test_too_few_bits_are_refused_with_the_smallest_that_works(vertices, bits, smallest):
    with pytest.raises(ValueError, match=f"{bits} bits .* {vertices} vertices: .* works is {smallest}$"):
        check_precision(vertices, bits)
    check_precision(vertices, smallest)
    assert smallest_precision(vertices, smallest) == smallest


def test_more_bits_than_we_compute_in_are_refused():
    with pytest.raises(ValueError, match="4 to 32 bits, not 40"):
        check_precision(6, 40)


def test_two_vertices_are_refused():
    with pytest.raises(ValueError, match="at least 3 vertices, not 2"):
        design(2)


def test_too_many_graphs_are_refused():
    with pytest.raises(ValueError, match="6 vertices have 2\\^15 graphs: enumerate at most 5"):
        every_graph(6)
