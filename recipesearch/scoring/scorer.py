"""Scorer: the same requests to every model, built once.

lm-eval's ``evaluate`` builds every prompt anew at every call. Here each task's requests are built when the
worker starts; a candidate costs the LM's calls, the task's filters and its ``process_results``. The result
equals ``evaluate``'s (a test proves it); lm-eval's response caches, which do not know the model, stay off.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from ..errors import TrialFailed
from ..score import RESPONSE_LENGTH, Measurement, TaskScore
from .functions import LoadedModel
from .tasks import Loaded, LoadedTask, generates

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import LM

Measured = Callable[[], Mapping[str, float]]

_FEWSHOT_SEED = 1234  # simple_evaluate's default
_SEEDS = (0, 1234, 1234)  # python, numpy, torch: simple_evaluate's defaults, for sampled generation


class Scorer:
    """Asks a live model the requests of some tasks. ``lm`` serves only to build them (chat template)."""

    def __init__(self, tasks: Sequence[Loaded], lm: LM, chat_template: bool = False) -> None:
        self._tasks = [_RequestForm(t, lm, chat_template) if isinstance(t, LoadedTask) else t for t in tasks]
        self._forms = [task for task in self._tasks if isinstance(task, _RequestForm)]

    def score(self, lm: LM, measured: Measured | None = None) -> list[TaskScore]:
        """The live model's TaskScore for each task, in order.

        All tasks' requests of one type go to the model in one call; ``measured`` gives the task ``model`` its
        numbers. Raises TrialFailed if a log-likelihood is not a number (the likeliest of several NaN is
        always the first), or a metric not a finite one.
        """
        _seed_everything()
        by_type: dict[str, list[Instance]] = defaultdict(list)
        for form in self._forms:
            for instance in form.instances:
                instance.resps, instance.filtered_resps = [], {}
                by_type[instance.request_type].extend([instance] * (instance.repeats or 1))
        for kind, instances in by_type.items():
            responses = getattr(lm, kind)(instances, disable_tqdm=True)
            for instance, response in zip(instances, responses, strict=True):
                _require_number(response)
                instance.resps.append(response)
        return [
            task.measure(measured() if measured else {})
            if isinstance(task, LoadedModel)
            else task.measure(lm)
            for task in self._tasks
        ]


class _RequestForm:
    """One task's documents and requests, and how the filled-in answers become a TaskScore."""

    def __init__(self, loaded: LoadedTask, lm: LM, chat_template: bool) -> None:
        task = loaded.task
        task.set_fewshot_seed(seed=_FEWSHOT_SEED)  # here: building draws from it
        task.build_all_requests(
            rank=0,
            world_size=1,
            apply_chat_template=chat_template,
            fewshot_as_multiturn=chat_template,  # as simple_evaluate does
            chat_template=lm.apply_chat_template if chat_template else None,
            tokenizer_name=lm.tokenizer_name if chat_template else "",
        )
        self._task, self._hash = task, loaded.hash
        self.instances: list[Instance] = task.instances
        self._docs = dict(task.doc_iterator(rank=0, limit=None, world_size=1))
        self._requests: dict[int, list[Instance]] = defaultdict(list)
        for instance in sorted(self.instances, key=lambda instance: instance.idx):
            self._requests[instance.doc_id].append(instance)
        self._keys = {doc_id: f"{doc_id:06d}-{_doc_hash(doc)}" for doc_id, doc in self._docs.items()}

    def measure(self, lm: LM) -> TaskScore:
        """The score of the answers that the instances now hold (lm_eval.evaluator.evaluate)."""
        self._task.apply_filters()
        filters = list(self.instances[0].filtered_resps)
        items: dict[str, dict[str, object]] = {key: {} for key in self._keys.values()}
        values: dict[str, list[Any]] = defaultdict(list)
        metric_of = {}
        for filter_name in filters:
            for doc_id, doc in self._docs.items():
                responses = [r.filtered_resps[filter_name] for r in self._requests[doc_id]]
                for metric, value in self._task.process_results(doc, responses).items():
                    # The first filter's metrics go by their own names, as objectives know them.
                    name = metric if filter_name == filters[0] else f"{metric},{filter_name}"
                    metric_of[name] = metric
                    items[self._keys[doc_id]][name] = _plain(value)
                    values[name].append(value)
        if generates(self._task):
            metric_of[RESPONSE_LENGTH] = RESPONSE_LENGTH
            for doc_id, length in self._lengths(lm).items():
                items[self._keys[doc_id]][RESPONSE_LENGTH] = length
                values[RESPONSE_LENGTH].append(length)
        metrics = {name: self._measure(metric_of[name], rows) for name, rows in values.items()}
        return TaskScore(self._hash, metrics, items)

    def _lengths(self, lm: Any) -> dict[int, float]:
        """The mean number of tokens of each item's answers, before any filter."""
        answers = {
            doc_id: [answer for request in self._requests[doc_id] for answer in request.resps]
            for doc_id in self._keys
        }
        texts = [text for several in answers.values() for text in several]
        # All in one call: one by one takes twice as long, for every candidate.
        tokens = iter(lm.tokenizer(texts, add_special_tokens=False)["input_ids"])
        return {doc_id: fmean(len(next(tokens)) for _ in several) for doc_id, several in answers.items()}

    def _measure(self, metric: str, values: list[Any]) -> Measurement:
        from lm_eval.api.metrics import mean, stderr_for_metric

        aggregate = self._task.aggregation().get(metric, mean)
        try:
            value = float(aggregate(values))
        except OverflowError:  # a perplexity beyond all floats
            value = math.inf
        if not math.isfinite(value):
            raise TrialFailed(f"non-finite: metric '{metric}' of '{self._task.task_name}' is {value}")
        # Only closed forms: the others bootstrap, thousands of times, for every candidate.
        closed_form = stderr_for_metric(aggregate, bootstrap_iters=1) if aggregate is mean else None
        stderr = float(closed_form(values)) if closed_form and len(values) > 1 else None
        return Measurement(value, stderr)


def _require_number(response: object) -> None:
    value = response[0] if isinstance(response, tuple) else response
    if isinstance(value, float) and math.isnan(value):
        raise TrialFailed("non-finite: a log-likelihood of the merged model is NaN")


def _doc_hash(doc: Mapping[str, Any]) -> str:
    """lm-eval's ``doc_hash`` of a document, shortened."""
    import json

    from lm_eval.utils import handle_non_serializable, hash_string

    text = json.dumps(doc, indent=2, default=handle_non_serializable, ensure_ascii=False)
    return str(hash_string(text))[:12]


def _plain(value: Any) -> object:
    """A metric's value as JSON data: numpy's become lists and numbers, what is not finite becomes null."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _seed_everything() -> None:
    import numpy as np
    import torch

    random.seed(_SEEDS[0])
    np.random.seed(_SEEDS[1])
    torch.manual_seed(_SEEDS[2])
