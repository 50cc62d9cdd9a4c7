"""Every score of a PDF against numerical integration, in both precisions, far beyond what a network gives."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from inzitu.learn import scores
from inzitu.learn.mixture import Mixture
from inzitu.learn.truncation import cde_loss_truncated, crps_truncated, hpd_truncated
from learn import quadrature
from learn.quadrature import CASES, TRUNCATED, Case

cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
truncated = pytest.mark.parametrize("case", TRUNCATED, ids=lambda case: case.name)


@functools.cache
def gradient(score: Callable[..., Any], *arguments: int) -> Callable[..., Any]:
    """The gradient of a score, compiled once for all tests."""
    return jax.jit(jax.grad(score, argnums=arguments))


def single(case: Case) -> tuple[jax.Array, ...]:
    return tuple(jnp.asarray(a, jnp.float32) for a in (case.weights, case.means, case.sigmas, case.z))


def double(case: Case) -> tuple[np.ndarray, ...]:
    return case.weights, case.means, case.sigmas, np.asarray(case.z)


@cases
def test_crps_is_the_integral_in_both_precisions(case: Case) -> None:
    case = case.rounded()
    exact = quadrature.crps(case)
    assert scores.crps_mixture(*double(case)) == pytest.approx(exact, rel=1e-9, abs=1e-9)
    assert float(scores.crps_mixture(*single(case))) == pytest.approx(exact, rel=2e-6, abs=2e-6)


@truncated
def test_crps_of_a_truncated_mixture_is_the_integral(case: Case) -> None:
    case = case.rounded()
    exact = quadrature.crps(case)
    assert crps_truncated(*double(case)) == pytest.approx(exact, rel=1e-7, abs=1e-7)
    assert float(crps_truncated(*single(case))) == pytest.approx(exact, rel=2e-6, abs=2e-6)


@cases
def test_pit_is_the_cdf_at_the_truth(case: Case) -> None:
    case = case.rounded()
    assert scores.pit_mixture(*double(case)) == pytest.approx(case.cdf(case.z), rel=1e-12, abs=1e-12)
    assert float(scores.pit_mixture(*single(case))) == pytest.approx(case.cdf(case.z), abs=2e-6)


@truncated
def test_a_truncated_mixture_has_the_pdf_and_cdf_of_the_definition(case: Case) -> None:
    mixture = Mixture(case.weights, case.means, case.sigmas, lower=0.0)
    assert mixture.cdf(case.z) == pytest.approx(case.cdf(case.z), abs=1e-10)
    assert mixture.log_pdf(case.z) == pytest.approx(case.log_pdf(case.z), rel=1e-9)
    assert mixture.pdf(-0.01) == 0.0


@cases
def test_likelihood_is_that_of_the_definition(case: Case) -> None:
    case = case.rounded()
    assert scores.nll_mixture(*double(case)) == pytest.approx(-case.log_pdf(case.z), rel=1e-12)
    assert float(scores.nll_mixture(*single(case))) == pytest.approx(-case.log_pdf(case.z), rel=1e-5, abs=1e-5)


@cases
def test_conditional_density_loss_is_the_integral(case: Case) -> None:
    case = case.rounded()
    exact = quadrature.cde_loss(case)
    assert scores.cde_loss_mixture(*double(case)) == pytest.approx(exact, rel=1e-9, abs=1e-9)
    assert float(scores.cde_loss_mixture(*single(case))) == pytest.approx(exact, rel=1e-5, abs=1e-5)


@truncated
def test_conditional_density_loss_of_a_truncated_mixture_is_the_integral(case: Case) -> None:
    case = case.rounded()
    exact = quadrature.cde_loss(case)
    assert cde_loss_truncated(*double(case)) == pytest.approx(exact, rel=1e-8, abs=1e-8)
    assert float(cde_loss_truncated(*single(case))) == pytest.approx(exact, rel=2e-5, abs=2e-5)


@cases
def test_gradients_of_likelihood_and_pit_are_those_of_the_definition(case: Case) -> None:
    case = case.rounded()
    for score, of in ((scores.nll_mixture, quadrature.nll_gradient), (scores.pit_mixture, quadrature.pit_gradient)):
        exact = of(case)
        for precision, arrays in (("double", double(case)), ("single", single(case))):
            with jax.enable_x64(precision == "double"):
                by = gradient(score, 0, 1, 2)(*(jnp.asarray(a) for a in arrays))
            for name, derivative in zip(("weights", "means", "sigmas"), by, strict=True):
                # By a width it is a difference, 1 - t^2, of which float32 has lost the digits that are equal.
                scale = float(np.abs(exact[name]).max())
                np.testing.assert_allclose(derivative, exact[name], rtol=1e-4, atol=1e-5 * scale + 1e-30, err_msg=name)


@cases
def test_gradients_of_the_crps_are_those_under_the_integral(case: Case) -> None:
    case = case.rounded()
    exact = quadrature.crps_gradient(case)
    for precision, arrays in (("double", double(case)), ("single", single(case))):
        with jax.enable_x64(precision == "double"):
            by = gradient(scores.crps_mixture, 0, 1, 2)(*(jnp.asarray(a) for a in arrays))
        found = {"weights": by[0] - by[0][0], "means": by[1], "sigmas": by[2]}
        for name, derivative in found.items():
            scale = max(1e-2, float(np.abs(exact[name]).max()))
            np.testing.assert_allclose(derivative, exact[name], rtol=1e-4, atol=1e-4 * scale, err_msg=name)


@pytest.mark.parametrize(
    "score",
    [
        scores.crps_mixture,
        scores.nll_mixture,
        scores.pit_mixture,
        scores.cde_loss_mixture,
        scores.hpd_mixture,
        crps_truncated,
        cde_loss_truncated,
        hpd_truncated,
    ],
)
@pytest.mark.parametrize(
    "arrays",
    [
        ([1.0, 0.0], [0.5, 0.5], [0.1, 0.1], 0.5),
        ([0.5, 0.5], [0.5, 0.5], [1e-8, 1e8], 0.5),
        ([0.5, 0.5], [-1e6, 1e6], [1e-3, 1e-3], 0.0),
        ([1.0, 0.0], [0.5, 0.7], [1e-20, 1e-20], 0.5),
        ([0.5, 0.5], [-50.0, -60.0], [0.1, 0.1], 0.2),
    ],
)
def test_no_gradient_is_ever_not_a_number(score, arrays) -> None:  # type: ignore[no-untyped-def]
    singles = [jnp.asarray(a, jnp.float32) for a in arrays]
    assert np.isfinite(score(*singles))
    for derivative in gradient(score, 0, 1, 2, 3)(*singles):
        assert np.isfinite(derivative).all()


def test_a_point_has_the_absolute_error_as_its_crps() -> None:
    assert scores.crps_mixture([1.0], [0.5], [0.0], 0.8) == pytest.approx(0.3)


def test_scores_broadcast_over_leading_axes_and_a_grid() -> None:
    rng = np.random.default_rng(1)
    weights = rng.dirichlet(np.ones(3), size=(4, 2))
    means, sigmas = rng.uniform(0, 3, (4, 2, 3)), rng.uniform(0.1, 1, (4, 2, 3))
    z = rng.uniform(0, 3, (4, 2))
    batch = scores.crps_mixture(weights, means, sigmas, z)
    assert batch.shape == (4, 2)
    assert batch[3, 1] == pytest.approx(scores.crps_mixture(weights[3, 1], means[3, 1], sigmas[3, 1], z[3, 1]))
    grid = scores.cdf_mixture(weights[:, :, None], means[:, :, None], sigmas[:, :, None], np.linspace(0, 3, 50))
    assert grid.shape == (4, 2, 50)
    assert (np.diff(grid, axis=-1) >= 0).all()


def test_numpy_is_scored_in_float64_and_jax_in_its_own_precision() -> None:
    arrays = [np.array([1.0], np.float32), np.array([0.5], np.float32), np.array([0.1], np.float32), np.float32(0.4)]
    assert scores.crps_mixture(*arrays).dtype == np.float64
    assert isinstance(scores.crps_mixture(*arrays), np.ndarray)
    assert scores.crps_mixture(*(jnp.asarray(a) for a in arrays)).dtype == jnp.float32
    assert jnp.zeros(1).dtype == jnp.float32, "the switch is undone"


def test_padding_changes_neither_the_mean_nor_its_gradient() -> None:
    values = jnp.array([1.0, 2.0, jnp.nan])
    assert scores.masked_mean(values, jnp.array([True, True, False])) == 1.5
    assert scores.masked_mean(jnp.array([1.0, 3.0])) == 2.0


@truncated
def test_gradients_of_the_truncated_crps_are_its_differences(case: Case) -> None:
    arrays = double(case.rounded())
    # float32 cannot place nodes inside a component of 1e-6 around 0.5; no head makes one narrower than 1e-3.
    with jax.enable_x64(bool(case.sigmas.min() < 1e-4)):
        by = gradient(crps_truncated, 1, 2)(*(jnp.asarray(a, float) for a in arrays))
    for argument, derivative in zip((1, 2), by, strict=True):
        for i in range(case.means.size):
            step = 1e-4 * case.sigmas[i]
            moved = [[a.copy() for a in arrays] for _ in range(2)]
            moved[0][argument][i] -= step
            moved[1][argument][i] += step
            exact = (crps_truncated(*moved[1]) - crps_truncated(*moved[0])) / (2 * step)
            assert derivative[i] == pytest.approx(exact, rel=1e-4, abs=2e-5)


def test_highest_density_region_of_one_normal_is_its_central_interval() -> None:
    z = np.array([0.0, 0.5, 1.0, 2.0, 4.0])
    found = scores.hpd_mixture(np.ones((5, 1)), np.zeros((5, 1)), np.ones((5, 1)), z)
    np.testing.assert_allclose(found, 2 * norm.cdf(z) - 1, atol=2e-3)
    for place in (0.5, 1.0, 2.0):
        by = gradient(scores.hpd_mixture, 3)(jnp.ones(1), jnp.zeros(1), jnp.ones(1), jnp.asarray(place))
        np.testing.assert_allclose(by, [2 * norm.pdf(place)], rtol=0.15)


def test_highest_density_region_of_two_peaks_is_the_probability_above_the_level() -> None:
    mixture = Mixture(np.array([0.7, 0.3]), np.array([1.0, 3.0]), np.array([0.1, 0.3]))
    grid = np.linspace(-2, 6, 800_001)
    density = mixture.pdf(grid)
    for z in (1.05, 1.3, 3.2, 2.2):
        exact = density[density >= mixture.pdf(z)].sum() * 1e-5
        found = scores.hpd_mixture(mixture.weights, mixture.means, mixture.sigmas, z)
        assert found == pytest.approx(exact, abs=2e-3)


@pytest.mark.parametrize("number", [1, 8, 9, 10])
def test_highest_density_region_of_a_truncated_mixture_is_the_probability_above_the_level(number: int) -> None:
    case = TRUNCATED[number]
    grid = np.linspace(0, 8, 400_001) ** 2 / 8
    density = np.exp([case.log_pdf(x) for x in grid[::40]])
    grid = grid[::40]
    for z in (0.0, 0.02, 0.1, 0.3, 2.9, case.z):
        inside = density >= math.exp(case.log_pdf(z))
        exact = np.trapezoid(density * inside, grid)
        found = hpd_truncated(case.weights, case.means, case.sigmas, z)
        assert found == pytest.approx(exact, abs=6e-3)
    assert hpd_truncated(case.weights, case.means, case.sigmas, -0.1) == 1.0


def test_highest_density_bins_count_half_of_their_own() -> None:
    assert scores.hpd_bins(np.array([0.2, 0.5, 0.3]), 0.25, 0.3) == pytest.approx(0.5 + 0.15)


# Bins


def histogram_crps(p: np.ndarray, z: float, max_val: float) -> float:
    edges = np.linspace(0, max_val, p.size + 1)
    heights = np.concatenate([[0], np.cumsum(p)])
    places = np.unique([*edges, z])

    def squared(x: float) -> float:
        return float((np.interp(x, edges, heights) - (x >= z)) ** 2)

    return math.fsum(quad(squared, a, b, epsabs=1e-13)[0] for a, b in pairwise(places))


@pytest.mark.parametrize("z", [0.0, 0.013, 0.2, 0.37, 0.4, 0.55, -0.1])
def test_crps_of_bins_is_the_integral(z: float) -> None:
    p = np.random.default_rng(2).dirichlet(np.ones(20)).astype(np.float32).astype(np.float64)
    p /= p.sum()
    exact = histogram_crps(p, z, 0.4)
    assert scores.crps_bins(p, z, 0.4) == pytest.approx(exact, abs=1e-10)
    assert float(scores.crps_bins(jnp.asarray(p, jnp.float32), jnp.float32(z), 0.4)) == pytest.approx(exact, abs=2e-6)


def test_a_label_at_max_val_is_in_the_last_bin() -> None:
    p = np.array([0.1, 0.2, 0.7])
    assert scores.nll_bins(p, 0.4, 0.4) == pytest.approx(-np.log(0.7 / (0.4 / 3)))
    assert scores.pit_bins(p, 0.4, 0.4) == pytest.approx(1.0)
    assert np.isinf(scores.nll_bins(p, 0.41, 0.4))


def test_crps_of_many_narrow_bins_approaches_that_of_the_mixture() -> None:
    case = CASES[1]
    edges = np.linspace(0, 8, 8001)
    p = np.diff([case.cdf(x) for x in edges])
    assert scores.crps_bins(p, case.z, 8.0) == pytest.approx(scores.crps_mixture(*double(case)), abs=1e-6)


def test_density_loss_of_bins_is_the_integral() -> None:
    p = np.array([0.1, 0.6, 0.3])
    density = p / 0.5
    assert scores.cde_loss_bins(p, 0.7, 1.5) == pytest.approx(np.sum(density**2) * 0.5 - 2 * density[1])
