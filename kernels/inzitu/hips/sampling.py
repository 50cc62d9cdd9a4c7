"""Where the value of each pixel of a stamp comes from: tiles, pixels within them, and weights, compiled.

A plan holds for every survey with the same grid, so that several bands share the geometry. Its entries are HEALPix
pixels: `slots` number the tiles, `offsets` the pixels of a tile in file order, and the entries of stamp pixel p are
those from `starts[p]` to `starts[p + 1]`. The weights of a pixel add to one: a value is a mean, never a sum.

`nearest` takes the pixel that holds the stamp pixel's centre; `bilinear` the four around it, in x and y (the three
around it at the eight corners where three faces meet, the missing one's weight shared by the two beside it, as
cdshealpix does); `area` all those that the stamp pixel overlaps, by the area of the overlap, taking its sides as
straight in x and y. Where they are not (from one face to another, where the polar caps begin, around the poles), the
stamp pixel is divided into parts that are.
"""

from __future__ import annotations

from typing import NamedTuple, no_type_check

import numpy as np
from jaxtyping import Float, Integer
from numba import njit

from inzitu.hips.projection import across, place, spread

FAR = 1 << 62
"""A row beyond any."""
PARTS, MOST_PARTS = 8, 64
"""Parts along a stamp pixel where `area` divides it: two to a HEALPix pixel, within these bounds."""
FINE = 8
"""How many times as many there are at a pole, where the sides of a part bend within a HEALPix pixel."""
POINTS, TURN = 55, 34
"""Points of a part that is sampled, in a Fibonacci lattice: no two in a line with a seam that runs along a side."""
BENT = 64.0
"""Distance from a pole, in pixels along x and y, within which lines bend."""


class Grid(NamedTuple):
    """HEALPix pixels in tiles."""

    order: int
    width: int


class Plan(NamedTuple):
    """Which pixels make the pixels of some stamps."""

    starts: Integer[np.ndarray, " p+1"]
    slots: Integer[np.ndarray, " e"]
    offsets: Integer[np.ndarray, " e"]
    weights: Float[np.ndarray, " e"]
    tiles: Integer[np.ndarray, " s"]
    """Number of each slot's tile."""
    rows: Integer[np.ndarray, "s 2"]
    """First and last row of each slot's tile that are needed."""


def plan(axes: Float[np.ndarray, "n 3 3"], *, size: int, step: float, grid: Grid, resampling: str) -> Plan:
    """Plan the stamps of `size` x `size` pixels of `step` [rad] around each centre."""
    match resampling:
        case "nearest":
            return Plan(*_nearest(axes, size, step, grid.order, grid.width))
        case "bilinear":
            return Plan(*_bilinear(axes, size, step, grid.order, grid.width))
        case "area":
            return Plan(*_area(axes, size, step, grid.order, grid.width))
        case _:
            raise ValueError(f"Resampling {resampling!r} is unknown; give nearest, bilinear or area.")


@njit(cache=True, nogil=True)
@no_type_check
def slot_of(tile, tiles, rows, count):
    """Return the slot of a tile, given one if it has none yet."""
    for slot in range(count - 1, -1, -1):
        if tiles[slot] == tile:
            return slot, tiles, rows, count
    if count == len(tiles):
        more_tiles, more_rows = np.empty(2 * count, np.int64), np.empty((2 * count, 2), np.int64)
        for slot in range(count):  # slices would do, and take a second to compile
            more_tiles[slot], more_rows[slot, 0], more_rows[slot, 1] = tiles[slot], rows[slot, 0], rows[slot, 1]
        tiles, rows = more_tiles, more_rows
    tiles[count] = tile
    rows[count, 0], rows[count, 1] = FAR, -1
    return count, tiles, rows, count + 1


@njit(cache=True, nogil=True)
@no_type_check
def tile_of(face, i, j, order, shift):
    """Return the number of the tile that holds a pixel of a face."""
    return (face << (2 * order)) | spread(i >> shift) | (spread(j >> shift) << 1)


