"""Calibration on held-out rows makes PDFs that were too narrow mean what they say."""

from __future__ import annotations

import json

import numpy as np
import pytest

from inzitu.learn.bins import Histogram
from inzitu.learn.calibration import Calibration
from inzitu.learn.mixture import Mixture
from inzitu.learn.scores import crps_mixture
from inzitu.learn.uniformity import uniformity

RNG = np.random.default_rng(11)
MEANS = RNG.uniform(1, 3, (2000, 1))
Z = RNG.normal(MEANS[:, 0], 0.2)
FITTED, HELD = slice(0, 1000), slice(1000, 2000)


def overconfident(rows: slice) -> Mixture:
    return Mixture(np.ones((1000, 1)), MEANS[rows], np.full((1000, 1), 0.1))


def test_widths_that_are_half_as_wide_are_doubled() -> None:
    calibration = Calibration.fit(overconfident(FITTED), Z[FITTED])
    assert calibration.temperature == pytest.approx(2.0, rel=0.06)
    before, after = overconfident(HELD), calibration.apply(overconfident(HELD))
    assert isinstance(after, Mixture)
    gained = [crps_mixture(m.weights, m.means, m.sigmas, Z[HELD]).mean() for m in (before, after)]
    assert gained[1] < gained[0]
    assert uniformity(before.cdf(Z[HELD])).ks_p < 1e-6
    assert uniformity(calibration.cdf(before, Z[HELD])).ks_p > 0.05


def test_the_map_straightens_what_no_temperature_can() -> None:
    skewed = MEANS[:, 0] + 0.1 * (RNG.exponential(size=2000) - 1.0)
    calibration = Calibration.fit(overconfident(FITTED), skewed[FITTED])
    stretched = calibration.apply(overconfident(HELD)).cdf(skewed[HELD])
    bent = calibration.cdf(overconfident(HELD), skewed[HELD])
    assert uniformity(bent).ece < 0.5 * uniformity(stretched).ece


def test_quantiles_invert_the_calibrated_cdf() -> None:
    calibration = Calibration(1.3, (0.0, 0.4, 1.0), (0.0, 0.7, 1.0))
    predicted = overconfident(HELD)
    for q in (0.025, 0.5, 0.7, 0.975):
        found = calibration.cdf(predicted, calibration.quantile(predicted, q))
        np.testing.assert_allclose(found, q, atol=1e-9)


def test_a_redshift_that_is_not_finite_is_named() -> None:
    with pytest.raises(ValueError, match="1 held-out redshifts are not finite, the first in row 3"):
        Calibration.fit(overconfident(FITTED), np.where(np.arange(1000) == 3, np.nan, Z[FITTED]))


def test_histograms_are_flattened() -> None:
    edges = np.linspace(0, 5, 201)
    p = np.diff(overconfident(FITTED).cdf(edges[:, None]), axis=0).T
    p /= p.sum(axis=1, keepdims=True)
    calibration = Calibration.fit(Histogram(p, 5.0), Z[FITTED])
    # A normal distribution to the power 1/T is sqrt T times as wide.
    assert calibration.temperature == pytest.approx(4.0, rel=0.15)


def test_what_is_calibrated_already_stays() -> None:
    right = Mixture(np.ones((1000, 1)), MEANS[FITTED], np.full((1000, 1), 0.2))
    calibration = Calibration.fit(right, Z[FITTED])
    assert calibration.temperature == pytest.approx(1.0, abs=0.06)
    np.testing.assert_allclose(calibration.levels, calibration.knots, atol=0.05)


def test_a_calibration_goes_through_json() -> None:
    calibration = Calibration.fit(overconfident(FITTED), Z[FITTED])
    assert Calibration.from_json(json.loads(json.dumps(calibration.json()))) == calibration


def test_too_few_rows_and_illegal_maps_are_refused() -> None:
    with pytest.raises(ValueError, match="5 held-out rows are too few"):
        Calibration.fit(overconfident(FITTED), Z[:5])
    with pytest.raises(ValueError, match="temperature of 0"):
        Calibration(0.0)
    with pytest.raises(ValueError, match="levels of a PIT map must rise"):
        Calibration(1.0, (0.0, 0.5, 1.0), (0.0, 0.5, 0.5))
