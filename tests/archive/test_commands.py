"""`inzitu crossmatch`, `coverage` and `cutouts` as they are typed: what they print, leave behind and exit with."""

from __future__ import annotations

import errno
import io
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table

from hips.conftest import Sky, noise
from hips.test_remote import DEC, RA, Server, root, server
from inzitu.cli import main
from inzitu.hips import Status, Survey, cutouts
from inzitu.sky import Coverage, cell_of

__all__ = ["root", "server"]  # fixtures

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
    status, out, _ = inzitu(
        "crossmatch", "a.csv", "b.csv", "--radius", 1, "--out", "new/p.parquet", "--memory", 64, *said
    )
    assert (status, out) == (0, "new/p.parquet: 300 pairs of 300 and 300 rows\n")
    pairs = pq.read_table("new/p.parquet")
    assert pairs["row_b"].to_pylist() == list(range(300))
    words = ["crossmatch", "a.csv", "b.csv", "--radius", 1, "--out", "new/p.parquet", "--columns-a", "x"]
    status, _, error = inzitu(*words)
    assert status == 1
    assert error.endswith("inzitu: 'x' does not name two columns; write for example RA_FIT,DEC_FIT.\n")
    assert pq.read_table("new/p.parquet").equals(pairs)


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
    with np.load("cut.npz") as cut:
        np.testing.assert_array_equal(cut["pixels"], expected)


# When things go wrong


def test_a_catalogue_with_rubbish_rows_is_matched_without_them(inzitu: Say, tmp_path: Path) -> None:
    ra, dec = positions(1000)
    Table({"ra": ra, "dec": dec}).write("b.parquet")
    rubbish = ["", "n/a", "inf", "-inf", "1e300", "nan", "12h", "400", "#", "unknown"]
    rows = [
        f"{rubbish[k // 100]},{d}" if k % 100 == 7 else f"{a},{d}" for k, (a, d) in enumerate(zip(ra, dec, strict=True))
    ]
    (tmp_path / "a.csv").write_text("ra,dec\n" + "\n".join(rows) + "\n")
    status, out, _ = inzitu("crossmatch", "a.csv", "b.parquet", "--radius", 1, "--out", "pairs.parquet")
    assert (status, out) == (
        0,
        "pairs.parquet: 990 pairs of 1,000 and 1,000 rows\n10 rows of A have no usable position\n",
    )
    assert pq.read_table("pairs.parquet")["row_a"].to_pylist() == [k for k in range(1000) if k % 100 != 7]


def test_coordinates_in_hours_are_hinted_at_and_the_remedy_works(inzitu: Say, tmp_path: Path) -> None:
    ra, dec = positions(300)
    Table({"ra": ra / 15, "dec": dec}).write("a.csv")
    Table({"ra": ra, "dec": dec}).write("b.csv")
    words = ["crossmatch", "a.csv", "b.csv", "--radius", 1, "--out", "p.parquet"]
    assert "right ascensions of A look like hours; if they are, add --unit-a hour" in inzitu(*words)[1]
    assert inzitu(*words, "--unit-a", "hour")[1] == "p.parquet: 300 pairs of 300 and 300 rows\n"
    Sky(noise(0, 4), 0, 4).write(tmp_path / "hips")
    cut = ["cutouts", "--hips", "hips", "--size", 1, "--scale", 900, "--out", "c.npy"]
    assert "look like hours; if they are, add --unit hour" in inzitu(*cut, "--positions", "a.csv")[2]


def test_a_moc_in_another_frame_is_refused_and_earlier_pairs_stay(inzitu: Say, tmp_path: Path) -> None:
    for name in "ab":
        Table({"ra": [1.0], "dec": [2.0]}).write(f"{name}.csv")
    Coverage.from_cells(0, np.arange(12)).write("moc.fits")
    with fits.open("moc.fits", mode="update") as file:
        file[1].header["COORDSYS"] = "G"
    (tmp_path / "pairs.parquet").write_bytes(b"earlier")
    status, _, error = inzitu(
        "crossmatch", "a.csv", "b.csv", "--radius", 1, "--moc", "moc.fits", "--out", "pairs.parquet"
    )
    assert status == 1
    assert "moc.fits" in error
    assert "frame" in error
    assert (tmp_path / "pairs.parquet").read_bytes() == b"earlier"


def test_properties_that_lie_about_the_order_are_refused(inzitu: Say, tmp_path: Path) -> None:
    sky = Sky(noise(1, 4), 1, 4)
    sky.write(tmp_path / "hips")
    sky.write_properties(tmp_path / "hips", hips_order="3")
    Table({"ra": [1.0], "dec": [2.0]}).write("a.csv")
    for command in (
        ["coverage", "hips"],
        ["cutouts", "--hips", "hips", "--positions", "a.csv", "--size", 4, "--scale", 9],
    ):
        status, _, error = inzitu(*command, "--out", "out.npy")
        assert status == 1
        assert "states hips_order 3, but its deepest FITS tiles are in Norder1; correct its properties" in error
        assert not (tmp_path / "out.npy").exists()


def truncated(content: bytes) -> bytes:
    return content[:3000]


