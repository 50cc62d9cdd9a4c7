"""Truncated mixtures of which nothing but a far tail is left, in both precisions, against numerical integration."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erfcx, log_ndtr
from scipy.stats import kstest, truncnorm

from inzitu.learn import mixture, tails
from inzitu.learn.mixture import Mixture
from inzitu.learn.truncation import cde_loss_truncated, crps_truncated
from learn import quadrature
from learn.quadrature import Case

DEPTHS = (0.0, 2.0, 6.0, 15.0, 50.0, 500.0)


def _case(name: str, depth: float, truth: float) -> Case:
    """A mixture `depth` widths below the cut, and a truth `truth` scales of its tail above it."""
    weights, means, sigmas = {
        "alone": ([0.2, 0.3, 0.5], [-0.4 * depth] * 3, [0.4] * 3),
        # Their squares differ by about one, so that both have a share, but by no round number.
        "of two kinds": ([0.2, 0.3, 0.5], [-0.4 * depth] * 2 + [-0.3 * math.hypot(depth, 1.1)], [0.4, 0.4, 0.3]),
        "beside one above": ([0.2, 0.3, 0.5], [-0.4 * depth, -0.41 * depth, 1.5], [0.4, 0.4, 0.2]),
    }[name]
    z = truth * 0.4 / max(depth, 1.0)
    arrays = np.array(weights), np.array(means), np.array(sigmas)
    return Case(f"{name}, {depth:g} deep, truth at {truth:g}", *arrays, z, 0.0).rounded()


CASES = [_case(name, depth, 0.7) for name in ("alone", "of two kinds", "beside one above") for depth in DEPTHS]
CASES += [_case("of two kinds", depth, truth) for depth in (6.0, 500.0) for truth in (0.0, 6.0, 100.0)]
every = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
precisions = pytest.mark.parametrize("precision", [np.float32, np.float64], ids=["single", "double"])


def nll(weights: Any, means: Any, sigmas: Any, z: Any) -> Any:
    return -mixture.log_pdf(mixture.log_of(weights), means, sigmas, z, lower=0.0)


def pit(weights: Any, means: Any, sigmas: Any, z: Any) -> Any:
    return mixture.cdf(weights, means, sigmas, z, lower=0.0)


SCORES = {
    name: jax.jit(jax.value_and_grad(score, argnums=(0, 1, 2)))
    for name, score in (("nll", nll), ("pit", pit), ("crps", crps_truncated))
}


@precisions
@every
def test_scores_and_gradients_of_a_tail_are_those_of_the_definition(case: Case, precision: type) -> None:
    values = {"nll": -case.log_pdf(case.z), "pit": case.cdf(case.z), "crps": quadrature.crps(case)}
    gradients = quadrature.above_gradients(case)
    with jax.enable_x64(precision == np.float64):
        arrays = [jnp.asarray(a, precision) for a in (case.weights, case.means, case.sigmas, case.z)]
        for name, score in SCORES.items():
            value, by = score(*arrays)
            assert float(value) == pytest.approx(values[name], rel=1e-5 if name == "nll" else 0, abs=2e-6), name
            for argument, derivative in zip(("weights", "means", "sigmas"), by, strict=True):
                exact = gradients[name][argument]
                # Equal components' weights change nothing, nor does anything change the PIT at the cut: zero, rounded.
                zero = argument == "weights" or (name == "pit" and case.z == 0.0)
                noise = 1e-6 if zero else 1e-12
                least = 1e-4 * float(np.abs(exact).max()) + noise
                np.testing.assert_allclose(derivative, exact, rtol=1e-4, atol=least, err_msg=f"{name} by {argument}")


@every
def test_conditional_density_loss_of_a_tail_is_the_integral(case: Case) -> None:
    exact = quadrature.cde_loss(case)
    arrays = case.weights, case.means, case.sigmas, np.asarray(case.z)
    assert cde_loss_truncated(*arrays) == pytest.approx(exact, rel=1e-8, abs=1e-8)
    assert float(cde_loss_truncated(*(jnp.asarray(a, jnp.float32) for a in arrays))) == pytest.approx(
        exact, rel=2e-5, abs=2e-5
    )


def test_density_loss_of_a_component_beside_one_far_below_the_cut_is_that_of_it_alone() -> None:
    arrays = [jnp.array([0.5, 0.25, 0.25]), jnp.array([1.5, 1.5, -1250.0]), jnp.array([1.5, 1.5, 0.0043])]
    alone = [jnp.ones(1), jnp.array([1.5]), jnp.array([1.5])]
    assert float(cde_loss_truncated(*arrays, 1.0)) == pytest.approx(float(cde_loss_truncated(*alone, 1.0)), rel=1e-6)


@pytest.mark.parametrize("depth", DEPTHS)
def test_moments_and_quantiles_of_a_tail_are_those_of_a_truncated_normal(depth: float) -> None:
    mean, sigma = (float(np.float32(x)) for x in (-0.4 * depth, 0.4))
    case = Case("", np.ones(1), np.array([mean]), np.array([sigma]), 0.0, 0.0)
    expected = case.integral(lambda x: x * math.exp(case.log_pdf(x)))
    variance = case.integral(lambda x: (x - expected) ** 2 * math.exp(case.log_pdf(x)))
    single = Mixture(jnp.ones(1), jnp.array([mean]), jnp.array([sigma]), 0.0)
    assert float(single.mean()) == pytest.approx(expected, rel=1e-6)
    assert float(single.std()) == pytest.approx(math.sqrt(variance), rel=1e-6)
    exact = truncnorm.ppf([0.01, 0.5, 0.99], -mean / sigma, np.inf, loc=mean, scale=sigma)
    np.testing.assert_allclose(single.quantile(jnp.array([0.01, 0.5, 0.99])), exact, rtol=1e-4)


@pytest.mark.parametrize(("cut", "error"), [(0.0, 2e-6), (1.0, 1e-7 * 500**2)])
def test_shares_of_components_far_below_the_cut_have_the_digits_that_are_promised(cut: float, error: float) -> None:
    rng = np.random.default_rng(4)
    sigmas = rng.uniform(0.1, 3, (100, 2)).astype(np.float32)
    means = (cut - sigmas * np.sqrt(500**2 + rng.uniform(0, 6, (100, 2)))).astype(np.float32)
    logs = np.asarray(tails.log_shares(jnp.zeros((100, 2)), jnp.asarray(means), jnp.asarray(sigmas), cut), float)
    for found, m, s in zip(logs, means.tolist(), sigmas.tolist(), strict=True):
        h = [(Fraction(cut) - Fraction(m[i])) / Fraction(s[i]) for i in (0, 1)]
        hazards = math.log(erfcx(float(h[1]) / math.sqrt(2)) / erfcx(float(h[0]) / math.sqrt(2)))
        assert found[1] - found[0] == pytest.approx(float((h[0] ** 2 - h[1] ** 2) / 2) + hazards, rel=2e-6, abs=error)


@precisions
def test_the_excess_above_any_height_is_that_of_mills_ratio(precision: type) -> None:
    u: np.ndarray = np.concatenate([[0.0], np.logspace(-3, 4, 500)]).astype(precision)
    exact = np.sqrt(2 / np.pi) / erfcx(u.astype(float) / np.sqrt(2))
    with jax.enable_x64(precision == np.float64):
        found, slope = (np.asarray(f(jnp.asarray(u)), float) for f in (tails.excess, jax.vmap(jax.grad(tails.excess))))
    np.testing.assert_allclose(u + found, exact, rtol=2e-7 if precision == np.float32 else 1e-14)
    # The derivative of a ratio r is r (r - u): from float64, where it keeps enough digits.
    low = u < 30
    expected = exact * (exact - u.astype(float)) - 1
    np.testing.assert_allclose(slope[low], expected[low], rtol=2e-6 if precision == np.float32 else 1e-9)
    np.testing.assert_allclose((u * found)[~low], 1.0, rtol=3e-3)


def test_a_truncated_score_is_exported_for_both_platforms_without_a_call_to_the_host() -> None:
    arrays = [jnp.ones((7, 3))] * 3 + [jnp.ones(7)]
    scored = jax.jit(lambda *arrays: (crps_truncated(*arrays), nll(*arrays)))
    exported = jax.export.export(scored, platforms=("cpu", "cuda"))(*arrays)
    assert "custom_call" not in exported.mlir_module()


@pytest.mark.parametrize("depth", [-2.0, 0.5, *DEPTHS])
def test_draws_in_single_precision_are_those_of_the_tail(depth: float) -> None:
    mean = np.float32(-0.1 * depth)
    mixture = Mixture(jnp.ones(1), jnp.array([mean]), jnp.array([0.1], jnp.float32), 0.0)
    draws = np.asarray(mixture.sample(key=jax.random.key(5), shape=(20_000,)))
    assert draws.dtype == np.float32
    assert draws.min() >= 0.0
    width = np.float64(np.float32(0.1))
    h = -np.float64(mean) / width
    above = np.exp(log_ndtr(-(h + draws.astype(np.float64) / width)) - log_ndtr(-h))
    assert kstest(above, "uniform").pvalue > 1e-3
