"""Zones of declination: how a list of positions is put in order and cut into bands that are matched one by one.

A zone is a fixed, thin strip of the sky; a band is some zones in a row, as many as hold a wanted number of positions.
Two positions are never farther apart in declination than on the sphere, so a band of one list and the same band of the
other, wider by a margin of at least the radius at both edges, hold every pair of the band between them. A band runs all
the way round the sphere, and the first and last one hold the poles: there are no seams but its upper and lower edge.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple, no_type_check

import numpy as np
from jaxtyping import Float, Int64
from numba import njit

ZONES = 1 << 14
"""Number of zones from pole to pole; each is 39.6 arcsec high."""
HEIGHT = 180.0 * 3600.0 / ZONES
"""Height of a zone [arcsec]."""


class Band(NamedTuple):
    """Positions [deg] of neighbouring zones, and their rows in the list that they come from."""

    ra: Float[np.ndarray, " n"]
    dec: Float[np.ndarray, " n"]
    rows: Int64[np.ndarray, " n"]


@dataclass(frozen=True, slots=True)
class Zoned:
    """Usable positions in the order of their zones.

    Attributes
    ----------
    starts
        Zone `k` holds the positions from `starts[k]` to `starts[k + 1]`.
    ra, dec
        Positions [deg].
    rows
        Row of each position in the list that it came from.
    """

    starts: Int64[np.ndarray, " edges"]
    ra: Float[np.ndarray, " n"]
    dec: Float[np.ndarray, " n"]
    rows: Int64[np.ndarray, " n"]

    @classmethod
    def of(cls, ra: Float[np.ndarray, " rows"], dec: Float[np.ndarray, " rows"], *, first_row: int = 0) -> Zoned:
        """Sort positions [deg] into zones, leaving out those that are not usable; rows count from `first_row`."""
        return cls(*_sorted_into_zones(np.ascontiguousarray(ra), np.ascontiguousarray(dec), first_row))

    def between(self, low: int, high: int) -> Band:
        """Return the positions in the zones from `low` to before `high`; zones beyond the poles are empty."""
        part = slice(self.starts[max(low, 0)], self.starts[min(high, ZONES)])
        return Band(self.ra[part], self.dec[part], self.rows[part])


def margin(radius: float) -> int:
    """Return how many zones a band of the other list must be wider at either edge, for a radius [arcsec].

    The zone of a position is computed with a rounding error far below 1e-6 arcsec, which is added here.
    """
    return ceil((radius + 1e-6) / HEIGHT)


def bands(counts: Int64[np.ndarray, " zones"], most: int) -> Iterator[tuple[int, int]]:
    """Cut the zones into bands (low, high) of at most `most` positions, or of one zone where that holds more."""
    before = np.concatenate([[0], np.cumsum(counts)])
    low = 0
    while low < len(counts):
        high = int(np.searchsorted(before, before[low] + most, side="right")) - 1
        high = min(max(high, low + 1), len(counts))
        if before[high] > before[low]:
            yield low, high
        low = high


@njit(cache=True, nogil=True)
@no_type_check
def _sorted_into_zones(ra, dec, first_row):
    starts = np.zeros(ZONES + 1, dtype=np.int64)
    zones = np.full(ra.size, -1, dtype=np.int32)
    for i in range(ra.size):
        # The same condition as in cells.usable; a NaN fails each comparison.
        if ra[i] >= -180.0 and ra[i] <= 360.0 and dec[i] >= -90.0 and dec[i] <= 90.0:
            zones[i] = min(int((dec[i] + 90.0) * (ZONES / 180.0)), ZONES - 1)
            starts[zones[i] + 1] += 1
    for k in range(ZONES):
        starts[k + 1] += starts[k]
    fill = starts[:-1].copy()
    n = starts[ZONES]
    ordered_ra, ordered_dec, rows = np.empty(n), np.empty(n), np.empty(n, dtype=np.int64)
    for i in range(ra.size):
        if zones[i] >= 0:
            slot = fill[zones[i]]
            fill[zones[i]] += 1
            ordered_ra[slot], ordered_dec[slot], rows[slot] = ra[i], dec[i], first_row + i
    return starts, ordered_ra, ordered_dec, rows
