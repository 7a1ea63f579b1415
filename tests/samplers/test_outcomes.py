"""Scales of metrics: there and back, with the noise that the items imply."""

import math

import numpy as np
import pytest

from recipesearch.samplers.outcomes import outcome
from recipesearch.score import Measurement, mean_of

UNKNOWN = None


def shares(*right: int, items: int = 40) -> list[Measurement]:
    return [mean_of([1.0] * count + [0.0] * (items - count)) for count in right]


def values(*numbers: float, stderr: float | None = UNKNOWN) -> list[Measurement]:
    return [Measurement(number, stderr) for number in numbers]


@pytest.mark.parametrize(
    ("measured", "kind"),
    [
        (shares(0, 20, 40), "share"),
        (values(0.0, 1.0), "share"),
        (values(3.0, 12.0), "positive"),
        (values(0.9, 12.0), "positive"),
        (values(3.0, 8.0), "plain"),
        (values(0.0, 12.0), "plain"),
        (values(-1.0, 12.0), "plain"),
        (values(5.0, 5.0), "plain"),
    ],
)
def test_the_scale_follows_from_the_values(measured: list[Measurement], kind: str) -> None:
    assert outcome(measured).kind == kind


@pytest.mark.parametrize(
    "measured",
    [
        values(0.2, 0.5, 0.99),
        values(3.0, 50.0, 8e5, stderr=0.1),
        values(-4.0, 0.0, 7.0, stderr=0.1),
        values(5.0, 5.0),
        values(7.0),
    ],
)
def test_there_and_back_is_the_same(measured: list[Measurement]) -> None:
    scale = outcome(measured)
    latent, noise = scale.latent(measured)
    assert scale.natural(latent) == pytest.approx([m.value for m in measured])
    assert np.isfinite(latent).all()
    assert (noise >= 0).all()


def test_a_share_of_items_comes_back_drawn_towards_a_half_by_half_an_item() -> None:
    measured = shares(0, 10, 20, 39, 40)
    scale = outcome(measured)
    back = scale.natural(scale.latent(measured)[0])
    assert back == pytest.approx([(k + 0.5) / 41 for k in (0, 10, 20, 39, 40)], abs=2e-3)


@pytest.mark.parametrize("maximal", ["share", "positive", "plain"])
def test_order_is_kept(maximal: str) -> None:
    measured = {
        "share": values(0.01, 0.4, 0.6, 0.999),
        "positive": values(0.5, 2.0, 90.0, 91.0),
        "plain": values(-3.0, 2.0, 90.0, 91.0),
    }[maximal]
    latent, _ = outcome(measured).latent(measured)
    assert (np.diff(latent) > 0).all()


def test_noise_of_a_share_is_binomial() -> None:
    """The variance of log-odds is 1 / (n p (1 - p)): least for many items and for shares near a half."""
    few, many = shares(10, 20, items=40), shares(100, 200, items=400)
    few_noise, many_noise = (outcome(measured).latent(measured)[1] for measured in (few, many))
    assert few_noise == pytest.approx([1 / (41 * p * (1 - p)) for p in (10.5 / 41, 0.5)], rel=0.02)
    assert many_noise == pytest.approx(few_noise / 10, rel=0.1)


def test_noise_agrees_with_drawn_shares() -> None:
    chance = np.random.default_rng(0)
    measured = [mean_of(list((chance.random(200) < 0.3).astype(float))) for _ in range(400)]
    latent, noise = outcome(measured).latent(measured)
    assert latent.var() == pytest.approx(noise.mean(), rel=0.2)
    assert latent.mean() == pytest.approx(math.log(0.3 / 0.7), abs=0.05)


def test_none_or_all_right_is_finite_and_has_most_noise() -> None:
    measured = shares(0, 20, 40)
    latent, noise = outcome(measured).latent(measured)
    assert np.isfinite(latent).all()
    assert latent[0] == pytest.approx(-latent[2])
    assert latent[0] == pytest.approx(math.log(0.5 / 40.5), rel=0.02), "of as many items as the others"
    assert noise[0] > 5 * noise[1]


@pytest.mark.parametrize("measured", [shares(0, 0), shares(40, 40), shares(0, 40), values(0.0, 1.0)])
def test_scores_of_which_none_has_an_error_are_finite(measured: list[Measurement]) -> None:
    latent, noise = outcome(measured).latent(measured)
    assert np.isfinite(latent).all()
    assert np.isfinite(noise).all()


@pytest.mark.parametrize("numbers", [(0.2, 0.5), (3.0, 12.0), (-1.0, 12.0)])
def test_an_unknown_error_has_no_noise(numbers: tuple[float, ...]) -> None:
    measured = values(*numbers)
    assert outcome(measured).latent(measured)[1].tolist() == [0.0, 0.0]


def test_perplexities_become_logarithms_and_their_errors_relative() -> None:
    measured = [Measurement(5.0, 0.5), Measurement(50.0, 5.0), Measurement(500.0, 5.0)]
    scale = outcome(measured)
    latent, noise = scale.latent(measured)
    assert latent.mean() == pytest.approx(0.0)
    assert latent.std() == pytest.approx(1.0)
    assert latent[1] - latent[0] == pytest.approx(latent[2] - latent[1]), "equal ratios, equal steps"
    assert noise[0] == pytest.approx(noise[1])
    assert noise[0] == pytest.approx(100 * noise[2])
    assert scale.natural(np.array([-99.0]))[0] > 0, "no prediction is negative"


def test_plain_values_are_centred_and_scaled_with_their_errors() -> None:
    measured = [Measurement(-10.0, 2.0), Measurement(30.0, 4.0)]
    latent, noise = outcome(measured).latent(measured)
    assert latent.tolist() == [-1.0, 1.0]
    assert noise == pytest.approx([0.01, 0.04])


def test_a_scale_serves_other_scores_of_its_metric() -> None:
    """A model takes some of very many scores, on the scale of all."""
    scale = outcome(values(-2.0, 2.0))
    assert scale.latent(values(4.0))[0].tolist() == [2.0]
