"""Recipes as mergekit YAML, in both directions.

Keys that mergekit reads keep mergekit's format (``mergekit.config.MergeConfiguration``). Data that
mergekit does not know (the merge seed, the parents' digests, the scores) is stored under one extra
key, ``recipesearch``, which mergekit ignores. mergekit also ignores a misspelt parameter, so reading
rejects every unknown name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import yaml

from ..errors import PlanError, nearest
from .methods import METHODS
from .recipe import (
    Parameters,
    Parent,
    Recipe,
    Slice,
    Source,
    Tokenizer,
    TokenizerFolder,
    TokenRow,
    freeze,
    thaw,
)

PROVENANCE = "recipesearch"
_DTYPES = ("bfloat16", "float16", "float32", "float64")
# libyaml reads thousands of recipes in a second, and writes them as fast; some builds of PyYAML lack it.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_TOP = {
    "merge_method",
    "base_model",
    "models",
    "slices",
    "parameters",
    "dtype",
    "out_dtype",
    "tokenizer",
    "tokenizer_source",
    "chat_template",
    PROVENANCE,
}


def to_mergekit(recipe: Recipe, locate: Callable[[Parent], str]) -> dict[str, Any]:
    """The recipe as the mapping in mergekit's YAML. ``locate`` gives the reference of a parent."""
    config: dict[str, Any] = {"merge_method": recipe.method}
    if recipe.base:
        config["base_model"] = locate(recipe.base)
    if len(recipe.slices) == 1 and all(s.layers is None for s in recipe.slices[0].sources):
        config["models"] = [_source(s, locate) for s in recipe.slices[0].sources]
        shared = dict(thaw(recipe.parameters)) | thaw(recipe.slices[0].parameters)
    else:
        config["slices"] = [_slice(part, locate) for part in recipe.slices]
        shared = thaw(recipe.parameters)
    if shared:
        config["parameters"] = shared
    for key, value in (("dtype", recipe.dtype), ("out_dtype", recipe.out_dtype)):
        if value:
            config[key] = value
    if recipe.tokenizer:
        config |= _tokenizer_keys(recipe.tokenizer, locate)
    return config


def to_yaml(recipe: Recipe, locate: Callable[[Parent], str], provenance: Mapping[str, Any]) -> str:
    """The recipe as YAML text that stock ``mergekit-yaml`` reads.

    ``provenance`` is stored with the seed and the digest.
    """
    config = to_mergekit(recipe, locate)
    config[PROVENANCE] = {"seed": recipe.seed, "digest": recipe.digest, **provenance}
    return yaml.dump(config, Dumper=_FlowLists, sort_keys=False, allow_unicode=True, width=100)