@njit(cache=True, nogil=True)
@no_type_check
def _nearest(axes, size, step, order, width):
    """Plan with the pixel that holds each stamp pixel's centre."""
    mask, shift, side = width - 1, log2_of(width), width << order
    m = len(axes) * size * size
    slots, offsets = np.empty(m, np.int32), np.empty(m, np.int32)
    tiles, rows, count = np.empty(16, np.int64), np.empty((16, 2), np.int64), 0
    last, slot, p, middle = -1, 0, 0, (size - 1) / 2
    for n in range(len(axes)):
        for y in range(size):
            for x in range(size):
                face, hx, hy = place(axes[n], (x - middle) * step, (y - middle) * step, float(side))
                i, j = min(int(hx), side - 1), min(int(hy), side - 1)
                tile = tile_of(face, i, j, order, shift)
                if tile != last:
                    slot, tiles, rows, count = slot_of(tile, tiles, rows, count)
                    last = tile
                row = mask - (i & mask)
                slots[p], offsets[p] = slot, row * width + (j & mask)
                rows[slot, 0], rows[slot, 1] = min(rows[slot, 0], row), max(rows[slot, 1], row)
                p += 1
    return np.arange(m + 1), slots, offsets, np.ones(m, np.float32), tiles[:count].copy(), rows[:count].copy()


@njit(cache=True, nogil=True)
@no_type_check
def _bilinear(axes, size, step, order, width):
    """Plan with the four pixels around each stamp pixel's centre."""
    mask, shift, side = width - 1, log2_of(width), width << order
    m = len(axes) * size * size
    slots, offsets, weights = np.empty(4 * m, np.int32), np.empty(4 * m, np.int32), np.empty(4 * m, np.float32)
    tiles, rows, count = np.empty(16, np.int64), np.empty((16, 2), np.int64), 0
    last, slot, e, middle = -1, 0, 0, (size - 1) / 2
    for n in range(len(axes)):
        for y in range(size):
            for x in range(size):
                face, hx, hy = place(axes[n], (x - middle) * step, (y - middle) * step, float(side))
                i, j = int(np.floor(hx - 0.5)), int(np.floor(hy - 0.5))
                fx, fy = hx - 0.5 - i, hy - 0.5 - j
                weights[e], weights[e + 1] = (1 - fx) * (1 - fy), fx * (1 - fy)
                weights[e + 2], weights[e + 3] = (1 - fx) * fy, fx * fy
                if (i & mask) != mask and (j & mask) != mask:  # all four in one tile
                    tile = tile_of(face, i, j, order, shift)
                    if tile != last:
                        slot, tiles, rows, count = slot_of(tile, tiles, rows, count)
                        last = tile
                    row = mask - (i & mask)
                    offset = row * width + (j & mask)
                    slots[e], slots[e + 1], slots[e + 2], slots[e + 3] = slot, slot, slot, slot
                    offsets[e], offsets[e + 1] = offset, offset - width
                    offsets[e + 2], offsets[e + 3] = offset + 1, offset - width + 1
                    rows[slot, 0], rows[slot, 1] = min(rows[slot, 0], row - 1), max(rows[slot, 1], row)
                else:
                    lost = -1
                    for k in range(4):
                        f, a, b = across(face, i + (k & 1), j + (k >> 1), side)
                        if f < 0:
                            lost = k
                            continue
                        tile = tile_of(f, a, b, order, shift)
                        slot, tiles, rows, count = slot_of(tile, tiles, rows, count)
                        row = mask - (a & mask)
                        slots[e + k], offsets[e + k] = slot, row * width + (b & mask)
                        rows[slot, 0], rows[slot, 1] = min(rows[slot, 0], row), max(rows[slot, 1], row)
                    last = -1
                    if lost >= 0:  # half of its weight to each of the two beside it, and none to a copy of the third
                        weights[e + (lost ^ 1)] += weights[e + lost] / 2
                        weights[e + (lost ^ 2)] += weights[e + lost] / 2
                        weights[e + lost] = 0
                        slots[e + lost], offsets[e + lost] = slots[e + (lost ^ 3)], offsets[e + (lost ^ 3)]
                e += 4
    return np.arange(0, 4 * m + 1, 4), slots, offsets, weights, tiles[:count].copy(), rows[:count].copy()


@njit(cache=True, nogil=True)
@no_type_check
def log2_of(width):
    """Return the logarithm of a power of two."""
    shift = 0
    while width > 1:
        width >>= 1
        shift += 1
    return shift


