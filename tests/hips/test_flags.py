"""What the flags of stamps say, on stamps whose sources are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cdshealpix.nested import healpix_to_lonlat

from hips.conftest import Sky
from inzitu.hips import Flag, Survey, cutouts
from inzitu.hips.flags import mark

SCALE, SIZE, SIGMA = 0.5, 32, 2.0


def stamp(*sources: tuple[float, float], level: float = 0.0) -> np.ndarray:
    """Noise, and sources of a height at so many arcsec from the centre, the first of them along x, then along y."""
    y, x = (np.indices((SIZE, SIZE)) - (SIZE - 1) / 2) * SCALE
    image = np.random.default_rng(1).normal(level, SIGMA, (SIZE, SIZE))
    for k, (height, away) in enumerate(sources):
        image += height * np.exp(-((x - away * (k % 2 == 0)) ** 2 + (y - away * (k % 2)) ** 2) / (2 * 0.6**2))
    return image.astype(np.float32)[None, :, :, None]


def words(image: np.ndarray) -> str:
    [[flags]] = mark(image, np.array([0]), SCALE)
    return Flag(int(flags)).words


@pytest.mark.parametrize("level", [-300.0, 0.0, 5000.0])
@pytest.mark.parametrize(
    ("neighbour", "away", "said"),
    [
        (200.0, 5.0, "bright-neighbour"),
        (200.0, 7.0, "bright-neighbour"),
        (200.0, 1.0, ""),  # within 1.5 arcsec it is the object itself
        (100.0, 5.0, ""),  # as bright as the centre
        (60.0, 5.0, ""),
    ],
)
def test_a_source_apart_and_clearly_brighter_than_the_centre_is_flagged_whatever_the_background(
    neighbour: float, away: float, said: str, level: float
) -> None:
    assert words(stamp((100.0, 0.0), (neighbour, away), level=level)) == said


def test_a_peak_counts_by_five_sigma_of_the_stamps_own_noise() -> None:
    base = stamp()[0, :, :, 0]
    ring = np.concatenate([np.diff(base[edge]) for edge in (0, -1)] + [np.diff(base[:, edge]) for edge in (0, -1)])
    sigma = 1.4826 * np.median(np.abs(ring)) / np.sqrt(2)
    y, x = (np.indices(base.shape) - (SIZE - 1) / 2) * SCALE
    centre = base[np.hypot(x, y) <= 1.5].max()
    for sigmas, said in ((4.9, ""), (5.1, "bright-neighbour")):
        image = np.minimum(stamp(), centre)
        image[0, 4, 16, 0] = centre + sigmas * sigma
        assert words(image) == said


def test_a_blank_pixel_in_the_outermost_ring_is_an_edge_and_a_blank_stamp_has_no_flag() -> None:
    for y, x, said in ((0, 5, "edge"), (SIZE - 1, 5, "edge"), (7, 0, "edge"), (7, SIZE - 1, "edge"), (7, 5, "")):
        image = stamp((100.0, 0.0))
        image[0, y, x, 0] = np.nan
        assert words(image) == said
    assert words(np.full_like(stamp(), np.nan)) == ""


def test_each_band_of_a_cutout_has_its_own_flags(tmp_path: Path) -> None:
    quiet = Sky(np.ones(12 * 4**2 * 32**2), 2, 32)
    npix = 100 * 32**2 + 768  # in the middle of a tile
    lit = quiet.values.copy()
    lit[npix + 3] = 100.0  # its neighbour across a corner
    lon, lat = healpix_to_lonlat(np.array([npix]), quiet.pixel_order)
    surveys = [
        Survey.open(sky.write(tmp_path / name, tiles=range(100, 101)))
        for name, sky in (("quiet", quiet), ("lit", Sky(lit, 2, 32)))
    ]
    cut = cutouts(surveys, lon.deg, lat.deg, size=11, scale=np.degrees(np.sqrt(np.pi / 3)) * 3600 / 2**7)
    assert [Flag(int(flags)).words for flags in cut.flags[0]] == ["", "bright-neighbour"]
    assert cut.flag_words() == ["bright-neighbour"]
