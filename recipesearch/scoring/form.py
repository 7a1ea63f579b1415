"""One task's documents and requests, built once for all models, and how answers become a score."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from copy import copy
from statistics import fmean
from typing import TYPE_CHECKING, Any, Self

from ..errors import TrialFailed
from ..score import RESPONSE_LENGTH, Measurement, Part, TaskScore, item_order, mean_of
from .tasks import LoadedTask, aggregation, generates

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import LM

_FEWSHOT_SEED = 1234  # simple_evaluate's default


class RequestForm:
    """A task's documents by number, their ``instances``, and how the filled-in answers become a TaskScore.

    ``only``: the indices of the documents to ask, which are then numbered from 0, as in lm-eval.
    """

    def __init__(
        self, loaded: LoadedTask, lm: LM, chat_template: bool, only: list[int] | None = None
    ) -> None:
        task = loaded.task
        task.set_fewshot_seed(seed=_FEWSHOT_SEED)  # before building, which draws from it
        task.build_all_requests(
            samples=only,
            rank=0,
            world_size=1,
            apply_chat_template=chat_template,
            fewshot_as_multiturn=chat_template,  # as simple_evaluate does
            chat_template=lm.apply_chat_template if chat_template else None,
            tokenizer_name=lm.tokenizer_name if chat_template else "",
        )
        self.task, self.hash = task, loaded.hash
        self.instances: list[Instance] = task.instances
        self.docs = dict(task.doc_iterator(rank=0, limit=None, world_size=1, samples=only))
        self.requests: dict[int, list[Instance]] = defaultdict(list)
        for instance in sorted(self.instances, key=lambda instance: instance.idx):
            self.requests[instance.doc_id].append(instance)
        self.keys = {doc_id: f"{doc_id:06d}-{_doc_hash(doc)}" for doc_id, doc in self.docs.items()}
        self._start = 0

    def part(self, part: Part) -> Self:
        """The form of a part of the documents, with the same requests; it has no documents beyond the end."""
        form, (start, stop) = copy(self), part
        chosen = set(item_order(self.hash, len(self.docs))[start:stop])
        form.docs = {doc_id: doc for doc_id, doc in self.docs.items() if doc_id in chosen}
        form.instances = [instance for instance in self.instances if instance.doc_id in chosen]
        form._start = start
        return form

    def measure(self, lm: LM) -> TaskScore:
        """The score of the answers that the instances now contain (lm_eval.evaluator.evaluate).

        The score of a part has only the metrics that are means.
        """
        for ensemble in self.task._filters:  # as Task.apply_filters does, which knows no parts
            ensemble.apply(self.instances)
        filters = list(self.instances[0].filtered_resps)
        items: dict[str, dict[str, object]] = {self.keys[doc_id]: {} for doc_id in self.docs}
        values: dict[str, list[Any]] = defaultdict(list)
        metric_of = {}
        for filter_name in filters:
            for doc_id, doc in self.docs.items():
                responses = [r.filtered_resps[filter_name] for r in self.requests[doc_id]]
                for metric, value in self.task.process_results(doc, responses).items():
                    # The first filter's metrics keep their plain names, which objectives use.
                    name = metric if filter_name == filters[0] else f"{metric},{filter_name}"
                    metric_of[name] = metric
                    items[self.keys[doc_id]][name] = _plain(value)
                    values[name].append(value)
        if generates(self.task):
            metric_of[RESPONSE_LENGTH] = RESPONSE_LENGTH
            for doc_id, length in self._lengths(lm).items():
                items[self.keys[doc_id]][RESPONSE_LENGTH] = length
                values[RESPONSE_LENGTH].append(length)
        whole = len(self.docs) == len(self.keys)
        metrics = {
            name: self._measure(metric_of[name], rows)
            for name, rows in values.items()
            if whole or aggregation(self.task, metric_of[name]) is None
        }
        return TaskScore(self.hash, metrics, items, self._start, len(self.keys))

    def _lengths(self, lm: Any) -> dict[int, float]:
        """The mean number of tokens of each item's answers, before any filter."""
        answers = {
            doc_id: [answer for request in self.requests[doc_id] for answer in request.resps]
            for doc_id in self.docs
        }
        texts = [text for several in answers.values() for text in several]
        # All in one call: one call for each text takes twice as long.
        tokens = iter(lm.tokenizer(texts, add_special_tokens=False)["input_ids"])
        return {doc_id: fmean(len(next(tokens)) for _ in several) for doc_id, several in answers.items()}

    def _measure(self, metric: str, values: list[Any]) -> Measurement:
        aggregate = aggregation(self.task, metric)
        try:
            # Only means have a standard error: bootstrapping would take thousands of samples per candidate.
            measured = Measurement(float(aggregate(values)), None) if aggregate else mean_of(values)
        except OverflowError:  # a perplexity too large for a float
            measured = Measurement(math.inf, None)
        if not math.isfinite(measured.value):
            raise TrialFailed(f"non-finite: metric '{metric}' of '{self.task.task_name}' is {measured.value}")
        return measured


def _doc_hash(doc: Mapping[str, Any]) -> str:
    """lm-eval's ``doc_hash`` of a document, shortened."""
    import json

    from lm_eval.utils import handle_non_serializable, hash_string

    text = json.dumps(doc, indent=2, default=handle_non_serializable, ensure_ascii=False)
    return str(hash_string(text))[:12]


def _plain(value: Any) -> object:
    """A metric's value as JSON data: numpy values become lists and numbers, non-finite floats become null."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
