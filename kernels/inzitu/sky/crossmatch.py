"""Crossmatch of two lists of positions held in memory: the nearest neighbour of each, or all within a radius.

For lists in files, which may be larger than memory, see `inzitu.archive.matching`; both find the same pairs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain

import numpy as np
from jaxtyping import Float, Int64

from inzitu.sky import grid
from inzitu.sky.zones import Band, Zoned, bands, margin

WIDEST = 180.0 * 3600.0
"""The largest radius that means anything [arcsec]."""
BAND = 100_000
"""Positions in a band: few enough that both sides and the grid stay in the processor's cache."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of rows of two lists, in the order of the first list's rows.

    Attributes
    ----------
    first, second
        Row in the first and in the second list, from 0.
    separation
        Angle between the two positions [arcsec].
    """

    first: Int64[np.ndarray, " p"]
    second: Int64[np.ndarray, " p"]
    separation: Float[np.ndarray, " p"]

    def __len__(self) -> int:
        return len(self.first)


def crossmatch(
    ra1: Float[np.ndarray, " n"],
    dec1: Float[np.ndarray, " n"],
    ra2: Float[np.ndarray, " m"],
    dec2: Float[np.ndarray, " m"],
    radius: float,
    *,
    every: bool = False,
) -> Pairs:
    """Find for each position of the first list the nearest of the second, or every one, within a radius.

    Rows without a usable position match nothing. Of neighbours equally near, the one of lowest row is the nearest.

    Parameters
    ----------
    ra1, dec1
        Positions of the first list [deg].
    ra2, dec2
        Positions of the second list [deg].
    radius
        Search radius [arcsec], itself included.
    every
        Return all pairs within the radius instead of the nearest one of each first row.

    Raises
    ------
    ValueError
        The radius is negative, not a number, or larger than half the sphere; or two columns differ in length.
    """
    check_radius(radius)
    first = Zoned.of(*_columns(ra1, dec1))
    second = Zoned.of(*_columns(ra2, dec2))
    wider = margin(radius)
    counts = np.diff(first.starts) + np.diff(second.starts)

    def matched(band: tuple[int, int]) -> list[Pairs]:
        low, high = band
        here, there = first.between(low, high), second.between(low - wider, high + wider)
        return list(match_band(here, there, radius, every=every, most=BAND))

    with ThreadPoolExecutor(threads()) as pool:
        return in_order(chain.from_iterable(pool.map(matched, bands(counts, BAND))))


def check_radius(radius: float) -> None:
    """Refuse a radius [arcsec] that is negative, not a number, or beyond half the sphere."""
    if not 0.0 <= radius <= WIDEST:
        raise ValueError(
            f"Radius {radius} arcsec is out of range; give one from 0 to {WIDEST:.0f} arcsec (180 degrees)."
        )


def threads() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def match_band(first: Band, second: Band, radius: float, *, every: bool, most: int) -> Iterator[Pairs]:
    """Match the positions of one band with those of the same band, margins included, of the other list.

    The nearest come at once. Of all pairs, which may be many more than positions, at least `most` come at a time, and
    no more than that and those of one position.
    """
    reach = grid.chord(radius)
    points = grid.unit_vectors(first.ra, first.dec)
    others = grid.build(grid.unit_vectors(second.ra, second.dec), reach)
    if not every:
        there, squares = grid.nearest(points, others, reach)
        here = np.flatnonzero(there >= 0)
        yield Pairs(first.rows[here], second.rows[there[here]], _angle(squares[here]))
        return
    done = 0
    while done < len(points):
        here, there, squares, done = grid.all_within(points, others, reach, done, most)
        yield Pairs(first.rows[here], second.rows[there], _angle(squares))


def in_order(parts: Iterator[Pairs]) -> Pairs:
    """Join pairs and sort them by the first row, then by the second."""
    found = list(parts)
    first = np.concatenate([part.first for part in found] or [np.empty(0, np.int64)])
    second = np.concatenate([part.second for part in found] or [np.empty(0, np.int64)])
    separation = np.concatenate([part.separation for part in found] or [np.empty(0)])
    order = order_of(first, second)
    return Pairs(first[order], second[order], separation[order])


def order_of(first: Int64[np.ndarray, " p"], second: Int64[np.ndarray, " p"]) -> Int64[np.ndarray, " p"]:
    """Return the order of pairs by the first row, then by the second."""
    order = np.argsort(first)
    # Among nearest neighbours no first row comes twice, and sorting by one column takes a tenth of the time.
    once = bool((np.diff(first[order]) > 0).all())
    return order if once else np.lexsort((second, first))


def _angle(squares: Float[np.ndarray, " p"]) -> Float[np.ndarray, " p"]:
    """Return the angle [arcsec] of each squared chord."""
    angle: Float[np.ndarray, " p"] = 3600.0 * np.rad2deg(2.0 * np.arcsin(np.minimum(np.sqrt(squares) / 2.0, 1.0)))
    return angle


def _columns(
    ra: Float[np.ndarray, " n"], dec: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    ra, dec = np.asarray(ra, dtype=np.float64), np.asarray(dec, dtype=np.float64)
    if ra.shape != dec.shape or ra.ndim != 1:
        raise ValueError(f"Right ascensions {ra.shape} and declinations {dec.shape} must be two columns of one length.")
    return ra, dec
