"""Small HiPS trees, written by astropy, whose every pixel is known."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

FRAMES = ("equatorial", "galactic", "ecliptic")
type Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


@dataclass
class Sky:
    """Values of all HEALPix pixels of an order, nested, in tiles of some width."""

    values: Array
    order: int
    width: int
    frame: str = "equatorial"
    cards: dict[str, float | int] = field(default_factory=dict)

    @property
    def pixel_order(self) -> int:
        return self.order + self.width.bit_length() - 1

    def tile(self, npix: int) -> Array:
        """The tile in file order: columns along y, rows against x."""
        x = np.arange(self.width)[::-1, None]
        y = np.arange(self.width)[None, :]
        place = sum(((x >> b & 1) << 2 * b) + ((y >> b & 1) << (2 * b + 1)) for b in range(10))
        return np.asarray(self.values[npix * self.width**2 + np.asarray(place)])

    def write(
        self,
        root: Path,
        *,
        encode: Callable[[Array], np.ndarray] = lambda tile: tile.astype(np.float32),
        zipped: bool = False,
        tiles: range | None = None,
    ) -> Path:
        for npix in tiles or range(12 * 4**self.order):
            path = root / f"Norder{self.order}/Dir{npix // 10000 * 10000}/Npix{npix}.fits"
            path.parent.mkdir(parents=True, exist_ok=True)
            hdu = fits.PrimaryHDU(encode(self.tile(npix)))
            hdu.header.update(self.cards)
            hdu.writeto(path)
            if zipped:
                path.write_bytes(gzip.compress(path.read_bytes()))
        self.write_properties(root)
        return root

    def write_properties(self, root: Path, **changes: str) -> None:
        stated = {
            "hips_version": "1.4",
            "hips_order": str(self.order),
            "hips_tile_width": str(self.width),
            "hips_frame": self.frame,
            "hips_tile_format": "fits",
        } | changes
        lines = [f"{key} = {value}" for key, value in stated.items() if value]
        (root / "properties").write_text("\n".join(lines) + "\n")


def noise(order: int, width: int, seed: int = 0) -> Array:
    return np.asarray(np.random.default_rng(seed).normal(100, 30, 12 * 4**order * width**2))


@pytest.fixture(scope="session", params=FRAMES)
def sky(request: pytest.FixtureRequest) -> Sky:
    return Sky(noise(1, 8), 1, 8, request.param)


@pytest.fixture(scope="session")
def hips(sky: Sky, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sky.write(tmp_path_factory.mktemp(sky.frame))
