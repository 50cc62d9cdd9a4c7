"""Calibration on held-out rows: one temperature, then a map of the PIT; a new model is derived, the old one stays.

The temperature multiplies the widths of a mixture's components and leaves its peaks where they are; a histogram it
flattens. A mixture stays a mixture and its columns stay exact. The map bends the CDF, F -> g(F), and so reaches what no
temperature can, but a bent mixture is none: it is for quantiles and probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.optimize import minimize_scalar

from inzitu.learn import scores
from inzitu.learn.bins import Histogram
from inzitu.learn.mixture import Mixture
from inzitu.learn.precision import float64_outside
from inzitu.learn.truncation import crps_truncated

TEMPERATURES = (0.25, 4.0)
KNOTS = 9
# The map begins as the identity, worth so many rows.
PRIOR_ROWS = 50
FEWEST = 20


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was learned on held-out rows.

    Attributes
    ----------
    temperature
        Widths of the calibrated components over those predicted.
    knots, levels
        The map of the PIT, linear between: CDF predicted, CDF calibrated; both from 0 to 1.
    """

    temperature: float = 1.0
    knots: tuple[float, ...] = (0.0, 1.0)
    levels: tuple[float, ...] = (0.0, 1.0)

    def __post_init__(self) -> None:
        if not 0.0 < self.temperature < math.inf:
            raise ValueError(f"A temperature of {self.temperature:g} cannot be; it must be above zero.")
        for name, values in (("knots", self.knots), ("levels", self.levels)):
            rising = len(values) == len(self.knots) >= 2 and all(np.diff(values) > 0)
            if not rising or values[0] != 0.0 or values[-1] != 1.0:
                raise ValueError(f"The {name} of a PIT map must rise from 0 to 1; got {values}.")

    @classmethod
    def fit(cls, predicted: Mixture | Histogram, z: Float[np.ndarray, " n"]) -> Calibration:
        """Learn from PDFs and truths of rows that the training did not see.

        Raises
        ------
        ValueError
            Too few rows, or redshifts that are not finite.
        """
        if bad := np.flatnonzero(~np.isfinite(z)).tolist():
            raise ValueError(
                f"{len(bad)} held-out redshifts are not finite, the first in row {bad[0]}: leave them out."
            )
        if len(z) < FEWEST:
            raise ValueError(f"{len(z)} held-out rows are too few to calibrate on; {FEWEST} are needed.")

        def crps(log_temperature: float) -> float:
            return float(np.mean(_crps(stretched(predicted, math.exp(log_temperature)), z)))

        bounds = tuple(map(math.log, TEMPERATURES))
        best = minimize_scalar(crps, bounds=bounds, method="bounded", options={"xatol": 1e-3})
        temperature = math.exp(float(best.x))
        knots = np.linspace(0.0, 1.0, KNOTS + 2)
        below = np.searchsorted(np.sort(stretched(predicted, temperature).cdf(z)), knots, side="right")
        levels = (below + PRIOR_ROWS * knots) / (len(z) + PRIOR_ROWS)
        levels[0], levels[-1] = 0.0, 1.0
        return cls(temperature, tuple(map(float, knots)), tuple(map(float, levels)))

    def apply(self, predicted: Mixture | Histogram) -> Mixture | Histogram:
        """Give the PDFs at this temperature."""
        return stretched(predicted, self.temperature)

    def cdf(self, predicted: Mixture | Histogram, z: Any) -> Any:
        """Give the calibrated probability of a redshift below z."""
        return _bent(self.apply(predicted).cdf(z), np.array(self.knots), np.array(self.levels))

    def quantile(self, predicted: Mixture | Histogram, q: Any) -> Any:
        """Give the redshift below which a share q of the calibrated probability lies."""
        return self.apply(predicted).quantile(self.level(q))

    def level(self, q: Any) -> Any:
        """Give the share of the probability at this temperature below which a share q of the calibrated one lies."""
        return _bent(q, np.array(self.levels), np.array(self.knots))

    def json(self) -> dict[str, Any]:
        """Describe the calibration for a model bundle."""
        return {"temperature": self.temperature, "knots": list(self.knots), "levels": list(self.levels)}

    @classmethod
    def from_json(cls, description: Mapping[str, Any]) -> Calibration:
        """Rebuild a calibration from a model bundle."""
        return cls(float(description["temperature"]), tuple(description["knots"]), tuple(description["levels"]))


def stretched(predicted: Mixture | Histogram, temperature: float) -> Mixture | Histogram:
    """Give mixtures of components as many times as wide; histograms to the power 1 / temperature."""
    match predicted:
        case Histogram(probabilities, max_val):
            return Histogram(_flattened(probabilities, temperature), max_val)
        case Mixture(weights, means, sigmas, lower):
            return Mixture(weights, means, temperature * sigmas, lower)


@float64_outside
def _flattened(probabilities: Float[Array, "*n bin"], temperature: float | Float[Array, ""]) -> Float[Array, "*n bin"]:
    powers = probabilities ** (1.0 / temperature)
    return powers / jnp.sum(powers, axis=-1, keepdims=True)


@float64_outside
def _bent(values: Any, knots: Any, levels: Any) -> Any:
    return jnp.interp(values, knots, levels)


def _crps(predicted: Mixture | Histogram, z: Float[np.ndarray, " n"]) -> np.ndarray:
    match predicted:
        case Histogram(probabilities, max_val):
            return np.asarray(scores.crps_bins(probabilities, z, max_val))
        case Mixture(weights, means, sigmas, lower) if math.isfinite(lower):
            return np.asarray(crps_truncated(weights, means, sigmas, z, lower))
        case Mixture(weights, means, sigmas):
            return np.asarray(scores.crps_mixture(weights, means, sigmas, z))
