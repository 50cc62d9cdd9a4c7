"""Functions on PDFs against numerical integration, and as SQL sees them."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from inzitu.tables import mixtures
from tables.sample import Ask, predictions

FEW = settings(max_examples=25, deadline=None)


@st.composite
def mixture(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    k = draw(st.integers(1, 5))
    weights = np.array(draw(st.lists(st.floats(0.01, 1), min_size=k, max_size=k)))
    means = np.array(draw(st.lists(st.floats(-1, 7), min_size=k, max_size=k)))
    sigmas = np.array(draw(st.lists(st.floats(0.01, 3), min_size=k, max_size=k)))
    return (weights / weights.sum())[None], means[None], sigmas[None]


def density(m: tuple[np.ndarray, np.ndarray, np.ndarray], z: float) -> float:
    weights, means, sigmas = m
    return float(np.sum(weights[0] * stats.norm.pdf(z, means[0], sigmas[0])))


def distribution(m: tuple[np.ndarray, np.ndarray, np.ndarray], z: np.ndarray) -> np.ndarray:
    weights, means, sigmas = m
    return np.asarray(stats.norm.cdf(np.asarray(z)[..., None], means[0], sigmas[0]) @ weights[0])


@FEW
@given(mixture(), st.floats(-2, 8), st.floats(0, 3))
def test_probabilities_are_integrals_of_the_density(
    m: tuple[np.ndarray, np.ndarray, np.ndarray], z: float, width: float
) -> None:
    at = np.array([z])
    assert mixtures.pdf(*m, at)[0] == pytest.approx(density(m, z), rel=1e-12, abs=1e-300)
    knots = sorted({float(x) for x in m[1][0] if z < x < z + width})
    integral, _ = integrate.quad(lambda t: density(m, t), z, z + width, points=knots or None, limit=400, epsabs=1e-12)
    assert mixtures.prob(*m, at, at + width)[0] == pytest.approx(integral, abs=1e-9)
    assert mixtures.cdf(*m, at)[0] == pytest.approx(float(distribution(m, at)[0]), abs=1e-14)


@FEW
@given(mixture(), st.floats(1e-9, 1 - 1e-9))
@example((np.array([[0.5, 0.5]]), np.array([[0.0, 5.0]]), np.array([[0.01, 0.01]])), 0.5)
def test_a_quantile_is_where_the_cdf_reaches_its_share(m: tuple[np.ndarray, np.ndarray, np.ndarray], q: float) -> None:
    z = mixtures.quantile(*m, np.array([q]))
    assert mixtures.cdf(*m, z)[0] == pytest.approx(q, abs=1e-10)


@FEW
@given(mixture(), st.floats(-2, 8))
def test_crps_is_the_integral_of_the_squared_difference_of_cdfs(
    m: tuple[np.ndarray, np.ndarray, np.ndarray], truth: float
) -> None:
    low = min(truth, float((m[1] - 12 * m[2]).min())) - 1
    high = max(truth, float((m[1] + 12 * m[2]).max())) + 1
    pieces = 0.0
    for a, b, step in ((low, truth, 0.0), (truth, high, 1.0)):
        x, w = np.polynomial.legendre.leggauss(40)
        edges = np.linspace(a, b, 400)
        middle, half = (edges[1:] + edges[:-1]) / 2, np.diff(edges) / 2
        points = middle[:, None] + half[:, None] * x
        pieces += float(np.sum(half[:, None] * w * (distribution(m, points) - step) ** 2))
    assert mixtures.crps(*m, np.array([truth]))[0] == pytest.approx(pieces, abs=1e-9)


@FEW
@given(mixture(), st.floats(0.02, 6), st.floats(0.01, 0.99))
def test_weights_that_sum_to_more_are_of_a_pdf_that_is_cut_off_at_zero(
    m: tuple[np.ndarray, np.ndarray, np.ndarray], z: float, q: float
) -> None:
    # Components are kept near zero and wide, so that each leaves something above.
    whole = (m[0], np.abs(m[1]) / 4, 0.2 + m[2])
    above = 1 - float(distribution(whole, np.zeros(1))[0])
    cut = (whole[0] / above, *whole[1:])
    if above > 0.999:  # nothing to speak of is cut off
        return

    def cdf(x: np.ndarray) -> np.ndarray:
        return np.maximum(distribution(whole, x) - 1 + above, 0) / above

    at = np.array([z])
    assert mixtures.pdf(*cut, at)[0] == pytest.approx(density(whole, z) / above, rel=1e-9)
    assert mixtures.pdf(*cut, -at)[0] == mixtures.cdf(*cut, -at)[0] == 0
    assert mixtures.cdf(*cut, at)[0] == pytest.approx(float(cdf(at)[0]), abs=1e-12)
    assert mixtures.prob(*cut, -at, at)[0] == pytest.approx(float(cdf(at)[0]), abs=1e-12)
    assert float(cdf(mixtures.quantile(*cut, np.array([q])))[0]) == pytest.approx(q, abs=1e-9)
    x = np.linspace(0, 25, 200_001)
    difference = (cdf(x) - (x >= z)) ** 2
    assert mixtures.crps(*cut, at)[0] == pytest.approx(np.trapezoid(difference, x), abs=3e-4)
    assert mixtures.crps(*cut, np.array([-0.3]))[0] == pytest.approx(0.3 + np.trapezoid((cdf(x) - 1) ** 2, x), abs=3e-4)


def test_the_bins_of_many_rows_are_scored_within_bounds() -> None:
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.ones(180), 300)
    means = np.tile((np.arange(180) + 0.5) / 450, (300, 1))
    found = mixtures.crps(weights, means, np.full((300, 180), 1 / 900), np.full(300, 0.2))
    one = mixtures.crps(weights[-1:], means[-1:], np.full((1, 180), 1 / 900), np.array([0.2]))
    assert found[-1] == pytest.approx(one[0], rel=1e-12)


def test_an_interval_far_out_keeps_its_digits() -> None:
    one = (np.ones((1, 1)), np.zeros((1, 1)), np.ones((1, 1)))
    found = mixtures.prob(*one, np.array([20.0]), np.array([21.0]))[0]
    assert found == pytest.approx(stats.norm.sf(20) - stats.norm.sf(21), rel=1e-10)
    assert mixtures.prob(*one, np.array([2.0]), np.array([1.0]))[0] == 0


QUERY = """SELECT source_id, pz_pdf(weights, means, sigmas, z_true) AS pdf,
  pz_cdf(weights, means, sigmas, z_true) AS cdf,
  pz_prob(weights, means, sigmas, 1, z_true) AS prob, pz_quantile(weights, means, sigmas, 0.16) AS q16,
  pz_crps(weights, means, sigmas, z_true) AS crps FROM quasars"""


def test_sql_gives_what_the_formulas_give_and_null_where_there_is_no_pdf(ask: Ask) -> None:
    rows = {row["source_id"]: row for row in ask(QUERY, maxrec=10_000)}
    table = predictions()
    for record in table.slice(0, 50).to_pylist():
        row = rows[record["source_id"]]
        if record["weights"] is None:
            assert [row[name] for name in ("pdf", "cdf", "prob", "q16", "crps")] == [None] * 5
            continue
        m = (np.array([record["weights"]]), np.array([record["means"]]), np.array([record["sigmas"]]))
        z = np.array([record["z_true"]])
        assert row["pdf"] == pytest.approx(mixtures.pdf(*m, z)[0], rel=1e-12)
        assert row["cdf"] == pytest.approx(mixtures.cdf(*m, z)[0], rel=1e-12)
        assert row["prob"] == pytest.approx(mixtures.prob(*m, np.ones(1), z)[0], abs=1e-14)
        assert row["q16"] == pytest.approx(mixtures.quantile(*m, np.array([0.16]))[0], rel=1e-9)
        assert row["crps"] == pytest.approx(mixtures.crps(*m, z)[0], rel=1e-9)


@pytest.mark.parametrize(
    ("weights", "means", "sigmas", "q"),
    [
        ([1.0], [2.0], [0.0], 0.5),
        ([1.0], [2.0], [-1.0], 0.5),
        ([1.0], [float("nan")], [1.0], 0.5),
        ([0.5, None], [1.0, 2.0], [1.0, 1.0], 0.5),
        ([0.5, 0.5], [1.0, 2.0], [1.0], 0.5),
        ([], [], [], 0.5),
        (None, [1.0], [1.0], 0.5),
        ([1.0], [2.0], [1.0], None),
        ([1.0], [2.0], [1.0], 1.0),
        ([1.0], [2.0], [1.0], -0.1),
    ],
)
def test_what_is_no_mixture_gives_null(
    ask: Ask, weights: list[float] | None, means: list[float], sigmas: list[float], q: float | None
) -> None:
    lists = pa.list_(pa.float64())
    odd = {
        "w": pa.array([weights, [1.0]], lists),
        "m": pa.array([means, [3.0]], lists),
        "s": pa.array([sigmas, [0.1]], lists),
        "q": pa.array([q, 0.5], pa.float64()),
        "i": [0, 1],
    }
    rows = ask("SELECT pz_quantile(w, m, s, q) AS z FROM odd ORDER BY i", uploads={"odd": pa.table(odd)})
    assert rows[0]["z"] is None
    assert rows[1]["z"] == pytest.approx(3.0)


def test_mixtures_of_different_lengths_may_stand_in_one_column(ask: Ask) -> None:
    lists = [[1.0], [0.5, 0.5], [0.2, 0.3, 0.5]]
    table = pa.table(
        {"w": lists, "m": [[float(i) for i in range(len(w))] for w in lists], "s": [[1.0] * len(w) for w in lists]}
    )
    found = ask("SELECT pz_cdf(w, m, s, 0.7) AS c FROM mixed", uploads={"mixed": table})
    expected = [sum(w * stats.norm.cdf(0.7 - i) for i, w in enumerate(weights)) for weights in lists]
    assert [row["c"] for row in found] == pytest.approx(expected, rel=1e-13)
