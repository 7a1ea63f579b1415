"""What a checkpoint holds, from its config and safetensors headers; no weight is read.

Refuses what is unsafe (pickled weights, remote code) and what is damaged, by file name.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ..errors import RefusedInput

_INDEX = "model.safetensors.index.json"
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")


@dataclass(frozen=True)
class TensorHeader:
    """One tensor as its header describes it; ``start`` and ``stop`` are byte offsets in the file."""

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


def read_checkpoint(directory: Path) -> Checkpoint:
    """Reads a folder's config and tensor headers.

    Raises RefusedInput if the folder is missing, holds only pickled weights, needs remote code, or has a
    corrupt, truncated or missing safetensors file.
    """
    if not directory.is_dir():
        raise RefusedInput(f"{directory}: no such model folder; check the path in the study file")
    config = _read_json(directory / "config.json")
    if not isinstance(config.get("num_hidden_layers"), int):
        raise RefusedInput(
            f"{directory}: its config has no num_hidden_layers; only one-stack decoder models can be merged"
        )
    if "auto_map" in config:
        raise RefusedInput(f"{directory}: its config asks for remote code (auto_map), which is never run")
    tensors: dict[str, TensorHeader] = {}
    for file in _weight_files(directory):
        tensors |= _read_headers(file)
    return Checkpoint(directory, config, tensors)


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
        raise RefusedInput(f"{file}: not a whole safetensors file ({error}); download it again") from error
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
        raise RefusedInput(f"{path}: cannot be read as JSON ({error}); is this a model folder?") from error
    if not isinstance(content, dict):
        raise RefusedInput(f"{path}: expected a JSON object")
    return content
