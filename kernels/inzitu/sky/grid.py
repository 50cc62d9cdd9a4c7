"""Neighbours on the unit sphere: points hashed by the cells of a cubic grid in three dimensions.

A cell is at least twice as wide as the search radius, so the ball around a point touches at most two cells along each
axis, and mostly lies in a single one. There is no seam at the poles nor at right ascension zero, because the grid knows
nothing of either. The test of a candidate is the squared chord between unit vectors, the quantity that a k-d tree over
the same vectors compares; subtraction keeps it accurate to 1e-16 rad for arcseconds as for degrees.
"""

from __future__ import annotations

from typing import NamedTuple, no_type_check

import numpy as np
from jaxtyping import Float, Int32
from numba import njit

# The import hook that checks array annotations in tests cannot see through compiled functions: no_type_check.


CROWD = 4.0
"""Points that share a cell with the average point: with more, finer cells are worth their making."""
SLACK = 1e-15
"""More than the rounding of a unit vector's coordinates."""


class Grid(NamedTuple):
    """Points in the order of their buckets; bucket `b` holds the points from `starts[b]` to `starts[b + 1]`."""

    cell: float
    starts: Int32[np.ndarray, " edges"]
    rows: Int32[np.ndarray, " n"]
    points: Float[np.ndarray, "n 3"]


def chord(separation: float) -> float:
    """Return the chord between two unit vectors that are `separation` [arcsec] apart."""
    return float(2.0 * np.sin(np.deg2rad(separation / 3600.0) / 2.0))


