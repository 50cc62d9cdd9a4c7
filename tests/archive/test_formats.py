"""Every file that a list may come in, and what is said of one that cannot be read."""

import contextlib
import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.io.votable import from_table
from astropy.table import MaskedColumn, Table
from hypothesis import given, settings
from hypothesis import strategies as st

from inzitu.archive.catalogues import positions, read_table
from inzitu.archive.streams import read_positions
from inzitu.errors import TableFault


def sample() -> Table:
    table = Table()
    table["source"] = ["a", "b", "c"]
    table["RAJ2000"] = [10.0, 359.5, 187.25]
    table["DEJ2000"] = [-5.0, 0.0, 89.5]
    table["z"] = MaskedColumn([2.8, 3.1, 0.0], mask=[False, False, True])
    table["RAJ2000"].unit = table["DEJ2000"].unit = "deg"
    table["RAJ2000"].description = "Right ascension"
    return table


def write(table: Table, path: Path) -> Path:
    match path.suffix:
        case ".fits" | ".csv":
            table.write(path)
        case ".parquet":
            pq.write_table(pa.table({name: np.asarray(table[name]) for name in table.colnames}), path)
        case ".xml" | ".bin" | ".bin2":
            form = {".xml": "tabledata", ".bin": "binary", ".bin2": "binary2"}[path.suffix]
            from_table(table).to_xml(str(path), tabledata_format=form)
        case ".ecsv":
            table.write(path, format="ascii.ecsv")
        case ".txt":
            table.write(path, format="ascii.commented_header")
        case ".tsv":
            table.write(path, format="ascii.tab")
        case _:
            raise AssertionError(path)
    return path


@pytest.mark.parametrize("suffix", [".fits", ".csv", ".parquet", ".xml", ".bin", ".bin2", ".ecsv", ".txt", ".tsv"])
def test_every_format_gives_the_same_list_whatever_the_file_is_called(tmp_path: Path, suffix: str) -> None:
    path = write(sample(), tmp_path / f"list{suffix}").rename(tmp_path / "upload")
    table = read_table(path)
    ra, dec = positions(table)
    assert table.column_names == ["source", "RAJ2000", "DEJ2000", "z"]
    assert table["source"].to_pylist() == ["a", "b", "c"]
    assert np.allclose(ra, [10.0, 359.5, 187.25])
    assert np.allclose(dec, [-5.0, 0.0, 89.5])


@pytest.mark.parametrize("suffix", [".fits", ".xml", ".bin", ".bin2", ".ecsv"])
def test_nulls_stay_nulls_and_units_stay_with_their_columns(tmp_path: Path, suffix: str) -> None:
    table = read_table(write(sample(), tmp_path / f"list{suffix}"))
    assert table["z"].to_pylist() == [2.8, 3.1, None]
    assert (table.schema.field("RAJ2000").metadata or {})[b"unit"] == b"deg"


ENTITIES = '<?xml version="1.0"?><!DOCTYPE VOTABLE [<!ENTITY a "{}">]><VOTABLE>&a;</VOTABLE>'
REMOTE = (
    '<VOTABLE version="1.4"><RESOURCE><TABLE><FIELD name="ra" datatype="double"/>'
    '<DATA><BINARY><STREAM encoding="base64"\n href="file:///etc/hostname"/></BINARY></DATA></TABLE></RESOURCE></VOTABLE>'
)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b" \n \n", "is empty"),
        (b"<html><body>503</body></html>", "XML or HTML, but no VOTable"),
        (b"\x1f\x8b\x08\x00", "cannot be unpacked: .*; send it again"),
        (gzip.compress(b"ra,dec\n" + bytes(10**6)), "more than 100 times its size"),
        (gzip.compress(b""), "is empty"),
        (b"\x7fELF\x00\x00", "of no format that is read here"),
        (b"\x89PNG\r\n\x1a\n and what follows", "of no format that is read here"),
        (b"PAR1 and then nothing", "cannot be read as parquet"),
        (b"SIMPLE  =                    T", "fits"),
        (b"<VOTABLE><RESOURCE><TABLE>", "votable"),
        (b'<VOTABLE version="1.4"></VOTABLE>', "without a TABLE"),
        (ENTITIES.format("x").encode(), "declares XML entities"),
        (ENTITIES.replace('"{}"', 'SYSTEM "file:///etc/hostname"').encode(), "declares XML entities"),
        (REMOTE.encode(), "data at another address"),
        (b'<?xml version="1.0" encoding="UTF-16"?>\n<VOTABLE/>', "UTF-16|well-formed"),
        (b"1.0,2.0\n3.0,4.0\n", "has no header"),
        (b"ra,dec,ra\n1,2,3\n", "column 'ra' twice"),
        (b"# list\nra,dec\n1,2\n1,2,3\n", r"upload: line 4 has 3 values where the header names 2; mend or remove it"),
        (b"# only\n# comments\n", "comments only"),
    ],
)
def test_a_file_that_cannot_be_used_says_what_it_is(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "upload").write_bytes(content)
    with pytest.raises(TableFault, match=said):
        read_table(tmp_path / "upload")


