"""Scores of point estimates, tests of uniformity, bootstrap intervals and the evaluation of slices."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest
from scipy import stats

from inzitu.learn.bins import Histogram
from inzitu.learn.bootstrap import bootstrap
from inzitu.learn.evaluation import evaluate, score_rows
from inzitu.learn.mixture import Mixture
from inzitu.learn.scores import point_scores
from inzitu.learn.uniformity import (
    anderson_darling,
    anderson_darling_p,
    coverage,
    cramer_von_mises,
    expected_calibration_error,
    kolmogorov_smirnov,
    uniformity,
)


def test_point_scores_are_those_of_the_definitions() -> None:
    z_spec = np.array([0.0, 1.0, 1.0, 3.0, 1.0])
    z_phot = np.array([0.1, 1.0, 0.8, 3.0, 2.0])  # dz 0.1, 0, -0.1, 0, 0.5
    found = point_scores(z_phot, z_spec)
    assert found.bias == pytest.approx(0.1)
    assert found.nmad == pytest.approx(1.4826 * 0.1)
    assert found.outliers_005 == pytest.approx(0.6)
    assert found.outliers_015 == pytest.approx(0.2)
    assert found.rmse == pytest.approx(np.sqrt(0.27 / 5))


def test_nmad_of_a_normal_distribution_is_its_width() -> None:
    dz = np.random.default_rng(0).normal(0.01, 0.03, 100_000)
    assert point_scores(dz, np.zeros_like(dz)).nmad == pytest.approx(0.03, rel=0.02)


def test_no_rows_score_nothing_and_bad_rows_are_refused() -> None:
    assert np.isnan(point_scores([], []).nmad)
    with pytest.raises(ValueError, match="1 of 2 rows"):
        point_scores([0.1, np.nan], [0.1, 0.2])
    with pytest.raises(ValueError, match="one length"):
        point_scores([0.1], [0.1, 0.2])


@pytest.mark.parametrize("n", [8, 50, 1000])
def test_the_anderson_darling_probability_is_that_of_simulated_statistics(n: int) -> None:
    rng = np.random.default_rng(n)
    statistics = np.sort([anderson_darling(rng.uniform(size=n)) for _ in range(4000)])
    for share in (0.1, 0.5, 0.9, 0.99):
        value = float(np.quantile(statistics, share))
        assert anderson_darling_p(value, n) == pytest.approx(1 - share, abs=0.025)


def test_the_anderson_darling_probability_has_the_published_values() -> None:
    """D'Agostino & Stephens (1986), table 4.2, case 0."""
    for value, p in ((1.933, 0.10), (2.492, 0.05), (3.857, 0.01)):
        assert anderson_darling_p(value, 100_000) == pytest.approx(p, rel=0.03)
    assert anderson_darling_p(0.0, 10) == 1.0
    assert anderson_darling_p(500.0, 10) < 1e-4


def test_uniform_numbers_pass_and_others_fail_all_tests() -> None:
    rng = np.random.default_rng(1)
    flat, narrow = uniformity(rng.uniform(size=2000)), uniformity(rng.beta(2, 2, size=2000))
    assert min(flat.ks_p, flat.cvm_p, flat.ad_p) > 0.05
    assert max(narrow.ks_p, narrow.cvm_p, narrow.ad_p) < 1e-6
    assert flat.ece < 0.02 < narrow.ece
    edge = uniformity(np.array([0.0, 0.3, 0.7, 1.0]))
    assert np.isfinite(edge.ad)


def test_statistics_of_the_pit_are_those_of_scipy_with_intervals_of_their_own() -> None:
    pit = np.random.default_rng(5).beta(1.2, 1.0, size=101)
    assert kolmogorov_smirnov(pit) == pytest.approx(stats.kstest(pit, "uniform").statistic)
    assert cramer_von_mises(pit) == pytest.approx(stats.cramervonmises(pit, "uniform").statistic)
    mixture, z = calibrated(200)
    (whole,) = evaluate(score_rows(mixture, z), rng=np.random.default_rng(0), resamples=30)
    for name in ("ks", "cvm", "ad", "ece"):
        interval = whole.scores[name]
        assert interval.value == pytest.approx(getattr(whole.uniformity, name))
        assert interval.low < interval.high


def test_what_is_no_pit_is_refused() -> None:
    for values in ([], [0.5, 1.1], [np.nan]):
        with pytest.raises(ValueError, match="cannot be tested"):
            uniformity(np.array(values))


