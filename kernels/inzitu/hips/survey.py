"""A survey: one HiPS, in a folder or behind http(s)."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int8, Integer

from inzitu.hips.cache import Cache, user_cache
from inzitu.hips.folder import Folder
from inzitu.hips.projection import Numbers, cells, stamp_axes
from inzitu.hips.properties import Properties
from inzitu.hips.sampling import Grid
from inzitu.hips.tiles import BLOCK, HEAD, WHOLE, Handle, Tile
from inzitu.hips.writing import tile_path
from inzitu.sky import Coverage

WEIGHED = 8192
"""Tiles whose files are looked at for an estimate; of more, so many chosen at random stand for all."""
PROBES = 4
"""Tiles looked for when a HiPS behind http(s) is opened."""


@runtime_checkable
class Place(Protocol):
    """Where the files of a HiPS are."""

    @property
    def uri(self) -> str:
        """Its base, as a URI."""

    @property
    def parallel(self) -> int:
        """How many files are worth opening at a time."""

    def open(self, path: str, *, whole: bool = False) -> Handle | None:
        """Open a file of the HiPS; None if there is none of that name; raise `TileError` if it cannot be opened.

        `whole` says that all of it will be read.
        """

    def size(self, path: str) -> int | None:
        """Return the bytes of a file; None if there is none of that name."""

    def edition(self, name: str) -> Place:
        """Return the same files, known to be of an edition."""

    def close(self) -> None:
        """Let go of connections."""


@dataclass(frozen=True, eq=False)
class Survey:
    """One HiPS whose FITS tiles hold the pixels of a band.

    Not slotted: the coverage is read once, when first asked for.
    """

    place: Place
    stated: Properties

    @classmethod
    def open(cls, path_or_url: str | Path, *, cache: Path | None = None) -> Survey:
        """Open a HiPS.

        Parameters
        ----------
        path_or_url
            Its folder, or its http(s) base.
        cache
            Folder for remote tiles; None for the user's cache. It is bounded.

        Raises
        ------
        ValueError
            There is no HiPS, or its properties are wrong, or it offers no FITS tiles.
        OSError
            It cannot be read.
        """
        place = _place(str(path_or_url), cache)
        try:
            stated = _stated(place, str(path_or_url))
        except BaseException:
            place.close()
            raise
        survey = cls(place.edition(stated.stated.get("hips_release_date", "")), stated)
        weakref.finalize(survey, place.close)
        if not isinstance(place, Folder):
            _check_order(survey)
        return survey

    @property
    def uri(self) -> str:
        """Where it is."""
        return self.place.uri

    @property
    def properties(self) -> Mapping[str, str]:
        """The keywords of its `properties`."""
        return self.stated.stated

    @property
    def edition(self) -> str:
        """What tells it from other editions: a SHA-256 of all that it states, its release date among it."""
        return hashlib.sha256(repr(sorted(self.properties.items())).encode()).hexdigest()

    @property
    def order(self) -> int:
        """HEALPix order of its tiles."""
        return self.stated.order

    @property
    def tile_width(self) -> int:
        """Pixels along a tile."""
        return self.stated.tile_width

    @property
    def frame(self) -> str:
        """Its frame: "equatorial", "galactic" or "ecliptic"."""
        return self.stated.frame

    @property
    def grid(self) -> Grid:
        """Its HEALPix pixels."""
        return Grid(self.stated.order, self.stated.tile_width)

    def coverage(self) -> Coverage:
        """Return its coverage: what `Moc.fits` states, else its tiles."""
        return self._coverage

    @cached_property
    def _coverage(self) -> Coverage:
        from inzitu.hips.footprint import coverage_of

        return coverage_of(self)

    def tile(self, npix: int, *, digest: bool) -> Tile | None:
        """Open a tile; None if there is none; raise `TileError` if it cannot be used."""
        path = tile_path(self.order, npix)
        handle = self.place.open(path)
        if handle is None:
            return None
        try:
            return Tile(handle, f"{self.uri}/{path}", width=self.tile_width, digest=digest)
        except BaseException:
            handle.close()
            raise

    def weigh(self, tiles: Integer[np.ndarray, " t"], rows: Integer[np.ndarray, " t"]) -> tuple[int, int]:
        """Return how many of these tiles there are, and the bytes to read for so many rows of each; none is opened."""
        share = max(1.0, len(tiles) / WEIGHED)
        if share > 1:
            chosen = np.random.default_rng(0).choice(len(tiles), WEIGHED, replace=False)
            tiles, rows = tiles[chosen], rows[chosen]
        if isinstance(self.place, Folder):
            found = [self.place.size(tile_path(self.order, npix)) for npix in tiles.tolist()]
        else:
            bits = abs(int(self.properties.get("hips_pixel_bitpix", "-32")))
            found = [self.tile_width**2 * bits // 8 + BLOCK] * len(tiles)
        there = np.array([size is not None for size in found], bool)
        sizes = np.array([size or 0 for size in found], np.int64)
        # A pixel has 1, 2, 4 or 8 bytes, and a tile's header is smaller than its pixels where not all of it is read.
        pixel = 2 ** np.floor(np.log2(np.maximum(sizes, 1) / self.tile_width**2))
        parts = np.minimum(HEAD + rows * self.tile_width * pixel, sizes)
        size = np.where(sizes <= WHOLE, sizes, parts).sum()
        return round(share * there.sum()), round(share * size)

    def cutouts(
        self,
        ra: Numbers,
        dec: Numbers,
        *,
        size: int,
        scale: float,
        angle: Numbers = 0.0,
        resampling: str = "bilinear",
    ) -> tuple[Float[np.ndarray, "n y x"], Int8[np.ndarray, " n"]]:
        """Return stamps around positions and the status of each; see `inzitu.hips.cutouts`."""
        from inzitu.hips.cutouts import cutouts

        cut = cutouts((self,), ra, dec, size=size, scale=scale, angle=angle, resampling=resampling, digests=False)
        return cut.pixels[..., 0], cut.status[:, 0]


def _place(location: str, cache: Path | None) -> Place:
    if location.startswith(("http://", "https://")):
        from inzitu.hips.remote import Remote

        return Remote.at(location, cache=Cache(cache or user_cache()))
    path = Path(location.removeprefix("file://")).expanduser().resolve()
    if not path.is_dir():
        raise ValueError(f"{location} is no HiPS: there is no such folder.")
    return Folder.at(path)


def _stated(place: Place, where: str) -> Properties:
    """Return the properties of a HiPS whose FITS tiles can be read."""
    text = _content(place, "properties")
    if text is None:
        raise ValueError(f"{where} is no HiPS: it has no file called properties.")
    stated = Properties.parse(text.decode("utf-8", errors="replace"), where=where)
    if "fits" not in stated.formats:
        offered = " and ".join(sorted(stated.formats)) or "nothing"
        raise ValueError(
            f"{where} offers {offered} tiles only: previews with stretched 8-bit values, which are never photometry. "
            "Point at the HiPS with the FITS tiles of this survey."
        )
    if isinstance(place, Folder) and (deepest := place.deepest()) != stated.order:
        found = "it has no FITS tiles" if deepest is None else f"its deepest FITS tiles are in Norder{deepest}"
        raise ValueError(f"{where} states hips_order {stated.order}, but {found}; correct its properties.")
    return stated


def _check_order(survey: Survey) -> None:
    """Hold the order that a HiPS behind http(s) states, whose tiles nobody lists, against a few inside its coverage."""

    def has_tiles(order: int) -> bool:
        return any(survey.place.size(tile_path(order, npix)) is not None for npix in cells(axes, order).tolist())

    try:
        ra, dec = survey.coverage().sample(PROBES)
        axes = stamp_axes(ra, dec, np.zeros(len(ra)), survey.frame)
        stated, deeper = has_tiles(survey.order), has_tiles(survey.order + 1)
    except (ValueError, OSError):
        return  # without a coverage nothing is known; a server in trouble shows when cutouts are asked for
    if len(ra) and (deeper or not stated):
        found = f"there are tiles in Norder{survey.order + 1}" if deeper else f"none of {len(ra)} tiles is there"
        raise ValueError(
            f"{survey.uri} states hips_order {survey.order}, but inside its coverage {found}; correct its properties."
        )


def _content(place: Place, path: str) -> bytes | None:
    """Return the content of a small file of a HiPS; None if there is none."""
    handle = place.open(path, whole=True)
    if handle is None:
        return None
    try:
        return handle.read(0, handle.size)
    finally:
        handle.close()
