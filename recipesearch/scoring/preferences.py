"""Preference pairs: what a model should have answered, and what it answers at its worst.

The items come from a split of their own: neither the search's nor the held-out one. From tasks that
generate, the chosen answer is the reference, or the best of the model's own, by the task's metric; the
rejected one is the worst of its own (rejection on policy, as in Rafailov et al. 2305.18290, sec. 6). From
multiple choice, they are the right choice and the likeliest wrong one, where the two are close.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ..errors import PlanError, RefusedInput
from .form import RequestForm
from .scorer import seed_everything
from .tasks import LoadedTask, generates, load_tasks

if TYPE_CHECKING:
    from lm_eval.api.model import LM
    from lm_eval.api.task import Task

PAIRS_FILE = ".jsonl"  # how the reference to a file of pairs ends
_CLOSE = 2.0  # nats: a wrong choice further below the right one teaches nothing
_KEPT = 64  # right answers that tell whether a fine-tuned model forgets
_FEWEST = 8
_DATA = {".json", ".jsonl", ".csv", ".parquet", ".txt"}

Text = str | Sequence[Mapping[str, str]]  # plain text, or messages


@dataclass(frozen=True)
class Pair:
    """A prompt, the answer to prefer and the one to avoid; texts, or messages for the chat template."""

    prompt: Text
    chosen: Text
    rejected: Text


@dataclass(frozen=True)
class Preferences:
    """Pairs to learn from, and prompts with right answers of the model's own, which it should keep."""

    pairs: tuple[Pair, ...]
    kept: tuple[tuple[str, str], ...] = ()

    @property
    def digest(self) -> str:
        """Hex digest of the pairs, in order."""
        text = json.dumps([[p.prompt, p.chosen, p.rejected] for p in self.pairs], ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Wanted:
    """How to mine: how many pairs of how many answers at what temperature; see plan.MutationPlan.

    ``contrast``: only pairs of which one answer is better; else every item with a chosen answer.
    """

    pairs: int
    samples: int
    temperature: float
    reference: bool
    contrast: bool
    seed: int


@dataclass(frozen=True)
class _Item:
    """A prompt with the answer to prefer and the one to avoid, whether the model gets it right by itself, and
    how far apart the two are: in the task's metric, or in nats for choices."""

    prompt: str
    chosen: str
    rejected: str
    apart: float
    right: bool


def mine(lm: LM, specs: Sequence[str], wanted: Wanted, chat_template: bool = False) -> Preferences:
    """Pairs for the live model from the preference tasks and files named, in equal shares.

    Deterministic for one model and seed. Raises PlanError for a task that neither generates nor chooses,
    and RefusedInput if there is next to nothing to learn from.
    """
    chance = random.Random(wanted.seed)
    share = -(-wanted.pairs // len(specs))
    pairs: list[Pair] = []
    right: list[tuple[str, str]] = []
    for spec in specs:
        if spec.endswith(PAIRS_FILE):
            found = read_pairs(Path(spec))
        else:
            items = _items(lm, _load(spec), wanted, chat_template)
            right += [(item.prompt, item.chosen) for item in items if item.right]
            taught = [item for item in items if item.apart > 0 or (item.right and not wanted.contrast)]
            found = [Pair(item.prompt, item.chosen, item.rejected) for item in taught]
        pairs += chance.sample(found, min(len(found), share))
    if len(pairs) < _FEWEST:
        raise RefusedInput(
            f"only {len(pairs)} preference pairs in {', '.join(specs)}: the model's answers there are all "
            "good, or all bad; name other items under 'preference', or draw more samples"
        )
    chance.shuffle(pairs)
    return Preferences(tuple(pairs), tuple(chance.sample(right, min(len(right), _KEPT))))


def require_minable(specs: Sequence[str]) -> None:
    """Raises PlanError for a preference task or file that no pairs can come from, before anything is run."""
    for spec in specs:
        if spec.endswith(PAIRS_FILE):
            read_pairs(Path(spec))
        else:
            _load(spec)


def items_digest(spec: str) -> str:
    """Hex digest of what a located preference task or file says, its data files too. Light: loads no task.

    Of a registered task it is the name's: its data lie in the hub's cache.
    """
    path = Path(spec)
    if not path.is_file():
        return hashlib.sha256(spec.encode()).hexdigest()
    state = hashlib.sha256(path.read_bytes())
    if not spec.endswith(PAIRS_FILE):
        for text in _strings(yaml.load(path.read_bytes(), _AnyTag)):
            data = Path(text)
            if data.suffix in _DATA and data.is_file():
                state.update(data.read_bytes())
    return state.hexdigest()


class _AnyTag(yaml.SafeLoader):
    """Reads lm-eval's task files, whose ``!function`` tags mean nothing here."""


_AnyTag.add_multi_constructor("!", lambda loader, suffix, node: None)


def _strings(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, Mapping):
        for value in content.values():
            yield from _strings(value)
    elif isinstance(content, list):
        for value in content:
            yield from _strings(value)


def read_pairs(path: Path) -> list[Pair]:
    """The pairs of a JSON-lines file: ``prompt``, ``chosen``, ``rejected``. Raises PlanError by line."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"{path}: cannot read the preference pairs ({error})") from error
    pairs = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            pairs.append(Pair(*(_text(row[key]) for key in ("prompt", "chosen", "rejected"))))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise PlanError(
                f"{path}, line {number}: a pair is a JSON object of prompt, chosen and rejected, each a text "
                f"or messages ({type(error).__name__}: {error})"
            ) from error
    return pairs


def _text(value: Any) -> Text:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all({"role", "content"} <= m.keys() for m in value):
        return tuple({"role": str(m["role"]), "content": str(m["content"])} for m in value)
    raise ValueError(f"got {value!r}")


def _load(spec: str) -> LoadedTask:
    (loaded,) = load_tasks([spec])
    if not isinstance(loaded, LoadedTask) or not (generates(loaded.task) or _chooses(loaded.task)):
        raise PlanError(f"preference task '{spec}' neither generates nor chooses: no pairs can come of it")
    return loaded


def _chooses(task: Task) -> bool:
    return str(task.OUTPUT_TYPE) == "multiple_choice"


def _items(lm: LM, loaded: LoadedTask, wanted: Wanted, chat_template: bool) -> list[_Item]:
    form = RequestForm(loaded, lm, chat_template)
    seed_everything()
    return list(_choices(form, lm) if _chooses(loaded.task) else _answers(form, lm, wanted))


# -- multiple choice


def _choices(form: RequestForm, lm: LM) -> Iterator[_Item]:
    """The right choice against the likeliest wrong one; items with a context for each choice are left out."""
    likelihoods = lm.loglikelihood(form.instances, disable_tqdm=True)
    by_request = {id(r): ll for r, (ll, _) in zip(form.instances, likelihoods, strict=True)}
    for doc_id, doc in form.docs.items():
        choices = form.task.doc_to_choice(doc)
        count, gold = len(choices), _place(form.task.doc_to_target(doc), choices)
        requests = form.requests[doc_id][:count]
        if gold is None or count < 2 or len({request.args[0] for request in requests}) > 1:
            continue
        scores = [by_request[id(request)] for request in requests]
        wrong = max((place for place in range(count) if place != gold), key=scores.__getitem__)
        margin = scores[gold] - scores[wrong]
        prompt, chosen = requests[gold].args
        # Worth a pair where the model is wrong, or nearly.
        yield _Item(prompt, chosen, requests[wrong].args[1], _CLOSE - margin, margin > 0)


def _place(gold: object, choices: Sequence[str]) -> int | None:
    """The right choice's place, stated by number or by its text, as in lm-eval; None if it is none."""
    if isinstance(gold, str):
        return choices.index(gold) if gold in choices else None
    return gold if isinstance(gold, int) and 0 <= gold < len(choices) else None


# -- generation


def _answers(form: RequestForm, lm: LM, wanted: Wanted) -> Iterator[_Item]:
    """The best answer, or the reference, against the worst of the model's own."""
    task = form.task
    metric = next(iter(task.aggregation()))
    sign = 1.0 if task.higher_is_better().get(metric, True) else -1.0
    rounds = _rounds(form, lm, wanted)
    own = [(answers, _judge(form, lm, answers, metric, sign)) for answers in rounds]
    every = own
    if wanted.reference:  # first: of equals it is the one
        told = {i: _reference(task.doc_to_target(doc), rounds[0][i]) for i, doc in form.docs.items()}
        every = [(told, _judge(form, lm, told, metric, sign)), *own]
    top = max(score for _, scores in every for score in scores.values())
    for doc_id, requests in form.requests.items():
        best = max(((scores[doc_id], texts[doc_id]) for texts, scores in every), key=_score)
        worst = min(((scores[doc_id], texts[doc_id]) for texts, scores in own), key=_score)
        right = own[0][1][doc_id] == top == best[0]  # the greedy answer
        yield _Item(requests[0].args[0], best[1], worst[1], best[0] - worst[0], right)


def _score(answer: tuple[float, str]) -> float:
    return answer[0]


def _rounds(form: RequestForm, lm: LM, wanted: Wanted) -> list[dict[int, str]]:
    """The model's answers by document: the greedy ones, then ``samples - 1`` rounds of drawn ones."""
    first = [requests[0] for requests in form.requests.values()]
    drawn = {"do_sample": True, "temperature": wanted.temperature}
    sampled = [replace(r, arguments=(r.args[0], {**r.args[1], **drawn}), resps=[]) for r in first]
    texts = lm.generate_until(first, disable_tqdm=True)
    if wanted.samples > 1:
        texts = [*texts, *lm.generate_until(sampled * (wanted.samples - 1), disable_tqdm=True)]
    size = len(first)
    return [dict(zip(form.requests, texts[at : at + size], strict=True)) for at in range(0, len(texts), size)]


def _judge(
    form: RequestForm, lm: LM, answers: Mapping[int, str], metric: str, sign: float
) -> dict[int, float]:
    """Each document's answer by the task's own filters and metric; higher is better."""
    for instance in form.instances:
        instance.resps = [answers[instance.doc_id]] * (instance.repeats or 1)
        instance.filtered_resps = {}
    items = form.measure(lm).items
    values = {doc_id: items[key].get(metric) for doc_id, key in form.keys.items()}
    return {doc_id: sign * float(v) if isinstance(v, int | float) else 0.0 for doc_id, v in values.items()}


def _reference(target: object, answer: str) -> str:
    """The reference as the model would write it: it begins as the model's answer does, since tokenizers
    take a space for a part of the word."""
    text = str(target[0] if isinstance(target, list) else target)
    return answer[: len(answer) - len(answer.lstrip())] + text.lstrip()
