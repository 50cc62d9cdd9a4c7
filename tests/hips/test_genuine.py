"""Tiles as CDS serves them, against astropy: the pixels of a genuine HiPS at the places that its frame says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import Galactic, SkyCoord
from astropy.io import fits
from cdshealpix.nested import bilinear_interpolation, healpix_to_lonlat

from hips.conftest import Array
from inzitu.hips import Status, Survey, cutouts

GENUINE = Path(__file__).parents[2] / "../shared/data/hips-tiles"
SURVEYS = {
    "DSS2Red": (304, 335, 336, 368, 399),
    "IRAC4": (271, 280, 281, 282, 283),
    "Planck-HFI143": (271, 280, 281, 282, 283),
}

pytestmark = pytest.mark.skipif(not GENUINE.exists(), reason="the genuine CDS tiles are not at hand")


def pixel_values(survey: Survey, name: str) -> tuple[Array, Array]:
    """Numbers and values of the survey's pixels, as astropy reads them."""
    width = survey.tile_width
    x, y = np.arange(width)[::-1, None], np.arange(width)[None, :]
    within = sum(((x >> b & 1) << 2 * b) + ((y >> b & 1) << (2 * b + 1)) for b in range(9))
    numbers, values = [], []
    for npix in SURVEYS[name]:
        numbers.append(npix * width**2 + np.asarray(within).ravel())
        # astropy takes CDS's BLANK = -32768.0 for no blank at all.
        data = fits.getdata(GENUINE / name / f"Norder3/Dir0/Npix{npix}.fits").ravel()
        values.append(
            np.where(data == -32768, np.nan, data.astype(float)) if data.dtype.kind == "i" else data.astype(float)
        )
    return np.concatenate(numbers), np.concatenate(values)


# What astropy says of CDS's tiles: a BLANK with a decimal point, and no padding after the pixels.
@pytest.mark.filterwarnings("ignore:Invalid (value for )?'BLANK'", "ignore:File may have been truncated")
@pytest.mark.parametrize("name", SURVEYS)
def test_cutouts_of_genuine_tiles_are_those_of_astropy_and_cdshealpix(name: str) -> None:
    survey = Survey.open(GENUINE / name)
    numbers, values = pixel_values(survey, name)
    rng = np.random.default_rng(5)
    there = np.flatnonzero(np.isfinite(values))
    pick = numbers[rng.choice(there, 300)].astype(np.uint64)
    frame = "galactic" if survey.frame == "galactic" else "icrs"
    centre = SkyCoord(*healpix_to_lonlat(pick, survey.stated.pixel_order), frame=frame).icrs
    ra, dec = centre.ra.deg + rng.uniform(-0.01, 0.01, 300), centre.dec.deg + rng.uniform(-0.01, 0.01, 300)
    got = cutouts([survey], ra, dec, size=1, scale=1.0)
    place = SkyCoord(ra, dec, unit="deg")
    sky = place.transform_to(Galactic()) if frame == "galactic" else place
    pixels, weights = bilinear_interpolation(sky.spherical.lon, sky.spherical.lat, survey.stated.pixel_order)
    by_number = np.argsort(numbers)
    at = by_number[np.searchsorted(numbers, pixels.astype(numbers.dtype), sorter=by_number) % len(numbers)]
    expected = (np.where(numbers[at] == pixels, values[at], np.nan) * weights).sum(axis=1)
    seen = got.pixels[:, 0, 0, 0]
    np.testing.assert_array_equal(np.isfinite(seen), np.isfinite(expected))
    scale = np.nanmax(np.abs(expected))
    np.testing.assert_allclose(seen, expected, rtol=1e-5, atol=1e-6 * scale)
    assert np.isfinite(seen).sum() > 200
    assert not got.errors


def test_a_partial_copy_of_a_survey_is_outside_where_its_tiles_are_not() -> None:
    survey = Survey.open(GENUINE / "IRAC4")
    galactic = SkyCoord([0.0, 180.0], [0.0, 60.0], unit="deg", frame="galactic").icrs
    cut = cutouts([survey], galactic.ra.deg, galactic.dec.deg, size=5, scale=10.0)
    assert cut.status[1, 0] == Status.OUTSIDE
    assert survey.coverage().area == pytest.approx(5 * 4 * np.pi * np.degrees(1) ** 2 / 768, rel=0.1)
