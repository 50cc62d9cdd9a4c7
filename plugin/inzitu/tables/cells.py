"""HEALPix cells for queries: which of them a region touches, and which of them two near positions share."""

from __future__ import annotations

import math

import numpy as np
from astropy import units as u
from astropy.coordinates import Latitude, Longitude
from cdshealpix import nested

from inzitu.tables.regions import Circle, Polygon

ORDER = 29
"""The deepest order; columns named `_healpix_29` hold nested cells of it."""

type Longs = np.ndarray[tuple[int, ...], np.dtype[np.int64]]
type Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

_MOST_RANGES = 24
_MARGIN_DEG = 1e-7


def ranges(region: Circle | Polygon) -> list[tuple[int, int]]:
    """Return ranges of cells of order 29, both ends included, that hold every point of a region; few, so not tight.

    More ranges than two dozen cost more to test than they save: the narrowest gaps are closed.
    """
    circle = region.bounds
    radius = circle.radius + _MARGIN_DEG
    if radius >= 90:
        return []
    order = min(ORDER, max(0, _order_of(radius) + 2))
    lon = math.degrees(math.atan2(circle.centre[1], circle.centre[0]))
    lat = math.degrees(math.asin(max(-1.0, min(1.0, circle.centre[2]))))
    cells, orders, _ = nested.cone_search(
        Longitude(lon, u.deg), Latitude(lat, u.deg), radius * u.deg, np.uint8(order), depth_delta=2
    )
    shift = 2 * (ORDER - orders.astype(np.int64))
    first = np.sort(cells.astype(np.int64) << shift)
    last = np.sort(((cells.astype(np.int64) + 1) << shift) - 1)
    gaps = first[1:] - last[:-1]
    widest = np.sort(np.argsort(gaps)[::-1][: _MOST_RANGES - 1])
    cuts = widest[gaps[widest] > 1]
    starts, ends = first[np.concatenate([[0], cuts + 1])], last[np.concatenate([cuts, [len(last) - 1]])]
    return [(int(a), int(b)) for a, b in zip(starts, ends, strict=True)]


def join_order(radius: float) -> int:
    """Return the deepest order at which two positions within `radius` [deg] lie in the same or in touching cells."""
    return min(ORDER, max(0, _order_of(radius + _MARGIN_DEG)))


def _order_of(radius: float) -> int:
    """Return the deepest order whose cells are nowhere narrower than `radius` [deg]; -1 if there is none.

    A cell of order k is at least 0.689 / 2^k rad from edge to opposite edge, wherever it lies (cdshealpix's table of
    smallest distances falls from 0.84 at order 0 to this limit); 0.65 keeps clear of it.
    """
    return math.floor(math.log2(0.65 / math.radians(radius))) if radius < 37 else -1


def cells_at(lon: Floats, lat: Floats, order: int) -> Longs:
    """Return the nested cell of each position [deg]; -1 where it is no position."""
    usable = np.isfinite(lon) & np.isfinite(lat) & (np.abs(lat) <= 90)
    longitude = Longitude(np.where(usable, lon, 0.0), u.deg)
    latitude = Latitude(np.where(usable, lat, 0.0), u.deg)
    cells = nested.lonlat_to_healpix(longitude, latitude, order).astype(np.int64)
    return np.where(usable, cells, -1)


def cells_about(lon: Floats, lat: Floats, order: int) -> Longs:
    """Return the cell of each position and its eight neighbours, (n, 9); -1 where there is none."""
    cells = cells_at(lon, lat, order)
    if order == 0:
        about = np.tile(np.arange(12), (len(cells), 1))
    else:
        about = nested.neighbours(np.maximum(cells, 0).astype(np.uint64), order).astype(np.int64)
    return np.where(cells[:, None] >= 0, about, -1)
