"""The nearest source of a catalogue in files, against a k-d tree over the whole of it."""

from __future__ import annotations

import gzip
import pickle
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table
from scipy.spatial import cKDTree

from inzitu.archive import counterparts as module
from inzitu.archive import inspection
from inzitu.archive.counterparts import Counterparts, counterparts
from inzitu.archive.partitions import partitions
from inzitu.errors import ArchiveFault, ManifestFault
from inzitu.manifest import CatalogueEntry, Manifest

RADIUS = 900.0
CATALOGUE = 4000


WRITERS: dict[str, dict[str, Any]] = {
    "fits": {"format": "fits"},
    "csv": {"format": "ascii.csv"},
    "blanks": {"format": "ascii.fixed_width", "delimiter": None},
    "ecsv": {"format": "ascii.ecsv"},
    "votable": {"format": "votable"},
}


def sphere(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    return rng.uniform(0, 360, count), np.degrees(np.arcsin(rng.uniform(-1, 1, count)))


def vectors(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    lon, lat = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)


@pytest.fixture(scope="module")
def sky() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    ra, dec = sphere(rng, CATALOGUE)
    # Poles and the meridian are where margins go wrong.
    ra[:200], dec[:100], dec[100:200] = rng.uniform(0, 360, 200), 89.9, -89.95
    ra[200:400] = rng.uniform(-0.2, 0.2, 200) % 360
    return {"objID": np.arange(CATALOGUE) + 10**15, "ra": ra, "dec": dec, "g": rng.uniform(15, 25, CATALOGUE)}


@pytest.fixture(scope="module")
def sources(sky: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(8)
    near = rng.permutation(CATALOGUE)[:1500]
    dec = np.clip(sky["dec"][near] + rng.normal(0, 0.15, 1500), -89.99, 89.99)
    ra = (sky["ra"][near] + rng.normal(0, 0.15, 1500)) % 360
    return np.append(ra, np.nan), np.append(dec, 0.0)


def write(sky: dict[str, np.ndarray], path: Path, form: str) -> CatalogueEntry:
    order = np.argsort(sky["dec"])
    table = Table({name: column[order] for name, column in sky.items()})
    match form:
        case "parquet":
            pq.write_table(pa.table(dict(table)), path, row_group_size=300)
        case "folder":
            path.mkdir()
            for number, start in enumerate(range(0, CATALOGUE, 1000)):
                pq.write_table(
                    pa.table(dict(table[start : start + 1000])), path / f"{number}.parquet", row_group_size=300
                )
        case "galactic":
            from astropy.coordinates import SkyCoord

            lonlat = SkyCoord(table["ra"], table["dec"], unit="deg").galactic
            columns = {"objID": table["objID"], "l": lonlat.l.deg, "b": lonlat.b.deg, "g": table["g"]}
            pq.write_table(pa.table(columns), path, row_group_size=300)
            return CatalogueEntry(path=str(path), ra="l", dec="b", magnitudes=("g",))
        case _:
            plain, _, packed = form.partition(".")
            table["ra"].unit = "deg"
            table.write(written := path.with_suffix(".plain"), **WRITERS[plain])
            path.write_bytes(gzip.compress(written.read_bytes(), 1) if packed else written.read_bytes())
    return CatalogueEntry(path=str(path), magnitudes=("g",))


def expected(sky: dict[str, np.ndarray], ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the sources that have a counterpart, and its row."""
    tree = cKDTree(vectors(sky["ra"], sky["dec"]))
    distance, row = tree.query(vectors(np.nan_to_num(ra), dec))
    found = np.flatnonzero((2 * np.degrees(np.arcsin(distance / 2)) * 3600 <= RADIUS) & np.isfinite(ra))
    return found, row[found]


@pytest.mark.parametrize(
    "form",
    ["parquet", "folder", "galactic", *WRITERS, "fits.gz", "csv.gz", "blanks.gz", "ecsv.gz", "votable.gz"],
)
def test_they_are_those_of_a_tree_over_the_whole_catalogue_whatever_its_form(
    form: str,
    sky: dict[str, np.ndarray],
    sources: tuple[np.ndarray, np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("inzitu.archive.partitions.ROWS", 700)
    for reader in ("delimited", "fits_records", "votable_rows"):
        monkeypatch.setattr(f"inzitu.archive.{reader}.BYTES", 30_001)
    entry = write(sky, tmp_path / f"catalogue.{form}", form)
    found = counterparts(entry, *sources, RADIUS, rows=250)
    rows, nearest = expected(sky, *sources)
    assert len(rows) > 1000
    np.testing.assert_array_equal(found.first, rows)
    assert found.columns["objID"].to_pylist() == [str(name) for name in sky["objID"][nearest]]
    np.testing.assert_allclose(found.columns["g"].to_numpy(), sky["g"][nearest])
    assert found.share == 1


def test_partitions_elsewhere_on_the_sky_are_not_opened(
    sky: dict[str, np.ndarray], sources: tuple[np.ndarray, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inzitu.archive.partitions.ROWS", 300)
    entry = write(sky, tmp_path / "catalogue", "folder")
    searched: list[Path] = []
    within = module._Search.within

    def noting(self: module._Search, item: object) -> object:
        searched.append(item[0].path)  # type: ignore[index]  # a partition and what it is for
        return within(self, item)  # type: ignore[arg-type]  # the same

    monkeypatch.setattr(module._Search, "within", noting)
    ra, dec = sources
    strip = np.abs(dec - 20) < 1
    found = counterparts(entry, ra[strip], dec[strip], RADIUS, rows=1000)
    rows, _ = expected(sky, ra[strip], dec[strip])
    np.testing.assert_array_equal(found.first, rows)
    assert 1 <= len(searched) <= 2 < len(partitions(Path(entry.path)))
    assert set(found.files) == set(searched)


def test_what_travels_to_a_cluster_gives_the_same_there(
    sky: dict[str, np.ndarray], sources: tuple[np.ndarray, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inzitu.archive.partitions.ROWS", 300)
    entry = write(sky, tmp_path / "catalogue", "folder")

    def elsewhere(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[tuple[int, Any]]:
        """Do each item, the last first, with copies of all that is sent and of what comes back."""
        for index, item in reversed(list(enumerate(items))):
            there, sent = pickle.loads(pickle.dumps((function, item)))
            yield index, pickle.loads(pickle.dumps(there(sent)))

    here, there = (counterparts(entry, *sources, RADIUS, rows=300, mapping=m) for m in (module.in_turn, elsewhere))
    np.testing.assert_array_equal(here.first, there.first)
    assert here.columns.equals(there.columns)


def test_a_search_that_is_cut_short_says_how_much_it_saw(
    sky: dict[str, np.ndarray], sources: tuple[np.ndarray, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inzitu.archive.partitions.ROWS", 300)
    entry = write(sky, tmp_path / "catalogue", "parquet")
    times = iter([False, False, False, True])
    found = counterparts(entry, *sources, RADIUS, rows=300, enough=lambda: next(times))
    assert found.share == pytest.approx(4 / 14)
    assert set(found.first) <= set(expected(sky, *sources)[0])


@pytest.mark.parametrize("form", ["csv", "fits", "parquet", "votable", "csv.gz", "fits.gz"])
def test_a_search_of_one_partition_is_cut_short_between_its_batches(
    form: str, sky: dict[str, np.ndarray], sources: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    entry = write(sky, tmp_path / f"catalogue.{form}", form)
    assert len(partitions(Path(entry.path))) == 1
    asked = iter([False, False, False])
    found = counterparts(entry, *sources, RADIUS, rows=500, enough=lambda: next(asked, True))
    assert found.share == pytest.approx(0.5, abs=0.02)  # of a text's rows nobody knows how many there are
    searched = {str(name) for name in sky["objID"][np.argsort(sky["dec"])][:2000]}
    assert 0 < len(found.first) < len(expected(sky, *sources)[0])
    assert set(found.columns["objID"].to_pylist()) <= searched


def test_memory_follows_the_setting_and_not_the_catalogue(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    path = tmp_path / "catalogue.parquet"
    with pq.ParquetWriter(path, pa.schema([("objID", pa.int64()), ("ra", pa.float64()), ("dec", pa.float64())])) as out:
        for start in range(0, 3_000_000, 500_000):
            ra, dec = sphere(rng, 500_000)
            out.write_table(pa.table({"objID": np.arange(start, start + 500_000), "ra": ra, "dec": dec}))
    ra, dec = sphere(rng, 1000)
    peaks = []
    for rows in (50_000, 500_000):
        tracemalloc.start()
        found = counterparts(CatalogueEntry(path=str(path)), ra, dec, 60.0, rows=rows)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert found.share == 1
    assert peaks[0] < 50_000 * module.ROW_COST + 20e6
    assert peaks[1] < 500_000 * module.ROW_COST + 20e6


ROWS_OF = {
    "csv": (b"objID,ra,dec,remark\n", b"%d,%.15f,%.15f," + 900 * b"-" + b"\n", b""),
    "votable": (
        b'<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3"><RESOURCE><TABLE>'
        b'<FIELD name="objID" datatype="long"/><FIELD name="ra" datatype="double"/>'
        b'<FIELD name="dec" datatype="double"/><FIELD name="remark" datatype="char" arraysize="*"/><DATA><TABLEDATA>',
        b"<TR><TD>%d</TD><TD>%.15f</TD><TD>%.15f</TD><TD>" + 900 * b"-" + b"</TD></TR>\n",
        b"</TABLEDATA></DATA></TABLE></RESOURCE></VOTABLE>",
    ),
}
"""Head, row and end of a catalogue in each form."""
SEARCH = """
import sys
from pathlib import Path
import numpy as np
from inzitu.archive.counterparts import counterparts
from inzitu.manifest import CatalogueEntry
peaks = []
for path in sys.argv[1:]:
    found = counterparts(CatalogueEntry(path=path), np.array([10.0]), np.array([20.0]), 1.0, rows=10_000)
    assert found.columns["objID"].to_pylist() == ["1000000000000000003"], found
    # getrusage would count what the parent of this process had before it began.
    peaks.append(int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]))
print(peaks[-1] - peaks[0])
"""


@pytest.mark.parametrize("form", ROWS_OF)
def test_a_compressed_catalogue_longer_than_the_memory_is_searched_in_it(form: str, tmp_path: Path) -> None:
    head, row, end = ROWS_OF[form]
    rng = np.random.default_rng(0)
    far = b"".join(row % (10**18 + 9, ra, dec) for ra, dec in zip(*sphere(rng, 8_000), strict=True))
    near, paths = row % (10**18 + 3, 10.0, 20.0), []
    for times in (4, 12):  # the shorter is longer than some blocks of text, for the libraries' own memory
        paths.append(tmp_path / f"{times}.gz")
        with gzip.open(paths[-1], "wb", compresslevel=1) as file:
            for part in (head, *[far] * times, near, end):
                file.write(part)
    assert 8 * len(far) > 55e6
    child = subprocess.run([sys.executable, "-c", SEARCH, *map(str, paths)], capture_output=True, text=True, check=True)
    assert int(child.stdout) * 1024 < 20e6


def test_what_stands_late_in_a_text_is_no_more_than_the_fault_of_its_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inzitu.archive.delimited.BYTES", 200)
    rows = [f"{number},{number / 10},1.0,20.5" for number in range(100)]
    rows[80:83] = ["SDSS J1,8.0,1.0,20.5", "81,no idea,1.0,20.5", "82,8.2,1.0,faint"]
    path = tmp_path / "catalogue.csv"
    path.write_text("\n".join(["objID,ra,dec,g", *rows]))
    entry = CatalogueEntry(path=str(path), magnitudes=("g",))
    found = counterparts(entry, np.array([0.7, 8.0, 8.1, 8.2]), np.ones(4), 1.0, rows=1000)
    assert found.first.tolist() == [0, 1, 3]
    assert found.columns.to_pydict() == {"objID": ["7", "SDSS J1", "82"], "g": [20.5, 20.5, None]}


@pytest.mark.parametrize("kept", [0.5, 0.999])
@pytest.mark.parametrize("form", ["fits.gz", "csv.gz", "votable.gz"])
def test_a_compressed_catalogue_that_is_cut_off_is_the_archives_fault(
    form: str, kept: float, sky: dict[str, np.ndarray], tmp_path: Path
) -> None:
    entry = write(sky, tmp_path / "catalogue", form)
    content = (tmp_path / "catalogue").read_bytes()
    (tmp_path / "catalogue").write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ArchiveFault, match=r"catalogue cannot be unpacked: .*; send it again"):
        counterparts(entry, np.array([1.0]), np.array([2.0]), 1.0, rows=1000)


def test_nothing_near_is_an_empty_answer_with_its_columns(sky: dict[str, np.ndarray], tmp_path: Path) -> None:
    entry = write(sky, tmp_path / "catalogue", "parquet")
    found: Counterparts = counterparts(entry, np.array([1.0]), np.array([2.0]), 0.001, rows=1000)
    assert len(found.first) == 0
    assert found.columns.column_names == ["objID", "g"]


@pytest.mark.parametrize(("content", "message"), [(b"PAR1 truncated", "cannot be read"), (None, "cannot be read")])
def test_a_catalogue_that_cannot_be_read_is_the_archives_fault(
    content: bytes | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "catalogue.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArchiveFault, match=message):
        counterparts(CatalogueEntry(path=str(path)), np.array([1.0]), np.array([2.0]), 1.0, rows=10)


def test_a_column_that_the_manifest_names_in_vain_is_named(sky: dict[str, np.ndarray], tmp_path: Path) -> None:
    entry = write(sky, tmp_path / "catalogue", "parquet").model_copy(update={"magnitudes": ("y",)})
    with pytest.raises(ArchiveFault, match="has no column y; the manifest names it"):
        counterparts(entry, np.array([1.0]), np.array([2.0]), 1.0, rows=10)


@pytest.mark.parametrize("form", ["parquet", "folder", "fits", "csv", "votable", "fits.gz", "csv.gz"])
def test_the_operators_check_counts_the_rows_and_names_a_column_that_is_not_there(
    form: str, sky: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = write(sky, tmp_path / f"catalogue.{form}", form)
    monkeypatch.setattr("inzitu.archive.inspection.ROWS", 900)
    survey = {"band": "g", "hips": str(tmp_path)}
    manifest = Manifest.model_validate({"archive": {"surveys": [survey], "catalogue": entry}})
    assert inspection._catalogue(manifest).endswith(f"{CATALOGUE:,} rows")
    wrong = {"surveys": [survey], "catalogue": entry.model_copy(update={"magnitudes": ("y",)})}
    with pytest.raises(ManifestFault, match="no column y; it has objID, ra, dec, g"):
        inspection._catalogue(Manifest.model_validate({"archive": wrong}))
