"""Mines preference pairs from a live model.

The items come from a split of their own, not from the search's or the held-out items. For tasks that
generate, the chosen answer is the reference, or the best of the model's own answers by the task's metric, and
the rejected answer is the model's worst (on-policy rejection, as in Rafailov et al. 2305.18290, sec. 6). For
multiple choice they are the right choice and the likeliest wrong choice, if the two are close.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import RefusedInput
from .form import RequestForm
from .preferences import PAIRS_FILE, Pair, Preferences, Wanted, load, read_pairs
from .scorer import seed_everything
from .tasks import chooses

if TYPE_CHECKING:
    from lm_eval.api.model import LM

_CLOSE = 2.0  # nats: a wrong choice further below the right one is not useful
_KEPT = 64  # right answers, to check that a fine-tuned model does not forget
_FEWEST = 8  # pairs
_ROUNDS = 8  # at most; each asks twice as many items as pairs are wanted


@dataclass(frozen=True)
class _Item:
    """A prompt with the answer to prefer, the answer to avoid, and whether the model is right by itself.

    ``apart`` > 0 marks a useful pair. From generation it is the difference of the two answers in the task's
    metric. From choices it is ``_CLOSE`` minus the right choice's margin, in nats.
    """

    prompt: str
    chosen: str
    rejected: str
    apart: float
    right: bool

    def is_useful(self, wanted: Wanted) -> bool:
        return self.apart > 0 or (self.right and not wanted.contrast)


def mine(lm: LM, specs: Sequence[str], wanted: Wanted, chat_template: bool = False) -> Preferences:
    """Pairs for the live model from the named preference tasks and files, in equal shares.

    Deterministic for one model and seed. Raises PlanError for a task that neither generates nor offers
    choices, and RefusedInput if there are too few pairs to learn from.
    """
    chance = random.Random(wanted.seed)
    share = -(-wanted.pairs // len(specs))
    pairs: list[Pair] = []
    right: list[tuple[str, str]] = []
    for spec in specs:
        if spec.endswith(PAIRS_FILE):
            found = read_pairs(Path(spec))
        else:
            items = list(_items(lm, spec, wanted, share, chance, chat_template))
            right += [(item.prompt, item.chosen) for item in items if item.right]
            found = [Pair(i.prompt, i.chosen, i.rejected) for i in items if i.is_useful(wanted)]
        pairs += chance.sample(found, min(len(found), share))
    if len(pairs) < _FEWEST:
        raise RefusedInput(
            f"only {len(pairs)} preference pairs in {', '.join(specs)}: the model's answers there are all "
            "good, or all bad; name other items under 'preference', or draw more samples"
        )
    chance.shuffle(pairs)
    return Preferences(tuple(pairs), tuple(chance.sample(right, min(len(right), _KEPT))))


def _items(
    lm: LM, spec: str, wanted: Wanted, share: int, chance: random.Random, chat_template: bool
) -> Iterator[_Item]:
    """A task's items in random order, until ``share`` of them are useful."""
    loaded = load(spec)
    places = chance.sample(range(loaded.items), loaded.items)
    at_once, useful = 2 * share, 0
    for at in range(0, min(loaded.items, _ROUNDS * at_once), at_once):
        form = RequestForm(loaded, lm, chat_template, sorted(places[at : at + at_once]))
        seed_everything()
        for item in _choices(form, lm) if chooses(loaded.task) else _answers(form, lm, wanted):
            useful += item.is_useful(wanted)
            yield item
        if useful >= share:
            return


# -- multiple choice


