"""The canary: one checkpoint's log-probabilities by transformers, for the self-test of a live engine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

_TOKENS = 48
# The largest mean difference between two correct implementations. In 16 bits the logits are rounded.
_TOLERANCE = {"float32": 1e-3, "bfloat16": 0.1, "float16": 0.05}


class Canary:
    """A checkpoint's log-probabilities of ``tokens``: ids across its vocabulary, the same in every run.

    ``tolerance`` is the largest error accepted for an engine in this dtype.
    """

    @torch.no_grad()
    def __init__(self, folder: Path, dtype: str, device: str) -> None:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(device).eval()
        vocabulary = model.config.get_text_config().vocab_size
        self.tokens = [(7919 * place + 1) % vocabulary for place in range(_TOKENS)]
        self.tolerance = _TOLERANCE[dtype]
        ids = torch.tensor([self.tokens], device=device)
        logits = model(ids).logits[0, :-1].float()
        self._expected = torch.log_softmax(logits, dim=-1).gather(1, ids[0, 1:, None])[:, 0].cpu()
        del model, logits
        if device.startswith("cuda"):
            torch.cuda.empty_cache()  # the engine starts next, and measures the free memory

    def error(self, logprobs: Sequence[float]) -> float:
        """The mean absolute difference of the tokens' log-probabilities. The first token has none."""
        return float((torch.tensor(logprobs) - self._expected[: len(logprobs)]).abs().mean())
