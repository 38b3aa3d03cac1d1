import json
from dataclasses import replace

import pytest
import torch
from fakes import design, mixture
from safetensors.torch import load_file, save_file

from parrotlab.model import huggingface
from parrotlab.model.attention import Attention
from parrotlab.model.feedforwards.dense import Dense
from parrotlab.model.feedforwards.mixture import Mixture
from parrotlab.model.huggingface import Card, export, load, settings
from parrotlab.model.routers.bias_balanced import BiasBalanced
from parrotlab.model.routers.hashed import Hashed
from parrotlab.model.transformer import LanguageModel, build

transformers = pytest.importorskip("transformers", reason="compares with transformers: pip install parrotlab[test]")

VOCABULARY = 61
ONE_HEAD = Attention(heads=1, qk_norm=True)
DESIGNS = {
    "mistral": design(Dense(expansion=1.5), tied=True),
    "mixtral": replace(mixture(experts=5, active=3), attention=Attention(heads=4, group=2, rope_theta=500.0)),
    "mixtral, of odd hidden width": mixture(expansion=13 / 16),
    "olmoe": replace(mixture(renormalise=False), attention=ONE_HEAD),
    "olmoe, renormalised": replace(mixture(), attention=ONE_HEAD, epsilon=1e-3),
}


def trained(design) -> LanguageModel:
    """A model whose norms are not 1: fresh ones would hide a norm in the wrong place."""
    model, generator = build(design, VOCABULARY, seeds=0), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight += 0.3 * torch.randn(weight.shape, generator=generator)
    return model


def greedy(model: LanguageModel, tokens_BT, count: int):
    for _ in range(count):
        tokens_BT = torch.cat((tokens_BT, model(tokens_BT)[0][:, -1:].argmax(dim=-1)), dim=-1)
    return tokens_BT


