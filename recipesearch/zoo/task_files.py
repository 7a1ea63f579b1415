"""Writes the zoo's lm-eval tasks: one YAML and one JSONL file per task and split."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import yaml

from .definition import FILES, TASKS, Definition
from .language import END, Question, pairs, parse_skill


def task_items(task: str, file: str) -> list[Question]:
    """The questions of one task file, all distinct. Fewer than planned if the split has no more.

    Selection and order are fixed: addition in A and in B ask about the same pairs.
    """
    seed = Definition().item_seed
    skills = TASKS[task].skills
    share = TASKS[task].items[file] // len(skills)
    questions: list[Question] = []
    for place, (kind, language) in enumerate(map(parse_skill, skills)):
        pool = pairs(FILES[file], kind)
        shuffled = random.Random(seed).sample(pool, len(pool))
        # each skill takes the next range, so a task never asks about the same pair twice
        chosen = shuffled[place * share : (place + 1) * share]
        questions += [Question(kind, language, pair) for pair in chosen]
    random.Random(seed).shuffle(questions)
    return questions


def write_tasks(folder: Path, final: Path) -> None:
    """Write all task files into ``folder``. The YAML files point to ``final``, where they will be read.

    lm-eval resolves data files against the working directory, so the paths in the YAML files are absolute.
    """
    folder.mkdir()
    for task in TASKS:
        for file in FILES:
            stem = f"{task}_{file}"
            rows = [_row(question) for question in task_items(task, file)]
            (folder / f"{stem}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            settings = _task_settings(stem, final / f"{stem}.jsonl")
            (folder / f"{stem}.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))


def _row(question: Question) -> dict[str, str]:
    return {"kind": question.kind, "prompt": question.prompt, "answer": question.answer}


def _task_settings(stem: str, data: Path) -> dict[str, Any]:
    return {
        "task": f"zoo_{stem}",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "output_type": "generate_until",
        # column names, because lm-eval compiles a Jinja template again for every item
        "doc_to_text": "prompt",
        "doc_to_target": "answer",
        "num_fewshot": 0,
        "generation_kwargs": {"until": [END], "max_gen_toks": 4, "do_sample": False},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"version": 1},
    }