@pytest.mark.parametrize("reader", [read_table, read_positions])
@pytest.mark.parametrize(
    ("line", "said"),
    [('4;"5;6"', "line 50003 has 2 values"), ("4;5;6;7", "line 50003 has 4 values"), ("4", "line 50003 has 1 value ")],
)
@pytest.mark.parametrize("last", [False, True])
def test_the_line_of_a_text_table_that_has_too_few_or_too_many_values_is_named(
    tmp_path: Path, reader: Callable[[Path], object], line: str, said: str, last: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inzitu.archive.delimited.BYTES", 10_000)
    path = tmp_path / "list.csv"
    after = "" if last else "\n" + '1;2;"a;b"\n' * 5
    path.write_text("# from afar\nra;dec;name\n" + "1;2;x\n" * 49_999 + "\n" + line + after)
    with pytest.raises(TableFault, match=rf"list\.csv: {said}.* names 3; mend or remove it"):
        reader(path)


def test_a_truncated_fits_table_says_so(tmp_path: Path) -> None:
    path = write(sample(), tmp_path / "list.fits")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - 2880 + 20])
    with pytest.raises(TableFault, match=r"truncated.*send it again"):
        read_table(path)


@pytest.mark.parametrize("rows", [-1, -5, -10_000])
@pytest.mark.parametrize("reader", [read_table, read_positions])
def test_a_fits_table_of_fewer_rows_than_none_is_refused(
    tmp_path: Path, rows: int, reader: Callable[[Path], object]
) -> None:
    path = write(Table({"ra": [1.0, 2.0], "dec": [0.0, 0.0]}), tmp_path / "list.fits")
    path.write_bytes(path.read_bytes().replace(b"NAXIS2  =                    2", f"NAXIS2  = {rows:20}".encode()))
    with pytest.raises(TableFault, match=r"list\.fits states a size of its table that none has; write or send it"):
        reader(path)


@pytest.mark.parametrize("reader", [read_table, read_positions])
def test_a_fits_table_with_an_unknown_kind_of_column_is_the_users_fault(
    tmp_path: Path, reader: Callable[[Path], object]
) -> None:
    path = write(Table({"ra": [1.0], "dec": [0.0]}), tmp_path / "list.fits")
    path.write_bytes(path.read_bytes().replace(b"TFORM1  = 'D ", b"TFORM1  = '9Q"))
    with pytest.raises(TableFault, match=r"list\.fits is no valid FITS table: .*9Q; write it again"):
        reader(path)


@pytest.mark.parametrize("values", [np.ones((3, 2)), np.ones(3) * 1j])
def test_positions_in_columns_of_arrays_or_complex_numbers_are_refused_by_name(
    tmp_path: Path, values: np.ndarray
) -> None:
    path = write(Table({"ra": values, "dec": np.zeros(3)}), tmp_path / "list.fits")
    with pytest.raises(TableFault, match=r"list\.fits .* the column ra holds arrays or complex numbers; name one"):
        read_positions(path)


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.parquet"
    pq.write_table(pa.table([[1.0], [2.0], [3.0]], names=["ra", "dec", "ra"]), path)
    with pytest.raises(TableFault, match=r"list\.parquet: The list names the column 'ra' twice; give each a name"):
        read_positions(path)


def test_a_fits_image_is_no_table(tmp_path: Path) -> None:
    fits.PrimaryHDU(np.zeros((3, 3))).writeto(tmp_path / "image.fits")
    with pytest.raises(TableFault, match="without a table"):
        read_table(tmp_path / "image.fits")


def test_ucds_of_fits_and_votable_are_kept(tmp_path: Path) -> None:
    hdu = fits.BinTableHDU(sample())
    hdu.header["TUCD2"] = "pos.eq.ra;meta.main"
    hdu.writeto(tmp_path / "list.fits")
    assert (read_table(tmp_path / "list.fits").schema.field("RAJ2000").metadata or {})[b"ucd"] == b"pos.eq.ra;meta.main"


def test_the_comment_line_of_skyserver_is_no_header(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("#Table1\nra,dec,z\n1.5,2.5,3.5\n")
    assert read_table(tmp_path / "list").column_names == ["ra", "dec", "z"]


def test_columns_of_arrays_are_lists(tmp_path: Path) -> None:
    table = Table({"ra": [1.0, 2.0], "dec": [1.0, 2.0], "flux": np.arange(10.0).reshape(2, 5)})
    assert read_table(write(table, tmp_path / "list.fits"))["flux"].to_pylist()[1] == [5.0, 6.0, 7.0, 8.0, 9.0]


def test_a_folder_of_parquet_files_is_one_table(tmp_path: Path) -> None:
    for part in (0, 1):
        (tmp_path / f"part={part}").mkdir()
        pq.write_table(pa.table({"ra": [1.0 * part], "dec": [2.0]}), tmp_path / f"part={part}" / "0.parquet")
    assert read_table(tmp_path)["ra"].to_pylist() == [0.0, 1.0]


def test_a_format_can_be_stated_and_an_unknown_one_is_refused(tmp_path: Path) -> None:
    path = write(sample(), tmp_path / "list.csv")
    assert read_table(path, format="csv").num_rows == 3
    with pytest.raises(TableFault, match="give one of votable, csv, fits, parquet"):
        read_table(path, format="xls")


@settings(max_examples=200, deadline=None)
@given(
    content=st.binary(max_size=300),
    start=st.sampled_from([b"", b"ra,dec\n", b"<VOTABLE ", b"PAR1", b"SIMPLE  =", b"# "]),
)
def test_no_bytes_end_in_anything_but_a_table_or_a_fault(
    content: bytes, start: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes"
    path.write_bytes(start + content)
    with contextlib.suppress(TableFault):
        assert isinstance(read_table(path), pa.Table)
