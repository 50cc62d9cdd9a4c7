"""Trees that CDS's Hipsgen makes of real fields: values against reproject's, fluxes against those of the frames."""

from __future__ import annotations

import shutil
import subprocess
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import Cutout2D
from astropy.wcs import WCS
from reproject import reproject_interp
from scipy.ndimage import maximum_filter

from hips.conftest import Array
from inzitu.hips import Status, Survey, cutouts
from inzitu.hips.footprint import coverage_from_pixels

ALADIN = Path("/usr/share/java/aladin.jar")
FIELDS = Path(__file__).parents[2] / "../shared/data/fields"
SIZE = 28

pytestmark = [
    pytest.mark.skipif(not FIELDS.exists(), reason="the real fields are not at hand"),
    pytest.mark.skipif(not (ALADIN.exists() and shutil.which("java")), reason="Hipsgen (Debian's aladin) is missing"),
    pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning"),  # of frames with old dates
]


@dataclass(frozen=True)
class Field:
    """A frame and the HiPS that Hipsgen made of it."""

    data: Array
    wcs: WCS
    survey: Survey

    @cached_property
    def fullest(self) -> Path:
        """The tile with most pixels that have a value."""
        root = Path(self.survey.uri.removeprefix("file://"))
        tiles = root.glob(f"Norder{self.survey.order}/Dir*/Npix*.fits")
        return max(tiles, key=lambda path: np.isfinite(fits.getdata(path)).sum())


FRAMES = {
    "sdss-2010H": ("sdss-2010H/SDSS_r.fits", ["hips_order=10"]),
    "ngc6976": ("ngc6976/reprojected_sdss_g.fits.bz2", ["hips_order=10"]),
    # Compressed by Rice's algorithm; nine tenths of it were never observed.
    "legacy": ("legacy-0959p805/legacysurvey-0959p805-image-g.fits.fz", ["hips_order=9", "blank=0"]),
}


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Field]:
    return cache(lambda name: made(tmp_path_factory.mktemp(name), *FRAMES[name]))


@pytest.fixture(params=FRAMES)
def field(request: pytest.FixtureRequest, made_once: Callable[[str], Field]) -> Field:
    return made_once(request.param)


@pytest.fixture
def sdss(made_once: Callable[[str], Field]) -> Field:
    return made_once("sdss-2010H")


def made(folder: Path, name: str, options: list[str]) -> Field:
    with fits.open(FIELDS / name) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = next(hdu for hdu in file if hdu.data is not None and hdu.data.ndim == 2)
        data, wcs = image.data.astype(np.float32), WCS(image.header)
        (folder / "in").mkdir()
        fits.PrimaryHDU(data, image.header).writeto(folder / "in" / "frame.fits")
    command = ["java", "-Djava.awt.headless=true", "-jar", str(ALADIN), "-hipsgen", f"in={folder / 'in'}"]
    command += [f"out={folder / 'hips'}", "creator_did=X/P/field", *options, "INDEX", "TILES", "MOC"]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return Field(data.astype(float), wcs, Survey.open(folder / "hips"))


def target(ra: float, dec: float, scale: float) -> WCS:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crval = ra, dec
    wcs.wcs.crpix = (SIZE + 1) / 2, (SIZE + 1) / 2
    wcs.wcs.cdelt = -scale / 3600, scale / 3600
    return wcs


def test_stamps_are_those_that_reproject_makes_of_hipsgens_tiles(field: Field) -> None:
    scale, width = field.survey.stated.pixel_scale, field.survey.tile_width
    with fits.open(field.fullest) as file:
        header, data = file[0].header, file[0].data.astype(float)
    # reproject sees one tile; far from its edges every stamp is its own. The list holds full and empty parts.
    steps = np.linspace(0.2, 0.8, 6) * width
    centres = [WCS(header).pixel_to_world(x, y) for x in steps for y in steps]
    ra, dec = np.array([place.ra.deg for place in centres]), np.array([place.dec.deg for place in centres])
    cut = cutouts([field.survey], ra, dec, size=SIZE, scale=scale)
    for k, (a, d) in enumerate(zip(ra, dec, strict=True)):
        expected, _ = reproject_interp((data, header), target(a, d, scale), shape_out=(SIZE, SIZE), order="bilinear")
        stamp = cut.pixels[k, :, :, 0]
        np.testing.assert_array_equal(np.isfinite(stamp), np.isfinite(expected))
        np.testing.assert_allclose(stamp, expected, rtol=1e-5, atol=1e-6 * np.nanmax(np.abs(data)))
        assert cut.fraction[k, 0] == np.isfinite(expected).mean(dtype=np.float32)
        good = np.isfinite(expected)
        assert cut.status[k, 0] == (Status.OK if good.all() else Status.PARTIAL if good.any() else Status.BLANK)


@pytest.mark.parametrize(("resampling", "scale"), [("bilinear", 0.396), ("area", 0.396), ("area", 0.25), ("area", 0.7)])
def test_stars_of_the_frame_keep_their_flux(sdss: Field, resampling: str, scale: float) -> None:
    ra, dec, flux = stars(sdss)
    cut = cutouts([sdss.survey], ra, dec, size=SIZE, scale=scale, resampling=resampling)
    assert (cut.status == Status.OK).all()
    ratio = aperture(cut.pixels[..., 0], scale) * cut.area_factors[0] / flux
    assert len(ratio) > 50
    assert np.median(ratio) == pytest.approx(1.0, abs=2e-3)
    assert np.std(ratio) < 5e-3


def stars(sdss: Field) -> tuple[Array, Array, Array]:
    """Isolated bright sources of the frame, and their fluxes in an aperture there."""
    peaks = (sdss.data == maximum_filter(sdss.data, 31)) & (sdss.data > 0.5)
    peaks[:40], peaks[-40:], peaks[:, :40], peaks[:, -40:] = False, False, False, False
    y, x = np.nonzero(peaks)
    sky = sdss.wcs.pixel_to_world(x, y)
    stamps = np.array([Cutout2D(sdss.data, (a, b), 45).data for a, b in zip(x, y, strict=True)])
    return sky.ra.deg, sky.dec.deg, aperture(stamps, sdss.survey.stated.native_scale)


def aperture(stamps: Array, scale: float) -> Array:
    """The flux of each within 3 arcsec of the centre, pixels weighted by how much of them lies inside."""
    size, fine = stamps.shape[1], 20
    place = (np.arange(size * fine) + 0.5) / fine - size / 2
    inside = np.hypot(*np.meshgrid(place, place)) * scale <= 3.0
    weights = inside.reshape(size, fine, size, fine).mean(axis=(1, 3))
    return np.asarray((stamps * weights).sum(axis=(1, 2)))


def test_the_coverage_that_hipsgen_writes_holds_the_pixels_that_have_a_value(field: Field) -> None:
    order = field.survey.order + 5
    pixels = coverage_from_pixels(field.survey, order=order)
    stated = field.survey.coverage()
    assert 0 < pixels.area <= stated.area
    assert pixels.intersection(stated).area == pytest.approx(pixels.area)
