"""Parent and Recipe: a merge and its inputs as immutable data.

A recipe is one mergekit merge together with the seed for its random methods. A parent is a model that recipes
may merge. A parent may itself be a recipe. This module reads no file and imports no heavy package.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from .methods import METHODS

Scalar = bool | int | float | str


@dataclass(frozen=True)
class Conditional:
    """A parameter value for the tensors whose name contains ``filter`` (None: for all tensors)."""

    value: Scalar | tuple[Scalar, ...]
    filter: str | None = None


# A scalar, a gradient over the slice's layers, or conditional values of which the first match applies
# (mergekit.config.ParameterSetting).
Setting = Scalar | tuple[Scalar, ...] | tuple[Conditional, ...]
Parameters = tuple[tuple[str, Setting], ...]


@dataclass(frozen=True)
class Parent:
    """A model that recipes may merge.

    ``source`` is an absolute directory, a hub id or a recipe. ``revision`` pins a hub id. ``adapter`` is the
    directory of an optional PEFT adapter. ``digest`` is the digest of the content: equal digests mean equal
    models, wherever the files are. Two parents are equal if their digests are.
    """

    digest: str
    source: str | Recipe = field(compare=False)
    revision: str | None = field(default=None, compare=False)
    adapter: str | None = field(default=None, compare=False)

    @property
    def reference(self) -> str:
        """The parent in mergekit's notation, ``path[@revision][+adapter]``.

        A recipe appears as ``recipe:`` and the first 12 digits of its digest.
        """
        if isinstance(self.source, Recipe):
            text = f"recipe:{self.digest[:12]}"
        else:
            text = self.source + (f"@{self.revision}" if self.revision else "")
        return text + (f"+{self.adapter}" if self.adapter else "")


@dataclass(frozen=True)
class Source:
    """The layers ``[start, stop)`` of one parent in a slice (None: all layers), and their parameters."""

    parent: Parent
    layers: tuple[int, int] | None = None
    parameters: Parameters = ()


@dataclass(frozen=True)
class Slice:
    """Consecutive layers of the result, merged from the sources, in order."""

    sources: tuple[Source, ...]
    parameters: Parameters = ()


@dataclass(frozen=True)
class TokenizerFolder:
    """A tokenizer's files. ``digest`` is the digest of their content and alone decides equality."""

    digest: str
    path: str = field(compare=False)


@dataclass(frozen=True)
class TokenRow:
    """The embedding of a token for the parents that lack the token, or with ``force`` for all parents.

    The embedding is the row of ``token`` (a text or an id; None: the same token) in ``parent``. Without
    ``parent`` the embedding is zero.
    """

    parent: Parent | None = None
    token: str | int | None = None
    force: bool = False


@dataclass(frozen=True)
class Tokenizer:
    """A vocabulary that the parents are aligned to before the merge, in mergekit's terms.

    ``source`` is ``base``, ``union`` or a tokenizer's folder. mergekit numbers the new tokens of a union
    differently in every run, so the recipes of a search name the folder of one saved union
    (``merging/settle.py``). ``tokens`` are added to the vocabulary. ``chat_template`` is mergekit's own key:
    a known name, a Jinja text, or ``auto``.
    """

    source: str | TokenizerFolder = "union"
    tokens: tuple[tuple[str, TokenRow], ...] = ()
    pad_to_multiple_of: int | None = None
    chat_template: str | None = None


@dataclass(frozen=True)
class Recipe:
    """One mergekit merge as data.

    ``base`` is the origin of the task vectors if the method uses one, and always gives the result its config
    and tokenizer. ``dtype`` is the dtype that the parents are merged in, ``out_dtype`` the dtype of the
    result. ``tokenizer`` aligns parents with different vocabularies (None: the parents share one vocabulary).
    """

    method: str
    slices: tuple[Slice, ...]
    base: Parent | None = None
    parameters: Parameters = ()
    dtype: str | None = None
    out_dtype: str | None = None
    seed: int = 0
    tokenizer: Tokenizer | None = None

    @cached_property
    def digest(self) -> str:
        """Hex digest of everything that decides the tensors: recipes with equal digests have equal tensors.

        Key order, number format and the location of a parent's files do not matter. The order of the parents
        does. The seed counts only for methods that draw random numbers.
        """
        content: dict[str, object] = {
            "method": self.method,
            "base": self.base.digest if self.base else None,
            "dtype": self.dtype,
            "out_dtype": self.out_dtype or self.dtype,
            "parameters": _canonical(self.parameters),
            "seed": self.seed if METHODS[self.method].random else None,
            "slices": [
                {
                    "parameters": _canonical(part.parameters),
                    "sources": [
                        [source.parent.digest, source.layers, _canonical(source.parameters)]
                        for source in self._effective(part)
                    ],
                }
                for part in self.slices
            ],
        }
        if self.tokenizer:
            content["tokenizer"] = _tokenizer_content(self.tokenizer)
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def donor(self) -> Parent:
        """The parent that gives the result its config and tokenizer: the base, else the first parent."""
        return self.base or self.parents()[0]

    def parents(self) -> tuple[Parent, ...]:
        """The distinct parents, base included, in order of first appearance."""
        seen = dict.fromkeys(source.parent for part in self.slices for source in part.sources)
        if self.base:
            seen.setdefault(self.base)
        return tuple(seen)

    @property
    def path(self) -> tuple[tuple[Slice, int], ...] | None:
        """For each layer of the result: its slice, and its index in the parent of the slice's first source.

        None for a merge of whole models.
        """
        ranges = [part.sources[0].layers for part in self.slices]
        if None in ranges:
            return None
        pairs = zip(self.slices, ranges, strict=True)
        return tuple((part, layer) for part, layers in pairs for layer in range(*(layers or ())))

    def _effective(self, part: Slice) -> tuple[Source, ...]:
        """The sources that affect the result: without zero-weight parents, if dropping them changes no bit.

        Only weighted sums qualify. Random methods do not: their draws would shift. Merges of more than
        four inputs do not: torch's sum over the inputs groups its terms differently (measured: 5 to 50% of
        such merges change in the last bit). Aligned vocabularies do not: a parent's rows may serve tokens
        that other parents lack.
        """
        method = METHODS[self.method]
        inputs = [s for s in part.sources if method.base == "ignored" or s.parent != self.base]
        if method.random or not method.additive or len(inputs) > 4 or self.tokenizer:
            return part.sources
        kept = tuple(s for s in part.sources if s not in inputs or not _always_zero(s.parameters))
        return kept if any(s in inputs for s in kept) else part.sources


