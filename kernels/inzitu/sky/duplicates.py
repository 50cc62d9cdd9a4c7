"""Which rows of one list are the same object by position."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int64

from inzitu.sky.cells import usable
from inzitu.sky.crossmatch import crossmatch


def duplicates(ra: Float[np.ndarray, " n"], dec: Float[np.ndarray, " n"], radius: float) -> Int64[np.ndarray, " n"]:
    """Label each row with the first row of its group.

    Rows within the radius of each other belong together, and so do rows joined by a chain of such neighbours. A row
    alone, or without a usable position, is its own label.

    Parameters
    ----------
    ra, dec
        Positions [deg].
    radius
        Search radius [arcsec].

    Raises
    ------
    ValueError
        The radius is out of range or the columns differ in length.
    """
    # SciPy's sparse matrices take as long to import as a crossmatch of a million rows, which has no use for them.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    labels = np.arange(len(ra))
    good = np.flatnonzero(usable(ra, dec))
    # A placeholder such as (0, 0) may stand in many rows; were each searched, their pairs would be n squared.
    places, place_of_row = np.unique(ra[good] + 1j * dec[good], return_inverse=True)
    here = np.ascontiguousarray(places.real), np.ascontiguousarray(places.imag)
    pairs = crossmatch(*here, *here, radius=radius, every=True)
    links = coo_array((np.ones(len(pairs), dtype=bool), (pairs.first, pairs.second)), shape=(len(places),) * 2)
    group = connected_components(links, directed=False)[1][place_of_row]
    _, first = np.unique(group, return_index=True)
    labels[good] = good[first[group]]
    return labels
