"""The landscapes of the search benchmarks: parents of a zoo, a space over them, and tasks as objectives."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from quick_worker import HALVES
from zoo_studies import ENGINE, TASKS

from recipesearch.zoo import build_zoo
from recipesearch.zoo.definition import Stage

GROUPS = {"layer_groups": 4, "own": ["embed", "head"]}
DEMO: Mapping[str, Any] = {"methods": ["linear", "slerp"], **GROUPS}
BASE = ("base", "math", "lang")
SIX = ["task_arithmetic", "ties", "dare_ties", "breadcrumbs", "linear", "slerp"]
FOUR = ["linear", "slerp", "task_arithmetic", "ties"]
# Methods that share no scale: spheres, signs, medians, and a parent's own large entries.
MIXED = ["linear", "slerp", "nuslerp", "karcher", "multislerp", "ties", "della", "sce", "dare_linear"]
# Further parents, each the base trained on few skills.
SPECIALISTS: Mapping[str, Mapping[str, float]] = {
    "order": {"maxB": 0.5, "minB": 0.5},
    "copy": {"cpB": 0.5, "suB": 0.5},
    "translate": {"trB": 1.0},
    "mixture": {"addA": 0.5, "trB": 0.5},
    "reading": {"maxA": 0.4, "minA": 0.3, "suA": 0.3},
}


@dataclass(frozen=True)
class Landscape:
    """What a study of the benchmarks searches. ``floors``: the bounds of tasks."""

    parents: tuple[str, ...]
    space: Mapping[str, Any]
    tasks: tuple[str, ...] = TASKS
    floors: Mapping[str, float] = field(default_factory=dict)

    def document(self, zoo: int, folder: Path, trained: Path) -> dict[str, Any]:
        """The study file's sections for a zoo. Task files go to ``folder``, specialists to ``trained``."""
        return {
            "name": "bench",
            "parents": {name: _parent(zoo, name, trained) for name in self.parents},
            "base": "base" if "base" in self.parents else None,
            "space": {"layers" if "depth" in self.space else "weights": dict(self.space)},
            "objectives": [self._objective(task, zoo, folder) for task in self.tasks],
            "engine": ENGINE,
        }

    def _objective(self, task: str, zoo: int, folder: Path) -> dict[str, Any]:
        file = half(zoo, task, folder) if task in HALVES else f"zoo@{zoo}:tasks/{task}_search.yaml"
        bound = {"bound": self.floors[task]} if task in self.floors else {}
        return {"task": str(file), "metric": "exact_match", **bound}


def half(zoo: int, task: str, folder: Path) -> Path:
    """The task file of a half of a zoo's task, written to the folder."""
    whole, kinds = HALVES[task]
    config = yaml.safe_load((build_zoo(zoo) / "tasks" / f"{whole}_search.yaml").read_text())
    files = config["dataset_kwargs"]["data_files"]
    lines = Path(files[config["test_split"]]).read_text().splitlines()
    data, file = folder / f"{task}.jsonl", folder / f"{task}.yaml"
    data.write_text("".join(line + "\n" for line in lines if json.loads(line)["kind"] in kinds))
    files[config["test_split"]] = str(data)
    file.write_text(yaml.safe_dump({**config, "task": task}))
    return file


def _parent(zoo: int, name: str, folder: Path) -> str:
    """A zoo's model, or a specialist that is trained into the folder if it is not there."""
    if name not in SPECIALISTS:
        return f"zoo@{zoo}:{name}"
    return str(specialist(zoo, name, folder))


def specialist(zoo: int, name: str, folder: Path) -> Path:
    """The model of a specialist over a zoo's base, trained as the zoo's own experts are."""
    from transformers import LlamaForCausalLM
    from transformers.utils.logging import disable_progress_bar

    from recipesearch.zoo import characters, models

    disable_progress_bar()

    final = folder / f"zoo{zoo}-{name}"
    if not final.exists():
        stage = Stage("base", SPECIALISTS[name], 250, 1.5e-3, 10 + list(SPECIALISTS).index(name))
        scratch = folder / f".{final.name}"
        with models.quiet_torch(zoo):
            model = LlamaForCausalLM.from_pretrained(build_zoo(zoo) / "base").train()
            models.train(model, stage, zoo)
            models.save(model, scratch)
        characters.make_tokenizer().save_pretrained(scratch)
        scratch.rename(final)
    return final


LANDSCAPES: Mapping[str, Landscape] = {
    "demo": Landscape(("math", "lang"), DEMO),
    "base": Landscape(BASE, {"methods": FOUR, **GROUPS}),
    "six": Landscape(BASE, {"methods": SIX, "parents": "subset", "layer_groups": 4}),
    "linear": Landscape(("math", "lang"), {"methods": ["linear"], **GROUPS}),
    "arithmetic": Landscape(BASE, {"methods": ["task_arithmetic"], **GROUPS}),
    "layers": Landscape(("math", "lang"), {"depth": [3, 6], "repeats": 2}),
    "three": Landscape(BASE, {"methods": FOUR, **GROUPS}, ("addition_a", *TASKS)),
    "four": Landscape(BASE, {"methods": FOUR, **GROUPS}, ("addition_a", "addition_b", *HALVES)),
    "bounded": Landscape(("math", "lang"), DEMO, floors={"reading_b": 0.85}),
    "forty": Landscape(
        BASE, {"methods": ["linear", "ties"], **GROUPS, "filters": ["self_attn", "gate_proj", "mlp"]}
    ),
    "eighty": Landscape(
        (*BASE, "mixture"),
        {
            "methods": ["linear", "task_arithmetic"],
            **GROUPS,
            "filters": ["q_proj", "v_proj", "o_proj", "gate_proj", "mlp"],
        },
    ),
    "five": Landscape(("base", "math", "order", "copy", "translate"), {"methods": FOUR[2:], **GROUPS}),
    "eight": Landscape((*BASE, *SPECIALISTS), {"methods": FOUR[2:], **GROUPS}),
    "mixed": Landscape(BASE, {"methods": MIXED, "parents": "subset", **GROUPS}),
}
