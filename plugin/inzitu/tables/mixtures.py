r"""Functions on redshift PDFs that are mixtures of Gaussians, for whole columns at a time.

The PDF of a row is :math:`f(z) = \sum_i w_i\,\varphi((z - m_i)/s_i)/s_i` with weights that sum to one. Weights that sum
to more are those of a PDF that is cut off below some redshift, and divided by its probability above, so that
:math:`1 - F(z) = \sum_i w_i\,\Phi((m_i - z)/s_i)`; where this is more than one, there is nothing. Arrays have one row a
source and one column a component. A row of components that cannot be a mixture (a width that is not positive, a value
that is not finite) gives NaN, which SQL sees as NULL.

The learning kernels hold the same formulas under JAX, which the service never loads; the tests hold both against
numerical integration.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import ndtr, ndtri

type Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

_SQRT_2PI = np.sqrt(2 * np.pi)
_STEPS = 90
# Weights are stored as float32; their sum is off one by less than this unless the PDF is cut off.
_ROUNDING = 1e-4
_PAIRS = 1 << 22
"""Pairs of components looked at together: 32 MB an array."""


def pdf(weights: Array, means: Array, sigmas: Array, z: Array) -> Array:
    """Return the density at z."""
    t = (z[:, None] - means) / sigmas
    density = np.sum(weights * np.exp(-0.5 * t * t) / (_SQRT_2PI * sigmas), axis=1)
    if (cut := _cut_off(weights)).any():
        density[cut & (_survival(weights, means, sigmas, z) > 1)] = 0.0
    return _if_mixture(weights, sigmas, density)


def cdf(weights: Array, means: Array, sigmas: Array, z: Array) -> Array:
    """Return the probability that the redshift is z or less."""
    below = np.sum(weights * ndtr((z[:, None] - means) / sigmas), axis=1)
    if (cut := _cut_off(weights)).any():
        below = np.where(cut, np.maximum(1.0 - _survival(weights, means, sigmas, z), 0.0), below)
    return _if_mixture(weights, sigmas, below)


def prob(weights: Array, means: Array, sigmas: Array, low: Array, high: Array) -> Array:
    """Return the probability that the redshift lies between `low` and `high`; 0 where high < low.

    The difference is taken in the tail where both values are small, so that a narrow interval far out keeps its digits.
    """
    if (cut := _cut_off(weights)).any():
        edge = np.where(cut, _edge(weights, means, sigmas), -np.inf)
        low, high = np.maximum(low, edge), np.maximum(high, edge)
    a, b = (low[:, None] - means) / sigmas, (high[:, None] - means) / sigmas
    upper = a > 0
    between = np.where(upper, ndtr(-a) - ndtr(-b), ndtr(b) - ndtr(a))
    return _if_mixture(weights, sigmas, np.maximum(np.sum(weights * between, axis=1), 0.0))


def quantile(weights: Array, means: Array, sigmas: Array, q: Array) -> Array:
    """Return the redshift below which a share q of the probability lies, 0 < q < 1; NaN for another q.

    A mixture's quantile lies between the least and the greatest of its components' quantiles. From there it is found
    by Newton's steps, with a halving of the interval wherever a step would leave it, and by halvings alone once Newton
    has had its chance; so it always arrives.
    """
    q = np.where((q > 0) & (q < 1), q, np.nan)
    total = weights.sum(axis=1)
    share = np.where(_cut_off(weights), total - (1.0 - q), q * total)
    ends = means + sigmas * ndtri(share / total)[:, None]
    low = np.min(np.where(weights > 0, ends, np.inf), axis=1)
    high = np.max(np.where(weights > 0, ends, -np.inf), axis=1)
    z = 0.5 * (low + high)
    for step in range(_STEPS):
        t = (z[:, None] - means) / sigmas
        excess = np.sum(weights * ndtr(t), axis=1) - share
        low, high = np.where(excess < 0, z, low), np.where(excess < 0, high, z)
        slope = np.sum(weights * np.exp(-0.5 * t * t) / (_SQRT_2PI * sigmas), axis=1)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            newton = z - excess / slope
        useful = (newton >= low) & (newton <= high) & (step < _STEPS // 3)
        following = np.where(useful, newton, 0.5 * (low + high))
        moved, z = np.abs(following - z), following
        if not np.any(moved > 1e-13 * (1 + np.abs(z))):
            break
    return _if_mixture(weights, sigmas, z)


def crps(weights: Array, means: Array, sigmas: Array, z_true: Array) -> Array:
    r"""Return the continuous ranked probability score against a true redshift.

    :math:`\sum_i w_i A(y-m_i, s_i) - \frac12 \sum_{ij} w_i w_j A(m_i-m_j, \sqrt{s_i^2+s_j^2})` with
    :math:`A(m, s) = |m| + 2 s\,(\varphi(t) - t\,\Phi(-t)),\ t = |m|/s` (Grimit et al. 2006, without cancellation).
    """
    scores = np.empty(len(z_true))
    rows = max(1, _PAIRS // weights.shape[1] ** 2)
    for start in range(0, len(z_true), rows):
        block = slice(start, start + rows)
        scores[block] = _crps(weights[block], means[block], sigmas[block], z_true[block])
    if (cut := _cut_off(weights)).any():
        scores[cut] = _crps_cut_off(weights[cut], means[cut], sigmas[cut], z_true[cut])
    return _if_mixture(weights, sigmas, scores)


def _crps(weights: Array, means: Array, sigmas: Array, z_true: Array) -> Array:
    first = np.sum(weights * _a(z_true[:, None] - means, sigmas), axis=1)
    spread = _a(means[:, :, None] - means[:, None, :], np.hypot(sigmas[:, :, None], sigmas[:, None, :]))
    score: Array = first - 0.5 * np.sum(weights[:, :, None] * weights[:, None, :] * spread, axis=(1, 2))
    return score


def _crps_cut_off(weights: Array, means: Array, sigmas: Array, z_true: Array) -> Array:
    """Integrate F^2 up to the truth and (1 - F)^2 beyond, between the places where a component turns or ends."""
    edge = _edge(weights, means, sigmas)
    turns = [means + width * sigmas for width in (-7.0, -3.0, -1.0, 1.0, 3.0, 7.0)]
    truth = np.maximum(z_true, edge)
    ends = np.concatenate([*turns, truth[:, None], edge[:, None]], axis=1)
    ends = np.sort(np.maximum(ends, edge[:, None]), axis=1)
    nodes, shares = np.polynomial.legendre.leggauss(12)
    score = np.maximum(edge - z_true, 0.0)
    for low, high in zip(ends.T[:-1], ends.T[1:], strict=True):
        half = 0.5 * (high - low)
        for node, share in zip(nodes, shares, strict=True):
            above = np.minimum(_survival(weights, means, sigmas, low + half * (1 + node)), 1.0)
            score += share * half * np.where(low >= truth, above, 1.0 - above) ** 2
    return score


def _survival(weights: Array, means: Array, sigmas: Array, z: Array) -> Array:
    """Return the probability of a redshift above z; more than one where a PDF is cut off."""
    above: Array = np.sum(weights * ndtr((means - z[:, None]) / sigmas), axis=1)
    return above


def _cut_off(weights: Array) -> np.ndarray:
    return np.asarray(weights.sum(axis=1) > 1 + _ROUNDING)


def _edge(weights: Array, means: Array, sigmas: Array) -> Array:
    """Return the redshift at which a PDF that is cut off begins, by halving."""
    low, high = np.min(means - 9 * sigmas, axis=1), np.max(means + 9 * sigmas, axis=1)
    for _ in range(_STEPS):
        middle = 0.5 * (low + high)
        outside = _survival(weights, means, sigmas, middle) > 1
        low, high = np.where(outside, middle, low), np.where(outside, high, middle)
    return high


def _a(m: Array, s: Array) -> Array:
    t = np.abs(m) / s
    result: Array = np.abs(m) + 2 * s * (np.exp(-0.5 * t * t) / _SQRT_2PI - t * ndtr(-t))
    return result


def _if_mixture(weights: Array, sigmas: Array, values: Array) -> Array:
    """Return the values; NaN for a row whose components are no mixture."""
    return np.where(np.all((sigmas > 0) & (weights >= 0), axis=1), values, np.nan)


FUNCTIONS: dict[str, tuple[Callable[..., Array], tuple[str, ...], str]] = {
    "pz_pdf": (pdf, ("z",), "Probability density of the redshift PDF at z."),
    "pz_cdf": (cdf, ("z",), "Probability that the redshift is z or less."),
    "pz_prob": (prob, ("z_low", "z_high"), "Probability that the redshift lies between z_low and z_high."),
    "pz_quantile": (quantile, ("q",), "Redshift below which a share q (0 < q < 1) of the probability lies."),
    "pz_crps": (crps, ("z_true",), "Continuous ranked probability score of the redshift PDF against z_true."),
}
"""Name in ADQL, function, names of the arguments after weights, means, sigmas, and what it gives."""
