"""A written checkpoint: whole, loadable, like mergekit's, or not there at all."""

import errno
import json
import os
import shutil
import subprocess

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from recipesearch.errors import StudyError, TrialFailed  # noqa: E402
from recipesearch.merging import stock  # noqa: E402
from recipesearch.merging.checkpoint import write_checkpoint  # noqa: E402
from recipesearch.merging.layered import configs, output_config  # noqa: E402
from recipesearch.merging.materialize import directories, merger, write_recipe  # noqa: E402
from recipesearch.parents.identify import identify  # noqa: E402
from recipesearch.recipe import Recipe, Slice, Source, freeze  # noqa: E402


@pytest.fixture(scope="module")
def recipe(zoo):
    parents = [identify(str(zoo / name), zoo) for name in ("base", "math", "lang")]
    sources = tuple(Source(parent, None, freeze({"weight": 0.5})) for parent in parents)
    return Recipe("linear", (Slice(sources),), parents[0], dtype="float32", out_dtype="bfloat16")


def config_of(recipe):
    return output_config(recipe, configs(directories(recipe.parents())))


def stream(recipe):
    return merger(recipe.parents()).stream(recipe)


def test_the_folder_holds_the_streams_tensors_and_loads_with_its_tokenizer(recipe, zoo, tmp_path):
    target = write_checkpoint(config_of(recipe), stream(recipe), zoo / "base", tmp_path / "new" / "model")
    assert stock.require_equal(stream(recipe), target) == 39
    model = transformers.AutoModelForCausalLM.from_pretrained(target)
    assert model.dtype == torch.bfloat16
    for name, tensor in stream(recipe):
        assert torch.equal(model.state_dict()[name], tensor)
    tokenizer = transformers.AutoTokenizer.from_pretrained(target)
    assert (
        tokenizer("12+34=")["input_ids"]
        == transformers.AutoTokenizer.from_pretrained(zoo / "base")("12+34=")["input_ids"]
    )
    assert [path.name for path in target.parent.iterdir()] == ["model"]


@pytest.mark.parametrize(("layers", "depth"), [([(0, 3), (1, 4)], 6), ([(0, 2)], 2)])
def test_a_recipe_of_slices_has_the_config_of_its_depth(layers, depth, recipe, zoo, tmp_path):
    source = Source(recipe.slices[0].sources[0].parent, None, freeze({"weight": 1}))
    parts = tuple(Slice((Source(source.parent, r, source.parameters),)) for r in layers)
    stacked = Recipe("linear", parts, recipe.base, dtype="float32")
    target = write_recipe(stacked, tmp_path / "model")
    model = transformers.AutoModelForCausalLM.from_pretrained(target)
    assert len(model.model.layers) == depth
    assert torch.isfinite(model(torch.tensor([[5, 6, 7]])).logits).all()


def test_config_and_tokenizer_files_equal_stock_mergekits(recipe, zoo, tmp_path):
    from mergekit.config import MergeConfiguration
    from mergekit.merge import MergeOptions, run_merge

    from recipesearch.recipe.mergekit_yaml import to_mergekit

    ours = write_recipe(recipe, tmp_path / "ours")
    config = MergeConfiguration.model_validate(to_mergekit(recipe, lambda parent: parent.source))
    run_merge(config, str(tmp_path / "theirs"), MergeOptions(write_model_card=False, quiet=True))
    one, other = (json.loads((f / "config.json").read_text()) for f in (ours, tmp_path / "theirs"))
    assert one == other
    for file in (tmp_path / "theirs").iterdir():
        assert (ours / file.name).exists()
        if "tokenizer" in file.name:
            assert (ours / file.name).read_bytes() == file.read_bytes()


def test_a_donors_chat_template_comes_along(recipe, zoo, tmp_path):
    donor = shutil.copytree(zoo / "base", tmp_path / "donor")
    (donor / "chat_template.jinja").write_text("{{ messages }}")
    target = write_checkpoint(config_of(recipe), stream(recipe), donor, tmp_path / "model")
    assert (target / "chat_template.jinja").read_text() == "{{ messages }}"


def test_files_are_readable_by_others(recipe, zoo, tmp_path):
    target = write_checkpoint(config_of(recipe), stream(recipe), zoo / "base", tmp_path / "model")
    assert target.stat().st_mode & 0o777 == 0o755


# -- nothing is left behind


def test_a_taken_target_is_refused_and_kept(recipe, zoo, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine").write_text("keep")
    with pytest.raises(StudyError, match="exists and is not empty"):
        write_checkpoint(config_of(recipe), stream(recipe), zoo / "base", tmp_path / "model")
    assert (tmp_path / "model" / "mine").read_text() == "keep"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_an_empty_target_folder_is_filled(recipe, zoo, tmp_path):
    (tmp_path / "model").mkdir()
    write_checkpoint(config_of(recipe), stream(recipe), zoo / "base", tmp_path / "model")
    assert stock.require_equal(stream(recipe), tmp_path / "model") == 39


@pytest.mark.parametrize("error", [TrialFailed("non-finite"), KeyboardInterrupt()], ids=repr)
def test_a_stream_that_ends_half_way_leaves_nothing(error, recipe, zoo, tmp_path):
    def half():
        for index, pair in enumerate(stream(recipe)):
            if index == 20:
                raise error
            yield pair

    with pytest.raises(type(error)):
        write_checkpoint(config_of(recipe), half(), zoo / "base", tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 128 KB; the merged model needs 340."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        command = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(folder)]
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("mounting needs rights that this user lacks")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_a_study_error_and_leaves_nothing(recipe, zoo, small_disk):
    with pytest.raises(StudyError, match="No space left on device") as failure:
        write_checkpoint(config_of(recipe), stream(recipe), zoo / "base", small_disk / "model")
    assert str(small_disk / "model") in str(failure.value)
    assert list(small_disk.iterdir()) == []


@pytest.mark.parametrize("step", ["save_tensor", "finalize"])
def test_a_disk_that_fills_at_any_step_leaves_nothing(step, recipe, zoo, tmp_path, monkeypatch):
    from mergekit.io.tensor_writer import TensorWriter

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(TensorWriter, step, full)
    with pytest.raises(StudyError, match="No space left on device"):
        write_checkpoint(config_of(recipe), stream(recipe), zoo / "base", tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_a_target_that_cannot_be_made_is_a_study_error(recipe, zoo, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError):
        write_checkpoint(config_of(recipe), stream(recipe), zoo / "base", tmp_path / "file" / "model")
