"""Mixtures of the Hugging Face world, with fresh weights: asked, and counted."""

import json

import pytest
import rows
import torch

from parrotlab.evals import harness
from parrotlab.text import tokenizer
from parrotlab.text.hub import DataError

pytest.importorskip("lm_eval", reason="asks with lm-evaluation-harness: pip install parrotlab[eval]")
transformers = pytest.importorskip("transformers", reason="needs transformers: pip install parrotlab[eval]")

from parrotlab.evals.hugging_face_model import HuggingFaceModel, counts, identity, local_folder  # noqa: E402

VOCABULARY, WIDTH, HIDDEN, LAYERS, EXPERTS, CHOSEN = 300, 16, 24, 2, 4, 2
COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "num_experts_per_tok": CHOSEN,
    **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id")),
}
FAMILIES = {
    "mixtral": {"intermediate_size": HIDDEN, "num_local_experts": EXPERTS},
    "olmoe": {"intermediate_size": HIDDEN, "num_experts": EXPERTS},
    "qwen2_moe": {
        "intermediate_size": HIDDEN,
        "moe_intermediate_size": HIDDEN,
        "shared_expert_intermediate_size": HIDDEN,
        "num_experts": EXPERTS,
        "decoder_sparse_step": 1,
    },
    "qwen3_moe": {"moe_intermediate_size": HIDDEN, "num_experts": EXPERTS, "head_dim": WIDTH // 2},
}


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tmp_path_factory):
    place = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    configuration = transformers.AutoConfig.for_model(request.param, **COMMON, **FAMILIES[request.param])
    transformers.AutoModelForCausalLM.from_config(configuration, dtype=torch.float32).save_pretrained(place)
    tokenizer.train(["the parrot says the answer is five"], VOCABULARY, place / "tokenizer.json")
    told = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": tokenizer.END}
    (place / "tokenizer_config.json").write_text(json.dumps(told))
    return place


def test_a_mixture_is_asked_and_its_unchosen_experts_are_no_active_parameters(folder, tmp_path):
    model = HuggingFaceModel(folder, "cpu", 2048)
    data = str(rows.fill(tmp_path, count=4))
    for name, shots in (("arc_easy", 0), ("triviaqa", 1)):
        benchmark = harness.benchmarks()[name]
        asked = harness.ask(model, benchmark, harness.task(benchmark, data, shots), 3)
        assert len(asked.answers) == 3
    found = counts(model.model, model.config)
    total = sum(weight.numel() for weight in model.model.parameters())
    unchosen = LAYERS * (EXPERTS - CHOSEN) * 3 * WIDTH * HIDDEN  # gate, up and down of each expert
    assert found["total_parameters"] == total
    assert found["active_parameters"] == total - unchosen
    assert found["total_body_parameters"] == total - 2 * VOCABULARY * WIDTH
    assert found["active_body_parameters"] == total - unchosen - 2 * VOCABULARY * WIDTH


def test_a_dense_model_is_active_as_a_whole():
    configuration = transformers.MistralConfig(**COMMON, intermediate_size=HIDDEN, tie_word_embeddings=True)
    model = transformers.AutoModelForCausalLM.from_config(configuration)
    found = counts(model, configuration)
    assert found["total_parameters"] == found["active_parameters"] == sum(w.numel() for w in model.parameters())
    assert found["total_body_parameters"] == found["total_parameters"] - VOCABULARY * WIDTH


def test_a_model_is_known_by_its_weights_and_not_by_its_folder(folder, tmp_path):
    (tmp_path / "copy").mkdir()
    for path in folder.iterdir():
        (tmp_path / "copy" / path.name).write_bytes(path.read_bytes())
    assert identity(tmp_path / "copy") == identity(folder)
    weights = tmp_path / "copy" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert identity(tmp_path / "copy") != identity(folder)


def test_a_model_that_is_not_here_is_not_fetched(tmp_path):
    with pytest.raises(DataError, match=r"neither a folder nor in the local cache.*hf download nobody/parrot-7b"):
        local_folder("nobody/parrot-7b")
    with pytest.raises(DataError, match=r"no config\.json"):
        local_folder(str(tmp_path))
