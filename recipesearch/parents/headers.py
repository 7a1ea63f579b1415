"""A checkpoint's config and tensors, from its config and safetensors headers. Reads no weights.

Rejects unsafe files (pickled weights, remote code) and damaged files, and names the file.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ..errors import RefusedInput

_INDEX = "model.safetensors.index.json"
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_LAYER = re.compile(r"\.\d+\.")
_INSIDE = re.compile(r"\.\d+\.|norm|ln_")
# The keys of transformers' configs that contain one entry for each layer.
PER_LAYER = ("layer_types", "mlp_layer_types", "no_rope_layers")
# Keys that name or date a config without changing the model.
CONFIG_NOISE = {"_name_or_path", "transformers_version"}
# The files that accompany the weights: tokenizer, chat template, and defaults for generation.
COMPANIONS = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
    "vocab.json",
    "chat_template.jinja",
    "generation_config.json",
)


@dataclass(frozen=True)
class TensorHeader:
    """One tensor as its header describes it. ``start`` and ``stop`` are byte offsets in the file."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True)
class Checkpoint:
    """A model folder: its ``config.json`` and the header of every tensor, by name."""

    directory: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, TensorHeader]

    @property
    def architecture(self) -> str:
        """The transformers class name, for instance ``LlamaForCausalLM``."""
        names = self.config.get("architectures") or ["?"]
        return str(names[0])

    @property
    def layers(self) -> int:
        """The number of hidden layers."""
        return int(self.config["num_hidden_layers"])

    @property
    def vocabulary(self) -> int:
        """The number of rows of the embeddings; 0 if the config does not give it."""
        size = self.config.get("vocab_size")
        return size if isinstance(size, int) else 0

    def vocabulary_tensors(self) -> dict[str, TensorHeader]:
        """The tensors that have a row for each token: embeddings, head and the head's bias."""
        return {
            name: header
            for name, header in self.tensors.items()
            if not _INSIDE.search(name) and header.shape[:1] == (self.vocabulary,)
        }

    def layer_tensors(self, layer: int) -> dict[str, TensorHeader]:
        """One layer's tensors, by name with ``*`` instead of the layer's number."""
        mark = f".{layer}."
        numbered = ((name, _LAYER.search(name)) for name in self.tensors)
        names = [name for name, number in numbered if number and number[0] == mark]
        return {name.replace(mark, ".*.", 1): self.tensors[name] for name in names}

    def with_depth(self, depth: int) -> Checkpoint:
        """The checkpoint with another number of layers, all like its first layer. Not on disk."""
        outside = {name: header for name, header in self.tensors.items() if not _LAYER.search(name)}
        inside = {
            name.replace(".*.", f".{layer}.", 1): header
            for name, header in self.layer_tensors(0).items()
            for layer in range(depth)
        }
        return replace(
            self, config={**self.config, "num_hidden_layers": depth}, tensors={**outside, **inside}
        )

    def with_vocabulary(self, size: int) -> Checkpoint:
        """The checkpoint with its rows aligned to ``size`` tokens. Not on disk."""
        resized = {
            name: replace(header, shape=(size, *header.shape[1:]), start=0, stop=0)
            for name, header in self.vocabulary_tensors().items()
        }
        return replace(self, config={**self.config, "vocab_size": size}, tensors={**self.tensors, **resized})


def read_checkpoint(directory: Path) -> Checkpoint:
    """Reads a folder's config and tensor headers.

    Raises RefusedInput if the folder is missing, holds only pickled weights, needs remote code, or has a
    corrupt, truncated or missing safetensors file.
    """
    if not directory.is_dir():
        raise RefusedInput(f"{directory}: no such model folder; check the path in the study file")
    config = read_config(directory / "config.json")
    tensors: dict[str, TensorHeader] = {}
    for file in _weight_files(directory):
        tensors |= _read_headers(file)
    return Checkpoint(directory, config, tensors)


def read_config(file: Path) -> dict[str, Any]:
    """The content of a model's config file.

    Raises RefusedInput if the file cannot be read, does not describe a single stack of layers,
    or needs remote code.
    """
    config = _read_json(file)
    if not isinstance(config.get("num_hidden_layers"), int):
        raise RefusedInput(
            f"{file}: no num_hidden_layers; only decoder models with one stack of layers can be merged"
        )
    if "auto_map" in config:
        raise RefusedInput(
            f"{file}: needs remote code (auto_map), which is never run; use a model without it"
        )
    return config


def _weight_files(directory: Path) -> list[Path]:
    index = directory / _INDEX
    if index.exists():
        weight_map = _read_json(index).get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(n, str) for n in weight_map.values()):
            raise RefusedInput(f"{index}: has no map from tensors to files; download it again")
        return [directory / name for name in sorted(set(weight_map.values()))]
    single = directory / "model.safetensors"
    if single.exists():
        return [single]
    pickled = [path.name for pattern in _PICKLED for path in directory.glob(pattern)]
    if pickled:
        raise RefusedInput(
            f"{directory}: {pickled[0]} is a pickle, which can run code when opened; "
            "convert the model to safetensors (save_pretrained) and name that folder"
        )
    raise RefusedInput(f"{directory}: no model.safetensors and no {_INDEX}; is this a model folder?")


def _read_headers(file: Path) -> dict[str, TensorHeader]:
    try:
        with safe_open(file, framework="np"):  # validates sizes, overlaps and coverage
            pass
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(length))
    except (SafetensorError, OSError, ValueError, struct.error) as error:
        raise RefusedInput(f"{file}: not a complete safetensors file ({error}); download it again") from error
    offset = 8 + length
    return {
        name: TensorHeader(
            file,
            entry["dtype"],
            tuple(entry["shape"]),
            offset + entry["data_offsets"][0],
            offset + entry["data_offsets"][1],
        )
        for name, entry in header.items()
        if name != "__metadata__"
    }


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise RefusedInput(f"{path}: cannot be read as JSON ({error}); download the model again") from error
    if not isinstance(content, dict):
        raise RefusedInput(f"{path}: expected a JSON object; download the model again")
    return content
