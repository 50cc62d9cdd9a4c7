"""Area resampling over the whole sphere, in every frame: at its poles, corners and seams as anywhere else."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import BarycentricMeanEcliptic, Galactic, Latitude, Longitude, SkyCoord
from astropy.wcs import WCS
from cdshealpix.nested import cone_search, healpix_to_lonlat
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from hips.conftest import FRAMES, Sky, noise
from inzitu.hips import Status, Survey, cutouts
from inzitu.hips.properties import BASE
from inzitu.hips.writing import nested_to_image, write_properties, write_tile

FRAME = {"equatorial": "icrs", "galactic": Galactic(), "ecliptic": BarycentricMeanEcliptic()}
ORDER, WIDTH, PIXELS = 10, 64, 16
PIXEL = BASE / 2**PIXELS  # 3.22 arcsec
SIGMA = 1.5 * PIXEL


@st.composite
def places(draw: st.DrawFn) -> tuple[float, float]:
    """A longitude and latitude in the frame of the survey: anywhere, or some pixels from where geometry is hard."""
    quarter, south = 90 * draw(st.integers(0, 3)), draw(st.sampled_from([-1, 1]))
    along = draw(st.floats(0, 1))
    match draw(st.sampled_from(["anywhere", "pole", "corner", "meridian", "edge"])):
        case "anywhere":
            return draw(st.floats(0, 360)), float(np.degrees(np.arcsin(draw(st.floats(-1, 1)))))
        case "pole":
            lon, z = draw(st.floats(0, 360)), 1.0
        case "corner":  # three faces meet, and a pixel has seven neighbours
            lon, z = quarter, 2 / 3
        case "meridian":  # between two polar faces
            lon, z = quarter, 2 / 3 + along / 3
        case _:  # between a polar and an equatorial face, straight in longitude and sine of latitude (Gorski 2005)
            lon, z = quarter + 45 * along, 2 / 3 * (1 - along)
    near = st.floats(-4 * PIXEL / 3600, 4 * PIXEL / 3600)
    lat = south * (np.degrees(np.arcsin(z)) - abs(draw(near)))
    return (lon + draw(near) / max(np.cos(np.radians(lat)), 1e-9)) % 360, float(lat)


def icrs(place: tuple[float, float], frame: str) -> SkyCoord:
    return SkyCoord(*place, unit="deg", frame=FRAME[frame]).icrs


def offset(source: SkyCoord, centre: SkyCoord, *, size: int, scale: float, angle: float) -> tuple[float, float]:
    """Where a source is on a stamp, from its centre [pixel], by astropy."""
    wcs, turn = WCS(naxis=2), np.radians(angle)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.lonpole = ("RA---TAN", "DEC--TAN"), (centre.ra.deg, centre.dec.deg), 180
    wcs.wcs.crpix, wcs.wcs.cdelt = (1, 1), (-scale / 3600, scale / 3600)
    wcs.wcs.pc = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    x, y = wcs.world_to_pixel_values(source.ra.deg, source.dec.deg)
    return float(x), float(y)


def draw_source(root: Path, source: SkyCoord, frame: str) -> float:
    """Write the tiles around a Gaussian source, by the formula at the centres of their pixels; return its flux."""
    native = source.transform_to(FRAME[frame]).spherical
    lon, lat = Longitude(native.lon), Latitude(native.lat)
    pixels, _, _ = cone_search(lon, lat, 12 * SIGMA / 3600 * u.deg, PIXELS, flat=True)
    distance = SkyCoord(lon, lat).separation(SkyCoord(*healpix_to_lonlat(pixels, PIXELS))).arcsec
    value = np.exp(-0.5 * (distance / SIGMA) ** 2)
    for npix in np.unique(pixels // WIDTH**2).tolist():
        tile, mine = np.zeros(WIDTH**2), pixels // WIDTH**2 == npix
        tile[(pixels[mine] % WIDTH**2).astype(int)] = value[mine]
        write_tile(root, ORDER, npix, tile[nested_to_image(WIDTH)])
    write_properties(
        root, {"hips_order": ORDER, "hips_tile_width": WIDTH, "hips_frame": frame, "hips_tile_format": "fits"}
    )
    return float(value.sum())


@pytest.mark.parametrize("frame", FRAMES)
@settings(max_examples=15, deadline=None, phases=[Phase.reuse, Phase.generate])  # to shrink one takes minutes
@given(
    place=places(),
    away=st.tuples(st.floats(-1, 1), st.floats(-1, 1)),
    ratio=st.floats(0.5, 2),
    angle=st.floats(-180, 180),
)
def test_a_source_keeps_its_flux_and_its_place(
    frame: str, place: tuple[float, float], away: tuple[float, float], ratio: float, angle: float
) -> None:
    scale = ratio * PIXEL
    size = int((14 * SIGMA + 2 * PIXEL) / scale) | 1
    source = icrs(place, frame)
    centre = source.spherical_offsets_by(*(shift * PIXEL * u.arcsec for shift in away))
    with TemporaryDirectory() as root:
        flux = draw_source(Path(root), source, frame)
        cut = cutouts(
            [Survey.open(root)],
            [centre.ra.deg],
            [centre.dec.deg],
            size=size,
            scale=scale,
            angle=angle,
            resampling="area",
        )
    light = cut.pixels[0, :, :, 0].astype(float)
    light[np.isnan(light)] = 0  # tiles that only the corners of the stamp reach were not drawn
    assert light.sum() * cut.area_factors[0] == pytest.approx(flux, rel=1e-3)
    y, x = np.indices((size, size)) - (size - 1) / 2
    found = (light * x).sum() / light.sum(), (light * y).sum() / light.sum()
    expected = offset(source, centre, size=size, scale=scale, angle=angle)
    assert np.hypot(*np.subtract(found, expected)) < 0.05 * max(1, 1 / ratio)


@pytest.fixture(scope="module", params=FRAMES)
def skies(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[Survey]]:
    """A constant sky, two of noise, and a sum of these."""
    a, b = noise(1, 8, seed=1), noise(1, 8, seed=2)
    root = tmp_path_factory.mktemp(request.param)
    values = {"constant": np.full(a.size, 7.25), "a": a, "b": b, "sum": 2 * a - 3 * b}
    return request.param, [
        Survey.open(Sky(sky, 1, 8, request.param).write(root / name)) for name, sky in values.items()
    ]


@settings(max_examples=30, deadline=None)
@given(place=places(), size=st.integers(1, 8), extent=st.floats(0.1, 10), angle=st.floats(-180, 180))
def test_a_constant_sky_stays_constant_and_a_sum_is_the_sum_of_its_parts(
    skies: tuple[str, list[Survey]], place: tuple[float, float], size: int, extent: float, angle: float
) -> None:
    frame, surveys = skies
    at = icrs(place, frame)
    scale = 3600 * extent / size
    cut = cutouts(surveys, [at.ra.deg], [at.dec.deg], size=size, scale=scale, angle=angle, resampling="area")
    assert (cut.status == Status.OK).all()
    constant, a, b, both = np.moveaxis(cut.pixels[0].astype(float), -1, 0)
    np.testing.assert_allclose(constant, 7.25, rtol=1e-6)
    np.testing.assert_allclose(both, 2 * a - 3 * b, rtol=1e-5, atol=1e-3)
