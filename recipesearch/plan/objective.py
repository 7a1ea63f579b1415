"""The section ``objectives``: the metrics that the search optimises."""

from __future__ import annotations

from typing import Self

from pydantic import Field, FiniteFloat, model_validator

from ..score import FUNCTION, VALUE
from .section import Section


class ObjectivePlan(Section):
    """One task's metric, with a direction; or a Python ``function`` over the live model, ``module:name``.

    ``bound`` is a value that recipes must reach: a floor, or a ceiling if the objective is minimised.
    ``within`` is a bound relative to the best parent's own value: 0.03 allows at most 3% worse.
    """

    task: str = ""
    metric: str = ""
    function: str | None = None
    maximize: bool = True
    bound: FiniteFloat | None = None
    within: float | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _task_or_function(self) -> Self:
        if self.function is None and not (self.task and self.metric):
            raise ValueError("give a 'task' and a 'metric', or a 'function'")
        if self.function is not None and (self.task or self.metric or self.function.count(":") != 1):
            raise ValueError("write the function as module:name, without a task and a metric")
        return self

    @property
    def asks(self) -> tuple[str, str]:
        """The objective as (task, metric)."""
        return (FUNCTION + self.function, VALUE) if self.function else (self.task, self.metric)

    @model_validator(mode="after")
    def _one_bound(self) -> Self:
        if self.bound is not None and self.within is not None:
            raise ValueError("give 'bound' or 'within', not both")
        return self