def configure(folder, **fields):
    """The folder with other fields in its config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.fixture
def mixtral(tmp_path):
    export(trained(DESIGNS["mixtral"]), tmp_path / "mixtral")
    return tmp_path / "mixtral"


@pytest.mark.parametrize("name", DESIGNS)
def test_an_exported_model_generates_the_same_greedy_tokens_and_comes_back_bit_for_bit(name, tmp_path):
    model = trained(DESIGNS[name])
    certificate = export(model, tmp_path / "out")
    assert certificate.architecture == name.partition(",")[0]
    assert certificate.largest_difference < 1e-5 < 0.1 < certificate.deviation
    assert certificate.same_experts == (1.0, 1.0) * ("mistral" not in name)

    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    words = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    prompt_BT = words("12 7 40 60 0", return_tensors="pt").input_ids
    assert prompt_BT.tolist() == [[12, 7, 40, 60, 0]]
    ours_BT = greedy(model, prompt_BT, 12)
    assert torch.equal(theirs.generate(prompt_BT, max_new_tokens=12), ours_BT)
    assert words.decode(ours_BT[0]) == " ".join(map(str, ours_BT[0].tolist()))

    again, back = load(tmp_path / "out")
    assert again.design == model.design
    assert back == certificate
    assert all(torch.equal(weight, again.state_dict()[name]) for name, weight in model.state_dict().items())


def test_a_llama_that_transformers_made_is_read(tmp_path):
    fields = settings(DESIGNS["mistral"], VOCABULARY) | {"model_type": "llama", "tie_word_embeddings": False}
    configuration = transformers.AutoConfig.for_model(**{name: fields[name] for name in fields if "window" not in name})
    theirs = transformers.AutoModelForCausalLM.from_config(configuration, dtype=torch.bfloat16)
    theirs.save_pretrained(tmp_path / "llama", max_shard_size="10KB")
    assert len(list((tmp_path / "llama").glob("*.safetensors"))) > 1
    model, certificate = load(tmp_path / "llama")
    assert model.design == replace(DESIGNS["mistral"], tied=False)
    assert model.embedding_VD.dtype == torch.float32
    assert certificate.largest_difference < 1e-5


@pytest.mark.parametrize(
    ("refused", "reason"),
    [
        (design(Dense(gated=False)), "ungated"),
        (design(replace(Mixture(experts=4), gated=False)), "ungated"),
        (mixture(router=Hashed()), "router of type Hashed"),
        (mixture(router=BiasBalanced()), "router of type BiasBalanced"),
        (mixture(shared=2), r"shared experts \(2\)"),
        (mixture(renormalise=False), "do not sum to 1"),
        (replace(mixture(), attention=Attention(heads=2, qk_norm=True)), "QK-norm over each of 2 heads"),
        (replace(design(), attention=ONE_HEAD), "QK-norm in a dense model"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_no_architecture_expresses_is_refused_and_nothing_is_written(refused, reason, tmp_path):
    with pytest.raises(ValueError, match=reason):
        export(trained(refused), tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"model_type": "gpt2"}, "'gpt2': expected mistral"),
        ({"hidden_act": "gelu"}, "activation 'gelu'"),
        ({"sliding_window": 16}, "sliding window of 16"),
        ({"head_dim": 8}, "4 heads of 8 channels at width 16"),
        ({"rope_parameters": {"rope_type": "linear", "rope_theta": 500.0, "factor": 2.0}}, "rotary positions"),
        ({"num_experts_per_tok": 1}, "router's gradient vanishes"),
        ({"num_hidden_layers": 3}, "missing_keys"),
        ({"num_hidden_layers": 1}, "unexpected_keys"),
        ({"intermediate_size": 17}, "cannot be read|not those of its config"),
    ],
    ids=lambda value: "" if isinstance(value, str) else "-".join(value),
)
def test_a_folder_that_asks_for_what_we_do_not_have_is_refused(fields, reason, mixtral):
    configure(mixtral, **fields)
    with pytest.raises(ValueError, match=reason):
        load(mixtral)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [({"num_attention_heads": 2, "num_key_value_heads": 2}, "QK-norm over 2 heads"), ({"clip_qkv": 8.0}, "clip_qkv")],
)
def test_an_olmoe_that_is_not_ours_is_refused(fields, reason, tmp_path):
    export(trained(DESIGNS["olmoe"]), tmp_path / "out")
    configure(tmp_path / "out", **fields)
    with pytest.raises(ValueError, match=reason):
        load(tmp_path / "out")


def test_a_truncated_or_incomplete_folder_is_named(mixtral, tmp_path):
    weights = load_file(mixtral / "model.safetensors")
    weights.pop("model.norm.weight")
    save_file(weights, mixtral / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"model\.norm\.weight"):
        load(mixtral)
    (mixtral / "model.safetensors").write_bytes((mixtral / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(ValueError, match=f"weights in {mixtral} cannot be read"):
        load(mixtral)
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        load(tmp_path / "nowhere")


def test_a_model_that_differs_gets_no_certificate_and_leaves_no_folder(tmp_path, monkeypatch):
    def other(*words):
        return settings(*words) | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}

    monkeypatch.setattr(huggingface, "settings", other)
    with pytest.raises(ValueError, match="not the same model"):
        export(trained(DESIGNS["mixtral"]), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_an_existing_folder_is_never_written_into(mixtral):
    before = {path.name: path.read_bytes() for path in mixtral.iterdir()}
    with pytest.raises(ValueError, match="exists already"):
        export(trained(DESIGNS["mixtral"]), mixtral)
    assert {path.name: path.read_bytes() for path in mixtral.iterdir()} == before


def test_routing_agreement_is_the_fraction_of_tokens_with_the_same_experts(mixtral):
    model, _ = load(mixtral)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(mixtral)
    with torch.no_grad():
        for weight in (model.blocks[1].feedforward.down_EFD, theirs.model.layers[1].mlp.experts.down_proj):
            weight.zero_()  # so that routing in the last layer changes no logit
        model.blocks[1].feedforward.router.weight_DE.neg_()
    first, last = huggingface.certify(model, theirs, "mixtral").same_experts
    assert first == 1.0
    assert last < 0.5


def test_a_card_tells_the_counts_the_licence_and_where_the_model_came_from(tmp_path):
    model = trained(DESIGNS["mixtral"])
    card = Card(task="a phone book", fingerprint="8d3f6a0c11e2b954", license="apache-2.0")
    words = huggingface.decimal_tokenizer(VOCABULARY).replace('"60"', '"sixty"')
    export(model, tmp_path / "out", tokenizer=words, card=card)
    text = (tmp_path / "out" / "README.md").read_text()
    total = sum(weight.numel() for weight in model.parameters())
    assert text.startswith("---\nlicense: apache-2.0\n")
    assert all(told in text for told in (f"{total:,} in total", card.task, card.fingerprint, "routers.top_k.TopK"))
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "out")("sixty").input_ids == [60]


@pytest.mark.parametrize(
    ("words", "reason"),
    [("{", "not a tokenizer"), (huggingface.decimal_tokenizer(VOCABULARY + 1), "62 tokens and the model 61")],
    ids=["broken", "too large"],
)
def test_a_tokenizer_that_does_not_fit_the_model_is_refused(words, reason, tmp_path):
    with pytest.raises(ValueError, match=reason):
        export(trained(DESIGNS["mixtral"]), tmp_path / "out", tokenizer=words)
    assert not list(tmp_path.iterdir())


def test_a_word_that_is_no_token_is_an_error(mixtral):
    with pytest.raises(Exception, match="UNK"):
        transformers.AutoTokenizer.from_pretrained(mixtral)("61")


def test_an_exported_tokenizer_says_which_token_ends_a_text(tmp_path):
    model = trained(DESIGNS["mistral"])
    words = json.loads(huggingface.decimal_tokenizer(VOCABULARY))
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    words["added_tokens"] = [{"id": 60, "content": "</s>", "special": True, **flags}]
    words["model"]["vocab"] = {
        ("</s>" if word == "60" else word): token for word, token in words["model"]["vocab"].items()
    }
    export(model, tmp_path / "out", tokenizer=json.dumps(words))
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "out").eos_token_id == 60
    assert transformers.GenerationConfig.from_pretrained(tmp_path / "out").eos_token_id == 60
    export(model, tmp_path / "plain")
    assert transformers.GenerationConfig.from_pretrained(tmp_path / "plain").eos_token_id is None