def _choices(form: RequestForm, lm: LM) -> Iterator[_Item]:
    """The right choice against the likeliest wrong one. Skips items with one context for each choice."""
    likelihoods = lm.loglikelihood(form.instances, disable_tqdm=True)
    by_request = {id(r): ll for r, (ll, _) in zip(form.instances, likelihoods, strict=True)}
    for doc_id, doc in form.docs.items():
        choices = form.task.doc_to_choice(doc)
        count, gold = len(choices), _gold_index(form.task.doc_to_target(doc), choices)
        requests = form.requests[doc_id][:count]
        if gold is None or count < 2 or len({request.args[0] for request in requests}) > 1:
            continue
        scores = [by_request[id(request)] for request in requests]
        wrong = max((place for place in range(count) if place != gold), key=scores.__getitem__)
        margin = scores[gold] - scores[wrong]
        prompt, chosen = requests[gold].args
        # A pair is useful if the model is wrong, or nearly.
        yield _Item(prompt, chosen, requests[wrong].args[1], _CLOSE - margin, margin > 0)


def _gold_index(gold: object, choices: Sequence[str]) -> int | None:
    """The right choice's index, given by number or by text, as in lm-eval; None if it is not a choice."""
    if isinstance(gold, str):
        return choices.index(gold) if gold in choices else None
    return gold if isinstance(gold, int) and 0 <= gold < len(choices) else None


# -- generation


def _answers(form: RequestForm, lm: LM, wanted: Wanted) -> Iterator[_Item]:
    """The best answer, or the reference, against the worst of the model's own answers."""
    task = form.task
    metric = next(iter(task.aggregation()))
    sign = 1.0 if task.higher_is_better().get(metric, True) else -1.0
    rounds = _rounds(form, lm, wanted)
    own = [(answers, _judge(form, lm, answers, metric, sign)) for answers in rounds]
    candidates = own
    if wanted.reference:  # first, so the reference wins ties
        references = {i: _reference(task.doc_to_target(doc), rounds[0][i]) for i, doc in form.docs.items()}
        candidates = [(references, _judge(form, lm, references, metric, sign)), *own]
    top = max(score for _, scores in candidates for score in scores.values())
    dropped = _dropped_space(lm.tokenizer)
    for doc_id, requests in form.requests.items():
        best = max(((scores[doc_id], texts[doc_id]) for texts, scores in candidates), key=_score)
        worst = min(((scores[doc_id], texts[doc_id]) for texts, scores in own), key=_score)
        right = own[0][1][doc_id] == top == best[0]  # the greedy answer
        prompt = requests[0].args[0]
        space = "" if prompt[-1:].isspace() else dropped
        yield _Item(prompt, space + best[1], space + worst[1], best[0] - worst[0], right)


def _dropped_space(tokenizer: Any) -> str:
    """The space that an answer begins with, if decoding drops it.

    SentencePiece tokenizers (Llama 2, Mistral 7B) take the space for the mark of a text's beginning. Without
    it pairs would train other tokens.
    """
    first = len(tokenizer("a", add_special_tokens=False)["input_ids"])
    rest = tokenizer("a a", add_special_tokens=False)["input_ids"][first:]
    marked = tokenizer.convert_ids_to_tokens(rest)[0].startswith("\u2581")
    return " " if marked and not tokenizer.decode(rest).startswith(" ") else ""


def _score(answer: tuple[float, str]) -> float:
    return answer[0]


def _rounds(form: RequestForm, lm: LM, wanted: Wanted) -> list[dict[int, str]]:
    """The model's answers by document: a greedy round, then ``samples - 1`` rounds of sampled answers."""
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
    """The score of each document's answer by the task's own filters and metric. Higher is better."""
    for instance in form.instances:
        instance.resps = [answers[instance.doc_id]] * (instance.repeats or 1)
        instance.filtered_resps = {}
    items = form.measure(lm).items
    values = {doc_id: items[key].get(metric) for doc_id, key in form.keys.items()}
    return {doc_id: sign * float(v) if isinstance(v, int | float) else 0.0 for doc_id, v in values.items()}


def _reference(target: object, answer: str) -> str:
    """The reference as the model would write it, with the leading space of the model's answer.

    Tokenizers treat a leading space as part of the word.
    """
    text = str(target[0] if isinstance(target, list) else target)
    return answer[: len(answer) - len(answer.lstrip())] + text.lstrip()
