"""Heads: named as users write them, trained by a loss that is right at the edges."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from inzitu.learn import scores
from inzitu.learn.bins import Histogram
from inzitu.learn.heads import BinsHead, HeadError, MixtureHead, from_json, parse_head
from inzitu.learn.mixture import Mixture

HEADS = ("mixture(1)", "mixture(5)", "mixture(3, truncated)", "bins(20, 4)")
Z = np.random.default_rng(0).uniform(0.1, 3.9, 16).astype(np.float32)


@pytest.mark.parametrize("text", HEADS)
def test_a_head_is_what_it_was_written_as(text: str) -> None:
    head = parse_head(text)
    assert str(head) == text
    assert from_json(head.json()) == head


@pytest.mark.parametrize(
    "text", ["", "mixture", "mixture(0)", "mixture(5", "bins(180)", "bins(1, 0.4)", "bins(10, 0)", "bins(10, 1.2.3)",
             "mixture(1000000000)", "mixture(5); import os", "gauss(3)"],
)  # fmt: skip
def test_what_is_no_head_is_refused(text: str) -> None:
    with pytest.raises(HeadError):
        parse_head(text)


def test_a_description_of_another_version_is_refused() -> None:
    with pytest.raises(HeadError, match="'spline'"):
        from_json({"head": "spline"})
    with pytest.raises(HeadError, match="incomplete"):
        from_json({"head": "bins", "num_bins": 4})


@pytest.mark.parametrize("text", HEADS)
def test_the_initial_bias_predicts_the_labels_distribution(text: str) -> None:
    head = parse_head(text)
    raw = jnp.broadcast_to(jnp.asarray(head.initial_bias(Z)), (16, head.outputs))
    climatology = np.mean([np.abs(Z - z).mean() for z in Z]) / 2
    assert head.crps(raw, jnp.asarray(Z)).mean() < 1.1 * climatology


@pytest.mark.parametrize("text", HEADS)
def test_the_loss_is_the_score_of_the_distribution(text: str) -> None:
    head = parse_head(text)
    raw = jax.random.normal(jax.random.key(1), (16, head.outputs))
    z = jnp.asarray(Z)
    match head.distribution(raw):
        case Mixture() as mixture:
            nll = -mixture.log_pdf(z)
        case Histogram() as histogram:
            nll = scores.nll_bins(histogram.probabilities, z, histogram.max_val)
    np.testing.assert_allclose(head.loss(raw, z, nll_weight=0.0), head.crps(raw, z))
    np.testing.assert_allclose(head.loss(raw, z, nll_weight=0.3), head.crps(raw, z) + 0.3 * nll, rtol=2e-5)


@functools.cache
def loss_and_gradient(text: str) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """The summed loss of a head and its gradient, compiled once for all tests."""
    head = parse_head(text)

    def loss(raw: jax.Array, z: jax.Array, mask: jax.Array | None) -> jax.Array:
        return head.loss(raw, z, nll_weight=0.2, mask=mask).sum()

    return jax.jit(jax.value_and_grad(loss))


@pytest.mark.parametrize("text", HEADS)
def test_padding_is_silent_whatever_it_holds(text: str) -> None:
    raw = jax.random.normal(jax.random.key(1), (16, parse_head(text).outputs))
    mask = jnp.arange(16) < 10
    rubbish = jnp.where(mask[:, None], raw, jnp.nan), jnp.where(mask, jnp.asarray(Z), jnp.nan)
    whole, gradient = loss_and_gradient(text)(raw[:10], jnp.asarray(Z[:10]), None)
    padded, padded_gradient = loss_and_gradient(text)(*rubbish, mask)
    assert padded == pytest.approx(float(whole), rel=1e-6)
    np.testing.assert_allclose(padded_gradient[:10], gradient, rtol=1e-5, atol=1e-7)
    assert (padded_gradient[10:] == 0).all()


@pytest.mark.parametrize("text", HEADS)
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e3, 1e6])
def test_wild_outputs_have_finite_gradients(text: str, scale: float) -> None:
    raw = scale * jax.random.normal(jax.random.key(2), (16, parse_head(text).outputs))
    gradient = loss_and_gradient(text)(raw, jnp.asarray(Z), jnp.ones(16, bool))[1]
    assert np.isfinite(gradient).all()


def test_bfloat16_outputs_are_scored_in_float32() -> None:
    head = MixtureHead(5)
    raw = jax.random.normal(jax.random.key(3), (16, 15)).astype(jnp.bfloat16)
    assert head.loss(raw, jnp.asarray(Z), nll_weight=0.1).dtype == jnp.float32
    assert head.distribution(raw).weights.dtype == jnp.float32


def test_the_likelihoods_optimum_is_the_true_width() -> None:
    """The first system's 1/(2 pi sigma^2) had its optimum at sigma/sqrt 2."""
    z = jnp.asarray(norm.ppf((np.arange(2000) + 0.5) / 2000) * 0.3 + 2.0, jnp.float32)
    head = MixtureHead(1)

    def nll(log_sigma: jax.Array) -> jax.Array:
        raw = jnp.broadcast_to(jnp.stack([jnp.zeros(()), jnp.full((), 2.0), log_sigma]), (z.size, 3))
        return (head.loss(raw, z, nll_weight=1.0) - head.crps(raw, z)).mean()

    widths = np.linspace(0.15, 0.45, 301)
    best = widths[np.argmin(jax.vmap(nll)(jnp.log(jnp.asarray(widths, jnp.float32))))]
    assert best == pytest.approx(0.3, abs=0.004)


def test_labels_that_a_head_cannot_express_are_named() -> None:
    labels = np.array([0.1, 0.4, 0.41, -0.2, np.nan])
    with pytest.raises(HeadError, match=r"3 of 5 .*0\.41 in row 2.*larger max_val"):
        BinsHead(180, 0.4).check_labels(labels)
    BinsHead(180, 0.4).check_labels(labels[:2])
    with pytest.raises(HeadError, match=r"nan in row 4"):
        MixtureHead(5).check_labels(labels)
    with pytest.raises(HeadError, match=r"-0\.2 in row 3"):
        MixtureHead(5, truncated=True).check_labels(labels[:4])


def test_equal_labels_start_from_a_finite_width() -> None:
    bias = MixtureHead(5).initial_bias(np.full(100, 0.7))
    assert np.isfinite(bias).all()
