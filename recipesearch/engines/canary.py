"""The canary: one checkpoint's log-probabilities by transformers, to hold a live engine against."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

_TOKENS = 48
# The largest mean difference between two right implementations; in 16 bits the logits are rounded.
_TOLERANCE = {"float32": 1e-3, "bfloat16": 0.1, "float16": 0.05}


class Canary:
    """A checkpoint's answer to ``tokens``, ids spread over its vocabulary, the same in every run.

    ``tolerance`` is the error that an engine in this dtype may have.
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
            torch.cuda.empty_cache()  # the engine comes next, and measures what is free

    def error(self, logprobs: Sequence[float]) -> float:
        """The mean absolute difference of the tokens' log-probabilities, the first token's aside."""
        return float((torch.tensor(logprobs) - self._expected[: len(logprobs)]).abs().mean())
