"""Before cutting: which rows go together so that each tile is opened once, and what there is to read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int64

from inzitu.hips.projection import Numbers, cells, stamp_axes
from inzitu.hips.sampling import Grid, plan
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
    """Estimate the tiles that cutouts need and the bytes to read of them, without reading a pixel.

    Tiles that only a corner of a stamp touches may be left out; a gzipped tile, which is read whole, is taken for a
    plain one, and a survey behind http(s) to have every tile that it covers.
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
    """Return the tiles under a coarse grid of points over each stamp, and how many rows are needed of each."""
    pixel = survey.stated.pixel_scale
    extent, width = (size - 1) * scale + pixel, pixel * survey.tile_width  # as far as bilinear weights reach
    points = max(3, int(np.ceil(3 * extent / width)) + 1)
    step = float(np.radians(extent / 3600)) / (points - 1)
    ways = []
    for start in range(0, len(lon), CHUNK):
        part = slice(start, start + CHUNK)
        axes = stamp_axes(lon[part], lat[part], np.zeros(len(lon[part])), survey.frame)
        ways.append(plan(axes, size=points, step=step, grid=survey.grid, resampling="nearest"))
    if not ways:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    tiles, which = np.unique(np.concatenate([way.tiles for way in ways]), return_inverse=True)
    first, last = np.concatenate([way.rows for way in ways]).T
    lowest, highest = np.full(len(tiles), survey.tile_width), np.zeros(len(tiles), np.int64)
    np.minimum.at(lowest, which, first)
    np.maximum.at(highest, which, last)
    return tiles, highest + 1 - lowest


def _usable(
    ra: Numbers, dec: Numbers
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"], Int64[np.ndarray, " m"]]:
    lon, lat = np.atleast_1d(np.asarray(ra, float)), np.atleast_1d(np.asarray(dec, float))
    return lon, lat, np.flatnonzero(usable(lon, lat))
