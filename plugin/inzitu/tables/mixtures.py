r"""Functions on redshift PDFs that are mixtures of Gaussians, for whole columns at a time.

The PDF of a row is :math:`f(z) = \sum_i w_i\,\varphi((z - m_i)/s_i)/s_i` with weights that sum to one. Arrays have one
row a source and one column a component. A row of components that cannot be a mixture (a width that is not positive, a
value that is not finite) gives NaN, which SQL sees as NULL.

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


def pdf(weights: Array, means: Array, sigmas: Array, z: Array) -> Array:
    """Return the density at z."""
    t = (z[:, None] - means) / sigmas
    return _if_mixture(weights, sigmas, np.sum(weights * np.exp(-0.5 * t * t) / (_SQRT_2PI * sigmas), axis=1))


def cdf(weights: Array, means: Array, sigmas: Array, z: Array) -> Array:
    """Return the probability that the redshift is z or less."""
    return _if_mixture(weights, sigmas, np.sum(weights * ndtr((z[:, None] - means) / sigmas), axis=1))


def prob(weights: Array, means: Array, sigmas: Array, low: Array, high: Array) -> Array:
    """Return the probability that the redshift lies between `low` and `high`; 0 where high < low.

    The difference is taken in the tail where both values are small, so that a narrow interval far out keeps its digits.
    """
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
    ends = means + sigmas * ndtri(q)[:, None]
    low = np.min(np.where(weights > 0, ends, np.inf), axis=1)
    high = np.max(np.where(weights > 0, ends, -np.inf), axis=1)
    share = q * weights.sum(axis=1)
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
    first = np.sum(weights * _a(z_true[:, None] - means, sigmas), axis=1)
    spread = _a(means[:, :, None] - means[:, None, :], np.hypot(sigmas[:, :, None], sigmas[:, None, :]))
    second = np.sum(weights[:, :, None] * weights[:, None, :] * spread, axis=(1, 2))
    return _if_mixture(weights, sigmas, first - 0.5 * second)


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