def narrower(content: bytes) -> bytes:
    file = io.BytesIO()
    fits.PrimaryHDU(np.zeros((4, 4), np.float32)).writeto(file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("harm", "said"), [(truncated, "truncated: "), (narrower, "4 x 4 pixels, but hips_tile_width is 8")]
)
def test_a_broken_tile_fails_its_rows_and_is_named(
    inzitu: Say, tmp_path: Path, harm: Callable[[bytes], bytes], said: str
) -> None:
    root = Sky(noise(1, 8), 1, 8).write(tmp_path / "hips")
    ra, dec = positions(40)
    Table({"ra": ra, "dec": dec}).write("list.csv")
    words = ["cutouts", "--hips", "hips", "--positions", "list.csv", "--size", 3, "--scale", 900, "--out"]
    inzitu(*words, "whole.npz")
    tile = root / f"Norder1/Dir0/Npix{cell_of(ra[:1], dec[:1], 1)[0]}.fits"
    tile.write_bytes(harm(tile.read_bytes()))
    status, out, error = inzitu(*words, "cut.npz")
    assert status == 0
    assert f"{tile}: " in error
    assert said in error
    with np.load("cut.npz") as cut, np.load("whole.npz") as whole:
        failed = cut["status"] == Status.ERROR
        assert 0 < failed.sum() < 40
        assert f"{failed.sum()} error" in out
        np.testing.assert_array_equal(cut["pixels"][~failed], whole["pixels"][~failed])


@pytest.mark.parametrize(
    ("manner", "said"),
    [("hang", "silent for 0.3 s"), ("busy", "answered 503"), ("half", "half-way"), ("html", "an HTML page instead")],
)
def test_an_archive_by_http_that_fails_fails_rows_in_bounded_time_and_the_next_run_is_whole(
    inzitu: Say, tmp_path: Path, server: Server, manner: str, said: str
) -> None:
    Table({"ra": RA, "dec": DEC}).write("list.csv")
    words = [
        "cutouts",
        "--hips",
        server.url,
        "--positions",
        "list.csv",
        "--size",
        8,
        "--scale",
        400,
        "--out",
        "cut.npz",
    ]
    server.manner = manner
    begun = time.monotonic()
    status, out, error = inzitu(*words)
    assert time.monotonic() - begun < 30
    assert (status, f"{len(RA)} error" in out) == (0, True)
    assert said in error
    assert f"{server.url}/Norder0/Dir0/Npix4.fits" in error
    server.manner = "well"
    assert f"{len(RA)} ok" in inzitu(*words)[1]


def test_memory_that_runs_out_is_told_in_a_line(inzitu: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(*_: object, **__: object) -> None:
        raise MemoryError

    Sky(noise(1, 8), 1, 8).write(tmp_path / "hips")
    Table({"ra": [1.0], "dec": [2.0]}).write("list.csv")
    monkeypatch.setattr("inzitu.archive.cutting.cutouts", greedy)
    words = ["cutouts", "--hips", "hips", "--positions", "list.csv", "--size", 3, "--scale", 900, "--out", "cut.npz"]
    status, out, error = inzitu(*words)
    assert (status, out) == (1, "")
    assert "inzitu: Memory ran out. Ask for fewer rows, smaller stamps, a smaller network or batch.\n" in error


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--scale", "1e-300", "pixels are 1e-300 arcsec wide; they must be 1e-06 or more"),
        ("--angle", "nan", "position angle nan is no angle"),
        ("--angle", "inf", "position angle inf is no angle"),
        ("--size", 100_000, "size is 100000 pixels; it must be 1 to 32768"),
    ],
)
def test_what_cannot_be_cut_is_a_line_and_leaves_nothing(
    inzitu: Say, tmp_path: Path, option: str, value: object, said: str
) -> None:
    Sky(noise(1, 8), 1, 8).write(tmp_path / "hips")
    Table({"ra": [1.0], "dec": [2.0]}).write("list.csv")
    words = ["cutouts", "--hips", "hips", "--positions", "list.csv", "--size", 3, "--scale", 0.1, "--out", "cut.npz"]
    status, _, error = inzitu(*words, option, value)
    assert (status, said in error) == (1, True)
    assert not list(tmp_path.glob("cut.npz*"))


def test_a_run_that_goes_on_says_what_it_read_itself(
    inzitu: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Sky(noise(1, 8), 1, 8).write(tmp_path / "hips")
    ra, dec = positions(40)
    Table({"ra": ra, "dec": dec}).write("list.csv")
    words = ["cutouts", "--hips", "hips", "--positions", "list.csv", "--size", 3, "--scale", 900, "--out", "cut.npz"]
    whole = inzitu(*words)[1]
    assert whole.startswith("cut.npz: 40 rows: 40 ok; ")
    assert "before" not in whole
    with monkeypatch.context() as patch:
        patch.setattr("inzitu.archive.unfinished._write_npz", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            inzitu(*words)
    assert inzitu(*words)[1] == (
        "cut.npz: 40 rows: 40 ok; of which 40 were cut before; 0 tiles, 0.0 MB read in this run\n"
    )


def test_a_disk_that_fills_keeps_the_finished_part_and_what_was_there(
    inzitu: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Sky(noise(1, 8), 1, 8).write(tmp_path / "hips")
    ra, dec = positions(40)
    Table({"ra": ra, "dec": dec}).write("list.csv")
    words = ["cutouts", "--hips", "hips", "--positions", "list.csv", "--size", 3, "--scale", 900, "--out"]
    inzitu(*words, "whole.zarr")
    (tmp_path / "cut.npz").write_bytes(b"earlier")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("inzitu.archive.unfinished._write_npz", full)
        status, _, error = inzitu(*words, "cut.npz")
        assert (status, "No space left on device" in error) == (1, True)
        assert (tmp_path / "cut.npz").read_bytes() == b"earlier"
    with monkeypatch.context() as patch:
        patch.setattr("inzitu.archive.unfinished.Unfinished.store", full)
        assert inzitu(*words, "cut.npz")[0] == 0  # all rows were there, and are not cut again
    with np.load("cut.npz") as cut:
        np.testing.assert_array_equal(cut["pixels"], zarr.open_group("whole.zarr")["pixels"])
