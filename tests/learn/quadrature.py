"""Scores of mixtures by numerical integration in float64: what the closed forms are held against.

Written from the definitions alone, with scipy's normal distribution; shares nothing with the code under test.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.integrate import quad, quad_vec
from scipy.special import log_ndtr, ndtr


@dataclass(frozen=True)
class Case:
    """One mixture and one truth."""

    name: str
    weights: np.ndarray
    means: np.ndarray
    sigmas: np.ndarray
    z: float
    lower: float = -math.inf

    def rounded(self) -> Case:
        """The case as float32 holds it, so that rounding the input is not counted as an error of the formula."""
        arrays = [a.astype(np.float32).astype(np.float64) for a in (self.weights, self.means, self.sigmas)]
        return Case(self.name, arrays[0] / arrays[0].sum(), arrays[1], arrays[2], float(np.float32(self.z)), self.lower)

    def log_survivals(self, x: float) -> np.ndarray:
        """The logarithm of each component's probability above x."""
        return np.asarray(log_ndtr((self.means - x) / self.sigmas))

    def cdf(self, x: float) -> float:
        if self.lower == -math.inf:
            return float(self.weights @ ndtr((x - self.means) / self.sigmas))
        if x <= self.lower:
            return 0.0
        logs = np.log(self.weights)
        above = logsumexp(logs + self.log_survivals(x)) - logsumexp(logs + self.log_survivals(self.lower))
        return float(-np.expm1(above))

    def log_pdf(self, x: float) -> float:
        logs = (
            np.log(self.weights)
            + -0.5 * ((x - self.means) / self.sigmas) ** 2
            - 0.5 * math.log(2 * math.pi)
            - np.log(self.sigmas)
        )
        norming = 0.0 if self.lower == -math.inf else logsumexp(np.log(self.weights) + self.log_survivals(self.lower))
        return float(logsumexp(logs) - norming)

    def integral(self, integrand: Callable[[float], float]) -> float:
        """Integrate over the line, piece by piece."""
        return math.fsum(quad(integrand, a, b, epsabs=1e-13, epsrel=1e-10)[0] for a, b in pairwise(self._edges()))

    def integrals(self, integrand: Callable[[float], np.ndarray]) -> np.ndarray:
        """Integrate several functions at once, to 1e-5: far tails are differences of logarithms of some 1e5 here."""
        pieces = [quad_vec(integrand, a, b, epsabs=1e-12, epsrel=1e-5, limit=10)[0] for a, b in pairwise(self._edges())]
        return np.asarray(np.sum(pieces, axis=0))

    def _edges(self) -> np.ndarray:
        """The places where a component turns or the truth lies."""
        low, high = self._range()
        turns = np.array([-12, -8, -5, -3, -2, -1, -0.5, 0, 0.5, 1, 2, 3, 5, 8, 12])
        places = (self.means[:, None] + self.sigmas[:, None] * turns).ravel()
        return np.asarray(np.unique(np.clip([*places, *self._tails(), low, high, self.z], low, high)))

    def _tails(self) -> np.ndarray:
        """Places along what is left of components that lie below the cut: exponentials, about."""
        below = self.means < self.lower
        scales = self.sigmas[below] ** 2 / (self.lower - self.means[below])
        return np.asarray(self.lower + scales[:, None] * np.array([0.5, 1, 2, 4, 7, 11, 16, 24, 35])).ravel()

    def _range(self) -> tuple[float, float]:
        low = max(float(np.min(self.means - 14 * self.sigmas)), self.lower)
        high = max(float(np.max(self.means + 14 * self.sigmas)), low + 14 * float(np.max(self.sigmas)))
        return min(low, self.z), max(high, self.z)


def crps(case: Case) -> float:
    """The integral of (F(x) - 1[x >= z])^2."""
    return case.integral(lambda x: (case.cdf(x) - (x >= case.z)) ** 2)


def cde_loss(case: Case) -> float:
    """The integral of f^2 less twice f(z)."""
    return case.integral(lambda x: math.exp(2 * case.log_pdf(x))) - 2 * math.exp(case.log_pdf(case.z))


def crps_gradient(case: Case) -> dict[str, np.ndarray]:
    """Derivatives of the CRPS of a whole mixture under its integral sign, by weights, means and widths."""

    def integrated(derivative: Callable[[float, int], float]) -> np.ndarray:
        def component(i: int) -> float:
            return case.integral(lambda x: 2 * (case.cdf(x) - (x >= case.z)) * derivative(x, i))

        return np.array([component(i) for i in range(case.weights.size)])

    w, m, s = case.weights, case.means, case.sigmas
    # The weights sum to one, so only differences of their derivatives have a meaning: taken against the first.
    by_weight = integrated(lambda x, i: float(ndtr((x - m[i]) / s[i]) - ndtr((x - m[0]) / s[0])))
    by_mean = integrated(lambda x, i: -w[i] * normal((x - m[i]) / s[i]) / s[i])
    by_sigma = integrated(lambda x, i: -w[i] * normal((x - m[i]) / s[i]) * (x - m[i]) / s[i] ** 2)
    return {"weights": by_weight, "means": by_mean, "sigmas": by_sigma}


