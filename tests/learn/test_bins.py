"""A histogram as a PDF: its CDF is exactly piecewise linear, and centres are its bins' values."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inzitu.learn.bins import Histogram

P = np.random.default_rng(5).dirichlet(np.ones(24) * 0.5, size=6)
EDGES = np.linspace(0, 1.2, 25)


def test_the_cdf_is_the_interpolated_sum_of_the_bins() -> None:
    z = np.linspace(-0.1, 1.3, 57)
    found = Histogram(P[:, None], 1.2).cdf(z)
    for row, p in enumerate(P):
        np.testing.assert_allclose(found[row], np.interp(z, EDGES, [0, *np.cumsum(p)]), atol=1e-12)


def test_quantiles_invert_the_cdf() -> None:
    histogram = Histogram(P[0], 1.2)
    q = np.linspace(0, 1, 101)
    np.testing.assert_allclose(histogram.cdf(histogram.quantile(q)), q, atol=1e-12)
    assert (np.diff(histogram.quantile(q)) >= 0).all()


def test_quantiles_pass_over_empty_bins() -> None:
    histogram = Histogram(np.array([0.0, 0.5, 0.0, 0.5, 0.0]), 5.0)
    np.testing.assert_allclose(histogram.quantile(np.array([0.25, 0.75, 1.0])), [1.5, 3.5, 4.0])


def test_the_value_of_a_bin_is_its_centre() -> None:
    one = Histogram(np.array([0.0, 1.0, 0.0, 0.0]), 0.4)
    assert one.mean() == pytest.approx(0.15)
    assert one.mode() == pytest.approx(0.15)
    assert one.median() == pytest.approx(0.15)
    assert one.std() == pytest.approx(0.1 / np.sqrt(12))


def test_moments_are_those_of_the_continuous_density() -> None:
    histogram = Histogram(P, 1.2)
    z = (np.arange(240_000) + 0.5) * 1.2 / 240_000
    density = Histogram(P[:, None], 1.2).pdf(z)
    mean = (density * z).mean(axis=1) * 1.2
    np.testing.assert_allclose(histogram.mean(), mean, atol=1e-9)
    np.testing.assert_allclose(histogram.std() ** 2, (density * z**2).mean(axis=1) * 1.2 - mean**2, atol=1e-9)


def test_the_density_includes_max_val_and_ends_there() -> None:
    histogram = Histogram(np.array([0.25, 0.75]), 1.0)
    np.testing.assert_allclose(histogram.pdf(np.array([-0.01, 0.0, 0.5, 1.0, 1.01])), [0, 0.5, 1.5, 1.5, 0])


def test_draws_have_the_cdf() -> None:
    histogram = Histogram(jnp.asarray(P[0], jnp.float32), 1.2)
    draws = histogram.sample(key=jax.random.key(0), shape=(20_000,))
    assert np.mean(draws < float(histogram.quantile(0.3))) == pytest.approx(0.3, abs=0.012)


def test_an_upper_edge_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="max_val is 0"):
        Histogram(P, 0.0)