def _tokenizer_content(tokenizer: Tokenizer) -> dict[str, object]:
    """The parts of a tokenizer that decide the result, as JSON data.

    Tokens keep their order, because the order numbers them.
    """
    source = tokenizer.source
    return {
        "source": source if isinstance(source, str) else source.digest,
        "tokens": [
            [text, row.parent.digest if row.parent else None, row.token, row.force]
            for text, row in tokenizer.tokens
        ],
        "pad_to_multiple_of": tokenizer.pad_to_multiple_of,
        "chat_template": tokenizer.chat_template,
    }


def freeze(parameters: Mapping[str, object] | None) -> Parameters:
    """mergekit's YAML form of parameters (a mapping) as immutable data, sorted by name."""
    return tuple(sorted((name, _freeze_setting(value)) for name, value in (parameters or {}).items()))


def thaw(parameters: Parameters) -> dict[str, object]:
    """The inverse of :func:`freeze`: plain dicts and lists, as in mergekit's YAML."""
    return {name: _thaw_setting(setting) for name, setting in parameters}


def _freeze_setting(value: object) -> Setting:
    if isinstance(value, Mapping):
        return (_freeze_conditional(value),)
    if isinstance(value, list | tuple):
        if any(isinstance(item, Mapping) for item in value):
            return tuple(_freeze_conditional(item) for item in value)
        return tuple(_scalar(item) for item in value)
    return _scalar(value)


def _freeze_conditional(item: object) -> Conditional:
    if not isinstance(item, Mapping) or "value" not in item or set(item) - {"value", "filter"}:
        raise ValueError(f"a conditional value has the keys 'value' and 'filter'; got {item!r}")
    value = item["value"]
    frozen = tuple(_scalar(v) for v in value) if isinstance(value, list | tuple) else _scalar(value)
    return Conditional(frozen, None if item.get("filter") in (None, "*") else str(item["filter"]))


def _scalar(value: object) -> Scalar:
    if not isinstance(value, bool | int | float | str):
        raise ValueError(f"a parameter value is a number, a string or a list of these; got {value!r}")
    return value


def _thaw_setting(setting: Setting) -> object:
    if not isinstance(setting, tuple):
        return setting
    return [_thaw_conditional(item) if isinstance(item, Conditional) else item for item in setting]


def _thaw_conditional(item: Conditional) -> dict[str, object]:
    value = list(item.value) if isinstance(item.value, tuple) else item.value
    return {"value": value} if item.filter is None else {"filter": item.filter, "value": value}


def _canonical(value: object) -> object:
    """Plain JSON data in which equal settings are equal: 1, 1.0 and "1e0" are the same number."""
    if isinstance(value, Conditional):
        return {"filter": value.filter, "value": _canonical(value.value)}
    if isinstance(value, tuple):
        return [_canonical(item) for item in value]
    if isinstance(value, bool):
        return value
    try:
        return float(value)  # type: ignore[arg-type]
    except ValueError:
        return value


def _always_zero(parameters: Parameters) -> bool:
    """Whether the source's own weight is zero for every tensor."""
    setting = dict(parameters).get("weight", ())
    if not isinstance(setting, tuple) or not any(isinstance(item, Conditional) for item in setting):
        return _all_zero(setting)
    conditions = [item for item in setting if isinstance(item, Conditional)]
    covers_all = any(item.filter is None for item in conditions)
    return covers_all and all(_all_zero(item.value) for item in conditions)


def _all_zero(setting: Setting) -> bool:
    """Whether a number, or every number of a gradient, is zero.

    False for an empty gradient, which sets nothing in mergekit.
    """
    values = setting if isinstance(setting, tuple) else (setting,)
    return bool(values) and all(_canonical(value) == 0.0 for value in values)
