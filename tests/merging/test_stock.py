"""The comparison with a rebuilt model finds what differs, and the printed command says all that matters."""

import shutil

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file, save_file  # noqa: E402

from recipesearch.errors import VerificationFailed  # noqa: E402
from recipesearch.merging import stock  # noqa: E402

NAME = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture
def rebuilt(zoo, tmp_path):
    return shutil.copytree(zoo / "math", tmp_path / "rebuilt")


@pytest.fixture
def ours(zoo):
    return load_file(zoo / "math" / "model.safetensors")


def refused(ours, rebuilt, words):
    with pytest.raises(VerificationFailed, match=words) as failure:
        stock.require_equal(ours.items(), rebuilt)
    assert failure.value.exit_code == 5


def test_equal_models_are_equal_and_every_tensor_is_counted(ours, rebuilt):
    assert stock.require_equal(ours.items(), rebuilt) == len(ours) == 39


def test_a_flipped_bit_is_found(ours, rebuilt):
    ours[NAME].view(torch.int32)[5, 6] ^= 1
    refused(ours, rebuilt, f"'{NAME}' differs")


def test_another_dtype_with_the_same_values_is_a_difference(ours, rebuilt):
    ours[NAME] = ours[NAME].double()
    refused(ours, rebuilt, f"'{NAME}' differs")


def test_a_missing_and_a_left_over_tensor_are_found(ours, rebuilt):
    refused(ours | {"extra.weight": torch.zeros(2)}, rebuilt, r"'extra\.weight' is missing")
    refused({n: t for n, t in ours.items() if n != NAME}, rebuilt, f"'{NAME}' is only in the rebuilt")


def test_a_tensor_streamed_twice_is_refused(ours, rebuilt):
    refused_pairs = [*ours.items(), (NAME, ours[NAME])]
    with pytest.raises(VerificationFailed, match=NAME):
        stock.require_equal(refused_pairs, rebuilt)


def test_nan_is_never_equal(ours, rebuilt):
    ours[NAME][0, 0] = float("nan")
    save_file(ours, rebuilt / "model.safetensors")
    refused(ours, rebuilt, "differs")


def test_the_command_fixes_seed_threads_and_device(tmp_path):
    words = stock.command(tmp_path / "a recipe.yaml", tmp_path / "out", 7, 3)
    text = stock.printed(words)
    assert text.startswith("mergekit-yaml '")
    assert text.endswith("--random-seed 7 -j 3")
    assert stock.printed(stock.command(tmp_path, tmp_path, 0, 1, "cuda")).endswith("--cuda")


def test_a_failing_command_reports_its_last_line(tmp_path):
    with pytest.raises(VerificationFailed, match="nowhere"):
        stock.run(stock.command(tmp_path / "nowhere", tmp_path / "out", 0, 1))
