"""Coverage against mocpy and against the real MOCs of surveys."""

from pathlib import Path

import numpy as np
import pytest
from astropy import units
from astropy.coordinates import Latitude, Longitude
from astropy.io import fits
from astropy.time import Time
from mocpy import MOC, STMOC

from inzitu.sky import Coverage, cell_of

DATA = Path(__file__).parents[1] / "data" / "sky"
MOCS = Path(__file__).parents[3] / "shared" / "data" / "mocs"


def sphere(n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    return rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))


def test_a_real_moc_holds_what_mocpy_says_it_holds() -> None:
    ra, dec = sphere(20_000)
    inside = Coverage.read(DATA / "CFHT.Moc.fits").contains(ra, dec)
    assert np.array_equal(inside, MOC.load(DATA / "CFHT.Moc.fits").contains_lonlat(ra * units.deg, dec * units.deg))
    assert inside.any()
    assert not inside.all()


def test_the_area_is_that_of_its_cells() -> None:
    assert Coverage.from_cells(3, np.arange(48, dtype=np.uint64)).area == pytest.approx(41252.96125 / 16)


def test_a_coverage_made_of_cells_holds_just_these() -> None:
    ra, dec = sphere(20_000)
    cells = np.arange(0, 12 * 4**3, 5, dtype=np.uint64)
    coverage = Coverage.from_cells(3, cells)
    assert coverage.order == 3
    assert np.array_equal(coverage.contains(ra, dec), np.isin(cell_of(ra, dec, 3), cells))


def test_rows_without_a_usable_position_are_outside() -> None:
    everywhere = Coverage.from_cells(0, np.arange(12, dtype=np.uint64))
    ra, dec = np.array([np.nan, np.inf, 10.0, -999.0, 10.0]), np.array([0.0, 0.0, 95.0, -999.0, 90.0])
    assert everywhere.contains(ra, dec).tolist() == [False, False, False, False, True]


def test_negative_right_ascensions_are_those_of_the_other_convention() -> None:
    ra, dec = sphere(20_000)
    coverage = Coverage.from_cells(3, np.arange(0, 768, 5))
    assert np.array_equal(coverage.contains(np.where(ra > 180, ra - 360, ra), dec), coverage.contains(ra, dec))


def test_intersection_and_union_are_those_of_the_sets_of_cells() -> None:
    one, two, three = ({*range(k, 768, k)} for k in (2, 3, 5))
    a, b, c = (Coverage.from_cells(3, np.array(sorted(s), dtype=np.uint64)) for s in (one, two, three))
    assert a.intersection(b, c) == Coverage.from_cells(3, np.array(sorted(one & two & three), dtype=np.uint64))
    assert a.union(b, c) == Coverage.from_cells(3, np.array(sorted(one | two | three), dtype=np.uint64))
    assert a.intersection() == a


def test_a_sample_lies_inside_and_far_apart() -> None:
    coverage = Coverage.from_text("3/700-703 5/12000 9/5")
    ra, dec = coverage.sample(3)
    assert len(ra) == 3
    assert coverage.contains(ra, dec).all()
    assert len(np.unique(cell_of(ra, dec, 3))) == 3


def test_a_coverage_of_nothing_holds_nothing() -> None:
    nothing = Coverage.from_cells(5, np.empty(0, dtype=np.uint64))
    assert nothing.area == 0.0
    assert not nothing.contains(*sphere(10)).any()


@pytest.mark.parametrize("name", ["moc.fits", "moc.json", "moc.txt"])
def test_what_is_written_is_read_again(tmp_path: Path, name: str) -> None:
    coverage = Coverage.from_cells(7, np.arange(1000, 2000, 3, dtype=np.uint64))
    coverage.write(tmp_path / name)
    assert Coverage.read(tmp_path / name) == coverage


@pytest.mark.skipif(not MOCS.exists(), reason="the shared survey MOCs are not here")
def test_a_space_time_moc_is_read_by_its_space_part() -> None:
    coverage = Coverage.read(MOCS / "STMoc-DECaLS-g.fits")
    assert coverage.contains(np.array([150.0, 150.0]), np.array([2.2, 80.0])).tolist() == [True, False]
    assert 5_000 < coverage.area < 30_000