def nll_gradient(case: Case) -> dict[str, np.ndarray]:
    """Derivatives of -log sum_i w_i N(z; m_i, s_i): each component's share in the density, times its own."""
    t = (case.z - case.means) / case.sigmas
    logs = np.log(case.weights) - 0.5 * t**2 - np.log(case.sigmas)
    shares = np.exp(logs - logsumexp(logs))
    by_weight = -np.exp(logs - np.log(case.weights) - logsumexp(logs))
    return {"weights": by_weight, "means": -shares * t / case.sigmas, "sigmas": shares * (1 - t**2) / case.sigmas}


def pit_gradient(case: Case) -> dict[str, np.ndarray]:
    """Derivatives of sum_i w_i Phi((z - m_i) / s_i)."""
    t = (case.z - case.means) / case.sigmas
    density = case.weights * np.exp(-0.5 * t**2) / np.sqrt(2 * np.pi) / case.sigmas
    return {"weights": ndtr(t), "means": -density, "sigmas": -density * t}


def above_gradients(case: Case) -> dict[str, dict[str, np.ndarray]]:
    """Derivatives of NLL, PIT and CRPS of a truncated mixture, of the quotients that define them.

    With N = sum_i w_i S_i(lower) the density is f = sum_i w_i f_i / N and the CDF is F = 1 - sum_i w_i S_i / N.
    """
    w, m, s = case.weights, case.means, case.sigmas
    norming = logsumexp(np.log(w) + case.log_survivals(case.lower))

    def parts(x: float) -> np.ndarray:
        """The derivatives of sum_i w_i S_i(x), by weights, means and widths, over N."""
        u = (x - m) / s
        density = np.exp(np.log(w) - 0.5 * u**2 - 0.5 * math.log(2 * math.pi) - np.log(s) - norming)
        return np.array([np.exp(case.log_survivals(x) - norming), density, density * u])

    at_the_cut = parts(case.lower)

    def by_cdf(x: float) -> np.ndarray:
        return np.asarray((1 - case.cdf(x)) * at_the_cut - parts(x))

    t = (case.z - m) / s
    ratio = np.exp(-0.5 * t**2 - np.log(s) - 0.5 * math.log(2 * math.pi) - norming - case.log_pdf(case.z))
    found = {
        "nll": at_the_cut - np.array([ratio, w * ratio * t / s, w * ratio * (t**2 - 1) / s]),
        "pit": by_cdf(case.z),
        "crps": case.integrals(lambda x: 2 * (case.cdf(x) - (x >= case.z)) * by_cdf(x)),
    }
    return {score: dict(zip(("weights", "means", "sigmas"), by, strict=True)) for score, by in found.items()}


def logsumexp(logs: np.ndarray) -> float:
    """The logarithm of a sum of exponentials; scipy's takes any array and fifty times as long."""
    top = float(logs.max())
    return top + math.log(float(np.exp(logs - top).sum()))


COMPONENTS = 3


def normal(t: float) -> float:
    """The standard normal density."""
    return math.exp(-0.5 * t * t) / math.sqrt(2 * math.pi)


def _case(name: str, weights: list[float], means: list[float], sigmas: list[float], z: float) -> Case:
    """A case of three components, so that each formula compiles once: the last is cut into equal parts."""
    parts = COMPONENTS - len(weights) + 1
    arrays = [np.array(values + values[-1:] * (parts - 1)) for values in (weights, means, sigmas)]
    arrays[0][-parts:] /= parts
    return Case(name, arrays[0], arrays[1], arrays[2], z)


CASES = (
    _case("one normal", [1.0], [3.0], [0.2], 3.1),
    _case("a usual quasar", [0.7, 0.2, 0.1], [3.2, 2.9, 4.1], [0.05, 0.15, 0.5], 3.15),
    _case("equal components", [0.25, 0.25, 0.5], [1.0, 1.0, 1.0], [0.1, 0.1, 0.1], 1.0),
    _case("widths from 1e-6 to 1e3", [0.5, 0.3, 0.2], [0.5, 0.7, 1.0], [1e-6, 1e-2, 1e3], 0.6),
    _case("truth 40 widths away", [0.6, 0.4], [0.1, 0.2], [0.01, 0.005], 0.6),
    _case("truth 3000 widths away", [0.6, 0.4], [0.1, 0.2], [1e-3, 1e-3], 3.2),
    _case("a component without weight", [1.0 - 1e-12, 1e-12], [2.0, 5.0], [0.3, 0.3], 2.2),
    _case("truth at a narrow mean", [0.9, 0.1], [1.5, 2.5], [1e-5, 0.3], 1.5),
    _case("means far apart", [0.5, 0.5], [-100.0, 100.0], [1.0, 0.01], 0.0),
)
TRUNCATED = tuple(
    Case(case.name, case.weights, case.means, case.sigmas, case.z, 0.0)
    for case in (
        *CASES[:8],
        _case("half below zero", [0.5, 0.5], [0.0, 0.05], [0.1, 0.02], 0.04),
        _case("all far below zero", [0.5, 0.5], [-3.0, -8.0], [0.5, 0.4], 0.1),
        _case("truth at the cut", [0.8, 0.2], [0.02, 0.3], [0.05, 0.2], 0.0),
    )
)
