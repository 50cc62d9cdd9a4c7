"""`inzitu crossmatch`, `coverage` and `cutouts` as they are typed: what they print, leave behind and exit with."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import Table

from hips.conftest import Sky, noise
from inzitu.cli import main
from inzitu.hips import Survey, cutouts
from inzitu.sky import Coverage

type Say = Callable[..., tuple[int, str, str]]


@pytest.fixture
def inzitu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Say:
    """Run a command in a folder of its own; return its exit status and what it printed on both streams."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "1000")

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["inzitu", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        answer = capsys.readouterr()
        return int(ended.value.code or 0), answer.out, answer.err

    return run


def positions(count: int, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.uniform(0, 360, count), np.degrees(np.arcsin(rng.uniform(-1, 1, count)))


def test_help_names_units(inzitu: Say) -> None:
    for command, unit in (("cutouts", "[arcsec]"), ("crossmatch", "[arcsec]"), ("cutouts", "[pixel]")):
        status, said, _ = inzitu(command, "--help")
        assert (status, unit in said) == (0, True)


def test_columns_unit_and_frame_can_be_said_of_either_list(inzitu: Say) -> None:
    ra, dec = positions(300)
    sky = SkyCoord(ra, dec, unit="deg")
    Table({"x": ra / 15, "y": dec}).write("a.csv")
    Table({"lon": sky.galactic.l.deg, "lat": sky.galactic.b.deg, "ra": ra * 0, "dec": ra * 0}).write("b.csv")
    said = ["--columns-a", "x,y", "--unit-a", "hour", "--columns-b", "lon,lat", "--frame-b", "galactic"]
    status, out, _ = inzitu("crossmatch", "a.csv", "b.csv", "--radius", 1, "--out", "p.parquet", "--memory", 64, *said)
    assert (status, out) == (0, "p.parquet: 300 pairs of 300 and 300 rows\n")
    pairs = pq.read_table("p.parquet")
    assert pairs["row_b"].to_pylist() == list(range(300))
    status, _, error = inzitu("crossmatch", "a.csv", "b.csv", "--radius", 1, "--out", "p.parquet", "--columns-a", "x")
    assert status == 1
    assert error.endswith("inzitu: 'x' does not name two columns; write for example RA_FIT,DEC_FIT.\n")
    assert pq.read_table("p.parquet").equals(pairs)


def test_coverage_comes_from_tiles_or_from_the_pixels_that_have_a_value(inzitu: Say, tmp_path: Path) -> None:
    values = noise(1, 8)
    values[: 8 * 8 // 2] = np.nan  # half of the first tile
    Sky(values, 1, 8).write(tmp_path / "hips", tiles=range(2))
    assert inzitu("coverage", "hips", "--out", "tiles.fits")[0] == 0
    assert inzitu("coverage", "hips", "--pixels", "--order", 3, "--out", "pixels.fits")[0] == 0
    whole = Coverage.from_cells(1, np.arange(2)).area
    assert Coverage.read("tiles.fits").area == pytest.approx(whole)
    assert Coverage.read("pixels.fits").area == pytest.approx(whole * 3 / 4)
    status, _, error = inzitu("coverage", "hips", "--order", 3, "--out", "other.fits")
    assert status == 1
    assert "--order goes with --pixels" in error


def test_stamps_are_turned_by_the_position_angle(inzitu: Say, tmp_path: Path) -> None:
    root = Sky(noise(1, 8), 1, 8).write(tmp_path / "hips")
    ra, dec = positions(5)
    Table({"ra": ra, "dec": dec}).write("list.csv")
    asked = ["--positions", "list.csv", "--size", 6, "--scale", 900, "--out", "cut.npz"]
    status, out, _ = inzitu("cutouts", "--hips", "hips", *asked, "--angle", 30)
    assert status == 0
    assert out.startswith("cut.npz: 5 rows: 5 ok; ")
    expected = cutouts([Survey.open(root)], ra, dec, size=6, scale=900.0, angle=30.0).pixels
    np.testing.assert_array_equal(np.load("cut.npz")["pixels"], expected)
