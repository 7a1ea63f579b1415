"""CatCMAwM with several workers: a generation that was learned from never changes."""

import random

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from recipesearch.samplers.catcmawm import CatCMAwMSampler, _generations

GENES: dict[str, BaseDistribution] = {
    "x": FloatDistribution(0.0, 1.0),
    "y": FloatDistribution(0.0, 1.0),
    "method": CategoricalDistribution(("linear", "slerp")),
}


def members(study: optuna.Study, size: int) -> list[list[int]]:
    return [[trial.number for trial in trials] for trials in _generations(study, size)]


def test_a_generation_keeps_the_trials_that_were_completed_first() -> None:
    study = optuna.create_study(sampler=CatCMAwMSampler(GENES, {}, 1))
    size = CatCMAwMSampler(GENES, {}, 1)._fresh().population_size
    chance, flying, seen = random.Random(1), list[optuna.Trial](), list[list[int]]()
    for _ in range(60):
        flying.append(study.ask(GENES))
        if len(flying) < 7:
            continue
        late = chance.random() < 0.8  # the oldest trial takes longest
        trial = flying.pop(chance.randrange(1, 7) if late else 0)
        study.tell(trial, trial.params["x"])
        now = members(study, size)
        assert now[: len(seen)] == seen
        seen = now
    assert len(seen) > 3
    assert any(sorted(one) != one for one in seen), "trials ended in another order than they began"


def test_trials_that_end_after_their_generation_teach_nothing() -> None:
    study = optuna.create_study(sampler=CatCMAwMSampler(GENES, {}, 1))
    size = CatCMAwMSampler(GENES, {}, 1)._fresh().population_size
    trials = [study.ask(GENES) for _ in range(size + 1)]
    for trial in trials[1:]:
        study.tell(trial, trial.params["x"])
    (before,) = members(study, size)
    study.tell(trials[0], -1.0)
    assert members(study, size) == [before]
