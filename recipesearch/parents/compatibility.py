"""Which parents can be merged with each other, judged from configs and headers alone. Light: no torch."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from ..errors import RefusedInput
from .headers import COMPANIONS, CONFIG_NOISE, Checkpoint

_LOG = logging.getLogger("recipesearch")
# Keys that name or date a config, or matter only in training: they affect no score.
_IRRELEVANT = CONFIG_NOISE | {
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
# Config keys that make a layer depend on its position, without a per-layer list that could be rewritten.
_BY_PLACE = ("scale_attn_by_inverse_layer_idx", "dense_attention_every_n_layers")


def require_stackable(checkpoints: Mapping[str, Checkpoint]) -> None:
    """Raises RefusedInput, naming parents and tensor, unless every layer can follow every other layer.

    The conditions are those of ``require_compatible``, but the numbers of layers may differ. In addition, all
    layers of a parent must have the same tensors, and all parents the same kind of head.
    """
    for name, checkpoint in checkpoints.items():
        if special := next((key for key in _BY_PLACE if checkpoint.config.get(key)), None):
            raise RefusedInput(
                f"parent '{name}': its layers depend on their position ({special}) and cannot be moved; "
                "search weights instead"
            )
        pattern = {tensor: header.shape for tensor, header in checkpoint.layer_tensors(0).items()}
        for layer in range(1, checkpoint.layers):
            if {t: header.shape for t, header in checkpoint.layer_tensors(layer).items()} != pattern:
                raise RefusedInput(
                    f"parent '{name}': layer {layer} has other tensors than layer 0, so its layers cannot be "
                    "rearranged; search weights instead"
                )
    require_compatible({name: checkpoint.with_depth(1) for name, checkpoint in checkpoints.items()})
    (first_name, first), *others = checkpoints.items()
    for name, other in others:  # a tied head equals its own parent's embeddings, not another's
        where = f"parents '{first_name}' and '{name}'"
        _same(where, "kinds of heads", _kind_of_head(first), _kind_of_head(other))


def require_compatible(checkpoints: Mapping[str, Checkpoint]) -> None:
    """Raises RefusedInput, naming parents and tensor, unless all the checkpoints can be merged.

    The checkpoints must have the same architecture, the same numbers of layers and heads, and the same
    tensors in the same shapes. A tied head may be missing in one parent and present in another.
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

    A recipe takes config and tokenizer from its base, whichever parent that is. With another parent's config
    or tokenizer it is another model, so its scores would be wrong.
    """
    (first_name, first), *others = checkpoints.items()
    for name, other in others:
        if _donated(first) != _donated(other):
            _LOG.warning(
                "parents '%s' and '%s' differ in config or tokenizer files; every recipe takes both from the "
                "study's base (default: the first parent), and pairs without that parent are left out",
                first_name,
                name,
            )
            return False
    return True


def _donated(checkpoint: Checkpoint) -> list[object]:
    """Config and tokenizer files, without keys that affect no score. (A recipe sets its own dtype.)"""
    contents: list[object] = [{k: v for k, v in checkpoint.config.items() if k not in _IRRELEVANT}]
    for name in COMPANIONS:
        file = checkpoint.directory / name
        content: object = file.read_bytes() if file.exists() else None
        if name.endswith("config.json") and file.exists():
            content = {k: v for k, v in json.loads(file.read_text("utf-8")).items() if k not in _IRRELEVANT}
        contents.append(content)
    return contents


def _kind_of_head(checkpoint: Checkpoint) -> str:
    own = any(name.startswith("lm_head.") for name in checkpoint.tensors)
    return "untied" if own and not checkpoint.config.get("tie_word_embeddings") else "tied"


def _heads(config: Mapping[str, Any]) -> dict[str, object]:
    """The numbers of heads, which can differ although all shapes are equal. Missing numbers are left out."""
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
                raise RefusedInput(
                    f"{where}: tensor '{name}' is missing in {right.directory}; merge models of one "
                    "family only"
                )
    for name in sorted(one.tensors.keys() & other.tensors.keys()):
        shapes = one.tensors[name].shape, other.tensors[name].shape
        if shapes[0] != shapes[1]:
            sizes = [str(checkpoint.config.get("vocab_size")) for checkpoint in (one, other)]
            hint = (
                f"; their vocabularies have {' and '.join(sizes)} tokens: align them with "
                "tokenizer: {source: union}, in a weight space"
                if sizes[0] != sizes[1]
                else ""
            )
            raise RefusedInput(f"{where}: tensor '{name}' has shapes {shapes[0]} and {shapes[1]}{hint}")