@pytest.mark.parametrize("form", ["fits", "json", "ascii"])
def test_of_a_space_time_moc_in_any_form_the_space_covered_at_any_time_counts(tmp_path: Path, form: str) -> None:
    times = Time([51_544.5, 55_555.5, 58_000.0], format="mjd")
    ra, dec = np.array([10.0, 200.0, 200.0]), np.array([5.0, -30.0, -30.0])
    moc = STMOC.from_times_positions(times, 20, Longitude(ra, "deg"), Latitude(dec, "deg"), 6)
    moc.save(str(tmp_path / "times.moc"), format=form)
    found = Coverage.read(tmp_path / "times.moc")
    assert found.area == pytest.approx(2 * 4 * np.pi * np.degrees(1) ** 2 / (12 * 4**6))
    assert found.contains(np.append(ra, 100.0), np.append(dec, 0.0)).tolist() == [True, True, True, False]


SPHERE = 4 * np.pi * np.degrees(1) ** 2


@pytest.mark.parametrize(
    ("text", "cells"),
    [
        ("5/1-4,9 6/100", (5 + 1 / 4) / 4**5),
        ("5/1-4, 9\n6/100,\n", (5 + 1 / 4) / 4**5),
        ("t61/1-5 s3/4", 1 / 4**3),
        ("t61/1-5,9 s3/4,5", 2 / 4**3),
        ('[{"t":{"61":[1,2]},"s":{"3":[4]}}]', 1 / 4**3),
        ("29/0", 1 / 4**29),
    ],
)
def test_commas_and_a_single_time_are_read_as_the_standard_has_them(tmp_path: Path, text: str, cells: float) -> None:
    (tmp_path / "m").write_text(text)
    assert Coverage.read(tmp_path / "m").area == pytest.approx(SPHERE * cells / 12)


def test_a_moc_that_is_cut_off_or_damaged_says_so(tmp_path: Path) -> None:
    content, path = (DATA / "CFHT.Moc.fits").read_bytes(), tmp_path / "cut.fits"
    for size in (2880, 4000):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"cut\.fits.*header of its table is damaged or cut off.*fetch"):
            Coverage.read(path)
    path.write_bytes(content[:5760])
    with pytest.raises(ValueError, match=r"cut\.fits.*its table ends at byte \d+, the file at 5760; fetch"):
        Coverage.read(path)
    for damage in (b"NAXIS2  ", b"COORDSYS", b"MOCORDER"):
        at = content.rindex(damage)
        path.write_bytes(content[: at + 8] + b"= \x01\x02'" + content[at + 13 :])
        with pytest.raises(ValueError, match=r"cut\.fits is no MOC that can be read"):
            Coverage.read(path)


@pytest.mark.skipif(not MOCS.exists(), reason="the shared survey MOCs are not here")
def test_mocs_of_the_first_version_are_read() -> None:
    assert Coverage.read(MOCS / "P-SDSS9-r.fits").area == pytest.approx(14_952, rel=0.01)
    assert Coverage.read(MOCS / "V_147_sdss12.moc.fits").area == pytest.approx(14_520, rel=0.01)


def test_a_moc_in_another_frame_is_refused_by_name(tmp_path: Path) -> None:
    with fits.open(DATA / "CFHT.Moc.fits") as hdus:
        hdus[1].header["COORDSYS"] = "G"
        hdus.writeto(tmp_path / "galactic.fits")
    with pytest.raises(ValueError, match=r"galactic\.fits.*frame is 'G'"):
        Coverage.read(tmp_path / "galactic.fits")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>no</html>",
        b"SIMPLE  =",
        b'{"a": "b"}',
        b"3/5-2",
        b"3/768",
        b"t20/5 s3/768",
        b"30/1",
        b"31/0",
        b"t20/",
        b"[]",
        b"[1]",
        b'[{"t": {}}]',
        bytes(range(256)),
    ],
)
def test_a_file_that_is_no_moc_is_refused_with_the_remedy(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "not.moc").write_bytes(content)
    with pytest.raises(ValueError, match=r"not\.moc is no MOC that can be read.*FITS, ASCII or JSON"):
        Coverage.read(tmp_path / "not.moc")


def test_a_missing_file_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Coverage.read(tmp_path / "none.fits")


def test_a_cell_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="Cell 12 does not exist at order 0"):
        Coverage.from_cells(0, np.array([12], dtype=np.uint64))
