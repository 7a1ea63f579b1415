"""Scorer: sends the same requests to every model, built once.

lm-eval's ``evaluate`` builds every prompt again at every call. Here each task's requests are built when the
worker starts, so a candidate costs only the LM's calls, the task's filters and its ``process_results``. The
result equals that of ``evaluate``, which a test checks. lm-eval's response caches do not distinguish models,
so they are not used.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from ..errors import TrialFailed
from ..score import Part, TaskScore
from .form import RequestForm
from .functions import LoadedFunction, LoadedModel
from .tasks import Loaded, LoadedTask

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import LM

Measured = Callable[[], Mapping[str, float]]

_SEEDS = (0, 1234, 1234)  # python, numpy, torch: simple_evaluate's defaults, for sampled generation


class Scorer:
    """Sends the requests of some tasks to a live model.

    ``lm`` only helps to build the requests (chat template). ``pooled`` are the hashes of the tasks that can
    be scored in parts.
    """

    def __init__(
        self, tasks: Sequence[Loaded], lm: LM, chat_template: bool = False, pooled: Collection[str] = ()
    ) -> None:
        self._tasks = [RequestForm(t, lm, chat_template) if isinstance(t, LoadedTask) else t for t in tasks]
        self._pooled = pooled

    def score(self, lm: LM, measured: Measured | None = None, part: Part | None = None) -> list[TaskScore]:
        """The live model's TaskScore for each task, in order.

        With ``part``, only these items of the pooled tasks are scored, and tasks without such items are left
        out. Other tasks belong as a whole to the part that starts at 0.

        All tasks' requests of one type go to the model in one call. ``measured`` gives the values of the task
        ``model``. Raises TrialFailed if a log-likelihood is NaN (the maximum of several NaN is always the
        first), or if a metric is not finite.
        """
        seed_everything()
        tasks = self._tasks if part is None else list(self._part(part))
        by_type: dict[str, list[Instance]] = defaultdict(list)
        for task in tasks:
            for instance in task.instances if isinstance(task, RequestForm) else ():
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
            for task in tasks
        ]

    def _part(self, part: Part) -> Iterator[RequestForm | LoadedFunction | LoadedModel]:
        for task in self._tasks:
            if isinstance(task, RequestForm) and task.hash in self._pooled:
                form = task.part(part)
                if form.docs:
                    yield form
            elif part[0] == 0:
                yield task


def _require_number(response: object) -> None:
    value = response[0] if isinstance(response, tuple) else response
    if isinstance(value, float) and math.isnan(value):
        raise TrialFailed("non-finite: a log-likelihood of the merged model is NaN")


def seed_everything() -> None:
    """Seeds Python's, numpy's and torch's generators as simple_evaluate does."""
    import numpy as np
    import torch

    random.seed(_SEEDS[0])
    np.random.seed(_SEEDS[1])
    torch.manual_seed(_SEEDS[2])
