"""Stops a diverging training, and measures the change of the model: margin, KL divergence, perplexity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from transformers import TrainerCallback

from ..plan import MutationPlan

_LOOKS = 10  # number of divergence measurements during a training
_BATCH = 4  # small, because a vocabulary of 150,000 makes logits large


class Watch(TrainerCallback):  # type: ignore[misc]
    """Compares a LoRA model with the same model without its adapter, on texts whose probability should stay.

    ``kept`` are prompts with answers; only the answers' tokens count. ``reason`` is the reason for stopping
    the training, None otherwise. ``margin`` is the last mean difference of DPO's rewards, None without DPO.
    """

    def __init__(self, kept: Sequence[tuple[str, str]], tokenizer: Any, plan: MutationPlan) -> None:
        self._batches = list(_batches(kept, tokenizer, plan.max_length))
        self._plan = plan
        self.reason: str | None = None
        self.margin: float | None = None

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Stops the training if the margin exceeds ``max_margin`` or the loss is not finite."""
        self.margin = (logs or {}).get("rewards/margins", self.margin)
        loss = (logs or {}).get("loss", 0.0)
        if self.margin is not None and not self.margin <= self._plan.max_margin:
            self._stop(control, f"reward margin {self.margin:.3g} beyond {self._plan.max_margin:g}", state)
        if not math.isfinite(loss):
            self._stop(control, f"loss {loss}", state)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Stops the training if the KL divergence exceeds ``max_kl``."""
        if state.global_step % max(1, self._plan.steps // _LOOKS) == 0:
            kl = self.divergence(model)
            if kl is not None and not kl <= self._plan.max_kl:
                self._stop(control, f"KL {kl:.3g} nats a token beyond {self._plan.max_kl:g}", state)

    def divergence(self, model: Any) -> float | None:
        """KL(tuned || before) in nats per token of the kept answers; None without kept answers."""
        total, count = 0.0, 0
        with torch.no_grad():
            for ids, mask, answer in self._batches:
                tuned = _log_probabilities(model, ids, mask, answer)
                with model.disable_adapter():
                    before = _log_probabilities(model, ids, mask, answer)
                total += float((tuned.exp() * (tuned - before)).sum())
                count += len(tuned)
        return total / count if count else None

    def perplexity(self, model: Any) -> float | None:
        """The perplexity of the kept answers; None without kept answers."""
        total, count = 0.0, 0
        with torch.no_grad():
            for ids, mask, answer in self._batches:
                rows = _log_probabilities(model, ids, mask, answer)
                said = ids.to(rows.device)[:, 1:][answer]
                total -= float(rows.gather(1, said[:, None]).sum())
                count += len(rows)
        return math.exp(min(total / count, 700.0)) if count else None

    def _stop(self, control: Any, reason: str, state: Any) -> None:
        self.reason = self.reason or f"{reason}, at step {state.global_step}"
        control.should_training_stop = True


def _log_probabilities(
    model: Any, ids: torch.Tensor, mask: torch.Tensor, answers: torch.Tensor
) -> torch.Tensor:
    """Log-probabilities at the answers' tokens: float32, shape (tokens, vocabulary), on the CPU."""
    was_training = model.training
    model.eval()
    logits = model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device)).logits
    model.train(was_training)
    return torch.log_softmax(logits[:, :-1][answers.to(logits.device)].float(), dim=-1).cpu()


def _batches(kept: Sequence[tuple[str, str]], tokenizer: Any, longest: int) -> Any:
    """Batches of token ids, attention mask and, for each position but the first, a mask of answer tokens.

    A text that is too long is cut at its start, because the answer is at its end.
    """
    for start in range(0, len(kept), _BATCH):
        rows = []
        for prompt, answer in kept[start : start + _BATCH]:
            asked = tokenizer(prompt).input_ids
            said = tokenizer(answer + (tokenizer.eos_token or ""), add_special_tokens=False).input_ids
            rows.append((asked, said))
        size = min(max(len(a) + len(s) for a, s in rows), longest)
        ids = torch.zeros((len(rows), size), dtype=torch.long)
        mask, answers = torch.zeros_like(ids), torch.zeros((len(rows), size), dtype=torch.bool)
        for place, (asked, said) in enumerate(rows):
            whole = (asked + said)[-size:]
            ids[place, : len(whole)] = torch.tensor(whole)
            mask[place, : len(whole)] = 1
            answers[place, max(len(whole) - len(said), 0) : len(whole)] = True
        yield ids, mask, answers[:, 1:]
