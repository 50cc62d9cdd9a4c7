"""Crossmatch of files: every format, any memory, the same pairs as a k-d tree over everything."""

import errno
import gzip
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.io.votable import from_table
from astropy.table import Table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from inzitu.archive.matching import Counts, crossmatch_files
from inzitu.archive.streams import position_batches
from inzitu.errors import LimitFault, ParameterFault, TableFault
from inzitu.sky import Coverage
from inzitu.sky.zones import HEIGHT

RADIUS = 1.5


def sphere(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    return rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))


def seams(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of which many lie at a pole, at right ascension zero or at the edge of a zone."""
    ra, dec = sphere(rng, n)
    edge = np.round(dec * 3600 / HEIGHT) * HEIGHT / 3600
    dec = np.where(rng.random(n) < 0.5, np.clip(edge, -90, 90), dec)
    dec = np.where(rng.random(n) < 0.2, rng.choice([-1, 1], n) * (90 - rng.exponential(1 / 3600, n)), dec)
    return np.where(rng.random(n) < 0.3, rng.normal(0, 1 / 3600, n) % 360, ra), dec


def moved(rng: np.random.Generator, ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same objects about an arcsecond away, in any direction."""
    lon, lat = np.radians(ra), np.radians(dec)
    xyz = vectors(ra, dec) + np.radians(0.7 / 3600) * rng.normal(size=(len(ra), 3))
    lon, lat = np.arctan2(xyz[:, 1], xyz[:, 0]), np.arctan2(xyz[:, 2], np.hypot(xyz[:, 0], xyz[:, 1]))
    return np.degrees(lon) % 360, np.degrees(lat)


def two_lists(n: int = 3000, seed: int = 0) -> tuple[pa.Table, pa.Table]:
    rng = np.random.default_rng(seed)
    ra, dec = seams(rng, n)
    ra2, dec2 = (np.concatenate(parts) for parts in zip(moved(rng, ra, dec), seams(rng, n // 2), strict=True))
    order = rng.permutation(len(ra2))
    return pa.table({"ra": ra, "dec": dec}), pa.table({"RAJ2000": ra2[order], "DEJ2000": dec2[order]})


def vectors(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    lon, lat = np.radians(ra), np.radians(dec)
    return np.column_stack([np.cos(lon) * np.cos(lat), np.sin(lon) * np.cos(lat), np.sin(lat)])


def tree_of(table: pa.Table) -> cKDTree:
    return cKDTree(vectors(*(column.to_numpy() for column in table.columns)))


def all_pairs(a: pa.Table, b: pa.Table, radius: float = RADIUS) -> list[tuple[int, int]]:
    near = tree_of(a).query_ball_tree(tree_of(b), 2 * np.sin(np.radians(radius / 3600) / 2))
    return [(i, j) for i, neighbours in enumerate(near) for j in sorted(neighbours)]


def nearest_rows(a: pa.Table, b: pa.Table, radius: float = RADIUS) -> tuple[list[int], list[int]]:
    distance, row = tree_of(b).query(tree_of(a).data)
    near = np.flatnonzero(distance <= 2 * np.sin(np.radians(radius / 3600) / 2))
    return near.tolist(), row[near].tolist()


def write(table: pa.Table, path: Path) -> Path:
    columns = {name: table[name].to_numpy() for name in table.column_names}
    match path.suffix:
        case ".parquet":
            pq.write_table(table, path, row_group_size=700)
        case ".csv":
            pc.write_csv(table, path)
        case ".fits":
            Table({"id": np.arange(len(table)), **columns}).write(path)
        case ".xml" | ".bin" | ".bin2":
            form = {".xml": "tabledata", ".bin": "binary", ".bin2": "binary2"}[path.suffix]
            names = [f"object {row}" * (row % 3) for row in range(len(table))]
            from_table(Table({"name": names, **columns})).to_xml(str(path), tabledata_format=form)
        case ".d":
            for part in range(3):
                folder = path / "dataset" / "Norder=1" / "Dir=0" / f"Npix={part}"
                folder.mkdir(parents=True)
                pq.write_table(table.slice(part * 1000, 1000 if part < 2 else None), folder / "0.parquet")
            pq.write_table(table.slice(0, 1), path / "dataset" / "data_thumbnail.parquet")
            pq.write_metadata(table.schema, path / "dataset" / "_metadata")
            (path / "hats.properties").write_text("obs_collection=test\n")
        case _:
            raise AssertionError(path)
    return path


def match(a: Path, b: Path, radius: float = RADIUS, **options: object) -> tuple[pa.Table, Counts]:
    out = a.parent / "pairs.parquet"
    counts = crossmatch_files(a, b, radius, out, **options)  # type: ignore[arg-type]  # passed through
    return pq.read_table(out), counts


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".fits", ".xml", ".bin", ".bin2", ".d"])
def test_every_format_gives_the_trees_nearest(tmp_path: Path, suffix: str) -> None:
    a, b = two_lists()
    pairs, counts = match(write(a, tmp_path / f"a{suffix}"), write(b, tmp_path / f"b{suffix}"))
    assert (pairs["row_a"].to_pylist(), pairs["row_b"].to_pylist()) == nearest_rows(a, b)
    assert (counts.rows_a, counts.rows_b, counts.pairs) == (len(a), len(b), len(pairs))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1), radius=st.sampled_from([0.1, 1.5, 60.0, 4000.0]))
def test_all_pairs_are_those_of_the_tree_also_across_every_edge(tmp_path: Path, seed: int, radius: float) -> None:
    a, b = two_lists(400, seed)
    pairs, _ = match(write(a, tmp_path / "a.parquet"), write(b, tmp_path / "b.parquet"), radius, every=True)
    assert list(zip(pairs["row_a"].to_pylist(), pairs["row_b"].to_pylist(), strict=True)) == all_pairs(a, b, radius)


@pytest.mark.parametrize("suffix", [".csv", ".fits", ".xml"])
def test_gzipped_lists_are_read_as_they_are(tmp_path: Path, suffix: str) -> None:
    a, b = two_lists()
    first, second = write(a, tmp_path / f"a{suffix}"), write(b, tmp_path / f"b{suffix}")
    plain, _ = match(first, second)
    for path in (first, second):
        path.write_bytes(gzip.compress(path.read_bytes(), 1))
    assert match(first, second)[0].equals(plain)


def test_the_pairs_do_not_depend_on_the_memory(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    ra, dec = sphere(rng, 40_000)
    a, b = (pa.table({"ra": lon, "dec": lat}) for lon, lat in ((ra, dec), moved(rng, ra, dec)))
    files = write(a, tmp_path / "a.parquet"), write(b, tmp_path / "b.parquet")
    roomy, much = match(*files)
    tight, little = match(*files, memory=2 << 20)
    assert much.spilled == 0
    assert little.spilled > 1_000_000
    assert tight.equals(roomy)
    assert {path.name for path in tmp_path.iterdir()} == {"a.parquet", "b.parquet", "pairs.parquet"}


def test_separations_are_astropys_and_say_their_unit(tmp_path: Path) -> None:
    a, b = two_lists()
    pairs, _ = match(write(a, tmp_path / "a.parquet"), write(b, tmp_path / "b.parquet"))
    here = SkyCoord(a["ra"].to_numpy(), a["dec"].to_numpy(), unit="deg")[pairs["row_a"].to_numpy()]
    there = SkyCoord(b["RAJ2000"].to_numpy(), b["DEJ2000"].to_numpy(), unit="deg")[pairs["row_b"].to_numpy()]
    assert np.allclose(pairs["separation"].to_numpy(), here.separation(there).arcsec, atol=1e-9)
    assert (pairs.schema.field("separation").metadata or {})[b"unit"] == b"arcsec"


def test_only_rows_of_the_first_list_inside_the_moc_are_matched(tmp_path: Path) -> None:
    a, b = two_lists()
    coverage = Coverage.from_cells(2, np.arange(0, 192, 2, dtype=np.uint64))
    coverage.write(tmp_path / "moc.fits")
    pairs, counts = match(write(a, tmp_path / "a.parquet"), write(b, tmp_path / "b.parquet"), moc=tmp_path / "moc.fits")
    inside = coverage.contains(a["ra"].to_numpy(), a["dec"].to_numpy())
    expected = [row for row in nearest_rows(a, b)[0] if inside[row]]
    assert pairs["row_a"].to_pylist() == expected
    assert counts.outside == np.sum(~inside)
    assert "outside the coverage" in str(counts)


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".fits", ".xml", ".bin", ".bin2"])
def test_one_rubbish_row_in_a_hundred_is_counted_and_left_out(tmp_path: Path, suffix: str) -> None:
    a, b = two_lists()
    ra, dec = a["ra"].to_numpy().copy(), a["dec"].to_numpy().copy()
    rubbish = np.arange(0, len(ra), 100)
    ra[rubbish] = np.resize([np.nan, 0.0, -999.0, 400.0], len(rubbish))
    dec[rubbish] = np.resize([0.0, 91.0, -999.0, 0.0], len(rubbish))
    pairs, counts = match(
        write(pa.table({"ra": ra, "dec": dec}), tmp_path / f"a{suffix}"), write(b, tmp_path / f"b{suffix}")
    )
    assert counts.unusable_a == len(rubbish)
    assert pairs["row_a"].to_pylist() == [row for row in nearest_rows(a, b)[0] if row % 100]
    assert f"{len(rubbish)} rows without a usable position" in str(counts)


