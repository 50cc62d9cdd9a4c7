"""Scores of point estimates, as the field has them: of dz = (z_phot - z_spec) / (1 + z_spec)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

# 1.4826 median |x| is the standard deviation of a normal distribution.
MAD_TO_SIGMA = 1.4826


@dataclass(frozen=True, slots=True)
class PointScores:
    """Scores of one set of point estimates; NaN where there are no rows.

    Attributes
    ----------
    bias
        Mean of dz.
    nmad
        1.4826 median |dz - median dz|.
    outliers_005, outliers_015
        Shares with |dz| > 0.05 (galaxies) and > 0.15 (quasars, deep fields).
    rmse
        Root of the mean square of dz.
    """

    bias: float
    nmad: float
    outliers_005: float
    outliers_015: float
    rmse: float


def residuals(z_phot: ArrayLike, z_spec: ArrayLike) -> Float[np.ndarray, " n"]:
    """Give dz = (z_phot - z_spec) / (1 + z_spec), in float64.

    Raises
    ------
    ValueError
        The two lists differ in length, or hold values that are not finite.
    """
    phot, spec = np.asarray(z_phot, np.float64), np.asarray(z_spec, np.float64)
    if phot.shape != spec.shape or phot.ndim != 1:
        raise ValueError(f"Point scores need two lists of one length; got shapes {phot.shape} and {spec.shape}.")
    if bad := int(np.sum(~(np.isfinite(phot) & np.isfinite(spec)))):
        raise ValueError(f"{bad} of {phot.size} rows have no finite redshift; leave them out before scoring.")
    return np.asarray((phot - spec) / (1.0 + spec))


def point_scores(z_phot: ArrayLike, z_spec: ArrayLike) -> PointScores:
    """Score point estimates against the truth.

    Raises
    ------
    ValueError
        The two lists differ in length, or hold values that are not finite.
    """
    dz = residuals(z_phot, z_spec)
    if dz.size == 0:
        return PointScores(*[float("nan")] * 5)
    return PointScores(bias(dz), nmad(dz), outliers(dz, 0.05), outliers(dz, 0.15), rmse(dz))


def bias(dz: Float[np.ndarray, " n"]) -> float:
    """Give the mean."""
    return float(np.mean(dz))


def nmad(dz: Float[np.ndarray, " n"]) -> float:
    """Give the normalised median absolute deviation from the median."""
    return float(MAD_TO_SIGMA * np.median(np.abs(dz - np.median(dz))))


def outliers(dz: Float[np.ndarray, " n"], limit: float) -> float:
    """Give the share of residuals beyond `limit`."""
    return float(np.mean(np.abs(dz) > limit))


def rmse(dz: Float[np.ndarray, " n"]) -> float:
    """Give the root of the mean square."""
    return float(np.sqrt(np.mean(np.square(dz))))
