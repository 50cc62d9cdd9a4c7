"""Flags of stamps, compiled: what a network's user wants to know of a stamp before trusting its redshift."""

from __future__ import annotations

from typing import no_type_check

import numpy as np
from jaxtyping import Float32, Integer, UInt8
from numba import njit

CORE = 1.5
"""Radius of what belongs to the object at the centre [arcsec]."""
APART = 3.0
"""Radius beyond which a peak belongs to a neighbour [arcsec]."""
SIGMAS = 5.0
"""By how many sigma of the stamp's noise a neighbour's peak must exceed the centre's."""


def mark(
    pixels: Float32[np.ndarray, "n y x band"], rows: Integer[np.ndarray, " m"], scale: float
) -> UInt8[np.ndarray, "m band"]:
    """Return the flags of some stamps in each band (`inzitu.hips.Flag`).

    Parameters
    ----------
    pixels
        Stamps, NaN where blank.
    rows
        Which of them.
    scale
        Side of a pixel [arcsec].

    Notes
    -----
    Noise is taken from the differences between neighbours along the outermost ring, by their median: it knows nothing
    of a background's level and little of sources. A blank stamp has no flags: its status says it all.
    """
    flags: UInt8[np.ndarray, "m band"] = _mark(pixels, rows, (CORE / scale) ** 2, (APART / scale) ** 2, SIGMAS)
    return flags


@njit(cache=True, nogil=True)
@no_type_check
def _mark(pixels, rows, core, apart, sigmas):
    size, bands = pixels.shape[1], pixels.shape[3]
    flags = np.zeros((len(rows), bands), np.uint8)
    middle = (size - 1) / 2
    differences = np.empty(4 * size)
    for m in range(len(rows)):
        n = rows[m]
        for band in range(bands):
            centre, neighbour, blank_ring, any_good = -np.inf, -np.inf, False, False
            for y in range(size):
                for x in range(size):
                    value = pixels[n, y, x, band]
                    if np.isnan(value):
                        blank_ring |= y == 0 or x == 0 or y == size - 1 or x == size - 1
                        continue
                    any_good = True
                    distance = (y - middle) ** 2 + (x - middle) ** 2
                    if distance <= max(core, 0.5):
                        centre = max(centre, value)
                    elif distance >= apart:
                        neighbour = max(neighbour, value)
            if not any_good:
                continue
            if blank_ring:
                flags[m, band] |= 1
            if neighbour <= centre or not np.isfinite(centre):
                continue  # most end here, before the noise is measured
            if neighbour > centre + sigmas * _ring_noise(pixels[n, :, :, band], differences):
                flags[m, band] |= 2
    return flags


@njit(cache=True, nogil=True)
@no_type_check
def _ring_noise(stamp, differences):
    """Return sigma from differences of neighbours along the outermost ring; 0 where it is blank."""
    size, k = stamp.shape[0], 0
    for a in range(size - 1):
        for edge in range(4):
            if edge == 0:
                step = stamp[0, a + 1] - stamp[0, a]
            elif edge == 1:
                step = stamp[size - 1, a + 1] - stamp[size - 1, a]
            elif edge == 2:
                step = stamp[a + 1, 0] - stamp[a, 0]
            else:
                step = stamp[a + 1, size - 1] - stamp[a, size - 1]
            if not np.isnan(step):
                differences[k] = abs(step)
                k += 1
    return 1.0484 * np.median(differences[:k]) if k else 0.0  # 1.4826 / sqrt 2