def from_yaml(
    text: str,
    identify: Callable[[str], Parent],
    identify_tokenizer: Callable[[str], TokenizerFolder] | None = None,
) -> tuple[Recipe, dict[str, Any]]:
    """Reads a recipe and its provenance (empty for a plain mergekit file) from YAML text.

    ``identify`` turns a model reference into a Parent. ``identify_tokenizer`` turns a tokenizer's folder
    into a TokenizerFolder (None: recipes that name a folder are rejected). Raises PlanError for text that is
    not a mergekit configuration of a known method, for keys that this version does not support, and for
    misspelt parameters.
    """
    try:
        config = yaml.load(text, Loader=_LOADER)
    except yaml.YAMLError as error:
        raise PlanError(f"the recipe is not YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(config, Mapping) or "merge_method" not in config:
        raise PlanError("the recipe has no 'merge_method': give a mergekit YAML file")
    _known(config, _TOP, "recipe key")
    try:
        provenance = dict(config.get(PROVENANCE) or {})
        recipe = _recipe(config, _require_text(identify), int(provenance.get("seed", 0)))
        tokenizer = _read_tokenizer(config, _require_text(identify), identify_tokenizer)
    except KeyError as error:
        raise PlanError(f"the recipe is not a mergekit configuration: {error} is missing") from error
    except (AttributeError, TypeError, ValueError) as error:
        raise PlanError(f"the recipe is not a mergekit configuration: {error}") from error
    return replace(recipe, tokenizer=tokenizer), provenance


def references(text: str) -> set[str]:
    """The model references in a recipe's YAML text, as written."""
    return set(_references(yaml.safe_load(text)))


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        yield from (str(node[key]) for key in ("model", "base_model") if isinstance(node.get(key), str))
        for key, value in node.items():
            if key != PROVENANCE:
                yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def _require_text(identify: Callable[[str], Parent]) -> Callable[[Any], Parent]:
    def identify_text(reference: Any) -> Parent:
        if not isinstance(reference, str):
            raise PlanError(f"a model is one string, path[@revision][+adapter]; got {reference!r}")
        return identify(reference)

    return identify_text


def _recipe(config: Mapping[str, Any], identify: Callable[[str], Parent], seed: int) -> Recipe:
    method = str(config["merge_method"])
    _known([method], METHODS, "merge method")
    accepts = METHODS[method].accepts
    base = identify(config["base_model"]) if config.get("base_model") else None
    given = [key for key in ("models", "slices") if config.get(key) is not None]
    if len(given) != 1 or not config[given[0]]:
        raise PlanError("a recipe needs exactly one of 'models' and 'slices', and it must not be empty")
    for key in ("dtype", "out_dtype"):
        if config.get(key) is not None:
            _known([str(config[key])], _DTYPES, key)
    if config.get("models"):
        slices: tuple[Slice, ...] = (_whole_models(config["models"], base, identify, accepts),)
    else:
        slices = tuple(_read_slice(part, identify, accepts) for part in config["slices"])
    return Recipe(
        method=method,
        slices=slices,
        base=base,
        parameters=_parameters(config.get("parameters"), accepts),
        dtype=config.get("dtype"),
        out_dtype=config.get("out_dtype"),
        seed=seed,
    )


def _whole_models(
    models: Iterable[Mapping[str, Any]],
    base: Parent | None,
    identify: Callable[[str], Parent],
    accepts: frozenset[str],
) -> Slice:
    """``models:`` as one slice of all layers. mergekit appends an unlisted base (plan.normalize_config)."""
    sources = []
    for model in models:
        _known(model, {"model", "parameters"}, "key of a model")
        sources.append(Source(identify(model["model"]), None, _parameters(model.get("parameters"), accepts)))
    if base and all(source.parent != base for source in sources):
        sources.append(Source(base))
    return Slice(tuple(sources))


def _read_slice(part: Mapping[str, Any], identify: Callable[[str], Parent], accepts: frozenset[str]) -> Slice:
    _known(part, {"sources", "parameters"}, "key of a slice")
    sources = []
    for source in part["sources"]:
        _known(source, {"model", "layer_range", "parameters"}, "key of a source")
        start, stop = source["layer_range"]
        parameters = _parameters(source.get("parameters"), accepts)
        sources.append(Source(identify(source["model"]), (int(start), int(stop)), parameters))
    return Slice(tuple(sources), _parameters(part.get("parameters"), accepts))


def _parameters(raw: Mapping[str, Any] | None, accepts: frozenset[str]) -> Parameters:
    _known(raw or {}, accepts, "parameter")
    return freeze(raw)


def _known(names: Iterable[str], known: Iterable[str], what: str) -> None:
    for name in names:
        if name not in known:
            raise PlanError(f"unknown {what} '{name}': {nearest(str(name), sorted(known))}")


def _source(source: Source, locate: Callable[[Parent], str]) -> dict[str, Any]:
    entry: dict[str, Any] = {"model": locate(source.parent)}
    if source.layers is not None:
        entry["layer_range"] = list(source.layers)
    if source.parameters:
        entry["parameters"] = thaw(source.parameters)
    return entry


def _slice(part: Slice, locate: Callable[[Parent], str]) -> dict[str, Any]:
    entry: dict[str, Any] = {"sources": [_source(s, locate) for s in part.sources]}
    if part.parameters:
        entry["parameters"] = thaw(part.parameters)
    return entry


# -- tokenizer and chat template


def _tokenizer_keys(tokenizer: Tokenizer, locate: Callable[[Parent], str]) -> dict[str, Any]:
    """The tokenizer as mergekit's keys ``tokenizer`` and ``chat_template``."""
    source = tokenizer.source
    entry: dict[str, Any] = {"source": source if isinstance(source, str) else source.path}
    if tokenizer.tokens:
        entry["tokens"] = {text: _row(row, locate) for text, row in tokenizer.tokens}
    if tokenizer.pad_to_multiple_of:
        entry["pad_to_multiple_of"] = tokenizer.pad_to_multiple_of
    template = {"chat_template": tokenizer.chat_template} if tokenizer.chat_template else {}
    return {"tokenizer": entry, **template}


def _row(row: TokenRow, locate: Callable[[Parent], str]) -> dict[str, Any]:
    source: Any = {"kind": "zero"}
    if row.parent:
        source = locate(row.parent)
        if row.token is not None:
            key = "token_id" if isinstance(row.token, int) else "token"
            source = {"kind": "model_token", "model": source, key: row.token}
    return {"source": source, **({"force": True} if row.force else {})}


def _read_tokenizer(
    config: Mapping[str, Any],
    identify: Callable[[str], Parent],
    identify_tokenizer: Callable[[str], TokenizerFolder] | None,
) -> Tokenizer | None:
    if config.get("tokenizer") and config.get("tokenizer_source"):
        raise PlanError("a recipe may have 'tokenizer' or 'tokenizer_source', not both")
    raw = config.get("tokenizer") or {"source": config.get("tokenizer_source")}
    _known(raw, {"source", "tokens", "pad_to_multiple_of"}, "key of tokenizer")
    if not (config.get("tokenizer") or config.get("tokenizer_source")):
        if config.get("chat_template"):
            raise PlanError("a recipe's 'chat_template' needs a 'tokenizer': add tokenizer: {source: base}")
        return None
    source: Any = raw.get("source", "union")
    if source not in ("union", "base"):
        if identify_tokenizer is None:
            raise PlanError(f"the tokenizer's source '{source}' is neither union nor base; use one of them")
        source = identify_tokenizer(source)
    tokens = ((str(text), _read_row(text, row, identify)) for text, row in (raw.get("tokens") or {}).items())
    return Tokenizer(source, tuple(tokens), raw.get("pad_to_multiple_of"), config.get("chat_template"))


def _read_row(text: str, raw: Mapping[str, Any], identify: Callable[[str], Parent]) -> TokenRow:
    _known(raw, {"source", "force"}, f"key of token '{text}'")
    source, force = raw.get("source"), bool(raw.get("force", False))
    if isinstance(source, str):
        return TokenRow(identify(source), None, force)
    kind = source.get("kind") if isinstance(source, Mapping) else None
    if kind == "zero":
        return TokenRow(None, None, force)
    if not isinstance(source, Mapping) or kind != "model_token":
        raise PlanError(
            f"token '{text}' needs a source: a model, {{kind: zero}} or {{kind: model_token, ...}}"
        )
    token, number = source.get("token"), source.get("token_id")
    if (token is None) == (number is None):
        raise PlanError(f"token '{text}': a model_token needs exactly one of 'token' and 'token_id'")
    return TokenRow(identify(source["model"]), str(token) if number is None else int(number), force)


class _FlowLists(_DUMPER):  # type: ignore[misc]
    """Writes lists of numbers on one line, as is usual for layer ranges and gradients."""


def _represent_list(dumper: _FlowLists, data: list[Any]) -> Any:
    flow = all(isinstance(item, int | float) for item in data)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=flow)


_FlowLists.add_representer(list, _represent_list)
