"""Coverage: the part of the sky that a survey holds, as a MOC (IVOA MOC 2.0, by its space part)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Integer

from inzitu.sky.cells import DEEPEST, usable

if TYPE_CHECKING:
    from mocpy import MOC

SPHERE = 4.0 * np.pi * np.rad2deg(1.0) ** 2
"""Area of the whole sky [deg2]."""
CHUNK = 1 << 18
"""Positions filtered at a time: memory stays small, and a thread each has enough to do."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """A region of the sky in HEALPix cells, ICRS."""

    moc: MOC

    @classmethod
    def read(cls, path: str | Path) -> Coverage:
        """Read a MOC in FITS, ASCII or JSON; of a space-time MOC, the space covered at any time.

        Raises
        ------
        ValueError
            The file is none of these, or its MOC is not in the equatorial frame.
        OSError
            The file cannot be read.
        """
        from inzitu.sky.mocs import read_moc

        return cls(read_moc(Path(path)))

    @classmethod
    def from_text(cls, text: str) -> Coverage:
        """Read a MOC in ASCII from text: '5/1-4,9 6/100'.

        Raises
        ------
        ValueError
            It is no MOC.
        """
        from inzitu.sky.mocs import moc_of_text

        return cls(moc_of_text(text))

    @classmethod
    def from_cells(cls, order: int, cells: Integer[np.ndarray, " n"]) -> Coverage:
        """Make a coverage of nested HEALPix cells of one order."""
        from mocpy import MOC

        if not 0 <= order <= DEEPEST:
            raise ValueError(f"HEALPix order {order} is out of range; give one from 0 to {DEEPEST}.")
        cells = np.asarray(cells, dtype=np.uint64)
        if len(cells) and int(cells.max()) >= (limit := 12 * 4**order):
            raise ValueError(
                f"Cell {int(cells.max())} does not exist at order {order}; cells run from 0 to {limit - 1}."
            )
        return cls(MOC.from_healpix_cells(cells, depth=np.uint8(order), max_depth=np.uint8(order)))

    @property
    def order(self) -> int:
        """The HEALPix order of the smallest cells."""
        return int(self.moc.max_order)

    @property
    def area(self) -> float:
        """The area covered [deg2]."""
        return float(self.moc.sky_fraction * SPHERE)

    def contains(self, ra: Float[np.ndarray, " n"], dec: Float[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """Tell which positions [deg] are covered; a position that is not usable is not."""
        from astropy.coordinates import Latitude, Longitude
        from astropy.units import Quantity

        inside = usable(ra, dec)
        if self.moc.empty():
            return np.zeros(len(ra), dtype=bool)
        for start in range(0, len(ra), CHUNK):
            part = slice(start, start + CHUNK)
            # A slice where every row is good, which is the rule, and costs no copy.
            rows = part if inside[part].all() else start + np.flatnonzero(inside[part])
            lon, lat = ra[rows], dec[rows]
            if lon.size and lon.min() < 0.0:
                lon = lon % 360.0
            # Views, because their constructors check and wrap again, which takes as long as the search itself.
            place = Quantity(lon, "deg", copy=False).view(Longitude), Quantity(lat, "deg", copy=False).view(Latitude)
            inside[rows] = self.moc.contains_lonlat(*place)
        return inside

    def sample(self, count: int) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """Return at most so many positions [deg] inside, spread over the coverage."""
        from cdshealpix.nested import healpix_to_lonlat

        ranges = self.moc.to_depth29_ranges.astype(np.int64)
        chosen = ranges[np.unique(np.linspace(0, len(ranges) - 1, count).astype(int))] if len(ranges) else ranges
        lon, lat = healpix_to_lonlat(chosen.sum(axis=1) // 2, DEEPEST)
        return np.asarray(lon.deg), np.asarray(lat.deg)

    def intersection(self, *others: Coverage) -> Coverage:
        """Return what this coverage has in common with all the others."""
        return Coverage(self.moc.intersection(*(other.moc for other in (others or (self,)))))

    def union(self, *others: Coverage) -> Coverage:
        """Return what this coverage and the others hold together."""
        return Coverage(self.moc.union(*(other.moc for other in (others or (self,)))))

    def write(self, path: str | Path) -> None:
        """Write the MOC: JSON for a name in .json, ASCII for .txt, FITS for any other."""
        form = {".json": "json", ".txt": "ascii"}.get(Path(path).suffix, "fits")
        self.moc.save(str(path), format=form, overwrite=True)
