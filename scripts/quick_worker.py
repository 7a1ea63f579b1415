"""A worker for many searches on the zoo: real merges, scored by one forward pass over all items.

Greedy exact match on a fixed answer is the same as "every token of the answer is the most likely one after
the right tokens before it": the first wrong token makes the answer wrong, whatever follows. One pass with the
right answers appended therefore gives the item results of lm-eval's generation in a fraction of the time.
check_quick_worker.py compares the two item by item.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
from zoo_studies import TASKS

from recipesearch.merging.resident import ResidentParents
from recipesearch.merging.stream import Merger
from recipesearch.recipe import Parent, Recipe
from recipesearch.score import Conditions, Goal, Part, Seconds, TaskScore, item_order, mean_of
from recipesearch.workers.instant import InstantWorker
from recipesearch.workers.order import Ready, WorkerOrder
from recipesearch.zoo import build_zoo

HELD_OUT = 300  # items of each held-out task
# Halves of a task: the whole task and the kinds of questions.
HALVES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "order_b": ("reading_b", ("max", "min")),
    "lookup_b": ("reading_b", ("su", "tr")),
}
_ANSWER = 3  # tokens of an answer: two characters and the end
Bits = NDArray[np.bool_]


class QuickZoo:
    """One zoo's models and items. ``items``: at most so many of each search task, the first ones.

    Answers are kept by recipe, so that a repeat in another search costs nothing.
    """

    def __init__(self, seed: int, items: int, tasks: Sequence[str] = TASKS) -> None:
        self.folder, self.items, self.tasks = build_zoo(seed), items, tuple(tasks)
        self._base = str(self.folder / "base")
        self._tokenizer = AutoTokenizer.from_pretrained(self._base)
        self._models: dict[int, LlamaForCausalLM] = {}
        self._mergers: dict[tuple[Parent, ...], Merger] = {}
        self._known: dict[tuple[str, bool], list[Bits]] = {}
        self._rows = {held: [self._read(task, held) for task in tasks] for held in (False, True)}

    def answers(self, recipe: Recipe, parents: Sequence[Parent], held_out: bool = False) -> list[Bits]:
        """For each task, whether each item is answered rightly."""
        key = (recipe.digest, held_out)
        if key not in self._known:
            model, rows = self._merged(recipe, tuple(parents)), self._rows[held_out]
            ends = np.cumsum([len(row) for row in rows])[:-1]
            self._known[key] = np.split(_right(model, torch.cat(rows)), ends)
        return self._known[key]

    def values(self, recipe: Recipe, parents: Sequence[Parent], part: int = 0) -> list[float]:
        """The share of right answers on each task: of the first ``part`` items in their order, or of all."""
        found = []
        for task, bits in zip(self.tasks, self.answers(recipe, parents), strict=True):
            places = item_order(self.task_hash(task), len(bits))[: part or None]
            found.append(float(bits[places].mean()))
        return found

    def count(self, task: str) -> int:
        """The number of search items of a task."""
        return len(self._rows[False][self.tasks.index(task)])

    def task_hash(self, task: str) -> str:
        """The hash of a task in the ledger."""
        return f"{task}/{self.items}"

    def _merged(self, recipe: Recipe, parents: tuple[Parent, ...]) -> LlamaForCausalLM:
        if parents not in self._mergers:
            self._mergers[parents] = Merger(ResidentParents({p: Path(str(p.source)) for p in parents}))
        tensors = dict(self._mergers[parents].stream(recipe))
        model = self._of_depth(sum("input_layernorm" in name for name in tensors))
        live = dict(model.named_parameters())
        with torch.no_grad():
            for name, tensor in tensors.items():
                live[name].copy_(tensor)
        return model

    def _of_depth(self, layers: int) -> LlamaForCausalLM:
        if layers not in self._models:
            config = LlamaConfig.from_pretrained(self._base, num_hidden_layers=layers)
            self._models[layers] = LlamaForCausalLM(config).to(torch.float32).eval()
        return self._models[layers]

    def _read(self, task: str, held_out: bool) -> torch.Tensor:
        whole, kinds = HALVES.get(task, (task, ()))
        file = self.folder / "tasks" / f"{whole}_{'held_out' if held_out else 'search'}.jsonl"
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        rows = [row for row in rows if not kinds or row["kind"] in kinds]
        texts = [row["prompt"] + row["answer"] + "$" for row in rows]
        count = HELD_OUT if held_out else self.items
        return torch.tensor(self._tokenizer(texts[:count], add_special_tokens=False)["input_ids"])


@torch.inference_mode()
def _right(model: LlamaForCausalLM, rows: torch.Tensor) -> Bits:
    logits = model(rows[:, :-1], logits_to_keep=_ANSWER).logits
    return np.asarray((logits.argmax(-1) == rows[:, -_ANSWER:]).all(1))


class QuickWorker(InstantWorker):
    """Scores recipes over one zoo instead of by a formula. The goals are exact match on the zoo's tasks."""

    def __init__(self, zoo: QuickZoo, order: WorkerOrder) -> None:
        self._zoo, self._parents = zoo, order.parents
        engine = order.engine
        conditions = Conditions("quick", "cpu", 1, engine.batch_size, torch.__version__, engine.dtype, False)
        goals = tuple(
            replace(goal, hash=zoo.task_hash(task), items=zoo.count(task), pooled=True)
            for goal, task in zip(order.goals, zoo.tasks, strict=True)
        )
        self.ready = Ready(conditions, goals, ())

    def score(
        self, recipe: Recipe, held_out: bool = False, part: Part | None = None
    ) -> tuple[list[TaskScore], Seconds]:
        """Scores a recipe on the search items, or on a part of each task's."""
        found = zip(self.ready.goals, self._zoo.answers(recipe, self._parents), strict=True)
        return [_score(goal, bits, part or (0, len(bits))) for goal, bits in found], Seconds(0, 0)


def _score(goal: Goal, bits: Bits, part: Part) -> TaskScore:
    places = sorted(item_order(goal.hash, len(bits))[part[0] : part[1]])
    items = {f"{place:06d}": {goal.metric: float(bits[place])} for place in places}
    measured = mean_of([float(bits[place]) for place in places])
    return TaskScore(goal.hash, {goal.metric: measured}, items, part[0], len(bits))
