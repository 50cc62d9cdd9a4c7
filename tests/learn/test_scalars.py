"""Scalars along the axes on which the training rows spread."""

from __future__ import annotations

import numpy as np

from inzitu.learn.scalars import ScalarScale


def test_numbers_that_rise_and_fall_together_become_numbers_of_their_own() -> None:
    rng = np.random.default_rng(0)
    brightness = rng.normal(19, 1.5, (5000, 1))
    magnitudes = brightness + rng.normal(0, (0.1, 0.3, 0.2), (5000, 3))
    seen = np.asarray(ScalarScale.measure(magnitudes).apply(magnitudes))
    np.testing.assert_allclose(seen.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(np.cov(seen.T), np.eye(3), atol=2e-3)


def test_a_scalar_that_never_changes_and_one_given_twice_stay_finite_and_small() -> None:
    extinction = np.random.default_rng(1).uniform(0.01, 0.2, 400)
    columns = np.stack([extinction, np.full(400, 7.0), extinction], axis=1)
    scale = ScalarScale.measure(columns)
    seen = np.asarray(scale.apply(columns))
    assert np.abs(seen).max() < 3
    assert np.sum(seen.std(axis=0) > 0.5) == 1
    assert np.abs(np.asarray(scale.apply(columns + np.array([0, 0.5, 0])) - seen)).max() <= 0.5 + 1e-6


def test_without_scalars_nothing_is_turned() -> None:
    scale = ScalarScale.measure(np.zeros((4, 0)))
    assert scale == ScalarScale()
    assert scale.apply(np.zeros((2, 0))).shape == (2, 0)
