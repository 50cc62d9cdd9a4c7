"""What a redshift is worth without a network: the climatology, and the nearest neighbours on aperture fluxes.

Both are ensembles of known redshifts, scored by the CRPS of an ensemble.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

NEIGHBOURS = 15
RADII = (3.0, 5.0, 8.0)
"""Radii of the apertures [pixel]; about 1.2, 2 and 3.2 arcsec on SDSS images."""


@dataclass(frozen=True, slots=True, eq=False)
class Ensemble:
    """Redshifts [n, m], each as likely, for each of n sources."""

    members: np.ndarray

    def crps(self, z: np.ndarray) -> np.ndarray:
        """Return the CRPS [n] of each source: mean |x - z| - 1/2 mean |x - x'| (Gneiting & Raftery 2007, eq. 20)."""
        ordered = np.sort(self.members, axis=1)
        count = ordered.shape[1]
        # Twice the sum over pairs of |x - x'| of sorted values, without forming the pairs.
        rank = 2 * np.arange(1, count + 1) - count - 1
        spread = (ordered * rank).sum(axis=1) / count**2
        return np.asarray(np.abs(ordered - z[:, None]).mean(axis=1) - spread)

    @property
    def median(self) -> np.ndarray:
        """The median [n] of each source's ensemble."""
        return np.asarray(np.median(self.members, axis=1))


def climatology(z_training: np.ndarray, count: int) -> Ensemble:
    """Return the same ensemble, every known redshift, for each of `count` sources."""
    return Ensemble(np.broadcast_to(z_training, (count, len(z_training))))


def neighbours(training: np.ndarray, z_training: np.ndarray, blind: np.ndarray) -> Ensemble:
    """Return the redshifts of the 15 nearest training sources in the space of aperture colours.

    Parameters
    ----------
    training, blind
        Stamps [n, band, y, x] in nanomaggies.
    z_training
        Redshifts of the training stamps.
    """
    known, asked = aperture_features(training), aperture_features(blind)
    centre, width = np.median(known, axis=0), known.std(axis=0)
    _, nearest = cKDTree((known - centre) / width).query((asked - centre) / width, k=min(NEIGHBOURS, len(known)))
    return Ensemble(z_training[nearest])


def aperture_features(stamps: np.ndarray) -> np.ndarray:
    """Return colours and the r magnitude in the middle aperture, and the colours in the others [n, features].

    Magnitudes are asinh magnitudes (Lupton et al. 1999) softened at the sky noise in the aperture, so that a band
    without flux, as u is beyond z = 3, stays a number.
    """
    n, bands, height, width = stamps.shape
    y, x = np.mgrid[:height, :width]
    distance = np.hypot(y - (height - 1) / 2, x - (width - 1) / 2)
    features = []
    for radius in (RADII[1], RADII[0], RADII[2]):
        inside = distance <= radius
        flux = stamps[:, :, inside].sum(axis=2)
        soft = _noise(stamps[:, :, distance > height / 2 - 4]) * np.sqrt(inside.sum())
        magnitude = -1.0857 * (np.arcsinh(flux / (2 * soft)) + np.log(soft))
        features.append(-np.diff(magnitude, axis=1))
        if radius == RADII[1]:
            features.append(magnitude[:, bands // 2, None])
    return np.concatenate(features, axis=1).reshape(n, -1)


def _noise(edge: np.ndarray) -> np.ndarray:
    """Return the robust sky noise [band] of the stamps' edges [n, band, pixel]."""
    deviation = np.abs(edge - np.median(edge, axis=(0, 2), keepdims=True))
    return np.asarray(1.4826 * np.median(deviation, axis=(0, 2)))
