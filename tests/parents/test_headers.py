"""What read_checkpoint says of a model folder, and which folders it refuses. No torch needed to refuse."""

import json
import shutil
import struct

import pytest

from recipesearch.errors import RefusedInput
from recipesearch.parents.headers import read_checkpoint

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


@pytest.fixture
def folder(zoo, tmp_path):
    return shutil.copytree(zoo / "math", tmp_path / "model")


def test_a_checkpoint_is_described_from_its_headers(zoo):
    checkpoint = read_checkpoint(zoo / "base")
    assert (checkpoint.architecture, checkpoint.layers) == ("LlamaForCausalLM", 4)
    assert len(checkpoint.tensors) == 39
    embeddings = checkpoint.tensors["model.embed_tokens.weight"]
    assert (embeddings.dtype, embeddings.shape) == ("F32", (48, 64))
    assert embeddings.stop - embeddings.start == 4 * 48 * 64


def test_the_offsets_are_where_the_bytes_lie(zoo):
    safetensors = pytest.importorskip("safetensors.numpy")
    file = zoo / "base" / WEIGHTS
    content = file.read_bytes()
    for name, tensor in safetensors.load_file(file).items():
        header = read_checkpoint(zoo / "base").tensors[name]
        assert content[header.start : header.stop] == tensor.tobytes()


def test_a_sharded_checkpoint_has_the_tensors_of_all_its_shards(zoo, tmp_path):
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(zoo / "base")
    model.save_pretrained(tmp_path, max_shard_size="200KB")
    sharded = read_checkpoint(tmp_path)
    assert len({header.file for header in sharded.tensors.values()}) > 1
    whole = read_checkpoint(zoo / "base")
    assert {n: h.shape for n, h in sharded.tensors.items()} == {n: h.shape for n, h in whole.tensors.items()}
    next(tmp_path.glob("model-00002*")).unlink()
    with pytest.raises(RefusedInput, match="model-00002"):
        read_checkpoint(tmp_path)


def refused(folder, words):
    with pytest.raises(RefusedInput) as refusal:
        read_checkpoint(folder)
    assert words in str(refusal.value)
    assert refusal.value.exit_code == 3


def test_a_missing_folder_and_an_empty_one_are_refused(tmp_path):
    refused(tmp_path / "nowhere", "no such model folder")
    refused(tmp_path, "config.json")


@pytest.mark.parametrize("content", ["", "{", "[]", "\x00"])
def test_a_config_that_is_no_json_object_is_refused(folder, content):
    (folder / "config.json").write_text(content)
    refused(folder, "config.json")


def test_a_config_that_asks_for_remote_code_is_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "modeling.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    refused(folder, "remote code")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "consolidated.pt", "model.pth", "last.ckpt"])
def test_a_pickle_alone_is_refused_and_beside_safetensors_is_never_opened(folder, name):
    (folder / name).write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    assert len(read_checkpoint(folder).tensors) == 39
    (folder / WEIGHTS).unlink()
    refused(folder, name)


def test_a_folder_without_weights_is_refused(folder):
    (folder / WEIGHTS).unlink()
    refused(folder, "no model.safetensors")


@pytest.mark.parametrize("keep", [0, 4, 8, 100, -100_000, -1])
def test_a_truncated_file_is_refused_wherever_it_ends(folder, keep):
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[:keep])
    refused(folder, "not a complete safetensors file")


@pytest.mark.parametrize("head", [b"\xff" * 8, struct.pack("<Q", 4) + b"nope", struct.pack("<Q", 2) + b"[]"])
def test_a_corrupt_header_is_refused(folder, head):
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(head + content[len(head) :])
    refused(folder, WEIGHTS)


def test_offsets_that_overlap_or_leave_the_file_are_refused(folder):
    def rewrite(change):
        content = (zoo_content := (folder / WEIGHTS).read_bytes())[8:]
        length = struct.unpack("<Q", zoo_content[:8])[0]
        header = json.loads(content[:length])
        change(header["model.norm.weight"])
        text = json.dumps(header).encode()
        (folder / "changed").write_bytes(struct.pack("<Q", len(text)) + text + content[length:])
        (folder / "changed").replace(folder / WEIGHTS)

    rewrite(lambda entry: entry.update(data_offsets=[0, 256]))
    refused(folder, WEIGHTS)
    rewrite(lambda entry: entry.update(data_offsets=[0, 1 << 40]))
    refused(folder, WEIGHTS)


@pytest.mark.parametrize("index", ["{}", '{"weight_map": []}', '{"weight_map": {"a": 3}}', "[]", "{"])
def test_a_corrupt_index_is_refused(folder, index):
    (folder / INDEX).write_text(index)
    refused(folder, INDEX)
