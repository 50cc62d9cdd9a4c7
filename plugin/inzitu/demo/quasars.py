"""The demo's quasars: 812 of SDSS, most of them sent with their redshift, the others blind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from astropy.table import Table

from inzitu.archive.stampfile import Stamps
from inzitu.archive.stamps import demo_stamps

if TYPE_CHECKING:
    from pathlib import Path

BLIND = 162
_SEED = 2018


@dataclass(frozen=True, slots=True, eq=False)
class Quasars:
    """Quasars with what is known of them.

    Attributes
    ----------
    name, ra, dec, z
        Identifier, ICRS position [deg] and redshift [n].
    stamps
        Images [n, band, y, x] in nanomaggies; only the baselines use them.
    """

    name: np.ndarray
    ra: np.ndarray
    dec: np.ndarray
    z: np.ndarray
    stamps: np.ndarray

    @classmethod
    def shipped(cls) -> Self:
        """Return the quasars that come with inzitu."""
        stamps = Stamps.read(demo_stamps())
        with np.load(demo_stamps()) as file:
            z = file["z"]
        return cls(np.array(stamps.object_id), stamps.ra, stamps.dec, z, stamps.images)

    def __getitem__(self, chosen: np.ndarray) -> Quasars:
        return Quasars(self.name[chosen], self.ra[chosen], self.dec[chosen], self.z[chosen], self.stamps[chosen])

    def __len__(self) -> int:
        return len(self.name)

    def parted(self) -> tuple[Quasars, Quasars]:
        """Return those to be sent with their redshift, and those that are blind; the same at every call."""
        order = np.random.default_rng(_SEED).permutation(len(self))
        return self[np.sort(order[BLIND:])], self[np.sort(order[:BLIND])]

    def write(self, path: Path, *, redshifts: bool) -> Path:
        """Write a list as a user would send it, a VOTable, with or without the redshifts."""
        table = Table({"source_id": self.name, "ra": self.ra, "dec": self.dec})
        table["ra"].unit = table["dec"].unit = "deg"
        if redshifts:
            table["z"] = self.z
        table.write(path, format="votable", overwrite=True)
        return path