@pytest.mark.parametrize("suffix", [".xml", ".bin", ".bin2"])
def test_a_votable_read_in_small_blocks_is_the_same_list(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, _ = two_lists(500)
    path = write(a, tmp_path / f"a{suffix}")
    monkeypatch.setattr("inzitu.archive.votable_rows.BYTES", 1001)
    parts = list(position_batches(path))
    assert len(parts) > 5
    assert np.array_equal(np.concatenate([part.ra for part in parts]), a["ra"].to_numpy())
    assert np.array_equal(np.concatenate([part.dec for part in parts]), a["dec"].to_numpy())


@pytest.mark.parametrize("suffix", [".xml", ".bin", ".bin2"])
def test_a_truncated_votable_is_an_error(tmp_path: Path, suffix: str) -> None:
    path = write(two_lists(500)[0], tmp_path / f"a{suffix}")
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(TableFault, match="cannot be read as votable: it ends among its rows"):
        list(position_batches(path))


def test_text_among_the_numbers_of_a_csv_is_a_row_without_position(tmp_path: Path) -> None:
    a, b = two_lists(60_000)
    path = write(a, tmp_path / "a.csv")
    lines = path.read_text().splitlines()
    lines[50_000] = "no idea,"
    path.write_text("\n".join(lines))
    pairs, counts = match(path, write(b, tmp_path / "b.csv"))
    assert counts.unusable_a == 1
    assert pairs["row_a"].to_pylist() == [row for row in nearest_rows(a, b)[0] if row != 49_999]


def test_hours_sexagesimal_text_and_galactic_columns_find_the_same_objects(tmp_path: Path) -> None:
    a, b = two_lists(500)
    sky = SkyCoord(a["ra"].to_numpy(), a["dec"].to_numpy(), unit="deg")
    lists = {
        "text.csv": {"RA": sky.ra.to_string("hour", precision=7), "DEC": sky.dec.to_string("deg", precision=7)},
        "galactic.csv": {"l": sky.galactic.l.deg, "b": sky.galactic.b.deg},
    }
    expected = nearest_rows(a, b, 3.0)
    other = write(b, tmp_path / "b.parquet")
    (h, m, s), (sign, d, arcmin, arcsec) = sky.ra.hms, sky.dec.signed_dms
    lists["parts.csv"] = {"RAh": h.astype(int), "RAm": m.astype(int), "RAs": s} | {
        "DE-": np.where(sign < 0, "-", "+"),
        "DEd": d.astype(int),
        "DEm": arcmin.astype(int),
        "DEs": arcsec,
    }
    for name, columns in lists.items():
        pc.write_csv(pa.table(columns), tmp_path / name)
        assert match(tmp_path / name, other, 3.0)[0]["row_a"].to_pylist() == expected[0], name
    hours = Table({"RA": sky.ra.hour, "DEC": sky.dec.deg}, units={"RA": "h", "DEC": "deg"})
    hours.write(tmp_path / "hours.fits")
    assert match(tmp_path / "hours.fits", other, 3.0)[0]["row_a"].to_pylist() == expected[0]


def test_hours_without_a_unit_are_suspected_and_can_be_stated(tmp_path: Path) -> None:
    a, b = two_lists(2000)
    hours = pa.table({"ra": a["ra"].to_numpy() / 15, "dec": a["dec"]})
    files = write(hours, tmp_path / "a.csv"), write(b, tmp_path / "b.csv")
    _, suspected = match(*files)
    assert "right ascensions of the first list look like hours" in str(suspected)
    pairs, stated = match(*files, unit_a="hour")
    assert pairs["row_a"].to_pylist() == nearest_rows(a, b)[0]
    assert "hours" not in str(stated)


def test_a_disk_that_fills_leaves_the_earlier_pairs_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = two_lists(500)
    files = write(a, tmp_path / "a.parquet"), write(b, tmp_path / "b.parquet")
    before, _ = match(*files)
    names = {path.name for path in tmp_path.iterdir()}

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.pwrite", full)
    monkeypatch.setattr("inzitu.archive.matching._crowd", lambda *_: 1)
    with pytest.raises(OSError, match="No space left"):
        match(*files, memory=1000)
    assert {path.name for path in tmp_path.iterdir()} == names
    assert pq.read_table(tmp_path / "pairs.parquet").equals(before)


def test_scaled_integers_and_nulls_of_fits_are_read_as_fits_says(tmp_path: Path) -> None:
    columns = [
        fits.Column("ra", "J", unit="deg", array=np.array([0, 500_000, 1_000_000], dtype=np.int32)),
        fits.Column("dec", "D", unit="deg", array=np.zeros(3)),
    ]
    hdu = fits.BinTableHDU.from_columns(columns)
    hdu.header.update({"TSCAL1": 1e-6, "TZERO1": 100.0, "TNULL1": 500_000})
    hdu.writeto(tmp_path / "a.fits")
    pq.write_table(pa.table({"ra": [100.0, 100.5, 101.0], "dec": [0.0, 0.0, 0.0]}), tmp_path / "b.parquet")
    pairs, counts = match(tmp_path / "a.fits", tmp_path / "b.parquet")
    assert pairs["row_a"].to_pylist() == [0, 2]
    assert counts.unusable_a == 1


def test_columns_can_be_named(tmp_path: Path) -> None:
    a, b = two_lists(500)
    odd = write(a.rename_columns(["x", "y"]), tmp_path / "a.parquet")
    other = write(b, tmp_path / "b.parquet")
    pairs, _ = match(odd, other, columns_a=("x", "y"))
    assert pairs["row_a"].to_pylist() == nearest_rows(a, b)[0]
    with pytest.raises(TableFault, match="Its columns are: x, y"):
        match(odd, other)


def test_progress_runs_from_nothing_to_all_and_never_back(tmp_path: Path) -> None:
    a, b = two_lists()
    told: list[float] = []
    match(
        write(a, tmp_path / "a.parquet"), write(b, tmp_path / "b.parquet"), progress=lambda done, _: told.append(done)
    )
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_more_rows_at_one_place_than_memory_holds_is_an_error_with_the_remedy(tmp_path: Path) -> None:
    zeros = pa.table({"ra": np.zeros(100_000), "dec": np.zeros(100_000)})
    path = write(zeros, tmp_path / "a.parquet")
    assert match(path, path)[0]["row_b"].to_numpy().max() == 0
    with pytest.raises(
        LimitFault,
        match=r"200,000 rows lie within 79 arcsec of declination 0\.000, .* enough for 1,310; allow 152\.7 times",
    ):
        match(path, path, memory=1 << 20)


def clump(n: int, seed: int = 1) -> pa.Table:
    """Positions of which all are neighbours, in no order."""
    rng = np.random.default_rng(seed)
    return pa.table({"ra": 150 + rng.uniform(0, 1e-4, n), "dec": 2 + rng.uniform(0, 1e-4, n)})


def test_many_more_pairs_than_rows_are_written_in_order_without_being_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inzitu.archive.pairs.BLOCK", 700)
    n = 1000
    path = write(clump(n), tmp_path / "a.parquet")
    pairs, counts = match(path, path, every=True)
    assert counts.pairs == n * n
    assert np.array_equal(pairs["row_a"].to_numpy(), np.repeat(np.arange(n), n))
    assert np.array_equal(pairs["row_b"].to_numpy(), np.tile(np.arange(n), n))
    assert match(path, path, every=True, memory=8 << 20)[0].equals(pairs)


def test_memory_does_not_grow_with_the_pairs(tmp_path: Path) -> None:
    # A million pairs and four million, of 24 bytes each.
    most = []
    for n in (1000, 2000):
        path = write(clump(n), tmp_path / "a.parquet")
        tracemalloc.start()
        assert crossmatch_files(path, path, 10.0, tmp_path / "p.parquet", every=True, memory=16 << 20).pairs == n * n
        most.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert most[1] < most[0] + (16 << 20)


def test_a_list_without_rows_is_refused(tmp_path: Path) -> None:
    a, b = two_lists(10)
    with pytest.raises(TableFault, match=r"a\.parquet has no rows"):
        match(write(a.slice(0, 0), tmp_path / "a.parquet"), write(b, tmp_path / "b.parquet"))


def test_a_list_of_which_no_row_has_a_position_is_refused(tmp_path: Path) -> None:
    b = write(two_lists(10)[1], tmp_path / "b.parquet")
    a = write(pa.table({"ra": ["x", "-999"], "dec": ["y", "-999"]}), tmp_path / "a.csv")
    for files in ((a, b), (b, a)):
        with pytest.raises(
            TableFault, match=r"None of the 2 rows of a\.csv has a usable position in ra and dec; state"
        ):
            match(*files)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a.csv", r"The pairs would replace .*a\.csv, or lie in it; name another file"),
        ("same.csv", r"The pairs would replace .*a\.csv, or lie in it; name another file"),
        ("b.d/pairs.parquet", r"The pairs would replace .*b\.d, or lie in it; name another file"),
        ("moc.fits", r"The pairs would replace .*moc\.fits"),
        ("folder", r"folder is a folder; name a file for the pairs"),
        ("a.csv/p.parquet", r"p\.parquet cannot be written: .*; name a file in another folder|would replace"),
        ("file/p.parquet", r"p\.parquet cannot be written: .*; name a file in another folder"),
    ],
)
def test_what_cannot_be_written_or_is_read_is_refused_before_anything_is_read(
    tmp_path: Path, name: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = two_lists()
    write(a, tmp_path / "a.csv"), write(b, tmp_path / "b.d")
    (tmp_path / "same.csv").symlink_to(tmp_path / "a.csv")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    Coverage.from_text("3/700-703").write(tmp_path / "moc.fits")
    before = (tmp_path / "a.csv").read_bytes()
    monkeypatch.setattr("inzitu.archive.matching.position_batches", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(ParameterFault, match=said):
        crossmatch_files(tmp_path / "a.csv", tmp_path / "b.d", 1.0, tmp_path / name, moc=tmp_path / "moc.fits")
    assert (tmp_path / "a.csv").read_bytes() == before


def test_a_failure_leaves_the_earlier_pairs_as_they_were(tmp_path: Path) -> None:
    a, b = two_lists(500)
    files = write(a, tmp_path / "a.parquet"), write(b, tmp_path / "b.parquet")
    before, _ = match(*files)
    content = files[1].read_bytes()
    files[1].write_bytes(content[: len(content) // 2])
    with pytest.raises(TableFault, match=r"b\.parquet cannot be read as parquet"):
        match(*files)
    assert pq.read_table(tmp_path / "pairs.parquet").equals(before)


@pytest.mark.parametrize("radius", [-1.0, float("nan"), 1e7])
def test_a_radius_out_of_range_is_refused_before_anything_is_read(tmp_path: Path, radius: float) -> None:
    with pytest.raises(ValueError, match="out of range"):
        crossmatch_files(tmp_path / "none", tmp_path / "none", radius, tmp_path / "out.parquet")
