"""The same merge by stock ``mergekit-yaml`` in its own process, which an export promises to equal."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import safe_open

from ..errors import VerificationFailed
from ..parents.headers import read_checkpoint


def command(recipe_file: Path, output: Path, seed: int, threads: int, device: str = "cpu") -> list[str]:
    """The ``mergekit-yaml`` command that rebuilds a recipe. The bits depend on seed, threads and device."""
    words = ["mergekit-yaml", str(recipe_file), str(output), "--random-seed", str(seed), "-j", str(threads)]
    return [*words, *(["--cuda"] if device == "cuda" else [])]


def adapting(cache: Path) -> list[str]:
    """The command's additional arguments if parents have adapters: a folder to merge them in."""
    return ["--lora-merge-cache", str(cache)]


def printed(words: list[str]) -> str:
    """The command as typed in a shell."""
    return shlex.join(words)


def run(words: list[str]) -> None:
    """Runs the command offline. Raises VerificationFailed with mergekit's last line if it fails."""
    environment = dict(os.environ, HF_HUB_OFFLINE="1")
    # mergekit-yaml's module, because its script may be neither on the path nor next to this interpreter.
    words = [sys.executable, "-m", "mergekit.scripts.run_yaml", *words[1:]]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise VerificationFailed(f"stock mergekit failed on this recipe: {last}")


def require_equal(stream: Iterable[tuple[str, torch.Tensor]], directory: Path) -> int:
    """Compares a stream with a checkpoint, tensor by tensor, and returns the number of equal tensors.

    Raises VerificationFailed, naming the first tensor that is missing, extra or different in any bit.
    """
    checkpoint = read_checkpoint(directory)
    left = set(checkpoint.tensors)
    for name, ours in stream:
        if name not in left:
            raise VerificationFailed(f"tensor '{name}' is missing from the rebuilt model")
        with safe_open(checkpoint.tensors[name].file, framework="pt") as file:
            theirs = file.get_tensor(name)
        if theirs.dtype != ours.dtype or not torch.equal(theirs, ours.cpu()):
            raise VerificationFailed(f"tensor '{name}' differs between this merge and stock mergekit's")
        left.remove(name)
    if left:
        raise VerificationFailed(f"tensor '{min(left)}' is only in the rebuilt model")
    return len(checkpoint.tensors)
