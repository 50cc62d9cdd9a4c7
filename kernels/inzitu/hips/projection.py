"""From a stamp's pixels to places on HEALPix faces, compiled.

A place is a face (0 to 11) and continuous coordinates x (to the north-east) and y (to the north-west) in pixels from
the face's southern corner: pixel (i, j) holds i <= x < i + 1, j <= y < j + 1 (Gorski et al. 2005, section 5). The
projection keeps areas, so overlaps of polygons in x and y are overlaps on the sky.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, no_type_check

import numpy as np
from jaxtyping import Float
from numba import njit

type Numbers = np.ndarray[Any, np.dtype[Any]] | Sequence[float | int] | float | int
"""One number, or one a row."""

ROTATIONS = {
    "equatorial": np.eye(3),
    # From ICRS, as astropy's Galactic and BarycentricMeanEcliptic (J2000) have it.
    "galactic": np.array([
        [-0.05487565771259163, -0.8734370519556159, -0.48383507361671546],
        [0.4941094371927268, -0.44482972122329517, 0.7469821839866676],
        [-0.8676661375596576, -0.19807633727300059, 0.45598381368730156],
    ]),
    "ecliptic": np.array([
        [0.9999999999999941, -7.078368954848322e-08, 8.05621398373642e-08],
        [3.2897004077419646e-08, 0.9174821299149584, 0.39777699944404793],
        [-1.0207044725484355e-07, -0.39777699944404304, 0.9174821299149556],
    ]),
}  # fmt: skip

# The face across each edge and corner of a face, by direction (S SE E SW centre NE W NW N), and how its axes lie: bit 0
# reverses x, bit 1 reverses y, bit 2 exchanges them, for the northern, equatorial and southern faces. -1: no face
# there, for only three meet. Tables of the HEALPix C++ library's `neighbors`.
_FACES = np.array([
    [8, 9, 10, 11, -1, -1, -1, -1, 10, 11, 8, 9],
    [5, 6, 7, 4, 8, 9, 10, 11, 9, 10, 11, 8],
    [-1, -1, -1, -1, 5, 6, 7, 4, -1, -1, -1, -1],
    [4, 5, 6, 7, 11, 8, 9, 10, 11, 8, 9, 10],
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
    [1, 2, 3, 0, 0, 1, 2, 3, 5, 6, 7, 4],
    [-1, -1, -1, -1, 7, 4, 5, 6, -1, -1, -1, -1],
    [3, 0, 1, 2, 3, 0, 1, 2, 4, 5, 6, 7],
    [2, 3, 0, 1, -1, -1, -1, -1, 0, 1, 2, 3],
])  # fmt: skip
_TURNS = np.array([[0, 0, 3], [0, 0, 6], [0, 0, 0], [0, 0, 5], [0, 0, 0], [5, 0, 0], [0, 0, 0], [6, 0, 0], [3, 0, 0]])


def stamp_axes(
    ra: Float[np.ndarray, " n"], dec: Float[np.ndarray, " n"], angle: Float[np.ndarray, " n"], frame: str
) -> Float[np.ndarray, "n 3 3"]:
    """Return for each stamp the unit vectors to its centre, along its x axis and along its y axis, in a HiPS's frame.

    Parameters
    ----------
    ra, dec
        Centres, ICRS [deg].
    angle
        Position angle of the y axis, from north through east [deg]; at 0 north is up and east is left.
    frame
        Frame of the HiPS.
    """
    a, d, p = np.radians(ra), np.radians(dec), np.radians(angle)[:, None]
    zero = np.zeros_like(a)
    centre = np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)], axis=-1)
    east = np.stack([-np.sin(a), np.cos(a), zero], axis=-1)
    north = np.stack([-np.sin(d) * np.cos(a), -np.sin(d) * np.sin(a), np.cos(d)], axis=-1)
    along_y = north * np.cos(p) + east * np.sin(p)
    along_x = north * np.sin(p) - east * np.cos(p)
    return np.ascontiguousarray(np.stack([centre, along_x, along_y], axis=1) @ ROTATIONS[frame].T)


@njit(cache=True, nogil=True, inline="always")
@no_type_check
def place(axes, u, v, side):
    """Return face, x and y of the direction centre + u (x axis) + v (y axis), on faces of `side` pixels."""
    vx = axes[0, 0] + u * axes[1, 0] + v * axes[2, 0]
    vy = axes[0, 1] + u * axes[1, 1] + v * axes[2, 1]
    vz = axes[0, 2] + u * axes[1, 2] + v * axes[2, 2]
    return place_of(vx, vy, vz, side)


@njit(cache=True, nogil=True)
@no_type_check
def place_of(vx, vy, vz, side):
    """Return face, x and y of a direction, which need not be a unit vector."""
    inverse = 1.0 / np.sqrt(vx * vx + vy * vy + vz * vz)
    z = vz * inverse
    za = abs(z)
    turn = np.arctan2(vy, vx) * (2.0 / np.pi)
    if turn < 0.0:
        turn += 4.0
    if turn >= 4.0:
        turn -= 4.0
    if za <= 2.0 / 3.0:
        falling, rising = 0.5 + turn - 0.75 * z, 0.5 + turn + 0.75 * z  # along the lines that bound the faces
        fall, rise = int(falling), int(rising)
        face = (fall & 3) | 4 if fall == rise else ((fall & 3) if fall < rise else (rise & 3) + 8)
        return face, (rising - rise) * side, (1.0 - (falling - fall)) * side
    quarter = min(3, int(turn))
    part = turn - quarter
    # sqrt(3 (1 - |z|)), from the sine of the polar distance, so that it stays exact at the poles.
    polar = np.sqrt((vx * vx + vy * vy) * 3.0 / (1.0 + za)) * inverse
    left, right = part * polar, (1.0 - part) * polar
    if z > 0.0:
        return quarter, (1.0 - right) * side, (1.0 - left) * side
    return quarter + 8, left * side, right * side


@njit(cache=True, nogil=True)
@no_type_check
def across(face, i, j, side):
    """Return face, i and j of a pixel that may lie one face further; face -1 where no pixel is (a corner of three)."""
    direction = 4
    if i < 0:
        i += side
        direction -= 1
    elif i >= side:
        i -= side
        direction += 1
    if j < 0:
        j += side
        direction -= 3
    elif j >= side:
        j -= side
        direction += 3
    other = _FACES[direction, face]
    turn = _TURNS[direction, face // 4]
    if turn & 1:
        i = side - 1 - i
    if turn & 2:
        j = side - 1 - j
    if turn & 4:
        i, j = j, i
    return other, i, j


@njit(cache=True, nogil=True)
@no_type_check
def spread(i):
    """Return an integer with a zero bit before each of its bits, the half of a nested number."""
    i = (i | (i << 16)) & 0x0000FFFF0000FFFF
    i = (i | (i << 8)) & 0x00FF00FF00FF00FF
    i = (i | (i << 4)) & 0x0F0F0F0F0F0F0F0F
    i = (i | (i << 2)) & 0x3333333333333333
    return (i | (i << 1)) & 0x5555555555555555


@njit(cache=True, nogil=True)
@no_type_check
def cells(axes, order):
    """Return the nested cell of each stamp's centre."""
    side = 1 << order
    found = np.empty(len(axes), np.int64)
    for n in range(len(axes)):
        face, x, y = place(axes[n], 0.0, 0.0, float(side))
        i, j = min(int(x), side - 1), min(int(y), side - 1)
        found[n] = (face << (2 * order)) | spread(i) | (spread(j) << 1)
    return found
