"""Coverages made of tiles and of pixels, held against the pixels themselves."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import BarycentricMeanEcliptic, Galactic, SkyCoord
from astropy.io import fits
from cdshealpix.nested import lonlat_to_healpix

from hips.conftest import FRAMES, Sky, noise
from inzitu.hips import Survey
from inzitu.hips.footprint import coverage_from_pixels


def scattered(count: int, seed: int = 8) -> SkyCoord:
    rng = np.random.default_rng(seed)
    return SkyCoord(rng.uniform(0, 360, count), np.degrees(np.arcsin(rng.uniform(-1, 1, count))), unit="deg")


def in_frame(places: SkyCoord, frame: str) -> tuple[np.ndarray, np.ndarray]:
    match frame:
        case "galactic":
            return places.transform_to(Galactic()).l, places.transform_to(Galactic()).b
        case "ecliptic":
            there = places.transform_to(BarycentricMeanEcliptic(equinox="J2000"))
            return there.lon, there.lat
        case _:
            return places.ra, places.dec


@pytest.mark.parametrize("frame", FRAMES)
def test_the_coverage_of_tiles_holds_all_that_has_a_tile_and_little_more(frame: str, tmp_path: Path) -> None:
    tiles = range(5, 30)
    survey = Survey.open(Sky(noise(1, 4), 1, 4, frame).write(tmp_path / "hips", tiles=tiles))
    places = scattered(50_000)
    there = np.isin(lonlat_to_healpix(*in_frame(places, frame), 1), tiles)
    held = survey.coverage().contains(places.ra.deg, places.dec.deg)
    assert held[there].all()
    # In another frame a rim of at most two cells, each a 64th of a tile wide, is held as well.
    assert (held & ~there).mean() <= (0 if frame == "equatorial" else 0.03)


@pytest.mark.parametrize("frame", FRAMES)
def test_the_coverage_of_pixels_holds_those_that_have_a_value(frame: str, tmp_path: Path) -> None:
    values = noise(1, 32)
    tile = np.arange(values.size) // 32**2
    patch = np.arange(values.size) // 8**2  # blank patches of 8 x 8 pixels
    values[np.random.default_rng(2).random(patch.max() + 1)[patch] < 0.3] = np.nan
    survey = Survey.open(Sky(values, 1, 32, frame).write(tmp_path / "hips", tiles=range(5, 30)))
    places = scattered(50_000)
    pixels = lonlat_to_healpix(*in_frame(places, frame), 6)
    there = np.isfinite(values[pixels]) & np.isin(tile[pixels], range(5, 30))
    held = coverage_from_pixels(survey).contains(places.ra.deg, places.dec.deg)
    if frame == "equatorial":
        np.testing.assert_array_equal(held, there)
    # Cells of another frame have other edges: cells of a pixel's size hold up to a pixel more.
    assert (there & ~held).mean() < 0.002
    assert (held & ~there).mean() < 0.12


def test_pixels_are_looked_at_a_tile_at_a_time(tmp_path: Path) -> None:
    sky = Sky(noise(2, 64), 2, 64)
    survey = Survey.open(sky.write(tmp_path / "hips"))
    coverage_from_pixels(survey, order=2)  # what is imported and kept is not counted
    tracemalloc.start()
    found = coverage_from_pixels(survey)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.area == pytest.approx(4 * np.pi * np.degrees(1) ** 2)
    assert most < sky.values.size * 8 / 4


@pytest.mark.parametrize("kind", ["u1", ">i2", ">i4", ">i8"])
def test_the_blank_of_integers_is_no_pixel_also_where_values_are_scaled(tmp_path: Path, kind: str) -> None:
    values = np.random.default_rng(0).integers(1, 250, 12 * 64).astype(float)
    values[[3, 200, 700]] = 7
    sky = Sky(values, 0, 8, cards={"BLANK": 7, "BSCALE": 0.5, "BZERO": 10.0})
    survey = Survey.open(sky.write(tmp_path / "hips", encode=lambda tile: tile.astype(kind)))
    coverage = coverage_from_pixels(survey)
    blank = int((values == 7).sum())
    assert coverage.area == pytest.approx(4 * np.pi * np.degrees(1) ** 2 * (1 - blank / values.size))
    with fits.open(tmp_path / "hips/Norder0/Dir0/Npix0.fits") as file:
        assert file[0].header["BITPIX"] == 8 * np.dtype(kind).itemsize
