"""All scores of predictions whose truth is known, with confidence intervals, over all rows and slice by slice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float

from inzitu.learn import points, scores, truncation
from inzitu.learn.bins import Histogram
from inzitu.learn.bootstrap import Interval, bootstrap
from inzitu.learn.mixture import Mixture
from inzitu.learn.uniformity import (
    Uniformity,
    anderson_darling,
    coverage,
    cramer_von_mises,
    expected_calibration_error,
    kolmogorov_smirnov,
    uniformity,
)

# Rows in one call: bounds the memory of the finest score, the density region's.
BLOCK = 8192
FEWEST = 5


@dataclass(frozen=True, slots=True)
class Rows:
    """What each row scores.

    Attributes
    ----------
    z
        True redshifts.
    z_phot
        The point estimates.
    crps, nll, pit, cde_loss, hpd
        Scores of the PDFs; `hpd` is the probability of the densest region that holds the truth.
    """

    z: Float[np.ndarray, " n"]
    z_phot: Float[np.ndarray, " n"]
    crps: Float[np.ndarray, " n"]
    nll: Float[np.ndarray, " n"]
    pit: Float[np.ndarray, " n"]
    cde_loss: Float[np.ndarray, " n"]
    hpd: Float[np.ndarray, " n"]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The scores of some rows.

    Attributes
    ----------
    column, low, high
        The slice: rows with low <= column < high; an empty name and infinite limits for all rows.
    rows
        How many.
    scores
        Each score with its interval.
    uniformity
        The tests of the PIT.
    """

    column: str
    low: float
    high: float
    rows: int
    scores: Mapping[str, Interval]
    uniformity: Uniformity

    def json(self) -> dict[str, Any]:
        """Give what JSON can hold; limits without end are null."""
        found = asdict(self)
        limits = {name: found[name] if np.isfinite(found[name]) else None for name in ("low", "high")}
        return {**found, **limits}


STATISTICS: Mapping[str, tuple[Callable[..., float], str]] = {
    "crps": (np.mean, "crps"),
    "nll": (np.mean, "nll"),
    "cde_loss": (np.mean, "cde_loss"),
    "ece": (expected_calibration_error, "pit"),
    "ks": (kolmogorov_smirnov, "pit"),
    "cvm": (cramer_von_mises, "pit"),
    "ad": (anderson_darling, "pit"),
    "coverage_68": (lambda u: coverage(np.abs(2.0 * u - 1.0), 0.68), "pit"),
    "coverage_95": (lambda u: coverage(np.abs(2.0 * u - 1.0), 0.95), "pit"),
    "hpd_68": (lambda h: coverage(h, 0.68), "hpd"),
    "hpd_95": (lambda h: coverage(h, 0.95), "hpd"),
    "bias": (points.bias, "dz"),
    "nmad": (points.nmad, "dz"),
    "outliers_005": (lambda dz: points.outliers(dz, 0.05), "dz"),
    "outliers_015": (lambda dz: points.outliers(dz, 0.15), "dz"),
    "rmse": (points.rmse, "dz"),
}


def score_rows(
    predicted: Mixture | Histogram, z: Float[np.ndarray, " n"], *, z_phot: Float[np.ndarray, " n"] | None = None
) -> Rows:
    """Score each row, in float64; the point estimate is the median unless another is given.

    Raises
    ------
    ValueError
        As many PDFs as truths are needed, and finite truths.
    """
    z = np.asarray(z, np.float64)
    count = len(jax.tree.leaves(predicted)[0])
    if count != len(z) or not np.isfinite(z).all():
        raise ValueError(f"{count} PDFs and {np.isfinite(z).sum()} finite redshifts: each row needs both.")
    parts: dict[str, list[np.ndarray]] = {}
    for start in range(0, len(z), BLOCK):
        rows = slice(start, start + BLOCK)
        block = jax.tree.map(lambda array, rows=rows: np.asarray(array[rows], np.float64), predicted)
        for name, values in _scored(block, z[rows]).items():
            parts.setdefault(name, []).append(values)
    columns = {name: np.concatenate(values) for name, values in parts.items()}
    median = columns.pop("median")
    return Rows(z=z, z_phot=median if z_phot is None else np.asarray(z_phot, np.float64), **columns)


def evaluate(
    rows: Rows,
    *,
    rng: np.random.Generator,
    by: Mapping[str, tuple[Float[np.ndarray, " n"], Sequence[float]]] | None = None,
    resamples: int = 300,
) -> list[Evaluation]:
    """Give the scores of all rows, then of each slice that holds enough of them.

    Parameters
    ----------
    rows
        What each row scores.
    rng
        Where the resamplings come from.
    by
        For each column's name its values (of redshift, magnitude, anything) and the edges of its slices.
    resamples
        How often rows are drawn for the intervals.
    """
    found = [_summary(rows, np.ones(len(rows.z), bool), ("", -np.inf, np.inf), rng, resamples)]
    for name, (values, edges) in (by or {}).items():
        for low, high in pairwise(edges):
            inside = (values >= low) & (values < high)
            if inside.sum() >= FEWEST:
                found.append(_summary(rows, inside, (name, float(low), float(high)), rng, resamples))
    return found


def _summary(
    rows: Rows,
    inside: Bool[np.ndarray, " n"],
    where: tuple[str, float, float],
    rng: np.random.Generator,
    resamples: int,
) -> Evaluation:
    dz = points.residuals(rows.z_phot[inside], rows.z[inside])
    intervals = {}
    for name, (statistic, column) in STATISTICS.items():
        values = dz if column == "dz" else getattr(rows, column)[inside]
        intervals[name] = bootstrap(statistic, values, rng=rng, resamples=resamples)
    return Evaluation(*where, rows=int(inside.sum()), scores=intervals, uniformity=uniformity(rows.pit[inside]))


def _scored(predicted: Mixture | Histogram, z: Float[np.ndarray, " n"]) -> dict[str, np.ndarray]:
    match predicted:
        case Histogram(probabilities, max_val):
            arguments: tuple[Any, ...] = (probabilities, z, max_val)
            formulas: tuple[Callable[..., Any], ...] = (scores.crps_bins, scores.cde_loss_bins, scores.hpd_bins)
            nll = scores.nll_bins(*arguments)
        case Mixture(weights, means, sigmas, lower) if np.isfinite(lower):
            arguments = (weights, means, sigmas, z, lower)
            formulas = (truncation.crps_truncated, truncation.cde_loss_truncated, truncation.hpd_truncated)
            nll = -predicted.log_pdf(z)
        case Mixture(weights, means, sigmas):
            arguments = (weights, means, sigmas, z)
            formulas = (scores.crps_mixture, scores.cde_loss_mixture, scores.hpd_mixture)
            nll = scores.nll_mixture(*arguments)
    crps, cde_loss, hpd = (formula(*arguments) for formula in formulas)
    pit = np.clip(predicted.cdf(z), 0.0, 1.0)
    return {"crps": crps, "nll": nll, "pit": pit, "cde_loss": cde_loss, "hpd": hpd, "median": predicted.median()}
