"""Measures of the merge itself: its number of parameters and the norm of its weights."""

from __future__ import annotations

from collections.abc import Iterable

import torch


def measure(stream: Iterable[tuple[str, torch.Tensor]]) -> dict[str, float]:
    """``parameters`` (tied ones once) and ``weight_norm`` (L2, over floating-point tensors) of a merge."""
    count, squares = 0, 0.0
    for _, tensor in stream:
        count += tensor.numel()
        if tensor.is_floating_point():
            squares += float(torch.linalg.vector_norm(tensor.contiguous(), dtype=torch.float64)) ** 2
    return {"parameters": float(count), "weight_norm": squares**0.5}
