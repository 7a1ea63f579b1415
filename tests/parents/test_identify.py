"""From a reference to a Parent: equal digests for equal content, and pinned, safe sources."""

import json
import os
import shutil
from pathlib import Path

import pytest

from recipesearch.errors import PlanError, RefusedInput
from recipesearch.files import cache_dir
from recipesearch.parents.digest import content_digest
from recipesearch.parents.headers import read_checkpoint
from recipesearch.parents.identify import identify, model_directory
from recipesearch.recipe import Recipe

SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def own_cache(zoo, tmp_path, monkeypatch):
    """Digests kept from earlier runs would hide what is computed here."""
    monkeypatch.setenv("RECIPESEARCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def copy(zoo, tmp_path):
    return shutil.copytree(zoo / "math", tmp_path / "copy")


def digest(folder):
    return identify(str(folder), Path("/")).digest


def edit_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes, indent=7))


# -- equal content, equal digest


def test_a_moved_copy_is_the_same_parent(zoo, copy):
    assert identify(str(copy), Path("/")) == identify(str(zoo / "math"), Path("/"))


def test_a_resharded_copy_is_the_same_parent(zoo, tmp_path):
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(zoo / "math")
    shutil.copytree(zoo / "math", tmp_path / "sharded", ignore=shutil.ignore_patterns("*.safetensors"))
    model.save_pretrained(tmp_path / "sharded", max_shard_size="100KB")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 2
    assert digest(tmp_path / "sharded") == digest(zoo / "math")


def test_what_only_names_or_dates_a_model_does_not_count(zoo, copy):
    edit_json(copy / "config.json", _name_or_path="elsewhere", transformers_version="4.0")
    (copy / "README.md").write_text("words")
    assert digest(copy) == digest(zoo / "math")


# -- other content, another digest


