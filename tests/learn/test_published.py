"""PDFs as columns of normal distributions: exact for mixtures, truncated or not, and had back exactly of bins."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import ndtr
from scipy.stats import norm

from inzitu.learn import published
from inzitu.learn.bins import Histogram
from inzitu.learn.mixture import Mixture
from inzitu.learn.predict import pooled
from inzitu.learn.scalars import ScalarScale, ScalarsError, stacked
from inzitu.learn.scores import crps_bins, crps_mixture

RNG = np.random.default_rng(7)
WEIGHTS = RNG.dirichlet(np.ones(3), 6)
MEANS, SIGMAS = RNG.uniform(0.05, 0.6, (6, 3)), RNG.uniform(0.05, 0.5, (6, 3))


def density(columns: published.Columns, row: int, z: float) -> float:
    parts = norm.pdf(z, columns["means"][row], columns["sigmas"][row])
    return float(columns["weights"][row] @ parts)


def test_a_mixture_stands_as_it_is() -> None:
    found = published.columns(Mixture(WEIGHTS, MEANS, SIGMAS))
    for name, values in (("weights", WEIGHTS), ("means", MEANS), ("sigmas", SIGMAS)):
        np.testing.assert_allclose(found[name], values, rtol=1e-12)


def test_the_density_of_a_truncated_mixture_above_zero_is_that_of_its_columns() -> None:
    predicted = Mixture(WEIGHTS, MEANS, SIGMAS, 0.0)
    found = published.columns(predicted)
    for row in range(6):
        assert quad(lambda z, row=row: density(found, row, z), 0, 8)[0] == pytest.approx(1, abs=1e-9)
        assert density(found, row, 0.3) == pytest.approx(float(predicted.pdf(np.full(6, 0.3))[row]), rel=1e-9)
    above = (found["weights"] * ndtr((found["means"] - 0.4) / found["sigmas"])).sum(axis=1)
    np.testing.assert_allclose(1 - above, predicted.cdf(np.full(6, 0.4)), atol=1e-12)


@pytest.mark.parametrize(
    ("head", "predicted"),
    [
        ("mixture(3)", Mixture(WEIGHTS, MEANS, SIGMAS)),
        ("mixture(3, truncated)", Mixture(WEIGHTS, MEANS, SIGMAS, 0.0)),
        ("bins(3, 0.6)", Histogram(WEIGHTS, 0.6)),
    ],
)
def test_what_was_predicted_is_had_back_from_float32(head: str, predicted: Mixture | Histogram) -> None:
    stored = {name: values.astype(np.float32) for name, values in published.columns(predicted).items()}
    again = published.distribution(stored, head)
    assert type(again) is type(predicted)
    z = np.linspace(0.01, 0.59, 6)
    np.testing.assert_allclose(again.cdf(z), predicted.cdf(z), atol=1e-6)


def test_bins_as_a_mixture_cost_next_to_nothing() -> None:
    # PDFs as wide as those of Pasquet et al.: four bins of 180 and more.
    centres, widths = RNG.uniform(0.05, 0.3, 400), RNG.uniform(0.008, 0.03, 400)
    edges = np.linspace(0, 0.4, 181)
    p = np.diff(norm.cdf(edges, centres[:, None], widths[:, None]), axis=1)
    p /= p.sum(axis=1, keepdims=True)
    z = RNG.normal(centres, widths)
    found = published.columns(Histogram(p, 0.4))
    exact = crps_bins(p, z, 0.4)
    assert crps_mixture(found["weights"], found["means"], found["sigmas"], z).mean() == pytest.approx(
        exact.mean(), rel=3e-4
    )
    mixture = Mixture(found["weights"], found["means"], found["sigmas"])
    at = np.linspace(0.02, 0.38, 400)
    assert np.abs(mixture.cdf(at) - Histogram(p, 0.4).cdf(at)).max() < 3e-3


def test_truncated_members_pool_to_the_mean_of_their_pdfs() -> None:
    members = Mixture(WEIGHTS.reshape(2, 3, 3), MEANS.reshape(2, 3, 3), SIGMAS.reshape(2, 3, 3), 0.0)
    z = np.full((2, 3), 0.25)
    together = pooled(members)
    np.testing.assert_allclose(together.pdf(z[0]), members.pdf(z).mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(together.cdf(z[0]), members.cdf(z).mean(axis=0), rtol=1e-5)


def test_scalars_are_centred_and_scaled_as_the_training_rows() -> None:
    columns = stacked(("ebv", "mag"), {"mag": np.array([19.0, 21.0]), "ebv": np.array([0.1, 0.1])}, 2)
    np.testing.assert_allclose(ScalarScale.measure(columns).apply(columns), [[0, -1], [0, 1]], atol=1e-6)


def test_scalars_that_are_not_there_are_named() -> None:
    with pytest.raises(ScalarsError, match="takes the scalar 'ebv'; given are mag"):
        stacked(("ebv",), {"mag": np.zeros(2)}, 2)
    with pytest.raises(ScalarsError, match=r"'mag' is missing in 2 rows \(1, 2\)"):
        stacked(("mag",), {"mag": np.array([1, np.nan, np.inf])}, 3)
