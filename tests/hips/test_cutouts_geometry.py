"""Cutouts against astropy's WCS and frames, and cdshealpix's neighbours and weights, pixel by pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import BarycentricMeanEcliptic, Galactic, SkyCoord
from astropy.wcs import WCS
from cdshealpix.nested import bilinear_interpolation, lonlat_to_healpix
from hypothesis import given, settings
from hypothesis import strategies as st

from hips.conftest import Array, Sky
from inzitu.hips import Status, Survey, cutouts

SIZE, SCALE = 7, 1800.0
FRAME = {"galactic": Galactic(), "ecliptic": BarycentricMeanEcliptic()}
CORNER = np.degrees(np.arcsin(2 / 3)) + 1e-3  # on the very corner, which face it is on is a matter of rounding
PLACES = [
    *((lon, lat) for lon in (0, 45, 90, 135, 180, 270, 359.9) for lat in (-90, -89, -CORNER, -20, 0, CORNER, 60, 90)),
    *((0.3 + 90 * k, sign * (CORNER + 0.2)) for k in range(4) for sign in (-1, 1)),
]


def directions(ra: float, dec: float, angle: float) -> SkyCoord:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crval, wcs.wcs.lonpole = (ra, dec), 180  # the default at the north pole itself is 0
    wcs.wcs.crpix = (SIZE + 1) / 2, (SIZE + 1) / 2
    wcs.wcs.cdelt = -SCALE / 3600, SCALE / 3600
    turn = np.radians(angle)
    # The y axis at `angle` from north through east; x runs west, so the axes turn the other way in the plane.
    wcs.wcs.pc = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    x, y = np.meshgrid(np.arange(SIZE), np.arange(SIZE))
    lon, lat = wcs.pixel_to_world_values(x, y)
    return SkyCoord(lon, lat, unit="deg", frame="icrs")


def expected(sky: Sky, ra: float, dec: float, angle: float, resampling: str) -> Array:
    place = directions(ra, dec, angle)
    if sky.frame != "equatorial":
        place = place.transform_to(FRAME[sky.frame])
    lon, lat = place.spherical.lon.ravel(), place.spherical.lat.ravel()
    if resampling == "nearest":
        return np.asarray(sky.values[lonlat_to_healpix(lon, lat, sky.pixel_order)]).reshape(SIZE, SIZE)
    pixels, weights = bilinear_interpolation(lon, lat, sky.pixel_order)
    value = np.where(weights > 0, sky.values[pixels] * weights, 0).sum(axis=1)
    return np.asarray(value, float).reshape(SIZE, SIZE)


def check(sky: Sky, hips: Path, ra: float, dec: float, angle: float, resampling: str) -> None:
    cut = cutouts([Survey.open(hips)], [ra], [dec], size=SIZE, scale=SCALE, angle=angle, resampling=resampling)
    assert cut.status.tolist() == [[Status.OK]]
    np.testing.assert_allclose(cut.pixels[0, :, :, 0], expected(sky, ra, dec, angle, resampling), rtol=2e-5)


@pytest.mark.parametrize(("ra", "dec"), PLACES)
def test_bilinear_cutouts_at_poles_seams_and_corners_are_those_of_astropy_and_cdshealpix(
    sky: Sky, hips: Path, ra: float, dec: float
) -> None:
    check(sky, hips, ra, dec, 33.0, "bilinear")


@settings(max_examples=40, deadline=None)
@given(ra=st.floats(0, 360), dec=st.floats(-90, 90), angle=st.floats(-180, 180))
def test_bilinear_cutouts_anywhere_are_those_of_astropy_and_cdshealpix(
    sky: Sky, hips: Path, ra: float, dec: float, angle: float
) -> None:
    check(sky, hips, ra, dec, angle, "bilinear")


@pytest.mark.parametrize(("ra", "dec"), [(10.3, 20.1), (200.7, -70.2), (0.0, 89.3)])
def test_nearest_cutouts_are_those_of_astropy_and_cdshealpix(sky: Sky, hips: Path, ra: float, dec: float) -> None:
    check(sky, hips, ra, dec, 0.0, "nearest")
