"""The checkpoint that a config describes is the checkpoint that transformers saves."""

import json
import resource
import time

import pytest

pytest.importorskip("transformers")

import torch
import transformers
from studies.recorded_checkpoint import recorded_checkpoint

from recipesearch.errors import RefusedInput
from recipesearch.parents.headers import read_checkpoint

TINY = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 32,
}
MISTRAL_7B = TINY | {
    "architectures": ["MistralForCausalLM"],
    "model_type": "mistral",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 32000,
    "torch_dtype": "bfloat16",
}


@pytest.fixture
def record(tmp_path):
    def write(content):
        file = tmp_path / "config.json"
        file.write_text(content if isinstance(content, str) else json.dumps(content))
        return file

    return write


def described(checkpoint):
    return {name: (h.dtype, h.shape, h.stop - h.start) for name, h in checkpoint.tensors.items()}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("llama", {"tie_word_embeddings": False}),
        ("llama", {"tie_word_embeddings": True}),
        ("llama", {"attention_bias": True}),
        ("mistral", {}),
        ("qwen2", {"tie_word_embeddings": True}),
        ("qwen2", {"tie_word_embeddings": False}),
        ("mixtral", {"num_local_experts": 2}),  # whose experts transformers holds as one tensor
    ],
    ids=str,
)
def test_its_tensors_are_those_of_the_saved_model(kind, settings, dtype, tmp_path):
    config = transformers.AutoConfig.for_model(kind, **TINY, **settings)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    model.save_pretrained(tmp_path)
    recorded = recorded_checkpoint(tmp_path / "config.json")
    saved = read_checkpoint(tmp_path)
    assert described(recorded) == described(saved)
    assert recorded.config == saved.config
    assert (recorded.architecture, recorded.layers) == (saved.architecture, saved.layers)


def test_a_7b_model_takes_seconds_and_no_memory(record):
    before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    checkpoint = recorded_checkpoint(record(MISTRAL_7B))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert sum(h.stop - h.start for h in checkpoint.tensors.values()) == 2 * 7_241_732_096
    assert {h.dtype for h in checkpoint.tensors.values()} == {"BF16"}
    assert time.monotonic() - begun < 30
    assert grown < 500_000  # KiB, of 14 GB; transformers' own code is among them


def test_nothing_is_left_on_the_meta_device_afterwards(record):
    recorded_checkpoint(record(MISTRAL_7B | TINY))
    assert torch.empty(1).device.type == "cpu"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "expected a JSON object"),
        (MISTRAL_7B | {"auto_map": {"AutoConfig": "x.Config"}}, "remote code"),
        (MISTRAL_7B | {"model_type": "evomistral"}, "evomistral"),
        (TINY, "None"),
        ({"model_type": "gpt2", "n_layer": 2}, "num_hidden_layers"),
        (MISTRAL_7B | {"hidden_size": "wide"}, "not a config of type 'mistral'"),
        (MISTRAL_7B | {"architectures": ["MistralForSequenceClassification"]}, "not a causal LM"),
        (TINY | {"model_type": "bert", "architectures": ["BertForMaskedLM"]}, "not a causal LM"),
        (TINY | {"model_type": "t5"}, "not a causal LM"),
    ],
    ids=str,
)
def test_a_config_that_is_no_causal_lm_of_transformers_is_refused(content, words, record):
    with pytest.raises(RefusedInput, match=words):
        recorded_checkpoint(record(content))


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(RefusedInput, match="nowhere"):
        recorded_checkpoint(tmp_path / "nowhere.json")
