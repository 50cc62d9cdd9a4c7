"""The flux tests: what interpolation may and may not do to the sky's light.

Sources are drawn analytically on HEALPix pixels, so that truth is a formula and not another resampling.
"""

from __future__ import annotations

from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import Latitude, Longitude, SkyCoord
from cdshealpix.nested import cone_search, healpix_to_lonlat, lonlat_to_healpix

from hips.conftest import Array, Sky, noise
from inzitu.hips import Status, Survey, cutouts
from inzitu.hips.properties import BASE
from inzitu.hips.writing import nested_to_image, write_properties, write_tile

ORDER, WIDTH, PIXELS = 10, 64, 16
PIXEL = BASE / 2**PIXELS  # 3.22 arcsec
CORNER = float(np.degrees(np.arcsin(2 / 3)))
SIGMA = 1.5 * PIXEL  # a full width of 3.5 pixels, as SDSS's
FLUX = 1000.0
ANYWHERE = slice(0, 60)
HARD = [(0, 90), (120, -90), (45, 89.5), (0, CORNER), (90, -CORNER), (45, CORNER), (0, 0), (45, 0), (22.5, CORNER)]


type Drawn = tuple[Survey, Array, Array, Array]
"""A survey with the places and fluxes of its sources."""


def sources(count: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(1)
    ra, dec = rng.uniform(0, 360, count), np.degrees(np.arcsin(rng.uniform(-1, 1, count)))
    return np.append(ra, [a + 1e-4 for a, _ in HARD]), np.append(dec, [d - np.sign(d) * 1e-4 for _, d in HARD])


@pytest.fixture(scope="module")
def gaussians(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    """Gaussian sources over the whole sky and at its hard places, drawn into the tiles around each."""
    root = tmp_path_factory.mktemp("gaussians")
    ra, dec = sources(60)
    tiles: dict[int, Array] = {}
    drawn = []  # at a pole, whose pixels are long and few, the values at the centres add to 2 % less than the formula
    for lon, lat in zip(ra, dec, strict=True):
        centre = SkyCoord(lon, lat, unit="deg")
        radius = 12 * SIGMA / 3600 * u.deg
        pixels, _, _ = cone_search(Longitude(lon, "deg"), Latitude(lat, "deg"), radius, PIXELS, flat=True)
        x, y = healpix_to_lonlat(pixels, PIXELS)
        distance = centre.separation(SkyCoord(x, y)).arcsec
        value = FLUX * PIXEL**2 / (2 * np.pi * SIGMA**2) * np.exp(-0.5 * (distance / SIGMA) ** 2)
        drawn.append(value.sum())
        for npix in np.unique(pixels // WIDTH**2).tolist():
            tile = tiles.setdefault(int(npix), np.zeros(WIDTH**2))
            mine = pixels // WIDTH**2 == npix
            tile[(pixels[mine] % WIDTH**2).astype(int)] += value[mine]
    place = nested_to_image(WIDTH)
    for npix, values in tiles.items():
        write_tile(root, ORDER, npix, values[place])
    write_properties(
        root, {"hips_order": ORDER, "hips_tile_width": WIDTH, "hips_frame": "equatorial", "hips_tile_format": "fits"}
    )
    return Survey.open(root), ra, dec, np.array(drawn)


@pytest.mark.parametrize("resampling", ["bilinear", "area"])
@pytest.mark.parametrize("ratio", [0.7, 1.0, 1.4])
def test_point_sources_keep_their_flux_after_the_area_factor(gaussians: Drawn, resampling: str, ratio: float) -> None:
    survey, ra, dec, drawn = gaussians
    scale = ratio * PIXEL
    size = int(14 * SIGMA / scale) | 1
    cut = cutouts([survey], ra, dec, size=size, scale=scale, angle=17.0, resampling=resampling)
    assert (cut.status == Status.OK).all()
    ratios = cut.pixels.sum(axis=(1, 2))[:, 0] * cut.area_factors[0] / drawn
    assert ratios[ANYWHERE].mean() == pytest.approx(1, abs=1e-3)
    assert ratios[ANYWHERE].std() < 0.01
    assert np.abs(ratios - 1).max() < (0.03 if resampling == "bilinear" else 1e-3)


def test_area_weights_keep_fluxes_however_large_the_pixels(gaussians: Drawn) -> None:
    survey, ra, dec, drawn = gaussians
    cut = cutouts([survey], ra, dec, size=3, scale=5 * SIGMA, resampling="area")
    ratios = cut.pixels.sum(axis=(1, 2))[:, 0] * cut.area_factors[0] / drawn
    np.testing.assert_allclose(ratios[ANYWHERE], 1, atol=1e-4)
    np.testing.assert_allclose(ratios, 1, atol=1e-2)  # where faces meet, some parts are sampled


def test_a_source_stays_where_it_is(gaussians: Drawn) -> None:
    survey, ra, dec, _ = gaussians
    cut = cutouts([survey], ra[ANYWHERE], dec[ANYWHERE], size=21, scale=PIXEL)
    light = cut.pixels[..., 0]
    y, x = np.indices((21, 21)) - 10
    for axis in (x, y):
        assert np.abs((light * axis).sum(axis=(1, 2)) / light.sum(axis=(1, 2))).max() < 0.05


@pytest.mark.parametrize("resampling", ["nearest", "bilinear", "area"])
def test_a_constant_sky_is_constant_through_every_seam(tmp_path: Path, resampling: str) -> None:
    survey = Survey.open(Sky(np.full(12 * 16**2, 7.25), 1, 8).write(tmp_path))
    ra, dec = sources(40)
    cut = cutouts([survey], ra, dec, size=12, scale=2000.0, resampling=resampling)
    np.testing.assert_allclose(cut.pixels, 7.25, rtol=1e-6)


@pytest.mark.parametrize("resampling", ["nearest", "bilinear", "area"])
def test_cutouts_are_linear_in_the_sky(tmp_path: Path, resampling: str) -> None:
    a, b = noise(1, 8, seed=1), noise(1, 8, seed=2)
    surveys = [
        Survey.open(Sky(sky, 1, 8).write(tmp_path / name)) for name, sky in (("a", a), ("b", b), ("ab", 2 * a - 3 * b))
    ]
    ra, dec = sources(40)
    cut = cutouts(surveys, ra, dec, size=10, scale=3000.0, resampling=resampling)
    first, second, both = np.moveaxis(cut.pixels.astype(float), -1, 0)
    np.testing.assert_allclose(both, 2 * first - 3 * second, rtol=1e-5, atol=1e-3)


def test_area_weights_are_those_of_a_fine_grid_of_points(tmp_path: Path) -> None:
    sky = Sky(noise(1, 8), 1, 8)
    survey = Survey.open(sky.write(tmp_path))
    ra, dec = sources(20)
    fine = 40
    coarse = cutouts([survey], ra, dec, size=2, scale=16000.0, resampling="area").pixels[..., 0]
    points = cutouts([survey], ra, dec, size=2 * fine, scale=16000.0 / fine, resampling="nearest").pixels[..., 0]
    counted = points.reshape(len(ra), 2, fine, 2, fine).mean(axis=(2, 4))
    np.testing.assert_allclose(coarse, counted, atol=1.0)  # of a noise of 30


def test_the_values_of_tiles_come_out_at_the_centres_of_their_pixels(tmp_path: Path) -> None:
    sky = Sky(noise(2, 8), 2, 8)
    survey = Survey.open(sky.write(tmp_path))
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, sky.values.size, 300).astype(np.uint64)
    lon, lat = healpix_to_lonlat(pixels, sky.pixel_order)
    for resampling in ("nearest", "bilinear"):
        got = cutouts([survey], lon.deg, lat.deg, size=1, scale=1.0, resampling=resampling).pixels[:, 0, 0, 0]
        np.testing.assert_allclose(got, sky.values[pixels], rtol=1e-5)
    assert (lonlat_to_healpix(lon, lat, sky.pixel_order) == pixels).all()
