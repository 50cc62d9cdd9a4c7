from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from scipy.ndimage import map_coordinates

from inzitu.archive import stamps
from inzitu.archive.stampfile import Stamps, sky_sigma
from inzitu.errors import ParameterFault, TableFault
from inzitu.hips import Cutouts, Status, Survey, cutouts
from inzitu.manifest import Manifest

ORIGINAL = Path(__file__).parents[2] / "../shared/data/sdss-qso/stamps.npz"
ALADIN = Path("/usr/share/java/aladin.jar")
ROWS = 40


@cache
def packaged() -> dict[str, Any]:
    with np.load(stamps.demo_stamps()) as file:
        return {key: file[key] for key in file.files}


def written(path: Path, rows: int = ROWS, **changes: np.ndarray) -> Path:
    """Write the first rows of the packaged stamps as a stamp file of its own."""
    several = {key: value[:rows] if value.ndim and key != "bands" else value for key, value in packaged().items()}
    np.savez(path, **(several | changes))
    return path


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    stamps.build(written(folder / "stamps.npz"), folder / "demo")
    return folder / "demo"


def test_the_packaged_stamps_stay_within_a_sixteenth_of_the_sky_noise_of_the_originals() -> None:
    if not ORIGINAL.exists():
        pytest.skip("the original stamps are not at hand")
    packaged, original = Stamps.read(stamps.demo_stamps()), Stamps.read(ORIGINAL)
    error = (packaged.images - original.images) / sky_sigma(original.images)[:, :, None, None]
    assert np.abs(error).max() < 1 / 16 + 1e-4
    assert error.std() < 0.037
    assert packaged.object_id == original.object_id
    np.testing.assert_array_equal(packaged.ra, original.ra)


def test_the_packaged_file_is_small() -> None:
    assert stamps.demo_stamps().stat().st_size < 12e6


def test_the_archive_deploys_as_it_stands(archive: Path) -> None:
    manifest = Manifest.load(archive / "manifest.yaml")
    assert manifest.archive.bands == ("u", "g", "r", "i", "z")
    assert manifest.archive.catalogue.magnitudes == manifest.archive.bands
    assert all(Path(survey.hips, "properties").exists() for survey in manifest.archive.surveys)


def test_the_catalogue_has_units_and_no_redshift(archive: Path) -> None:
    table = pq.read_table(archive / "catalogue.parquet")
    assert table.column_names == ["objID", "ra", "dec", "u", "g", "r", "i", "z"]
    assert (table.schema.field("ra").metadata or {})[b"unit"] == b"deg"
    assert (table.schema.field("z").metadata or {})[b"ucd"].startswith(b"phot.mag")
    assert np.median(table["z"].to_numpy()) > 15  # magnitudes, not redshifts


def test_a_tile_places_its_pixels_where_astropy_finds_them_on_the_stamp(archive: Path) -> None:
    source = Stamps.read(archive.parent / "stamps.npz")
    residuals = []
    for path in sorted((archive / "hips/r").glob("Norder13/*/*.fits")):
        with fits.open(path) as file:
            values, header = file[0].data, file[0].header
        ra, dec = WCS(header).pixel_to_world_values(*np.meshgrid(np.arange(64), np.arange(64)))
        row = int(
            np.argmin(np.hypot((source.ra - ra.mean()) * np.cos(np.radians(dec.mean())), source.dec - dec.mean()))
        )
        x, y = stamp_wcs(source, row).world_to_pixel_values(ra, dec)
        expected = map_coordinates(source.images[row, 2].astype(float), (y, x), order=3, mode="mirror")
        inside = (x > 0) & (x < 63) & (y > 0) & (y < 63)
        residuals.append((values - expected)[inside])
        assert np.isfinite(values[inside]).all()
        assert np.isnan(values[(np.abs(x - 31.5) > 32.01) | (np.abs(y - 31.5) > 32.01)]).all()
    # A tile's integers leave 1/131068 of its span: 0.001 nanomaggies under a star of 130.
    assert np.abs(np.concatenate(residuals)).max() < 2e-3


def stamp_wcs(source: Stamps, row: int) -> WCS:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crval = source.ra[row], source.dec[row]
    wcs.wcs.crpix = 32.5, 32.5
    wcs.wcs.cdelt = -source.scale / 3600, source.scale / 3600
    return wcs


