"""How good the served redshifts are, measured by the user who kept the truth, without the service's own code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtr

from inzitu.demo.baselines import climatology, neighbours

if TYPE_CHECKING:
    from inzitu.demo.quasars import Quasars


def crps(weights: np.ndarray, means: np.ndarray, sigmas: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return the CRPS of mixtures [n, k] at the truth [n], by integrating (F - step)^2 over 20,001 redshifts."""
    reach = np.linspace(-1.0, 9.0, 20_001)
    scores = np.empty(len(z))
    for i in range(len(z)):
        distribution = ndtr((reach[:, None] - means[i]) / sigmas[i]) @ weights[i]
        scores[i] = np.trapezoid((distribution - (reach >= z[i])) ** 2, reach)
    return scores


def pit(weights: np.ndarray, means: np.ndarray, sigmas: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return the probability integral transform [n] of mixtures [n, k] at the truth [n]."""
    return np.asarray((weights * ndtr((z[:, None] - means) / sigmas)).sum(axis=1))


def point_measures(z_predicted: np.ndarray, z_true: np.ndarray) -> dict[str, float]:
    """Return bias, nmad and the share of outliers beyond 0.15 of (z_predicted - z_true) / (1 + z_true)."""
    residual = (z_predicted - z_true) / (1 + z_true)
    return {
        "bias": float(residual.mean()),
        "nmad": float(1.4826 * np.median(np.abs(residual - np.median(residual)))),
        "outliers_015": float((np.abs(residual) > 0.15).mean()),
    }


def baselines(known: Quasars, blind: Quasars) -> dict[str, float]:
    """Return what the climatology and the nearest neighbours on aperture fluxes reach on the same blind sources."""
    near = neighbours(known.stamps, known.z, blind.stamps)
    return {
        "crps_climatology": float(climatology(known.z, len(blind)).crps(blind.z).mean()),
        "crps_neighbours": float(near.crps(blind.z).mean()),
        "nmad_neighbours": point_measures(near.median, blind.z)["nmad"],
    }
