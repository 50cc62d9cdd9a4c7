"""A mixture against numerical integration and against draws from it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inzitu.learn.mixture import Mixture
from learn.quadrature import CASES, TRUNCATED, Case


def mixture_of(case: Case) -> Mixture:
    return Mixture(case.weights, case.means, case.sigmas, case.lower)


every = pytest.mark.parametrize("case", CASES + TRUNCATED, ids=lambda case: f"{case.name}, above {case.lower}")


@every
def test_mean_and_standard_deviation_are_the_integrals(case: Case) -> None:
    mixture = mixture_of(case)
    mean = case.integral(lambda x: x * np.exp(case.log_pdf(x)))
    variance = case.integral(lambda x: (x - mean) ** 2 * np.exp(case.log_pdf(x)))
    assert mixture.mean() == pytest.approx(mean, rel=1e-7, abs=1e-9)
    assert mixture.std() == pytest.approx(np.sqrt(variance), rel=1e-6)


@every
def test_cdf_of_a_quantile_is_its_share(case: Case) -> None:
    mixture = mixture_of(case)
    q = np.array([1e-6, 0.025, 0.16, 0.5, 0.84, 0.975, 1 - 1e-6])
    np.testing.assert_allclose(mixture.cdf(mixture.quantile(q)), q, atol=1e-9)
    assert mixture.median() == mixture.quantile(0.5)


@every
def test_no_point_of_a_fine_grid_is_denser_than_the_mode(case: Case) -> None:
    mixture = mixture_of(case)
    places = (case.means[:, None] + case.sigmas[:, None] * np.linspace(-3, 3, 2001)).ravel()
    places = np.maximum(places, case.lower)
    assert mixture.log_pdf(places).max() <= mixture.log_pdf(mixture.mode()) + 1e-6


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31 - 1))
def test_quantiles_never_cross(seed: int) -> None:
    rng = np.random.default_rng(seed)
    arrays = (rng.dirichlet(np.ones(4) * 0.3), rng.normal(2, 3, 4), 10 ** rng.uniform(-5, 2, 4))
    mixture = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), Mixture(*arrays))
    q = np.sort(rng.uniform(0, 1, 200))
    assert (np.diff(mixture.quantile(jnp.asarray(q, jnp.float32))) >= 0).all()


@pytest.mark.parametrize("lower", [-np.inf, 0.0])
def test_draws_have_the_cdf(lower: float) -> None:
    mixture = Mixture(jnp.array([0.3, 0.7]), jnp.array([0.1, 1.0]), jnp.array([0.3, 0.1]), lower)
    draws = np.asarray(mixture.sample(key=jax.random.key(3), shape=(20_000,)))
    assert (draws >= lower).all()
    for q in (0.1, 0.5, 0.9):
        assert np.mean(draws < float(mixture.quantile(q))) == pytest.approx(q, abs=0.012)


def test_a_mixture_goes_through_jit_and_vmap() -> None:
    mixture = Mixture(jnp.ones((6, 3)) / 3, jnp.ones((6, 3)), jnp.ones((6, 3)) / 2, 0.0)
    means = jax.jit(jax.vmap(lambda one: one.mean()))(mixture)
    np.testing.assert_allclose(means, mixture.mean(), rtol=1e-6)
    assert jax.tree.map(lambda a: a[:2], mixture).weights.shape == (2, 3)
    assert jax.tree.map(lambda a: a, mixture).lower == 0.0


def test_one_set_of_quantiles_of_many_sources() -> None:
    mixture = Mixture(np.full((5, 2), 0.5), np.zeros((5, 2)), np.ones((5, 2)))
    assert mixture.quantile(np.array([0.16, 0.5, 0.84])[:, None]).shape == (3, 5)
    assert mixture.quantile(0.5).shape == (5,)


def test_arrays_of_unequal_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"one shape.*\(2,\).*\(3,\)"):
        Mixture(np.ones(2), np.ones(3), np.ones(3))