@njit(cache=True, nogil=True)
@no_type_check
def _area(axes, size, step, order, width):
    """Plan with the pixels that each stamp pixel overlaps."""
    mask, shift, side = width - 1, log2_of(width), width << order
    m = len(axes) * size * size
    starts = np.zeros(m + 1, np.int64)
    capacity = 16 * m + 16
    slots, offsets, weights = np.empty(capacity, np.int32), np.empty(capacity, np.int32), np.empty(capacity, np.float32)
    tiles, rows, count = np.empty(16, np.int64), np.empty((16, 2), np.int64), 0
    faces, cx, cy = (
        np.empty((size + 1, size + 1), np.int64),
        np.empty((size + 1, size + 1)),
        np.empty((size + 1, size + 1)),
    )
    p = 0
    for n in range(len(axes)):
        for y in range(size + 1):
            for x in range(size + 1):
                faces[y, x], cx[y, x], cy[y, x] = place(
                    axes[n], (x - size / 2) * step, (y - size / 2) * step, float(side)
                )
        for y in range(size):
            for x in range(size):
                qx = np.array([cx[y, x], cx[y, x + 1], cx[y + 1, x + 1], cx[y + 1, x]])
                qy = np.array([cy[y, x], cy[y, x + 1], cy[y + 1, x + 1], cy[y + 1, x]])
                face = faces[y, x]
                same = face == faces[y, x + 1] and face == faces[y + 1, x] and face == faces[y + 1, x + 1]
                if same and _straight(face, qx + qy, side):
                    f, i, j, w = _clipped(face, qx, qy)
                else:
                    f, i, j, w = _divided(axes[n], (x - size / 2) * step, (y - size / 2) * step, step, side)
                e = starts[p]
                if e + len(w) > capacity:
                    capacity = 2 * capacity + len(w)
                    slots, offsets, weights = (
                        _grown(slots, capacity),
                        _grown(offsets, capacity),
                        _grown(weights, capacity),
                    )
                for k in range(len(w)):
                    a, b = min(i[k], side - 1), min(j[k], side - 1)
                    slot, tiles, rows, count = slot_of(tile_of(f[k], a, b, order, shift), tiles, rows, count)
                    row = mask - (a & mask)
                    slots[e + k], offsets[e + k], weights[e + k] = slot, row * width + (b & mask), w[k]
                    rows[slot, 0], rows[slot, 1] = min(rows[slot, 0], row), max(rows[slot, 1], row)
                starts[p + 1] = e + len(w)
                p += 1
    end = starts[m]
    return starts, slots[:end], offsets[:end], weights[:end], tiles[:count].copy(), rows[:count].copy()


@njit(cache=True, nogil=True)
@no_type_check
def _grown(values, capacity):
    more = np.empty(capacity, values.dtype)
    more[: len(values)] = values
    return more


@njit(cache=True, nogil=True)
@no_type_check
def _clipped(face, qx, qy):
    """Return the pixels that a quadrilateral overlaps and the fractions of its area that each has."""
    i0, i1 = int(np.floor(qx.min())), int(np.ceil(qx.max()))
    j0, j1 = int(np.floor(qy.min())), int(np.ceil(qy.max()))
    most = max(1, (i1 - i0) * (j1 - j0))
    i, j, w = np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most)
    px, py, sx, sy, tx, ty = np.empty(16), np.empty(16), np.empty(16), np.empty(16), np.empty(16), np.empty(16)
    k, total, sliver = 0, 0.0, min(1e-9, 1e-6 * _shoelace(qx, qy, 4))
    for a in range(i0, i1):
        px[:4], py[:4] = qx, qy
        count = _cut(px, py, 4, sx, sy, 1.0, float(a))
        count = _cut(sx, sy, count, px, py, -1.0, -float(a + 1))
        for b in range(j0, j1):
            inner = _cut(py, px, count, ty, tx, 1.0, float(b))
            inner = _cut(ty, tx, inner, sy, sx, -1.0, -float(b + 1))
            area = _shoelace(sx, sy, inner)
            if area > sliver:
                i[k], j[k], w[k] = a, b, area
                total += area
                k += 1
    return np.full(k, face), i[:k], j[:k], w[:k] / total


