"""Cutouts: gnomonic (TAN) stamps around positions, from one or more surveys, interpolated once from HEALPix pixels.

Values keep their meaning, per pixel of the images that the HiPS was made from: a sum over a stamp's pixels must be
multiplied by the survey's area factor, (scale / native scale) squared, to be a flux.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from itertools import chain, pairwise

import numpy as np
from jaxtyping import Bool, Float, Float32, Int8, Integer, UInt8

from inzitu.hips.flags import mark
from inzitu.hips.gather import gather
from inzitu.hips.projection import Numbers, cells, stamp_axes
from inzitu.hips.reading import Reader, TileRead, chunk_bounds
from inzitu.hips.sampling import Grid, plan
from inzitu.hips.survey import Survey
from inzitu.hips.tiles import TileError
from inzitu.sky import usable

RESAMPLINGS = {"nearest": 24, "bilinear": 60, "area": 220}
"""Bytes that the plan of a stamp's pixel takes in each."""
WIDEST = 10.0
"""Largest stamp [deg]: beyond, a gnomonic stamp's pixels differ in area by more than 1 %."""
FINEST = 1e-6
"""Smallest pixel of a stamp [arcsec]: positions in double precision are not much finer."""
LARGEST = 1 << 15
"""Most pixels along a stamp."""


class Status(IntEnum):
    """What became of a row in a band, from good to bad."""

    OK = 0
    PARTIAL = 1
    """Some pixels are blank."""
    BLANK = 2
    """All pixels are blank, in a part of the sky that the survey covers."""
    OUTSIDE = 3
    """The survey does not reach there, or the position is not on the sky."""
    ERROR = 4
    """A tile that the stamp needs cannot be used."""

    @property
    def word(self) -> str:
        """The status as tables have it."""
        return self.name.lower()


class Flag(IntFlag):
    """What to know about a stamp that is there."""

    EDGE = 1
    """A pixel of its outermost ring is blank: the edge of the survey runs through it."""
    BRIGHT_NEIGHBOUR = 2
    """Something in it, away from its centre, is clearly brighter than its centre."""

    @property
    def words(self) -> str:
        """The flags as tables have them, joined by commas."""
        return ",".join((flag.name or "").lower().replace("_", "-") for flag in self)


@dataclass(frozen=True, slots=True, eq=False)
class Cutouts:
    """Stamps and what became of each row in each band."""

    pixels: Float32[np.ndarray, "n y x band"]
    """NaN where blank. y runs north and x west, where the position angle is 0."""
    status: Int8[np.ndarray, "n band"]
    fraction: Float32[np.ndarray, "n band"]
    """Of the pixels that are not blank."""
    flags: UInt8[np.ndarray, "n band"]
    area_factors: Float[np.ndarray, " band"]
    """What a sum over pixels is multiplied by to be a flux in the survey's unit."""
    tiles: tuple[TileRead, ...]
    """What was read; a tile that two threads opened is there twice."""
    errors: tuple[TileError, ...]
    """Each tile that could not be used, once."""

    def status_words(self) -> list[str]:
        """Return each row's status, the worst of its bands."""
        return [Status(worst).word for worst in self.status.max(axis=1).tolist()]

    def flag_words(self) -> list[str]:
        """Return each row's flags, of any band, joined by commas."""
        return [Flag(union).words for union in np.bitwise_or.reduce(self.flags, axis=1).tolist()]


def cutouts(
    surveys: Sequence[Survey],
    ra: Numbers,
    dec: Numbers,
    *,
    size: int,
    scale: float,
    angle: Numbers = 0.0,
    resampling: str = "bilinear",
    threads: int = 1,
    digests: bool = True,
) -> Cutouts:
    """Cut stamps around positions out of surveys.

    Parameters
    ----------
    surveys
        One a band; those with the same grid share the geometry.
    ra, dec
        Centres, ICRS [deg]. A position that is not on the sky is a row with status OUTSIDE.
    size
        Pixels along a stamp; its centre is at pixel ((size - 1) / 2, (size - 1) / 2).
    scale
        Side of a pixel at the centre [arcsec].
    angle
        Position angle of the y axis, from north through east [deg], one for all or one a row.
    resampling
        "nearest", "bilinear" or "area" (exact overlaps, which keep fluxes whatever the scale).
    threads
        That share the rows, in the order of the tiles.
    digests
        Whether to take the SHA-256 of what is read of each tile, for the record.

    Raises
    ------
    ValueError
        A parameter is out of its limits.
    """
    surveys = tuple(surveys)
    lon, lat, turn = _positions(ra, dec, angle)
    _check(surveys, size, scale, resampling)
    count = len(lon)
    pixels = np.empty((count, size, size, len(surveys)), np.float32)
    tally = np.zeros((count, len(surveys), 3), np.int64)
    known = usable(lon, lat)
    pixels[~known] = np.nan
    frames = {survey.frame for survey in surveys}
    axes = {frame: stamp_axes(np.where(known, lon, 0), np.where(known, lat, 0), turn, frame) for frame in frames}
    rows = np.flatnonzero(known)
    tiles = cells(axes[surveys[0].frame], surveys[0].order)
    rows = rows[np.argsort(tiles[rows], kind="stable")]
    shares = np.array_split(rows, max(1, min(threads, len(rows))))
    flags = np.zeros((count, len(surveys)), np.uint8)
    cut = _Cut(surveys, axes, tiles, size, scale, resampling, pixels, tally, flags)
    readers = [Reader(surveys, digests) for _ in shares]
    if len(shares) == 1:
        reads = [cut.fill(shares[0], readers[0])]
    else:
        with ThreadPoolExecutor(len(shares)) as pool:
            reads = list(pool.map(cut.fill, shares, readers))
    status = _statuses(surveys, lon, lat, tally, size * size)
    fraction = (tally[:, :, 0] / size**2).astype(np.float32)
    errors = {error.uri: error for reader in readers for error in reader.errors.values()}
    areas = np.array([(scale / survey.stated.native_scale) ** 2 for survey in surveys])
    read = tuple(chain.from_iterable(reads))
    return Cutouts(pixels, status, fraction, flags, areas, read, tuple(errors.values()))


