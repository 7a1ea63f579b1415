"""The random numbers of a merge, separate from the caller's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Draws:
    """The merge's own random numbers: one stream per recipe, separate from the caller's."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._state = self._get()

    def seed(self, seed: int) -> None:
        """Starts the stream that ``set_seed(seed)`` starts in mergekit."""
        outer, outer_cpu = self._get(), torch.get_rng_state()
        torch.manual_seed(seed)  # sets every device
        self._state = self._get()
        self._set(outer)
        torch.set_rng_state(outer_cpu)

    @contextmanager
    def own(self) -> Iterator[None]:
        """Draws inside the block continue this stream. Afterwards the caller's state is as before."""
        outer = self._get()
        self._set(self._state)
        try:
            yield
        finally:
            self._state = self._get()
            self._set(outer)

    def _get(self) -> torch.Tensor:
        return torch.cuda.get_rng_state() if self._cuda else torch.get_rng_state()

    def _set(self, state: torch.Tensor) -> None:
        (torch.cuda.set_rng_state if self._cuda else torch.set_rng_state)(state)
