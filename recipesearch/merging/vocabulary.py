"""Parents with different vocabularies, aligned by mergekit's own code, in its dtype and order of parents.

mergekit builds the tokenizer and permutes every row again in each merge. Here one Vocabulary serves all
recipes that share it. mergekit also numbers a union's new tokens in the order of a hash table, so no two runs
agree. ``write_tokenizer`` therefore builds the union once, in the order of the parents and their ids, and
recipes name its folder as their tokenizer's source.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from mergekit.architecture import get_architecture_info
from mergekit.common import ImmutableMap, ModelReference
from mergekit.config import MergeConfiguration
from mergekit.io.tasks import GatherTensors
from mergekit.merge import _set_chat_template, _update_config_vocab
from mergekit.options import MergeOptions
from mergekit.tokenizer import BuildTokenizer, PermutedVocabulary, TokenizerInfo
from mergekit.tokenizer.build import build_tokenizer, build_union_tokenizer, get_stripped_tokenizer
from transformers import AutoTokenizer, PretrainedConfig, PreTrainedTokenizerBase

from ..errors import RefusedInput

_LOADING_KEYS = {"is_local", "local_files_only", "name_or_path"}
Tensors = Mapping[ModelReference, torch.Tensor]


class Vocabulary:
    """The vocabulary of one merge configuration that has a ``tokenizer``."""

    def __init__(self, config: MergeConfiguration) -> None:
        self._config = config
        self._settings = config.tokenizer
        self._task = BuildTokenizer(
            base_model=config.base_model,
            referenced_models=tuple(config.referenced_models()),
            tokenizer_source=self._settings.source,
            trust_remote_code=False,
            add_tokens=tuple(self._settings.tokens or {}),
        )

    @cached_property
    def _info(self) -> TokenizerInfo:
        return self._task.execute()

    def align(self, tensors: Tensors, axis: int) -> dict[ModelReference, torch.Tensor]:
        """One weight of several models, each with the rows of this vocabulary along ``axis``.

        The order of the models matters: rows that several models have are averaged in this order.
        """
        task = PermutedVocabulary(
            gather_tensors=GatherTensors(weight_info=ImmutableMap({})),
            tokenizer_task=self._task,
            tokens=self._settings.tokens,
            pad_to_multiple_of=self._settings.pad_to_multiple_of,
            base_model=self._config.base_model,
            vocabulary_axis=axis,
        )
        aligned: dict[ModelReference, torch.Tensor] = task.execute(
            tokenizer_info=self._info, tensors=dict(tensors)
        )
        return aligned

    def write(self, config: PretrainedConfig, folder: Path) -> None:
        """Sets the size in the config, and writes tokenizer and chat template as ``run_merge`` does."""
        tokenizer = self._info.tokenizer
        architecture = get_architecture_info(self._config, MergeOptions())
        _update_config_vocab(config, architecture, tokenizer, self._settings.pad_to_multiple_of)
        _set_chat_template(tokenizer, self._config)
        tokenizer.save_pretrained(folder)


def write_tokenizer(
    source: str, added: Iterable[str], parents: Sequence[Path], target: Path
) -> dict[str, Any]:
    """Writes the tokenizer of a ``base`` or ``union`` source into a folder. The base is the first parent.

    ``added`` are tokens that recipes add to the tokenizer. Raises RefusedInput for tokenizers that mergekit
    cannot align. Returns plain data:

    - ``size``: the number of tokens, added tokens included.
    - ``tokens``: the number of tokens of each parent.
    - ``lacks``: for each parent, how many of the tokens in ``size`` it lacks.
    - ``chat_template``: the template that most parents have.
    """
    references = [ModelReference.parse(str(folder)) for folder in parents]
    loaded = {reference: _load(reference, first=reference is references[0]) for reference in references}
    base = loaded[references[0]]
    tokenizer = build_union_tokenizer(base, loaded) if source == "union" else base
    tokenizer.save_pretrained(target)
    _drop_loading_keys(target / "tokenizer_config.json")
    kept = ModelReference.parse(str(target))
    info = build_tokenizer(references[0], references, kept, False, list(added))
    if not tokenizer.get_vocab().items() <= info.tokenizer.get_vocab().items():
        raise RefusedInput(
            f"the {source} of the parents' tokenizers changes when it is saved; use source: base"
        )
    return {
        "size": len(info.tokenizer.get_vocab()),
        "tokens": [len(loaded[reference].get_vocab()) for reference in references],
        "lacks": [_lacking(info, reference) for reference in references],
        "chat_template": _most_common_template(loaded.values()),
    }


def _load(reference: ModelReference, *, first: bool) -> PreTrainedTokenizerBase:
    """A model's tokenizer as mergekit loads it, with its vocabulary in the order of the ids."""
    path = reference.model.path
    try:
        tokenizer = get_stripped_tokenizer(reference.model) if first else AutoTokenizer.from_pretrained(path)
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise RefusedInput(f"{path}: its tokenizer cannot be read or aligned ({reason})") from error
    tokens = dict(sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]))
    tokenizer.get_vocab = lambda: tokens  # by default from a hash table, in another order at every call
    return tokenizer


def _lacking(info: TokenizerInfo, reference: ModelReference) -> int:
    """The number of tokens that a model lacks. Raises RefusedInput for a token without an embedding."""
    rows = info.permutations[reference]
    for token, place in info.tokenizer.get_vocab().items():
        if place not in rows:  # mergekit would fail with a KeyError
            raise RefusedInput(
                f"{reference}: its tokenizer contains '{token}', which has no row in its embeddings; "
                "resize the embeddings to the tokenizer, and save the model"
            )
    return sum(row < 0 for row in rows.values())


def _drop_loading_keys(file: Path) -> None:
    """Removes the keys that record where a tokenizer was loaded from, and whether offline.

    They must not affect the tokenizer's digest.
    """
    content = json.loads(file.read_text("utf-8"))
    kept = {key: value for key, value in content.items() if key not in _LOADING_KEYS}
    file.write_text(json.dumps(kept, indent=2, ensure_ascii=False, sort_keys=True), "utf-8")


def _most_common_template(tokenizers: Iterable[PreTrainedTokenizerBase]) -> str | None:
    """The template of mergekit's ``auto``. A tie goes to the first parent; in mergekit it is arbitrary."""
    templates = [t.chat_template for t in tokenizers]
    texts = [t.get("default") if isinstance(t, dict) else t for t in templates]
    common = Counter(text.strip() for text in texts if text).most_common(1)
    return common[0][0] if common else None