def test_overlapping_stamps_leave_each_other_alone(tmp_path: Path) -> None:
    images = np.stack([np.full((5, 64, 64), 1.0), np.full((5, 64, 64), 2.0)]).astype(np.float32)
    ra, dec = np.array([150.0, 150.0]), np.array([2.0, 2.0 + 10 / 3600])
    path = tmp_path / "two.npz"
    np.savez(path, images=images, bands=np.array(list("ugriz")), ra=ra, dec=dec, objID=np.array(["a", "b"]))
    stamps.build(path, tmp_path / "out")
    seen = np.concatenate([fits.getdata(tile).ravel() for tile in (tmp_path / "out/hips/g").glob("Norder13/*/*.fits")])
    counts = [int((np.abs(seen - value) < 1e-4).sum()) for value in (1, 2)]
    assert sum(counts) == np.isfinite(seen).sum()
    assert abs(counts[0] - counts[1]) < 100


@pytest.fixture(scope="module")
def retrieved(archive: Path) -> tuple[Stamps, Cutouts]:
    source = Stamps.read(archive.parent / "stamps.npz")
    surveys = [Survey.open(archive / "hips" / band) for band in source.bands]
    return source, cutouts(surveys, source.ra, source.dec, size=28, scale=source.scale)


def test_a_cutout_taken_back_out_has_the_fluxes_of_the_stamp_that_went_in(retrieved: tuple[Stamps, Cutouts]) -> None:
    # Each of the two interpolations only moves flux between neighbours, so within 3 arcsec fluxes stay; what is left is
    # the noise of the pixels along the aperture's edge, a fifth of the noise of the aperture's sum.
    source, cut = retrieved
    y, x = np.indices((28, 28)) - 13.5
    aperture = np.hypot(y, x) * source.scale < 3
    before = source.images[:, :, 18:46, 18:46].transpose(0, 2, 3, 1)[:, aperture].sum(axis=1)
    after = cut.pixels[:, aperture].sum(axis=1) * cut.area_factors
    noise = sky_sigma(source.images) * np.sqrt(aperture.sum())
    error = (after - before) / noise
    assert np.abs(np.median(error, axis=0)).max() < 0.1
    assert error.std() < 0.3
    bright = before > 50 * noise
    assert bright.any()
    np.testing.assert_allclose((after / before)[bright], 1, atol=0.03)
    assert np.median((after / before)[bright]) == pytest.approx(1, abs=2e-3)


def test_its_pixels_are_those_of_the_stamp_but_for_the_noise_that_bilinear_weights_average_away(
    retrieved: tuple[Stamps, Cutouts],
) -> None:
    # A bilinear value is a mean of four pixels with weights whose squares add to 4/9 over all phases: white noise keeps
    # 2/3 of its sigma, and the difference to the stamp is what was lost, with neighbours mixed in: about 0.6 sigma.
    source, cut = retrieved
    sigma = sky_sigma(source.images)
    before = source.images[:, :, 18:46, 18:46].transpose(0, 2, 3, 1)
    lost = ((cut.pixels - before) / sigma[:, None, None, :]).std(axis=(1, 2))
    assert (cut.status == Status.OK).all()
    assert 0.5 < np.median(lost) < 0.65
    kept = sky_sigma(cut.pixels.transpose(0, 3, 1, 2)) / sigma
    assert np.median(kept) == pytest.approx(2 / 3, abs=0.05)


@pytest.mark.skipif(not (ALADIN.exists() and shutil.which("java")), reason="Hipsgen (Debian's aladin) is not installed")
@pytest.mark.parametrize("band", ["u", "z"])
def test_cds_hipsgen_accepts_the_tree(archive: Path, band: str) -> None:
    command = [
        "java",
        "-Djava.awt.headless=true",
        "-jar",
        str(ALADIN),
        "-hipsgen",
        f"out={archive / 'hips' / band}",
        "LINT",
    ]
    verdict = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert "is IVOA HiPS 1.0 compatible" in verdict
    assert "ERROR" not in verdict


def test_an_archive_is_never_written_over(archive: Path) -> None:
    with pytest.raises(ParameterFault, match="holds an archive already"):
        stamps.build(archive.parent / "stamps.npz", archive)


def test_a_file_that_is_no_stamp_file_says_what_it_lacks(tmp_path: Path) -> None:
    np.savez(tmp_path / "bare.npz", images=np.zeros((1, 5, 8, 8)), bands=np.array(list("ugriz")))
    with pytest.raises(TableFault, match="lacks dec, objID, ra"):
        stamps.build(tmp_path / "bare.npz", tmp_path / "out")
    (tmp_path / "text.npz").write_text("no zip")
    with pytest.raises(TableFault, match="cannot be read"):
        stamps.build(tmp_path / "text.npz", tmp_path / "out")
    bad = written(tmp_path / "bad.npz", rows=6, dec=np.array([0, 1, 2, np.nan, 4, 95.0]))
    with pytest.raises(TableFault, match="row 3 and 1 more"):
        stamps.build(bad, tmp_path / "out")