def test_one_changed_weight_is_another_parent(zoo, copy):
    content = bytearray((copy / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (copy / "model.safetensors").write_bytes(content)
    assert digest(copy) != digest(zoo / "math")


def test_exchanged_and_renamed_tensors_are_another_parent(zoo, copy):
    safetensors = pytest.importorskip("safetensors.numpy")
    tensors = safetensors.load_file(copy / "model.safetensors")
    one, other = "model.layers.1.mlp.up_proj.weight", "model.layers.2.mlp.up_proj.weight"
    tensors[one], tensors[other] = tensors[other], tensors[one]
    safetensors.save_file(tensors, copy / "model.safetensors")
    assert digest(copy) != digest(zoo / "math")


def test_a_changed_config_is_another_parent(zoo, copy):
    edit_json(copy / "config.json", rms_norm_eps=1e-5)
    assert digest(copy) != digest(zoo / "math")


@pytest.mark.parametrize(
    "name",
    [
        "tokenizer.json",
        "tokenizer_config.json",
        "tokenizer.model",
        "chat_template.jinja",
        "vocab.json",
        "merges.txt",
        "added_tokens.json",
        "special_tokens_map.json",
    ],
)
def test_a_changed_tokenizer_is_another_parent(name, zoo, copy):
    with (copy / name).open("a") as file:
        file.write(" ")
    assert digest(copy) != digest(zoo / "math")


def test_a_file_changed_since_its_digest_was_kept_is_read_again(zoo, copy):
    before = digest(copy)
    content = bytearray((copy / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (copy / "model.safetensors").write_bytes(content)
    assert digest(copy) != before


def test_a_kept_digest_spares_reading_the_weights(copy):
    before = digest(copy)
    (kept,) = (cache_dir() / "digests").iterdir()
    kept.write_text("kept")
    assert digest(copy) == "kept"
    stat = (copy / "config.json").stat()
    os.utime(copy / "config.json", ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert digest(copy) == before


def test_a_file_that_shrinks_while_it_is_read_is_refused(copy):
    checkpoint = read_checkpoint(copy)
    os.truncate(copy / "model.safetensors", 200_000)
    with pytest.raises(RefusedInput, match="ends inside tensor"):
        content_digest(checkpoint)


# -- references


def test_relative_paths_start_at_the_given_folder(copy, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    parent = identify("./copy", tmp_path)
    assert parent == identify(str(copy), Path("/"))
    assert parent.source == str(copy)
    assert model_directory(parent) == copy


def test_a_pickled_parent_is_refused_with_exit_code_3(copy):
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(RefusedInput, match="pickle") as refusal:
        identify(str(copy), Path("/"))
    assert refusal.value.exit_code == 3


@pytest.mark.parametrize(
    "reference",
    ["./nowhere", "../nowhere", "/nowhere", "a--b/c", "nowhere", "org/no-such-model", "org/m@rev"],
)
def test_a_parent_that_is_nowhere_is_refused(reference, tmp_path):
    with pytest.raises(RefusedInput):
        identify(reference, tmp_path)


@pytest.fixture
def hub(zoo, tmp_path, monkeypatch):
    """An offline Hugging Face cache that holds the zoo's math model as ``org/name`` and ``zoology/name``."""
    constants = pytest.importorskip("huggingface_hub.constants")
    for owner in ("org", "zoology"):
        repository = tmp_path / "hub" / f"models--{owner}--name"
        shutil.copytree(zoo / "math", repository / "snapshots" / SHA)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(SHA)
        (repository / "refs" / "v1").write_text(SHA)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.mark.parametrize("reference", ["org/name", "org/name@main", "org/name@v1", f"org/name@{SHA}"])
def test_a_hub_id_is_pinned_to_the_commit_found(reference, hub, zoo, tmp_path):
    parent = identify(reference, tmp_path)
    assert (parent.source, parent.revision) == ("org/name", SHA)
    assert parent.reference == f"org/name@{SHA}"
    assert parent.digest == digest(zoo / "math")
    assert model_directory(parent).name == SHA


def test_a_hub_id_whose_owner_starts_with_zoo_keeps_its_revision(hub, tmp_path):
    assert identify("zoology/name@v1", tmp_path).revision == SHA


def test_a_folder_of_the_same_name_comes_before_the_hub(hub, zoo, tmp_path):
    shutil.copytree(zoo / "lang", tmp_path / "org" / "name")
    assert identify("org/name", tmp_path).digest == digest(zoo / "lang")


def test_a_zoo_reference_names_the_zoos_folder(zoo, tmp_path, monkeypatch):
    monkeypatch.setenv("RECIPESEARCH_CACHE", str(zoo.parents[1]))
    assert identify("zoo:math", tmp_path).source == str(zoo / "math")


def test_a_zoo_that_is_not_trained_yet_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(RefusedInput, match="recipesearch zoo"):
        identify("zoo:math", tmp_path)


# -- recipes and adapters


def test_a_recipe_file_is_a_parent_by_its_recipes_digest(zoo, tmp_path):
    shutil.copytree(zoo / "math", tmp_path / "nested" / "m")
    file = tmp_path / "nested" / "inner.yaml"
    file.write_text("merge_method: linear\nmodels: [{model: ./m, parameters: {weight: 1}}]\n")
    parent = identify("nested/inner.yaml", tmp_path)
    assert isinstance(parent.source, Recipe)
    assert parent.digest == parent.source.digest
    assert parent.source.parents()[0].digest == digest(zoo / "math")


def test_a_recipe_file_that_is_missing_or_unreadable_is_refused(tmp_path):
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    for name in ("missing.yaml", "folder.yaml", "binary.yaml"):
        with pytest.raises(PlanError, match=f"{name}: cannot read the recipe"):
            identify(name, tmp_path)
    (tmp_path / "bad.yaml").write_text("merge_method: ties\nmodels: []\nwieght: 1")
    with pytest.raises(PlanError, match="wieght"):
        identify("bad.yaml", tmp_path)


def test_a_recipe_that_is_its_own_parent_is_refused(tmp_path):
    (tmp_path / "self.yaml").write_text("merge_method: linear\nmodels: [{model: self.yaml}]")
    with pytest.raises(PlanError, match="its own parent"):
        identify("self.yaml", tmp_path)


@pytest.mark.parametrize("name", ["a+b", "user@host"])
def test_a_path_that_mergekit_would_misread_is_refused(zoo, tmp_path, name):
    shutil.copytree(zoo / "math", tmp_path / name)
    with pytest.raises(RefusedInput, match="rename or link"):
        identify(name, tmp_path)


@pytest.fixture
def adapter(tmp_path):
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    return folder


def test_an_adapter_makes_another_parent_by_its_content(zoo, copy, adapter, tmp_path):
    parent = identify("copy+adapter", tmp_path)
    assert (parent.source, parent.adapter) == (str(copy), str(adapter))
    assert parent.digest not in (digest(copy), digest(zoo / "lang"))
    shutil.copytree(adapter, tmp_path / "moved")
    assert identify("copy+moved", tmp_path) == parent
    (adapter / "adapter_model.safetensors").write_bytes(b"others!")
    assert identify("copy+adapter", tmp_path) != parent


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_folder_that_is_no_adapter_is_refused(name, copy, adapter, tmp_path):
    (adapter / name).unlink()
    with pytest.raises(RefusedInput, match="not an adapter folder"):
        identify("copy+adapter", tmp_path)


def test_signs_that_mergekit_reads_otherwise_are_refused_with_an_adapter_too(random_llama, tmp_path) -> None:
    plain = Path(str(random_llama(0).source))
    shutil.copytree(plain, tmp_path / "a@b" / "model")
    for folder in (tmp_path / "a@b" / "adapter", tmp_path / "adapter"):
        folder.mkdir()
    for reference in (f"{tmp_path}/a@b/model+{tmp_path}/adapter", f"{plain}+{tmp_path}/a@b/adapter"):
        with pytest.raises(RefusedInput, match="in a path as revision and adapter"):
            identify(reference, tmp_path)
