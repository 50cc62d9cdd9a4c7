"""What part of the sky a HiPS holds: what its `Moc.fits` states, else its tiles, or on request its pixels."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from cdshealpix.nested import healpix_to_lonlat
from jaxtyping import Float, UInt64

from inzitu.hips.folder import Folder
from inzitu.hips.projection import ROTATIONS
from inzitu.hips.properties import DEEPEST
from inzitu.hips.survey import Survey
from inzitu.hips.writing import nested_to_image
from inzitu.sky import Coverage, cell_of

POINTS = 4_000_000
"""About how many points stand for the cells of another frame, and most that are in memory at a time."""


def coverage_of(survey: Survey) -> Coverage:
    """Return the coverage of a HiPS.

    Raises
    ------
    ValueError
        It has no `Moc.fits` and its tiles cannot be listed, or lie in another frame than ICRS.
    """
    handle = survey.place.open("Moc.fits", whole=True)
    if handle is None:
        return coverage_from_tiles(survey)
    try:
        content = handle.read(0, handle.size)
    finally:
        handle.close()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "Moc.fits"
        path.write_bytes(content)
        return Coverage.read(path)


def coverage_from_tiles(survey: Survey) -> Coverage:
    """Return the cells of the deepest tiles as a coverage; of another frame, the ICRS cells that hold all of them."""
    if not isinstance(survey.place, Folder):
        raise ValueError(f"{survey.uri} has no Moc.fits, and tiles behind http cannot be listed; ask its host for one.")
    tiles = np.array(survey.place.tiles(survey.order), np.uint64)
    if survey.frame == "equatorial":
        return Coverage.from_cells(survey.order, tiles)
    touched = _in_icrs(survey.order, tiles, survey.frame, deeper=_deeper(len(tiles)))
    # A corner may reach into a cell between two points: with the next cells nothing that has a tile is left out.
    return Coverage(touched.moc.add_neighbours())


def coverage_from_pixels(survey: Survey, *, order: int | None = None) -> Coverage:
    """Return the cells in which every pixel has a value, read from all of the deepest tiles.

    Parameters
    ----------
    survey
        A HiPS in a folder.
    order
        Order of the cells, at most that of the pixels, which is the default.
    """
    if not isinstance(survey.place, Folder):
        raise ValueError(f"{survey.uri}: tiles behind http cannot be listed; ask its host for a Moc.fits.")
    deepest = survey.stated.pixel_order
    order = deepest if order is None else order
    if not survey.order <= order <= deepest:
        raise ValueError(f"A coverage from pixels has an order from {survey.order} to {deepest}, not {order}.")
    place = nested_to_image(survey.tile_width).ravel()
    within = 4 ** (order - survey.order)
    tiles = survey.place.tiles(survey.order)
    most = within * len(tiles)

    def covered(npix: int) -> Coverage:
        values = np.empty(place.size)
        values[place] = pixels_of(survey, npix).ravel()
        whole = np.isfinite(values).reshape(within, -1).all(axis=1)
        cells = np.flatnonzero(whole).astype(np.uint64) + np.uint64(npix * within)
        if survey.frame == "equatorial":
            return Coverage.from_cells(order, cells)
        return _in_icrs(order, cells, survey.frame, deeper=_deeper(most))

    # One by one: a survey has more pixels than memory has room for, and a whole tile is a single cell.
    return Coverage.from_cells(order, np.empty(0, np.uint64)).union(*map(covered, tiles))


def pixels_of(survey: Survey, npix: int) -> Float[np.ndarray, "width width"]:
    """Return the values of a tile in file order, NaN where blank or where there is no tile."""
    width = survey.tile_width
    tile = survey.tile(npix, digest=False)
    if tile is None:
        return np.full((width, width), np.nan)
    try:
        tile.need(0, width - 1)
        return tile.values()
    finally:
        tile.close()


def _deeper(count: int) -> int:
    """Return by how many orders the points lie deeper that stand for so many cells of another frame."""
    return int(np.clip(np.log2(POINTS / max(1, count)) // 2, 2, 8))


def _in_icrs(order: int, cells: UInt64[np.ndarray, " c"], frame: str, *, deeper: int) -> Coverage:
    """Return cells of another frame as those ICRS cells that they touch, down to a 64th of their width.

    Points within the cells say which; they lie at least four times as dense as the cells.
    """
    finer = min(order + deeper, DEEPEST)
    target = max(0, finer - 2)
    each = np.uint64(4 ** (finer - order))
    step = max(1, POINTS // int(each))
    parts = [cells[start : start + step] for start in range(0, max(1, len(cells)), step)]
    touched = [np.unique(cell_of(*_icrs_points(part, each, finer, frame), target)) for part in parts]
    return Coverage.from_cells(target, np.concatenate(touched))


def _icrs_points(
    cells: UInt64[np.ndarray, " c"], each: np.uint64, finer: int, frame: str
) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, " p"]]:
    """Return so many points [deg] in each cell of another frame: the centres of the finer cells within."""
    points = (cells[:, None] * each + np.arange(each, dtype=np.uint64)).ravel()
    lon, lat = healpix_to_lonlat(points, finer)
    a, d = np.asarray(lon.rad), np.asarray(lat.rad)
    vectors = np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)])
    x, y, z = ROTATIONS[frame].T @ vectors
    return np.degrees(np.arctan2(y, x)) % 360, np.degrees(np.arctan2(z, np.hypot(x, y)))
