"""Which parents can be merged with each other. Judged from configs and headers alone. Light: no torch."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from ..errors import RefusedInput
from .headers import COMPANIONS, CONFIG_NOISE, Checkpoint

_LOG = logging.getLogger("recipesearch")
# What names and dates a config, or is for training: no score depends on it.
_NO_MATTER = CONFIG_NOISE | {
    "attention_dropout",
    "dtype",
    "hidden_dropout",
    "initializer_range",
    "pad_token_id",  # padding is masked
    "pretraining_tp",
    "torch_dtype",
    "unsloth_version",
    "use_cache",
}
# Config keys that make a layer differ by its number alone, in no list that could be rewritten.
_BY_PLACE = ("scale_attn_by_inverse_layer_idx", "dense_attention_every_n_layers")


def require_stackable(checkpoints: Mapping[str, Checkpoint]) -> None:
    """Raises RefusedInput, naming parents and tensor, unless every layer can follow every other.

    As in ``require_compatible``, but for the numbers of layers; and the layers of a parent are alike.
    """
    for name, checkpoint in checkpoints.items():
        if special := next((key for key in _BY_PLACE if checkpoint.config.get(key)), None):
            raise RefusedInput(f"parent '{name}': its layers depend on their place ({special}): not movable")
        pattern = {tensor: header.shape for tensor, header in checkpoint.layer_tensors(0).items()}
        for layer in range(1, checkpoint.layers):
            if {t: header.shape for t, header in checkpoint.layer_tensors(layer).items()} != pattern:
                raise RefusedInput(
                    f"parent '{name}': layer {layer} has other tensors than layer 0, so that not every layer "
                    "can follow every other; search weights instead"
                )
    require_compatible({name: checkpoint.with_depth(1) for name, checkpoint in checkpoints.items()})
    (first_name, first), *others = checkpoints.items()
    for name, other in others:  # a tied head is its parent's embeddings, which another's would not be
        where = f"parents '{first_name}' and '{name}'"
        _same(where, "kinds of heads", _kind_of_head(first), _kind_of_head(other))


def require_compatible(checkpoints: Mapping[str, Checkpoint]) -> None:
    """Raises RefusedInput, naming parents and tensor, unless all the checkpoints can be merged.

    They need one architecture, one number of layers and of heads, and the same tensors in the same shapes
    (a tied head may be absent where another parent has one).
    """
    (first_name, first), *others = checkpoints.items()
    for name, other in others:
        where = f"parents '{first_name}' and '{name}'"
        _same(where, "architectures", first.architecture, other.architecture)
        _same(where, "layer counts", first.layers, other.layers)
        _same_tensors(where, first, other)
        ours, theirs = _heads(first.config), _heads(other.config)
        for key in sorted(ours.keys() & theirs.keys()):
            _same(where, f"values of {key}", ours[key], theirs[key])


def warn_unless_alike(checkpoints: Mapping[str, Checkpoint]) -> bool:
    """Whether all the checkpoints have the same config and tokenizer; logs a warning if not.

    A recipe has those of its base, whichever parent it is: what was scored with others' is another model.
    """
    (first_name, first), *others = checkpoints.items()
    for name, other in others:
        if _donated(first) != _donated(other):
            _LOG.warning(
                "parents '%s' and '%s' differ in config or tokenizer files; every recipe takes those of the "
                "study's base (else its first parent), and pairs without it are left out",
                first_name,
                name,
            )
            return False
    return True


def _donated(checkpoint: Checkpoint) -> list[object]:
    """Config and tokenizer files, without what moves no score; a recipe says its dtype itself."""
    contents: list[object] = [{k: v for k, v in checkpoint.config.items() if k not in _NO_MATTER}]
    for name in COMPANIONS:
        file = checkpoint.directory / name
        content: object = file.read_bytes() if file.exists() else None
        if name.endswith("config.json") and file.exists():
            content = {k: v for k, v in json.loads(file.read_text("utf-8")).items() if k not in _NO_MATTER}
        contents.append(content)
    return contents


def _kind_of_head(checkpoint: Checkpoint) -> str:
    own = any(name.startswith("lm_head.") for name in checkpoint.tensors)
    return "untied" if own and not checkpoint.config.get("tie_word_embeddings") else "tied"


def _heads(config: Mapping[str, Any]) -> dict[str, object]:
    """The numbers of heads, which can differ behind equal shapes; what is not said is left out."""
    heads = config.get("num_attention_heads")
    facts = {
        "num_attention_heads": heads,
        "num_key_value_heads": config.get("num_key_value_heads") or heads,
    }
    return {key: value for key, value in facts.items() if value is not None}


def _same(where: str, what: str, one: object, other: object) -> None:
    if one != other:
        raise RefusedInput(
            f"{where} have different {what} ({one} and {other}); merge models of one family only"
        )


def _same_tensors(where: str, one: Checkpoint, other: Checkpoint) -> None:
    for left, right in ((one, other), (other, one)):
        for name in sorted(left.tensors.keys() - right.tensors.keys()):
            if not (name.startswith("lm_head.") and right.config.get("tie_word_embeddings", True)):
                raise RefusedInput(f"{where}: tensor '{name}' is missing in {right.directory}")
    for name in sorted(one.tensors.keys() & other.tensors.keys()):
        shapes = one.tensors[name].shape, other.tensors[name].shape
        if shapes[0] != shapes[1]:
            sizes = [str(checkpoint.config.get("vocab_size")) for checkpoint in (one, other)]
            hint = (
                f"; their vocabularies have {' and '.join(sizes)} tokens: align them with "
                "tokenizer: {source: union}, in a space of weights"
                if sizes[0] != sizes[1]
                else ""
            )
            raise RefusedInput(f"{where}: tensor '{name}' has shapes {shapes[0]} and {shapes[1]}{hint}")
