"""HEALPix cells of positions, nested numbering (Gorski et al. 2005), and which positions are usable at all."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt64

DEEPEST = 29
"""The deepest order whose cells a 64-bit integer can number."""


def usable(ra: Float[np.ndarray, " n"], dec: Float[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Tell which positions lie on the sphere.

    Parameters
    ----------
    ra, dec
        Positions [deg]. Right ascensions may run from 0 to 360 or from -180 to 180.
    """
    return (ra >= -180.0) & (ra <= 360.0) & (np.abs(dec) <= 90.0)


def cell_of(ra: Float[np.ndarray, " n"], dec: Float[np.ndarray, " n"], order: int) -> UInt64[np.ndarray, " n"]:
    """Return the nested HEALPix cell of each position.

    Parameters
    ----------
    ra, dec
        Positions [deg].
    order
        HEALPix order, 0 to 29.

    Raises
    ------
    ValueError
        The order is out of range, or a position is not usable.
    """
    if not 0 <= order <= DEEPEST:
        raise ValueError(f"HEALPix order {order} is out of range; give one from 0 to {DEEPEST}.")
    good = usable(ra, dec)
    if not good.all():
        row = int(np.argmin(good))
        raise ValueError(
            f"Row {row} has no usable position (ra {ra[row]}, dec {dec[row]}); leave out rows where usable() is false."
        )
    return _cells(ra, dec, order)


def cell29(ra: Float[np.ndarray, " n"], dec: Float[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """Return the HEALPix cell of order 29 of each position, -1 where the position is not usable.

    Parameters
    ----------
    ra, dec
        Positions [deg].
    """
    cells = np.full(len(ra), -1, dtype=np.int64)
    good = usable(ra, dec)
    cells[good] = _cells(ra[good], dec[good], DEEPEST).astype(np.int64)
    return cells


def _cells(ra: Float[np.ndarray, " n"], dec: Float[np.ndarray, " n"], order: int) -> UInt64[np.ndarray, " n"]:
    if not len(ra):
        return np.empty(0, dtype=np.uint64)
    # astropy.coordinates takes half a second to import, which a crossmatch need not wait for.
    from astropy.coordinates import Latitude, Longitude
    from cdshealpix.nested import lonlat_to_healpix

    cells: UInt64[np.ndarray, " n"] = lonlat_to_healpix(Longitude(ra, "deg"), Latitude(dec, "deg"), order)
    return cells
