"""Parents that are recipes or carry adapters: built once, whole, and equal to mergekit's own."""

import shutil
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file, save_file  # noqa: E402

from recipesearch.errors import StudyError, TrialFailed  # noqa: E402
from recipesearch.files import cache_dir  # noqa: E402
from recipesearch.merging import materialize  # noqa: E402
from recipesearch.merging.materialize import built_folder, directories, merger, write_recipe  # noqa: E402
from recipesearch.parents.identify import identify  # noqa: E402
from recipesearch.recipe import Parent, Recipe, Slice, Source, freeze  # noqa: E402


@pytest.fixture(autouse=True)
def own_cache(zoo, tmp_path, monkeypatch):
    monkeypatch.setenv("RECIPESEARCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def family(zoo, own_cache):
    return {name: identify(str(zoo / name), zoo) for name in ("base", "math", "lang")}


@pytest.fixture(scope="module")
def adapter(zoo, tmp_path_factory):
    """A real PEFT adapter on the math model, of random weights."""
    peft = pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(zoo / "math")
    targets = ["q_proj", "down_proj"]
    config = peft.LoraConfig(r=4, target_modules=targets, init_lora_weights=False, task_type="CAUSAL_LM")
    folder = tmp_path_factory.mktemp("adapter")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        peft.get_peft_model(model, config).save_pretrained(folder)
    return folder


def average(*parents, seed=0, method="linear"):
    sources = tuple(Source(parent, None, freeze({"weight": 0.5})) for parent in parents)
    return Recipe(method, (Slice(sources),), parents[0], dtype="float32", seed=seed)


def tensors(recipe):
    return {name: tensor.clone() for name, tensor in merger(recipe.parents()).stream(recipe)}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def stored(folder):
    return load_file(Path(folder) / "model.safetensors")


def test_plain_folders_are_used_where_they_are(family):
    assert directories(family.values()) == {parent: Path(parent.source) for parent in family.values()}
    assert not (cache_dir() / "models").exists()


# -- recipes as parents


def test_a_recipe_as_a_parent_merges_like_the_model_that_stock_mergekit_makes_of_it(family, stock_merge, zoo):
    inner = average(family["math"], family["lang"])
    outer = average(family["base"], Parent(inner.digest, inner))
    ours = tensors(outer)
    folder = cache_dir().parent / "inner"
    shutil.copytree(zoo / "math", folder)
    save_file(stock_merge(inner), folder / "model.safetensors", {"format": "pt"})
    assert same(ours, tensors(average(family["base"], identify(str(folder), folder))))
    assert not same(ours, tensors(average(family["base"], family["math"])))


def test_recipes_nest_to_any_depth(family):
    inner = average(family["math"], family["lang"])
    middle = average(Parent(inner.digest, inner), family["base"])
    outer = average(Parent(middle.digest, middle), family["base"])
    tensors(outer)
    built = {path.name for path in (cache_dir() / "models").iterdir()}
    assert built == {built_folder(inner.digest).name, built_folder(middle.digest).name}


def test_a_built_parent_is_read_from_the_cache_the_second_time(family, monkeypatch):
    inner = average(family["math"], family["lang"])
    outer = average(family["base"], Parent(inner.digest, inner))
    first = tensors(outer)
    file = built_folder(inner.digest) / "model.safetensors"
    before = file.stat()
    assert same(tensors(outer), first)
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_parent_recipe_that_fails_leaves_nothing_in_the_cache(family):
    sources = tuple(Source(family[n], None, freeze({"weight": w})) for n, w in (("math", 1), ("lang", -1)))
    inner = Recipe("linear", (Slice(sources),), family["math"], dtype="float32")
    for _ in range(2):
        with pytest.raises(TrialFailed, match="NaN or Inf"):
            directories([Parent(inner.digest, inner)])
        assert list((cache_dir() / "models").iterdir()) == []


def test_write_recipe_builds_its_parents_first(family, tmp_path):
    inner = average(family["math"], family["lang"])
    outer = average(Parent(inner.digest, inner), family["base"])
    write_recipe(outer, tmp_path / "out")
    assert same(stored(tmp_path / "out"), tensors(outer))
    assert (tmp_path / "out" / "tokenizer.json").exists()


# -- adapters


def mergekits_own(zoo, adapter, scratch):
    from mergekit.common import ModelReference

    reference = ModelReference.parse(f"{zoo / 'math'}+{adapter}")
    return stored(reference.merged(cache_dir=str(scratch)).local_path())


def test_an_adapter_parent_is_the_model_that_mergekit_makes_of_it(family, zoo, adapter, tmp_path):
    parent = identify(f"{zoo / 'math'}+{adapter}", zoo)
    (folder,) = directories([parent]).values()
    assert folder == built_folder(parent.digest)
    expected = mergekits_own(zoo, adapter, tmp_path / "lora")
    assert same(stored(folder), expected)
    assert not same(expected, stored(zoo / "math"))
    assert (folder / "tokenizer.json").exists()


def test_an_adapter_parent_merges_like_base_plus_adapter_in_stock_mergekit(family, zoo, adapter, tmp_path):
    from mergekit.config import MergeConfiguration
    from mergekit.merge import MergeOptions, run_merge

    from recipesearch.recipe.mergekit_yaml import to_mergekit

    recipe = average(family["base"], identify(f"{zoo / 'math'}+{adapter}", zoo), family["lang"])
    config = MergeConfiguration.model_validate(to_mergekit(recipe, lambda parent: parent.reference))
    assert f"+{adapter}" in str(config.models[1].model)
    options = MergeOptions(lora_merge_cache=str(tmp_path / "lora"), copy_tokenizer=False, quiet=True)
    run_merge(config, str(tmp_path / "stock"), options)
    assert same(tensors(recipe), stored(tmp_path / "stock"))


def test_an_adapted_model_is_read_from_the_cache_the_second_time(zoo, adapter):
    parent = identify(f"{zoo / 'math'}+{adapter}", zoo)
    (folder,) = directories([parent]).values()
    before = (folder / "model.safetensors").stat()
    assert directories([parent]) == {parent: folder}
    assert (folder / "model.safetensors").stat().st_mtime_ns == before.st_mtime_ns
    assert [path.name for path in folder.parent.iterdir()] == [
        built_folder(parent.digest).name
    ]  # no scratch is left


def test_an_adapter_on_a_recipe_is_applied_to_the_recipes_model(family, zoo, adapter, tmp_path):
    """A mutated winner: both the recipe's model and the adapted one have a place in the cache."""
    inner = average(family["math"], family["lang"])
    plain = Parent(inner.digest, inner)
    adapted = Parent("digest of recipe and adapter", inner, adapter=str(adapter))
    folders = directories([adapted, plain])
    assert folders[adapted] != folders[plain]
    delta = mergekits_own(zoo, adapter, tmp_path / "lora")
    math, before, after = stored(zoo / "math"), stored(folders[plain]), stored(folders[adapted])
    for name in math:
        changed = not torch.equal(delta[name], math[name])
        assert changed == ("q_proj" in name or "down_proj" in name)
        expected = before[name] + (delta[name] - math[name])
        torch.testing.assert_close(after[name], expected)
    assert directories([adapted, plain]) == folders


def test_all_that_mergekit_writes_of_an_adapted_model_lies_in_one_partial_folder(zoo, adapter, monkeypatch):
    """So that a kill leaves nothing that is not recognised."""
    from mergekit.common import ModelReference

    merged, seen = ModelReference.merged, []

    def look(self, **arguments):
        done = merged(self, **arguments)
        seen.extend(path.name for path in (cache_dir() / "models").iterdir())
        return done

    monkeypatch.setattr(ModelReference, "merged", look)
    directories([identify(f"{zoo / 'math'}+{adapter}", zoo)])
    (name,) = seen
    assert name.endswith(".partial")


def test_an_adapter_that_does_not_fit_leaves_nothing_in_the_cache(zoo, adapter, tmp_path):
    broken = shutil.copytree(adapter, tmp_path / "broken")
    (broken / "adapter_model.safetensors").write_bytes(b"no")
    parent = identify(f"{zoo / 'math'}+{broken}", zoo)
    with pytest.raises(Exception):  # noqa: B017, PT011 - peft's own
        directories([parent])
    assert list((cache_dir() / "models").iterdir()) == []


# -- two workers at once


def test_a_worker_that_is_overtaken_uses_the_winners_folder(family, monkeypatch):
    inner = average(family["math"], family["lang"])
    parent, write = Parent(inner.digest, inner), materialize.write_checkpoint

    def overtaken(config, stream, donor, target, vocabulary):
        write(config, list(stream), donor, target, vocabulary)
        return write(config, merger(inner.parents()).stream(inner), donor, target, vocabulary)

    monkeypatch.setattr(materialize, "write_checkpoint", overtaken)
    (folder,) = directories([parent]).values()
    assert same(stored(folder), tensors(inner))


def test_a_full_disk_is_reported_and_not_taken_for_a_faster_worker(family, monkeypatch):
    inner = average(family["math"], family["lang"])

    def full(*_):
        raise StudyError("cannot write: No space left on device")

    monkeypatch.setattr(materialize, "write_checkpoint", full)
    with pytest.raises(StudyError, match="No space left"):
        directories([Parent(inner.digest, inner)])
