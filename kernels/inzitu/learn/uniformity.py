"""Whether PDFs mean what they say: tests that the probability integral transform is uniform.

A PIT is the CDF at the truth. Over many sources it is uniform on [0, 1] if the PDFs are calibrated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats


@dataclass(frozen=True, slots=True)
class Uniformity:
    """Three tests of one set of PITs, each with the probability of a statistic as large if they are uniform.

    Attributes
    ----------
    ks, ks_p
        Kolmogorov-Smirnov: the largest distance of the CDFs.
    cvm, cvm_p
        Cramer-von Mises: the mean squared distance.
    ad, ad_p
        Anderson-Darling: the same, with the weight on the tails.
    ece
        Expected calibration error: the mean distance of the CDFs.
    """

    ks: float
    ks_p: float
    cvm: float
    cvm_p: float
    ad: float
    ad_p: float
    ece: float


def uniformity(pit: Float[np.ndarray, " n"]) -> Uniformity:
    """Test PITs for uniformity.

    Raises
    ------
    ValueError
        No PITs, or values outside [0, 1].
    """
    pit = np.asarray(pit, np.float64)
    if pit.size == 0 or not ((pit >= 0.0) & (pit <= 1.0)).all():
        raise ValueError(
            f"The uniformity of {pit.size} values cannot be tested: there must be some, all within [0, 1]."
        )
    ks, cvm = stats.kstest(pit, "uniform"), stats.cramervonmises(pit, "uniform")
    ad = anderson_darling(pit)
    return Uniformity(
        ks=float(ks.statistic),
        ks_p=float(ks.pvalue),
        cvm=float(cvm.statistic),
        cvm_p=float(cvm.pvalue),
        ad=ad,
        ad_p=anderson_darling_p(ad, pit.size),
        ece=expected_calibration_error(pit),
    )


def kolmogorov_smirnov(pit: Float[np.ndarray, " n"]) -> float:
    """Give the largest distance of the empirical CDF from the diagonal, which is at a step."""
    u = np.sort(pit)
    steps = np.arange(u.size + 1) / u.size
    return float(max(np.max(steps[1:] - u), np.max(u - steps[:-1])))


def cramer_von_mises(pit: Float[np.ndarray, " n"]) -> float:
    """Give W^2 = 1/(12 n) + sum ((2 i - 1)/(2 n) - u_i)^2 (Anderson & Darling 1952, Ann. Math. Stat. 23, 193)."""
    u = np.sort(pit)
    middles = (np.arange(u.size) + 0.5) / u.size
    return float(1.0 / (12.0 * u.size) + np.sum((middles - u) ** 2))


def anderson_darling(pit: Float[np.ndarray, " n"]) -> float:
    """Give A^2 = -n - 1/n sum (2 i - 1) (log u_i + log(1 - u_{n+1-i})) (Anderson & Darling 1954, JASA 49, 765)."""
    # A PIT that is 0 or 1 to rounding would make it infinite.
    u = np.clip(np.sort(pit), 1e-12, 1.0 - 1e-12)
    n = u.size
    odd = 2.0 * np.arange(1, n + 1) - 1.0
    return float(-n - np.mean(odd * (np.log(u) + np.log1p(-u[::-1]))))


def anderson_darling_p(statistic: float, n: int) -> float:
    """Give the probability of a larger statistic of n uniform numbers (Marsaglia & Marsaglia 2004, JSS 9, 2).

    Their approximation of the limit for many numbers is right to 2e-6, their correction for few to 5e-5.
    """
    z = statistic
    if z <= 0.0:
        return 1.0
    if z < 2.0:
        powers = (2.00012, 0.247105, -0.0649821, 0.0347962, -0.0116720, 0.00168691)
        limit = math.exp(-1.2337141 / z) / math.sqrt(z) * _polynomial(z, powers)
    else:
        powers = (1.0776, -2.30695, 0.43424, -0.082433, 0.008056, -0.0003146)
        limit = math.exp(-math.exp(min(_polynomial(z, powers), 700.0)))
    return float(np.clip(1.0 - limit - _few(n, limit), 0.0, 1.0))


def _few(n: int, x: float) -> float:
    """Give the correction of the limit's CDF for few numbers."""
    crossing = 0.01265 + 0.1757 / n
    if x > 0.8:
        powers = (-130.2137, 745.2337, -1705.091, 1950.646, -1116.360, 255.7844)
        return _polynomial(x, powers) / n
    if x < crossing:
        t = x / crossing
        return math.sqrt(t) * (1.0 - t) * (49.0 * t - 102.0) * (0.0037 / n**3 + 0.00078 / n**2 + 0.00006 / n)
    t = (x - crossing) / (0.8 - crossing)
    powers = (-0.00022633, 6.54034, -14.6538, 14.458, -8.259, 1.91864)
    return _polynomial(t, powers) * (0.04213 / n + 0.01365 / n**2)


def expected_calibration_error(pit: Float[np.ndarray, " n"]) -> float:
    """Give the mean over q of |share of PITs below q - q|: exactly, for the steps of the empirical CDF."""
    edges = np.concatenate([[0.0], np.sort(pit), [1.0]])
    levels = np.arange(edges.size - 1) / (edges.size - 2)
    low, high = edges[:-1] - levels, edges[1:] - levels
    # The integral of |t| from low to high.
    return float(np.sum(np.abs(np.sign(high) * high**2 - np.sign(low) * low**2)) / 2.0)


def coverage(levels: Float[np.ndarray, " n"], share: float) -> float:
    """Give the share of truths within the central (from PITs by |2 u - 1|) or densest (HPD) region of a probability."""
    return float(np.mean(levels <= share))


def _polynomial(x: float, coefficients: tuple[float, ...]) -> float:
    return float(sum(c * x**i for i, c in enumerate(coefficients)))