def test_calibration_error_is_the_area_between_the_cdfs() -> None:
    pit = np.random.default_rng(2).beta(1.5, 1.0, size=300)
    q = (np.arange(200_000) + 0.5) / 200_000
    empirical = np.searchsorted(np.sort(pit), q, side="right") / 300
    assert expected_calibration_error(pit) == pytest.approx(np.abs(empirical - q).mean(), abs=1e-5)


def test_a_bootstrap_interval_of_a_mean_is_its_standard_error() -> None:
    values = np.random.default_rng(3).normal(2.0, 1.0, 400)
    found = bootstrap(np.mean, values, rng=np.random.default_rng(4))
    assert found.value == values.mean()
    assert found.error == pytest.approx(values.std() / 20, rel=0.1)
    assert found.high - found.low == pytest.approx(2 * values.std() / 20, rel=0.15)
    assert bootstrap(np.mean, values, rng=np.random.default_rng(4)) == found
    with pytest.raises(ValueError, match="one length"):
        bootstrap(np.mean, values, values[:3], rng=np.random.default_rng(4))


def calibrated(n: int) -> tuple[Mixture, np.ndarray]:
    """Mixtures, and truths drawn from them."""
    rng = np.random.default_rng(7)
    weights = rng.dirichlet(np.ones(3), size=n)
    means, sigmas = rng.uniform(0.5, 3, (n, 3)), rng.uniform(0.05, 0.3, (n, 3))
    chosen = np.array([rng.choice(3, p=w) for w in weights])[:, None]
    taken = [np.take_along_axis(array, chosen, axis=1)[:, 0] for array in (means, sigmas)]
    return Mixture(weights, means, sigmas), rng.normal(*taken)


def test_truths_drawn_from_the_pdfs_are_covered_as_promised() -> None:
    mixture, z = calibrated(3000)
    rows = score_rows(mixture, z)
    (whole,) = evaluate(rows, rng=np.random.default_rng(0), resamples=50)
    assert whole.uniformity.ks_p > 0.05
    assert whole.scores["coverage_68"].value == pytest.approx(0.68, abs=0.025)
    assert whole.scores["hpd_95"].value == pytest.approx(0.95, abs=0.015)
    assert stats.kstest(rows.hpd, "uniform").pvalue > 0.05
    assert coverage(rows.hpd, 1.0) == 1.0


def test_slices_are_scored_apart_and_too_small_ones_left_out() -> None:
    mixture, z = calibrated(400)
    rows = score_rows(mixture, z)
    found = evaluate(rows, rng=np.random.default_rng(0), by={"z": (z, [0.0, 1.0, 2.0, 50.0, 60.0])}, resamples=20)
    assert [(part.column, part.low, part.high) for part in found[1:]] == [("z", 0, 1), ("z", 1, 2), ("z", 2, 50)]
    inside = (z >= 1) & (z < 2)
    assert found[2].rows == inside.sum()
    assert found[2].scores["crps"].value == pytest.approx(rows.crps[inside].mean())
    described = json.loads(json.dumps(found[0].json()))
    assert described["high"] is None
    assert described["scores"]["nmad"]["low"] <= described["scores"]["nmad"]["high"]


def test_bins_and_truncated_mixtures_are_scored_by_their_own_formulas() -> None:
    mixture, z = calibrated(60)
    edges = np.linspace(0, 5, 1001)
    p = np.diff(mixture.cdf(edges[:, None]), axis=0).T
    bins, whole = score_rows(Histogram(p / p.sum(axis=1, keepdims=True), 5.0), z), score_rows(mixture, z)
    np.testing.assert_allclose(bins.crps, whole.crps, atol=5e-3)
    np.testing.assert_allclose(bins.pit, whole.pit, atol=2e-2)
    cut = score_rows(Mixture(mixture.weights, mixture.means, mixture.sigmas, 0.0), z)
    np.testing.assert_allclose(cut.crps, whole.crps, atol=2e-2)
    # A mixture of which half lies below the cut: all that is left stands for twice as much.
    half = Mixture(np.ones((1, 1)), np.zeros((1, 1)), np.ones((1, 1)), 0.0)
    folded = score_rows(half, np.array([1.0]))
    assert folded.hpd[0] == pytest.approx(2 * stats.norm.cdf(1) - 1, abs=2e-3)
    assert folded.cde_loss[0] == pytest.approx(2 / (2 * np.sqrt(np.pi)) - 4 * stats.norm.pdf(1), abs=1e-9)
    with pytest.raises(ValueError, match="60 PDFs and 59"):
        score_rows(mixture, z[1:])
    assert len(jax.tree.leaves(mixture)) == 3
