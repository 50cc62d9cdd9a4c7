"""Before cutting: which rows go together so that each tile is opened once, and what there is to read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import no_type_check

import numpy as np
from jaxtyping import Float, Int64
from numba import njit

from inzitu.hips.projection import Numbers, across, cells, place, stamp_axes
from inzitu.hips.sampling import Grid, log2_of, slot_of, tile_of
from inzitu.hips.survey import Survey
from inzitu.sky import usable

CHUNK = 4096
"""Rows looked at together."""


def groups(
    surveys: Sequence[Survey], ra: Numbers, dec: Numbers, *, size: int, scale: float, most: int = 1024
) -> list[Int64[np.ndarray, " m"]]:
    """Return the rows in groups of neighbours, so that almost every tile is opened for one group only.

    Parameters
    ----------
    surveys
        One a band; the tiles of the first make the groups.
    ra, dec
        Centres, ICRS [deg]. Rows that are not on the sky make groups of their own, the last.
    size, scale
        Of the stamps [pixel], [arcsec].
    most
        Rows of a group; a tile with more of them is shared between groups.
    """
    lon, lat, rows = _usable(ra, dec)
    axes = stamp_axes(lon[rows], lat[rows], np.zeros(len(rows)), surveys[0].frame)
    # Stamps wider than a tile go by a coarser cell, so that those that share tiles are together.
    width = surveys[0].stated.pixel_scale * surveys[0].tile_width
    coarser = max(0, int(np.ceil(np.log2(max(1.0, size * scale / width)))))
    cell = cells(axes, max(0, surveys[0].order - coarser))
    by_cell = np.argsort(cell, kind="stable")
    starts = np.flatnonzero(np.diff(cell[by_cell], prepend=-1))
    parts: list[Int64[np.ndarray, " m"]] = []
    begin = 0
    for stop in [*starts[1:].tolist(), len(rows)]:
        while stop - begin >= most:  # whole cells up to the limit; a cell beyond it is split
            whole = starts[(starts > begin) & (starts <= begin + most)]
            end = int(whole[-1]) if len(whole) else begin + most
            parts.append(rows[by_cell[begin:end]])
            begin = end
    if begin < len(rows):
        parts.append(rows[by_cell[begin:]])
    nowhere = np.setdiff1d(np.arange(len(lon)), rows)
    return parts + [nowhere[begin : begin + most] for begin in range(0, len(nowhere), most)]


def bytes_to_read(surveys: Sequence[Survey], ra: Numbers, dec: Numbers, size: int, scale: float) -> tuple[int, int]:
    """Return the tiles that bilinear cutouts need and the bytes to read of them, without reading a pixel.

    The tiles are exact. The bytes are those of each tile read once, as far as its size tells its layout; a gzipped tile
    beyond the size that is read whole is taken for a plain one, and a survey behind http(s) to have every tile.
    """
    lon, lat, rows = _usable(ra, dec)
    tiles, total = 0, 0
    found: dict[tuple[str, Grid], tuple[Int64[np.ndarray, " t"], Int64[np.ndarray, " t"]]] = {}
    for survey in surveys:
        key = survey.frame, survey.grid
        if key not in found:
            found[key] = _touched(lon[rows], lat[rows], size, scale, survey)
        count, size_in_bytes = survey.weigh(*found[key])
        tiles, total = tiles + count, total + size_in_bytes
    return tiles, total


def _touched(
    lon: Float[np.ndarray, " n"], lat: Float[np.ndarray, " n"], size: int, scale: float, survey: Survey
) -> tuple[Int64[np.ndarray, " t"], Int64[np.ndarray, " t"]]:
    """Return the tiles that the stamps need, and how many rows of each."""
    # What lies within the outline of a stamp and not under it is a whole tile: some points within find all of these.
    stride = max(1, int(survey.stated.pixel_scale * survey.tile_width / (3 * scale)))
    step = float(np.radians(scale / 3600))
    found = []
    for start in range(0, len(lon), CHUNK):
        part = slice(start, start + CHUNK)
        axes = stamp_axes(lon[part], lat[part], np.zeros(len(lon[part])), survey.frame)
        found.append(_under(axes, size, step, survey.order, survey.tile_width, stride))
    if not found:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    tiles, which = np.unique(np.concatenate([numbers for numbers, _ in found]), return_inverse=True)
    first, last = np.concatenate([spans for _, spans in found]).T
    lowest, highest = np.full(len(tiles), survey.tile_width), np.zeros(len(tiles), np.int64)
    np.minimum.at(lowest, which, first)
    np.maximum.at(highest, which, last)
    return tiles, highest + 1 - lowest


@njit(cache=True, nogil=True)
@no_type_check
def _under(axes, size, step, order, width, stride):
    """Return the tiles, and the first and last row of each, under the outline of stamps and under points within."""
    mask, shift, side = width - 1, log2_of(width), width << order
    tiles, rows, count = np.empty(16, np.int64), np.empty((16, 2), np.int64), 0
    middle = (size - 1) / 2
    for n in range(len(axes)):
        face, first, last, j = _within_one(axes[n], middle * step, side, width)
        if face >= 0:
            slot, tiles, rows, count = slot_of(tile_of(face, first, j, order, shift), tiles, rows, count)
            rows[slot, 0] = min(rows[slot, 0], mask - (last & mask))
            rows[slot, 1] = max(rows[slot, 1], mask - (first & mask))
            continue
        for y in range(size):
            outline = y == 0 or y == size - 1
            for x in range(size):
                if not (outline or x == 0 or x == size - 1 or (y % stride == 0 and x % stride == 0)):
                    continue
                face, hx, hy = place(axes[n], (x - middle) * step, (y - middle) * step, float(side))
                i, j = int(np.floor(hx - 0.5)), int(np.floor(hy - 0.5))
                for k in range(4):  # the pixels that a bilinear value is made of
                    f, a, b = across(face, i + (k & 1), j + (k >> 1), side)
                    if f >= 0:
                        slot, tiles, rows, count = slot_of(tile_of(f, a, b, order, shift), tiles, rows, count)
                        row = mask - (a & mask)
                        rows[slot, 0], rows[slot, 1] = min(rows[slot, 0], row), max(rows[slot, 1], row)
    return tiles[:count].copy(), rows[:count].copy()


@njit(cache=True, nogil=True)
@no_type_check
def _within_one(axes, reach, side, width):
    """Return face, first and last i, and a j of a stamp that by its corners lies in a single tile; -1 if it may not.

    Most stamps do. Between its corners a stamp's sides bend by less than a quarter of its extent.
    """
    corner, hx, hy = place(axes, -reach, -reach, float(side))
    west, east, low, high = hx, hx, hy, hy
    for k in range(1, 4):
        face, hx, hy = place(axes, reach if k & 1 else -reach, reach if k & 2 else -reach, float(side))
        if face != corner:
            return -1, 0, 0, 0
        west, east, low, high = min(west, hx), max(east, hx), min(low, hy), max(high, hy)
    margin = 2 + (east - west + high - low) / 4
    first, last, j = int(np.floor(west - 0.5)), int(np.floor(east - 0.5)) + 1, int(low)
    if (west - margin) // width != (east + margin) // width or (low - margin) // width != (high + margin) // width:
        return -1, 0, 0, 0
    return corner, first, last, j


def _usable(
    ra: Numbers, dec: Numbers
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"], Int64[np.ndarray, " m"]]:
    lon, lat = np.atleast_1d(np.asarray(ra, float)), np.atleast_1d(np.asarray(dec, float))
    return lon, lat, np.flatnonzero(usable(lon, lat))