@njit(cache=True, nogil=True)
@no_type_check
def _cut(ax, ay, count, bx, by, sign, limit):
    """Clip a polygon to sign * x >= limit (Sutherland & Hodgman 1974); return the number of vertices left."""
    left = 0
    for k in range(count):
        nx, ny, mx, my = ax[k], ay[k], ax[(k + 1) % count], ay[(k + 1) % count]
        inside, next_inside = sign * nx >= limit, sign * mx >= limit
        if inside:
            bx[left], by[left] = nx, ny
            left += 1
        if inside != next_inside:
            t = (sign * limit - nx) / (mx - nx)
            bx[left], by[left] = sign * limit, ny + t * (my - ny)
            left += 1
    return left


@njit(cache=True, nogil=True)
@no_type_check
def _shoelace(x, y, count):
    area = 0.0
    for k in range(count):
        after = (k + 1) % count
        area += (x[k] - x[0]) * (y[after] - y[0]) - (x[after] - x[0]) * (y[k] - y[0])
    return abs(area) / 2


@njit(cache=True, nogil=True)
@no_type_check
def _straight(face, sums, side):
    """Tell whether straight lines on the sky are straight enough in x and y where x + y has these values.

    They bend where the polar caps begin, at x + y = side on the northern and southern faces, and around the poles.
    """
    if 4 <= face < 8:
        return True
    low, high = sums.min() - side, sums.max() - side
    if face >= 8:
        low, high = -high, -low
    return high < 0.0 or (low > 0.0 and side - high > BENT + (high - low))


@njit(cache=True, nogil=True)
@no_type_check
def _divided(axes, u, v, step, side):
    """Return the pixels that a stamp pixel overlaps and their fractions, from parts small enough to be straight.

    Parts that still cross from one face to another are sampled.
    """
    hpx = np.sqrt(np.pi / 3) / side
    parts = max(PARTS, int(np.ceil(2 * step / hpx)))
    if _to_pole(axes, u + step / 2, v + step / 2, side) < 2 + 2 * step / hpx:
        parts *= FINE
    parts = min(MOST_PARTS, parts)
    little = step / parts
    faces, x, y = (
        np.empty((parts + 1, parts + 1), np.int64),
        np.empty((parts + 1, parts + 1)),
        np.empty((parts + 1, parts + 1)),
    )
    for b in range(parts + 1):
        for a in range(parts + 1):
            faces[b, a], x[b, a], y[b, a] = place(axes, u + a * little, v + b * little, float(side))
    f, i, j, w = np.empty(16, np.int64), np.empty(16, np.int64), np.empty(16, np.int64), np.empty(16)
    k = 0
    for b in range(parts):
        for a in range(parts):
            face = faces[b, a]
            if face == faces[b, a + 1] and face == faces[b + 1, a] and face == faces[b + 1, a + 1]:
                qx = np.array([x[b, a], x[b, a + 1], x[b + 1, a + 1], x[b + 1, a]])
                qy = np.array([y[b, a], y[b, a + 1], y[b + 1, a + 1], y[b + 1, a]])
                more_f, more_i, more_j, more_w = _clipped(face, qx, qy)
            else:
                more_f, more_i, more_j, more_w = _sampled(axes, u + a * little, v + b * little, little, side)
            while k + len(more_w) > len(w):
                f, i, j, w = _grown(f, 2 * len(f)), _grown(i, 2 * len(i)), _grown(j, 2 * len(j)), _grown(w, 2 * len(w))
            for n in range(len(more_w)):
                f[k], i[k], j[k], w[k] = more_f[n], more_i[n], more_j[n], more_w[n] / parts**2
                k += 1
    return f[:k], i[:k], j[:k], w[:k]


@njit(cache=True, nogil=True)
@no_type_check
def _to_pole(axes, u, v, side):
    """Return how far a point is from the nearest pole, in pixels along x and y together."""
    face, x, y = place(axes, u, v, float(side))
    if face < 4:
        return 2 * side - x - y
    return x + y if face >= 8 else 2.0 * side


@njit(cache=True, nogil=True)
@no_type_check
def _sampled(axes, u, v, step, side):
    """Return the pixels under some points, each with the same weight."""
    f, i, j = np.empty(POINTS, np.int64), np.empty(POINTS, np.int64), np.empty(POINTS, np.int64)
    for k in range(POINTS):
        a, b = (k + 0.5) / POINTS, (k * TURN % POINTS + 0.5) / POINTS
        face, x, y = place(axes, u + a * step, v + b * step, float(side))
        f[k], i[k], j[k] = face, int(x), int(y)
    return f, i, j, np.full(POINTS, 1 / POINTS)
