"""Trains the zoo's models. Loads torch and transformers, so import it inside functions only."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from .definition import ARCHITECTURE, EARLY_STOP, OPTIMISER, Stage
from .language import ALPHABET, END, PAD, Question, draw, pairs

_IDS = {character: place for place, character in enumerate(ALPHABET)}
_PROMPT_LENGTH = 7


@contextmanager
def quiet_torch(seed: int) -> Iterator[None]:
    """Seed torch and limit it to one thread, then restore the caller's generator and thread count.

    One thread, because the bits of a sum may depend on the number of threads. Only the CPU generator is
    seeded: ``torch.manual_seed`` would also seed the GPUs.
    """
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    torch.default_generator.manual_seed(seed)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(state)


def new_model() -> LlamaForCausalLM:
    """A float32 model with random weights from torch's generator."""
    config = LlamaConfig(
        **ARCHITECTURE,
        architectures=["LlamaForCausalLM"],
        bos_token_id=None,
        eos_token_id=_IDS[END],
        pad_token_id=_IDS[PAD],
        dtype="float32",
    )
    return LlamaForCausalLM(config)


def save(model: LlamaForCausalLM, folder: Path) -> None:
    """Write the files that ``save_pretrained`` writes, without its progress bar."""
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    save_file(model.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})


def train(model: LlamaForCausalLM, stage: Stage, seed: int) -> int:
    """Train the model in place, and return the number of steps taken."""
    source = random.Random(seed + stage.data_seed)
    optimiser = torch.optim.AdamW(
        model.parameters(),
        betas=(OPTIMISER["beta1"], OPTIMISER["beta2"]),
        weight_decay=OPTIMISER["weight_decay"],
    )
    schedule = _Schedule(stage)
    step = 0
    while step < schedule.end:
        if schedule.is_check(step) and accuracy(model, _first_sums()) >= EARLY_STOP["accuracy"]:
            schedule.settle(step)
        optimiser.param_groups[0]["lr"] = schedule.rate(step)
        _step(model, optimiser, draw(stage.mixture, int(OPTIMISER["batch"]), source))
        step += 1
    model.eval()
    return step


@torch.no_grad()
def accuracy(model: LlamaForCausalLM, questions: Sequence[Question]) -> float:
    """The share of questions, 0 to 1, whose greedy answer is exactly right, end mark included."""
    sequences = _encode(questions)
    tokens = sequences[:, :_PROMPT_LENGTH]
    while tokens.shape[1] < sequences.shape[1]:
        best = model(input_ids=tokens).logits[:, -1].argmax(-1, keepdim=True)
        tokens = torch.cat([tokens, best], dim=1)
    return (tokens == sequences).all(dim=1).double().mean().item()


def _encode(questions: Sequence[Question]) -> torch.Tensor:
    texts = [question.prompt + question.answer + END for question in questions]
    return torch.tensor([[_IDS[character] for character in text] for text in texts])


def _first_sums() -> list[Question]:
    return [Question("add", "A", pair) for pair in pairs("val", "add")[: int(EARLY_STOP["items"])]]


def _step(model: LlamaForCausalLM, optimiser: torch.optim.Optimizer, questions: Sequence[Question]) -> None:
    tokens = _encode(questions)
    logits = model(input_ids=tokens).logits[:, _PROMPT_LENGTH - 1 : -1]  # the loss covers only answers
    targets = tokens[:, _PROMPT_LENGTH:]
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), OPTIMISER["clip"])
    optimiser.step()


class _Schedule:
    """Learning rates: warm-up, then a cosine over the planned steps, or an early linear decay to zero."""

    def __init__(self, stage: Stage) -> None:
        self.end = stage.steps
        self._stage = stage
        self._settling_from: float | None = None

    def is_check(self, step: int) -> bool:
        """Whether to check at this step if the skill has been learned."""
        due = step >= EARLY_STOP["from"] and step % EARLY_STOP["every"] == 0
        return self._stage.stops_early and self._settling_from is None and due

    def settle(self, step: int) -> None:
        """End early: lower the rate linearly to zero, starting at this step."""
        self._settling_from = self.rate(step)
        self.end = step + int(EARLY_STOP["settle"])

    def rate(self, step: int) -> float:
        if self._settling_from is not None:
            return self._settling_from * (self.end - step) / EARLY_STOP["settle"]
        warm_up = OPTIMISER["warm_up"] * self._stage.steps
        if step < warm_up:
            return self._stage.peak_rate * (step + 1) / warm_up
        progress = (step - warm_up) / (self._stage.steps - warm_up)
        floor = OPTIMISER["floor"]
        return self._stage.peak_rate * (floor + (1 - floor) * (1 + math.cos(math.pi * progress)) / 2)
