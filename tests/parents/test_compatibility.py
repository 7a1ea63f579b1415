"""Which parents can be merged with each other, judged from configs and headers."""

from dataclasses import replace

import pytest

from recipesearch.errors import RefusedInput
from recipesearch.parents.compatibility import require_compatible, require_stackable, warn_unless_alike
from recipesearch.parents.headers import read_checkpoint


@pytest.fixture
def one(zoo):
    return read_checkpoint(zoo / "base")


def changed(checkpoint, **config):
    return replace(checkpoint, config=dict(checkpoint.config) | config)


def without(checkpoint, key):
    return replace(checkpoint, config={k: v for k, v in checkpoint.config.items() if k != key})


def refused(one, other, *words):
    with pytest.raises(RefusedInput) as refusal:
        require_compatible({"first": one, "second": other})
    for word in ("'first'", "'second'", *words):
        assert word in str(refusal.value)
    assert refusal.value.exit_code == 3


def test_the_zoos_models_fit_and_so_does_one_alone(zoo, one):
    require_compatible({name: read_checkpoint(zoo / name) for name in ("base", "math", "lang")})
    require_compatible({"alone": one})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"architectures": ["MistralForCausalLM"]}, "architectures"),
        ({"num_hidden_layers": 5}, "layer counts"),
        ({"num_attention_heads": 4}, "num_attention_heads"),
        ({"num_key_value_heads": 1}, "num_key_value_heads"),
    ],
    ids=str,
)
def test_a_config_that_differs_where_merging_breaks_is_refused_by_name(one, change, words):
    refused(one, changed(one, **change), words)


def test_configs_that_say_nothing_of_grouped_heads_have_as_many_as_heads(one):
    """As old configs are written: they fit one that says so, and not one with fewer."""
    silent = without(one, "num_key_value_heads")
    require_compatible({"outspoken": one, "silent": silent})
    refused(changed(one, num_key_value_heads=1), silent, "num_key_value_heads")


def test_configs_written_by_transformers_4_and_5_fit_each_other(one):
    require_compatible({"new": one, "old": changed(without(one, "rope_parameters"), rope_theta=10000)})


def test_every_parent_is_compared_not_only_the_first_two(one):
    with pytest.raises(RefusedInput, match="'a' and 'c'"):
        require_compatible({"a": one, "b": one, "c": changed(one, num_attention_heads=1)})


@pytest.mark.parametrize("swap", [False, True])
def test_a_missing_tensor_is_refused_by_name_in_either_order(one, swap):
    name = "model.layers.1.mlp.up_proj.weight"
    other = replace(one, tensors={n: h for n, h in one.tensors.items() if n != name})
    refused(*((other, one) if swap else (one, other)), name)


def test_another_shape_is_refused_with_both_shapes(one):
    name = "model.layers.1.mlp.up_proj.weight"
    header = replace(one.tensors[name], shape=(64, 128))
    refused(one, replace(one, tensors=dict(one.tensors) | {name: header}), name, "(128, 64)", "(64, 128)")


def test_vocabularies_of_different_sizes_are_refused_with_both_sizes(one):
    name = "model.embed_tokens.weight"
    other = changed(one, vocab_size=50)
    header = replace(one.tensors[name], shape=(50, 64))
    refused(one, replace(other, tensors=dict(one.tensors) | {name: header}), name, "48 and 50 tokens")


def test_a_head_may_be_absent_only_where_it_is_tied(random_llama):
    from recipesearch.parents.identify import model_directory

    tied, untied = (read_checkpoint(model_directory(random_llama(1, tie))) for tie in (True, False))
    assert "lm_head.weight" not in tied.tensors
    require_compatible({"tied": tied, "untied": untied})
    require_compatible({"untied": untied, "tied": tied})
    refused(untied, changed(tied, tie_word_embeddings=False), "lm_head.weight")


# -- layers that follow each other


def test_layers_may_come_from_parents_of_other_depths(one):
    require_stackable({"four": one, "six": one.with_depth(6)})
    with pytest.raises(RefusedInput, match="layer counts"):
        require_compatible({"four": one, "six": one.with_depth(6)})


def test_heads_of_one_kind_only(one):
    tied = changed(one, tie_word_embeddings=True)
    tied = replace(tied, tensors={n: h for n, h in tied.tensors.items() if n != "lm_head.weight"})
    require_stackable({"one": tied, "other": tied})
    with pytest.raises(RefusedInput, match="different kinds of heads"):
        require_stackable({"tied": tied, "untied": one})


def test_layers_that_are_unlike_or_bound_to_their_place_do_not_move(one):
    fewer = {n: h for n, h in one.tensors.items() if n != "model.layers.2.mlp.up_proj.weight"}
    with pytest.raises(RefusedInput, match="layer 2 has other tensors than layer 0"):
        require_stackable({"odd": replace(one, tensors=fewer)})
    with pytest.raises(RefusedInput, match="depend on their position"):
        require_stackable({"gpt2": changed(one, scale_attn_by_inverse_layer_idx=True)})


def test_layers_keep_what_they_were_trained_with_or_do_not_move(one):
    from recipesearch.merging.layered import require_movable

    raw = dict(one.config)
    require_movable({"one": raw, "other": raw | {"attention_dropout": 0.5}}, in_place=True)
    for change in ({"rms_norm_eps": 1e-3}, {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}):
        with pytest.raises(RefusedInput, match="which their layers were trained with"):
            require_movable({"one": raw, "other": raw | change}, in_place=False)


def test_a_config_that_transformers_does_not_know_is_refused(one):
    from recipesearch.merging.layered import require_movable

    for wrong, words in (
        ({"model_type": "nothing"}, "transformers knows no model type 'nothing'"),
        ({"num_hidden_layers": "four"}, "not a config of type 'llama'"),
    ):
        with pytest.raises(RefusedInput, match=f"parent 'odd': {words}"):
            require_movable({"odd": dict(one.config) | wrong}, in_place=False)


def test_what_is_for_training_makes_no_parents_unlike(one):
    assert warn_unless_alike({"one": one, "other": changed(one, use_cache=False, attention_dropout=0.1)})
    assert not warn_unless_alike({"one": one, "other": changed(one, rms_norm_eps=1e-3)})
