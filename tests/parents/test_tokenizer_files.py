"""Tokenizers as files, and headers as merges see them once vocabularies are aligned. No weight is read."""

import json
import shutil
from pathlib import Path

import pytest

from recipesearch.errors import PlanError
from recipesearch.merging.settle import settle
from recipesearch.parents.headers import read_checkpoint
from recipesearch.parents.memory import weight_bytes
from recipesearch.parents.tokenizer_files import copy_tokenizer, token_ids, tokenizer_folder
from recipesearch.recipe import Tokenizer, TokenRow


def test_a_folder_is_known_by_its_tokenizer_alone(zoo: Path, tmp_path: Path) -> None:
    one = tokenizer_folder(zoo / "math")
    copied = copy_tokenizer(one, tmp_path / "copy")
    assert copied == one == tokenizer_folder(tmp_path / "copy") == tokenizer_folder(zoo / "lang")
    assert copied.path == str(tmp_path / "copy")
    assert not (tmp_path / "copy" / "config.json").exists()
    with (tmp_path / "copy" / "tokenizer.json").open("a") as file:
        file.write(" ")
    assert tokenizer_folder(tmp_path / "copy") != one


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="no tokenizer there"):
        tokenizer_folder(tmp_path)


def test_ids_are_those_of_transformers(zoo: Path) -> None:
    transformers = pytest.importorskip("transformers")
    assert token_ids(zoo / "math") == transformers.AutoTokenizer.from_pretrained(zoo / "math").get_vocab()


def test_ids_of_a_unigram_model_are_their_places(tmp_path: Path) -> None:
    content = {"model": {"vocab": [["a", -1.0], ["b", -2.0]]}, "added_tokens": [{"content": "c", "id": 2}]}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    assert token_ids(tmp_path) == {"a": 0, "b": 1, "c": 2}


def test_ids_that_no_file_tells_are_unknown(tmp_path: Path) -> None:
    assert token_ids(tmp_path) is None
    (tmp_path / "tokenizer.json").write_text("{}")
    assert token_ids(tmp_path) is None


def test_a_settled_tokenizer_is_found_again_without_loading_anything(
    zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vocabulary = pytest.importorskip("recipesearch.merging.vocabulary")
    monkeypatch.setenv("RECIPESEARCH_CACHE", str(tmp_path))
    tokenizer = Tokenizer("union", (("new", TokenRow()),), 8)
    first = settle(tokenizer, [zoo / "math", zoo / "lang"])
    assert (first.size, first.tokens, first.lacks) == (56, (48, 48), (1, 1))
    monkeypatch.setattr(vocabulary, "write_tokenizer", None)
    assert settle(tokenizer, [zoo / "math", zoo / "lang"]) == first
    shutil.copytree(zoo / "lang", tmp_path / "lang")
    assert settle(tokenizer, [zoo / "math", tmp_path / "lang"]) == first


@pytest.mark.parametrize("tied", [False, True])
def test_rows_are_those_of_embeddings_and_head(random_llama, tied: bool) -> None:  # type: ignore[no-untyped-def]
    """Also where the hidden size is the vocabulary's, as of a norm."""
    checkpoint = read_checkpoint(Path(random_llama(1, tied, vocab_size=16).source))
    names = {"model.embed_tokens.weight"} | (set() if tied else {"lm_head.weight"})
    assert checkpoint.vocabulary == 16
    assert checkpoint.vocabulary_tensors().keys() == names
    grown = checkpoint.with_vocabulary(20)
    assert grown.vocabulary == 20
    assert grown.vocabulary_tensors().keys() == names
    extra = weight_bytes(grown, "float32") - weight_bytes(checkpoint, "float32")
    assert extra == len(names) * 4 * 16 * 4
    assert grown.with_vocabulary(16).tensors.keys() == checkpoint.tensors.keys()