@njit(cache=True, nogil=True)
@no_type_check
def unit_vectors(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """Return the unit vector [n, 3] of each position [deg]."""
    vectors = np.empty((ra.size, 3))
    for i in range(ra.size):
        sin_ra, cos_ra = _sine_and_cosine(ra[i])
        sin_dec, cos_dec = _sine_and_cosine(dec[i])
        vectors[i, 0], vectors[i, 1], vectors[i, 2] = cos_ra * cos_dec, sin_ra * cos_dec, sin_dec
    return vectors


@njit(cache=True, nogil=True, inline="always")
@no_type_check
def _sine_and_cosine(degrees: float) -> tuple[float, float]:
    """Return sine and cosine of an angle [deg], to the last bit or two.

    The nearest multiple of 90 degrees is taken off, which is exact in degrees, so that a pole is a pole; the rest goes
    through the polynomials of fdlibm (`__kernel_sin`, `__kernel_cos`). Without a branch or a call, the loop around it
    is compiled to vector instructions: twenty times as fast as calls of the library's functions.
    """
    quarter = np.rint(degrees * (1.0 / 90.0))
    x = np.deg2rad(degrees - 90.0 * quarter)
    z = x * x
    sine = 2.75573137070700676789e-06 + z * (-2.50507602534068634195e-08 + z * 1.58969099521155010221e-10)
    sine = 8.33333333332248946124e-03 + z * (-1.98412698298579493134e-04 + z * sine)
    sine = x + x * z * (-1.66666666666666324348e-01 + z * sine)
    cosine = -2.75573143513906633035e-07 + z * (2.08757232129817482790e-09 + z * -1.13596475577881948265e-11)
    cosine = -1.38888888888741095749e-03 + z * (2.48015872894767294178e-05 + z * cosine)
    cosine = 1.0 - (0.5 * z - z * z * (4.16666666666666019037e-02 + z * cosine))
    turn = np.int64(quarter)
    odd = turn & 1
    first, second = cosine if odd else sine, sine if odd else cosine
    return -first if turn & 2 else first, -second if (turn + 1) & 2 else second


@njit(cache=True, nogil=True, inline="always")
@no_type_check
def _bucket(i: int, j: int, k: int, mask: int) -> int:
    """Mix the three indices of a cell into a bucket's number (multiplicative hashing by large odd constants)."""
    h = i * np.int64(-7046029254386353131) ^ j * np.int64(-4417276706812531889) ^ k * np.int64(1609587929392839161)
    h ^= h >> 29
    h *= np.int64(-4658895280553007687)
    return (h >> 32) & mask


@njit(cache=True, nogil=True)
@no_type_check
def build(points: np.ndarray, reach: float) -> Grid:
    """Sort points into buckets, keeping their order within each.

    Parameters
    ----------
    points
        Unit vectors.
    reach
        The largest chord that will be asked for.
    """
    n = points.shape[0]
    buckets = 1
    while buckets < 2 * n:
        buckets *= 2
    least = max(2.0 * (reach + SLACK), 1e-9)
    # The area of the belt that holds the points is 2 pi times its height (Archimedes); begin with a cell for every
    # fourth of a point there, and refine where they crowd.
    cell = least
    if n:
        cell = max(least, 0.5 * np.sqrt(2.0 * np.pi * (points[:, 2].max() - points[:, 2].min()) / n))
    which, starts, crowd = _fill(points, cell, buckets)
    while crowd > CROWD and cell > least:
        cell = max(least, 0.25 * cell)
        which, starts, crowd = _fill(points, cell, buckets)
    rows = np.empty(n, dtype=np.int32)
    ordered = np.empty((n, 3))
    fill = starts[:-1].copy()
    for p in range(n):
        slot = fill[which[p]]
        fill[which[p]] += 1
        rows[slot] = p
        ordered[slot, 0], ordered[slot, 1], ordered[slot, 2] = points[p, 0], points[p, 1], points[p, 2]
    return Grid(cell, starts, rows, ordered)


@njit(cache=True, nogil=True)
@no_type_check
def _fill(points: np.ndarray, cell: float, buckets: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Return the bucket of each point, where each begins, and how many share the average point's."""
    n = points.shape[0]
    which = np.empty(n, dtype=np.int32)
    starts = np.zeros(buckets + 1, dtype=np.int32)
    for p in range(n):
        i, j, k = np.floor(points[p, 0] / cell), np.floor(points[p, 1] / cell), np.floor(points[p, 2] / cell)
        which[p] = _bucket(int(i), int(j), int(k), buckets - 1)
        starts[which[p] + 1] += 1
    squares = 0.0
    for b in range(buckets):
        squares += float(starts[b + 1]) ** 2
        starts[b + 1] += starts[b]
    return which, starts, squares / max(n, 1)


@njit(cache=True, nogil=True)
@no_type_check
def _buckets_around(x: float, y: float, z: float, grid: Grid, reach: float, around: np.ndarray) -> int:
    """Write the distinct buckets of the cells that the ball around a point touches; return how many they are."""
    mask = grid.starts.size - 2
    wide = reach + SLACK
    count = 0
    for i in range(int(np.floor((x - wide) / grid.cell)), int(np.floor((x + wide) / grid.cell)) + 1):
        for j in range(int(np.floor((y - wide) / grid.cell)), int(np.floor((y + wide) / grid.cell)) + 1):
            for k in range(int(np.floor((z - wide) / grid.cell)), int(np.floor((z + wide) / grid.cell)) + 1):
                bucket = _bucket(i, j, k, mask)
                known = grid.starts[bucket] == grid.starts[bucket + 1]
                for seen in range(count):
                    known = known or around[seen] == bucket
                if not known:
                    around[count] = bucket
                    count += 1
    return count


@njit(cache=True, nogil=True)
@no_type_check
def nearest(points: np.ndarray, grid: Grid, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each point, the row of its nearest neighbour in the grid (-1: none) and their squared chord.

    Of neighbours equally near, the one of lowest row is taken.
    """
    rows = np.full(points.shape[0], -1, dtype=np.int64)
    chords = np.full(points.shape[0], reach * reach)
    around = np.empty(27, dtype=np.int64)
    for p in range(points.shape[0]):
        x, y, z = points[p, 0], points[p, 1], points[p, 2]
        for b in range(_buckets_around(x, y, z, grid, reach, around)):
            for slot in range(grid.starts[around[b]], grid.starts[around[b] + 1]):
                dx, dy, dz = x - grid.points[slot, 0], y - grid.points[slot, 1], z - grid.points[slot, 2]
                square = dx * dx + dy * dy + dz * dz
                row = grid.rows[slot]
                if square < chords[p] or (square == chords[p] and (rows[p] < 0 or row < rows[p])):
                    rows[p], chords[p] = row, square
                    # Rows ascend within a bucket and equal points share one, so nothing nearer nor lower follows.
                    if square == 0.0:
                        break
            if rows[p] >= 0 and chords[p] == 0.0:
                break
    return rows, chords


@njit(cache=True, nogil=True)
@no_type_check
def all_within(
    points: np.ndarray, grid: Grid, reach: float, start: int, most: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Return pairs within reach: the point, the row in the grid, and their squared chord.

    They are those of the points from `start` on, until there are `most` or more; last comes the point to go on with.
    """
    first = np.empty(min(points.shape[0] - start, most) + 16, dtype=np.int64)
    second = np.empty_like(first)
    chords = np.empty(first.size)
    around = np.empty(27, dtype=np.int64)
    n = 0
    for p in range(start, points.shape[0]):
        if n >= most:
            return first[:n], second[:n], chords[:n], p
        x, y, z = points[p, 0], points[p, 1], points[p, 2]
        for b in range(_buckets_around(x, y, z, grid, reach, around)):
            for slot in range(grid.starts[around[b]], grid.starts[around[b] + 1]):
                dx, dy, dz = x - grid.points[slot, 0], y - grid.points[slot, 1], z - grid.points[slot, 2]
                square = dx * dx + dy * dy + dz * dz
                if square <= reach * reach:
                    if n == first.size:
                        first = np.append(first, np.empty(n, dtype=np.int64))
                        second = np.append(second, np.empty(n, dtype=np.int64))
                        chords = np.append(chords, np.empty(n))
                    first[n], second[n], chords[n] = p, grid.rows[slot], square
                    n += 1
    return first[:n], second[:n], chords[:n], points.shape[0]
