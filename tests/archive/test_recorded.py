"""Answers of the real services, as astroquery and PyVO recorded them, against astropy (`tests/data/README.md`)."""

from __future__ import annotations

from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io.votable import parse_single_table
from astropy.table import Table
from mocpy import MOC

from inzitu.archive.catalogues import positions, read_table
from inzitu.archive.matching import crossmatch_files
from inzitu.archive.streams import read_positions
from inzitu.sky import Coverage

RECORDED = Path(__file__).parents[1] / "data/recorded"
NAMES = {
    "gaia-result.ecsv": ("ra", "dec"),
    "gaia-result.vot": ("ra", "dec"),
    "gavo-obscore.xml": ("s_ra", "s_dec"),
    "irsa-box.xml": ("ra", "dec"),
    "sdss-images.txt": ("ra", "dec"),
    "sdss-spectra.txt": ("ra", "dec"),
    "vizier-kang2010.xml": ("_Glon", "_Glat"),
    "xmatch-result.csv": ("ra", "dec"),
}
"""The columns with the positions of each, as a person finds them."""


def truth(name: str) -> SkyCoord:
    path = RECORDED / name
    match path.suffix:
        case ".ecsv":
            table = Table.read(path, format="ascii.ecsv")
        case ".txt" | ".csv":
            table = Table.read(path, format="ascii.csv", comment="#")
        case _:
            table = parse_single_table(path, verify="ignore").to_table(use_names_over_ids=True)
    lon, lat = (table[column] for column in NAMES[name])
    galactic = name.startswith("vizier")
    return SkyCoord(np.asarray(lon), np.asarray(lat), unit="deg", frame="galactic" if galactic else "icrs").icrs


@pytest.mark.parametrize("name", NAMES)
def test_their_positions_are_found_whole_and_some_at_a_time(name: str) -> None:
    sky = truth(name)
    for ra, dec in (positions(read_table(RECORDED / name)), read_positions(RECORDED / name)):
        assert len(ra) == len(sky) > 0
        # Single precision, in which IRSA states its columns, is some thousandths of an arcsecond.
        assert sky.separation(SkyCoord(ra, dec, unit="deg")).arcsec.max() < (0.01 if name.startswith("irsa") else 1e-5)


def test_they_match_each_other(tmp_path: Path) -> None:
    spectra, images = (RECORDED / f"sdss-{name}.txt" for name in ("spectra", "images"))
    counts = crossmatch_files(spectra, images, 0.1, tmp_path / "pairs.parquet")
    assert (counts.rows_a, counts.rows_b, counts.pairs) == (1, 18, 1)


def test_the_moc_of_the_mocserver_holds_what_mocpy_says() -> None:
    coverage, moc = Coverage.read(RECORDED / "mocserver-moc.fits"), MOC.from_fits(RECORDED / "mocserver-moc.fits")
    rng, centre = np.random.default_rng(0), moc.barycenter()
    ra, dec = (value.deg + rng.normal(0, 1.0, 20_000) for value in (centre.ra, centre.dec))
    inside = moc.contains_lonlat(ra * u.deg, dec * u.deg)
    assert 0 < inside.sum() < len(inside)
    assert np.array_equal(coverage.contains(ra, dec), inside)
    assert coverage.area == pytest.approx(moc.sky_fraction * 360**2 / np.pi, rel=1e-9)
