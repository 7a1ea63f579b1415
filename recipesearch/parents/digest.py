"""Content digests: two models with the same digest are the same model, wherever their files are."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from ..errors import RefusedInput
from ..files import cache_dir, write_text
from .headers import COMPANIONS, CONFIG_NOISE, Checkpoint

_FORMAT = "3"  # of the digest; increase it with any change to _digest, so cached digests are recomputed
_CHUNK = 1 << 24


def content_digest(checkpoint: Checkpoint) -> str:
    """Hex digest of a model's content: config, companion files and all tensors with their names.

    A tensor counts by its name, dtype, shape and bytes. Independent of the folder's location, sharding and
    metadata. Cached by the files' paths, sizes and
    modification times, because reading a large model is slow.
    """
    files = sorted({header.file for header in checkpoint.tensors.values()})
    files += [checkpoint.directory / name for name in ("config.json", *COMPANIONS)]
    stamps = [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files if f.exists()]
    remembered = cache_dir() / "digests" / joint_digest(_FORMAT, json.dumps(stamps))
    if remembered.exists():
        return remembered.read_text()
    digest = _digest(checkpoint)
    write_text(remembered, digest)
    return digest


def adapter_digest(directory: Path) -> str:
    """Hex digest of a PEFT adapter's config and weights. Raises RefusedInput if either file is missing."""
    config, weights = directory / "adapter_config.json", directory / "adapter_model.safetensors"
    if not (config.exists() and weights.exists()):
        raise RefusedInput(
            f"{directory}: not an adapter folder; it needs adapter_config.json and adapter_model.safetensors"
        )
    return joint_digest(config.read_bytes(), weights.read_bytes())


def joint_digest(*parts: str | bytes) -> str:
    """Hex digest of several texts or byte strings, in order."""
    state = hashlib.sha256()
    for part in parts:
        state.update(part.encode() if isinstance(part, str) else part)
        state.update(b"\0")
    return state.hexdigest()


def _digest(checkpoint: Checkpoint) -> str:
    state = hashlib.sha256()
    config = {key: value for key, value in checkpoint.config.items() if key not in CONFIG_NOISE}
    state.update(json.dumps(config, sort_keys=True).encode())
    for name in COMPANIONS:
        path = checkpoint.directory / name
        state.update(name.encode() + (path.read_bytes() if path.exists() else b""))
    for name, header in sorted(checkpoint.tensors.items()):
        state.update(f"{name}|{header.dtype}|{header.shape}".encode())
        with header.file.open("rb") as stream:
            stream.seek(header.start)
            left = header.stop - header.start
            while left:
                block = stream.read(min(left, _CHUNK))
                if not block:
                    raise RefusedInput(f"{header.file}: ends inside tensor '{name}'; download it again")
                state.update(block)
                left -= len(block)
    return state.hexdigest()