@dataclass(frozen=True, slots=True, eq=False)
class _Cut:
    """One call of `cutouts`, whose arrays the threads fill row by row."""

    surveys: tuple[Survey, ...]
    axes: dict[str, Float[np.ndarray, "n 3 3"]]
    tiles: Integer[np.ndarray, " n"]
    size: int
    scale: float
    resampling: str
    pixels: Float32[np.ndarray, "n y x band"]
    tally: Integer[np.ndarray, "n band 3"]
    flags: UInt8[np.ndarray, "n band"]

    def fill(self, rows: Integer[np.ndarray, " m"], reader: Reader) -> tuple[TileRead, ...]:
        """Cut these rows; return the tiles read."""
        entries, tile_bytes = 4 * self.size**2, 4 * sum(survey.tile_width**2 for survey in self.surveys)
        try:
            for start, stop in pairwise(chunk_bounds(self.tiles[rows], entries=entries, tile_bytes=tile_bytes)):
                self._fill_chunk(rows[start:stop], reader)
                reader.trim()
        finally:
            reads = reader.close()
        return reads

    def _fill_chunk(self, rows: Integer[np.ndarray, " m"], reader: Reader) -> None:
        shared: dict[tuple[str, Grid], list[int]] = {}
        for band, survey in enumerate(self.surveys):
            shared.setdefault((survey.frame, survey.grid), []).append(band)
        step = float(np.radians(self.scale / 3600))
        for (frame, grid), bands in shared.items():
            way = plan(self.axes[frame][rows], size=self.size, step=step, grid=grid, resampling=self.resampling)
            for band in bands:
                sources = reader.sources(way, band)
                self.tally[rows, band] = gather(
                    way.starts, way.slots, way.offsets, way.weights, *sources, self.pixels, rows, band
                )
        self.flags[rows] = mark(self.pixels, rows, self.scale)


def _positions(
    ra: Numbers, dec: Numbers, angle: Numbers
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    lon, lat = np.atleast_1d(np.asarray(ra, float)), np.atleast_1d(np.asarray(dec, float))
    if lon.ndim != 1 or lon.shape != lat.shape:
        raise ValueError(f"ra has shape {lon.shape} and dec {lat.shape}; give one of each a row.")
    turn = np.asarray(angle, float)
    if turn.ndim and turn.shape != lon.shape:
        raise ValueError(f"{turn.size} position angles for {len(lon)} positions; give one, or one a row.")
    if not np.isfinite(turn).all():
        raise ValueError(f"The position angle {turn[~np.isfinite(turn)][0]} is no angle; give degrees.")
    return lon, lat, np.broadcast_to(turn, lon.shape)


def _check(surveys: tuple[Survey, ...], size: int, scale: float, resampling: str) -> None:
    if not surveys:
        raise ValueError("No survey to cut from; give one a band.")
    if not 1 <= size <= LARGEST:
        raise ValueError(f"The stamps' size is {size} pixels; it must be 1 to {LARGEST}.")
    if not scale >= FINEST:
        raise ValueError(f"The stamps' pixels are {scale} arcsec wide; they must be {FINEST} or more.")
    if size * scale > WIDEST * 3600:
        raise ValueError(
            f"{size} pixels of {scale} arcsec make a stamp of {size * scale / 3600:g} deg; it may have at most "
            f"{WIDEST:g} deg: give a smaller size or scale."
        )
    if resampling not in RESAMPLINGS:
        raise ValueError(f"Resampling {resampling!r} is unknown; give {', '.join(RESAMPLINGS)}.")


def _statuses(
    surveys: tuple[Survey, ...],
    lon: Float[np.ndarray, " n"],
    lat: Float[np.ndarray, " n"],
    tally: Integer[np.ndarray, "n band 3"],
    whole: int,
) -> Int8[np.ndarray, "n band"]:
    good, present, failed = (tally[:, :, k] for k in range(3))
    status = np.where(good == whole, Status.OK, np.where(good > 0, Status.PARTIAL, Status.BLANK)).astype(np.int8)
    for band, survey in enumerate(surveys):
        absent = np.flatnonzero((good + present + failed)[:, band] == 0)
        if len(absent):
            status[absent[~_covered(survey, lon[absent], lat[absent])], band] = Status.OUTSIDE
    status[failed > 0] = Status.ERROR
    return status


def _covered(survey: Survey, lon: Float[np.ndarray, " n"], lat: Float[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Tell where a survey says that it reaches; where it cannot say, it reaches where its tiles are."""
    try:
        return survey.coverage().contains(lon, lat)
    except (ValueError, OSError):
        return np.zeros(len(lon), bool)
