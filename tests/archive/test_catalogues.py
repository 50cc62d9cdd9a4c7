"""Lists as people send them: every format, name and unit, and what is said when a list cannot be used."""

import contextlib
import gzip
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.io.votable import from_table
from astropy.table import MaskedColumn, Table
from hypothesis import given, settings
from hypothesis import strategies as st

from inzitu.archive.catalogues import guess_positions, positions, read_table, unusable
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


@pytest.mark.parametrize(
    "names",
    [
        "ra,dec",
        "RA,DEC",
        "Ra,Dec",
        "RAJ2000,DEJ2000",
        "_RAJ2000,_DEJ2000",
        "ra_deg,dec_deg",
        "RA_ICRS,DE_ICRS",
        "RAdeg,DEdeg",
        "ALPHA_J2000,DELTA_J2000",
        "coord_ra,coord_dec",
        "TARGET_RA,TARGET_DEC",
        "PLUG_RA,PLUG_DEC",
        "raMean,decMean",
    ],
)
def test_the_names_that_surveys_give_their_positions_are_known(names: str) -> None:
    table = pa.table({name: [1.0] for name in ["objid", *names.split(",")]})
    assert guess_positions(table) == tuple(names.split(","))


def test_computed_positions_of_vizier_are_preferred_to_the_catalogues_own() -> None:
    table = pa.table({"RAJ2000": ["00 40 00"], "DEJ2000": ["-05 00 00"], "_RAJ2000": [10.0], "_DEJ2000": [-5.0]})
    assert guess_positions(table) == ("_RAJ2000", "_DEJ2000")


def test_a_ucd_tells_what_a_name_does_not() -> None:
    fields = [pa.field("x", pa.float64()), pa.field("y", pa.float64())]
    ucds = [b"pos.eq.ra;meta.main", b"pos.eq.dec;meta.main"]
    schema = pa.schema([field.with_metadata({b"ucd": ucd}) for field, ucd in zip(fields, ucds, strict=True)])
    assert guess_positions(pa.table([[1.0], [2.0]], schema=schema)) == ("x", "y")


def test_named_columns_go_before_guesses() -> None:
    table = pa.table({"ra": [1.0], "dec": [2.0], "ra_true": [3.0], "dec_true": [4.0]})
    ra, dec = positions(table, ra="ra_true", dec="dec_true")
    assert (ra[0], dec[0]) == (3.0, 4.0)


@pytest.mark.parametrize(
    ("unit", "value", "expected"),
    [
        ("deg", 30.0, 30.0),
        ("hourangle", 2.0, 30.0),
        ("h", 2.0, 30.0),
        ("rad", 1.0, 57.29577951),
        ("arcsec", 3600.0, 1.0),
    ],
)
def test_units_come_from_the_metadata(tmp_path: Path, unit: str, value: float, expected: float) -> None:
    table = Table({"ra": [value], "dec": [0.0]}, units={"ra": unit, "dec": "deg"})
    assert positions(read_table(write(table, tmp_path / "list.xml")))[0][0] == pytest.approx(expected)


def test_hours_that_the_list_does_not_mention_can_be_stated() -> None:
    assert positions(pa.table({"ra": [2.0], "dec": [1.0]}), unit="hour")[0][0] == 30.0


@pytest.mark.parametrize("stated", [None, "deg"])
def test_a_stated_unit_is_that_of_both_columns_but_for_hours(stated: str | None) -> None:
    said = {} if stated is None else {"unit": stated}
    schema = pa.schema([pa.field(name, pa.float64(), metadata=said) for name in ("ra", "dec")])
    table = pa.table([[3.0], [-1.5]], schema=schema)
    assert np.allclose(positions(table, unit="rad"), np.degrees([[3.0], [-1.5]]))
    assert np.allclose(positions(table, unit="hour"), [[45.0], [-1.5]])
    assert np.allclose(positions(table, unit="arcmin"), [[0.05], [-0.025]])


@settings(max_examples=50, deadline=None)
@given(ra=st.floats(0, 359.999), dec=st.floats(-90, 90), separator=st.sampled_from([":", " ", "hms"]))
def test_sexagesimal_text_is_what_astropy_says_it_is(ra: float, dec: float, separator: str) -> None:
    truth = SkyCoord(ra, dec, unit="deg")
    table = pa.table(
        {
            "ra": [truth.ra.to_string("hour", sep=separator, precision=6)],
            "dec": [
                truth.dec.to_string("deg", sep="dms" if separator == "hms" else separator, precision=6, alwayssign=True)
            ],
        }
    )
    found = positions(table)
    # A microsecond of time in right ascension; a last second printed as 60 is not sexagesimal.
    if "60.000000" not in table["ra"][0].as_py() + table["dec"][0].as_py():
        assert truth.separation(SkyCoord(found[0][0], found[1][0], unit="deg")).arcsec < 2e-5


@given(st.floats(0, 359.9999), st.floats(-90, 90))
@settings(max_examples=30, deadline=None)
def test_columns_of_hours_degrees_minutes_and_seconds_are_what_astropy_says_they_are(ra: float, dec: float) -> None:
    sky = SkyCoord(ra, dec, unit="deg")
    (h, m, s), (sign, d, arcmin, arcsec) = sky.ra.hms, sky.dec.signed_dms
    columns = {"RAh": [int(h)], "RAm": [int(m)], "RAs": [s], "DE-": ["-" if sign < 0 else "+"]}
    columns |= {"DEd": [int(d)], "DEm": [int(arcmin)], "DEs": [arcsec]}
    table = pa.table(columns)
    ucds = {"R": "pos.eq.ra", "D": "pos.eq.dec"}  # as VizieR has them, the same for all parts
    read = positions(
        table.cast(pa.schema([field.with_metadata({"ucd": ucds[field.name[0]]}) for field in table.schema]))
    )
    assert sky.separation(SkyCoord(*read, unit="deg")).arcsec[0] < 1e-5


def test_columns_in_parts_may_lack_seconds_and_a_sign_and_hold_rubbish(tmp_path: Path) -> None:
    # As VizieR gives them, tab-separated; -0 degrees have their sign in a column of its own.
    text = (
        "RAh\tRAm\tRAs\tDE-\tDEd\tDEm\tDEs\n12\t30\t00.0\t-\t00\t30\t00\n12\t30\t\t+\t05\t15\t\n12\t75\t0\t+\t1\t1\t1\n"
    )
    (tmp_path / "list.tsv").write_text(text)
    for table in (read_table(tmp_path / "list.tsv"), pa.table({"RAh": [12.5, 12.5, 99.0], "DEd": [-0.5, 5.25, 0.0]})):
        ra, dec = positions(table)
        np.testing.assert_allclose(ra, [187.5, 187.5, np.nan])
        np.testing.assert_allclose(dec, [-0.5, 5.25, np.nan])


def test_columns_of_any_name_can_be_said_to_be_galactic(tmp_path: Path) -> None:
    table = pa.table({"ra": [0.0], "dec": [0.0]})
    np.testing.assert_allclose(positions(table, frame="galactic"), [[266.404988], [-28.936177]], atol=1e-5)
    np.testing.assert_allclose(positions(pa.table({"l": [1.0], "b": [2.0]}), frame="icrs"), [[1.0], [2.0]])
    with pytest.raises(TableFault, match="'fk6' is not known; give positions in icrs, galactic, fk4"):
        positions(table, frame="fk6")


def test_small_negative_declinations_keep_their_sign() -> None:
    assert positions(pa.table({"ra": ["00:00:00"], "dec": ["-00:30:00"]}))[1][0] == -0.5


def test_decimal_text_is_degrees_and_what_is_no_angle_is_a_row_without_position() -> None:
    table = pa.table({"ra": ["10.5", "abc", "", None, "12:61:00"], "dec": ["1e1", "1", "1", "1", "1"]})
    ra, dec = positions(table)
    assert (ra[0], dec[0]) == (10.5, 10.0)
    assert unusable(ra, dec).tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("names", [("l", "b"), ("GLON", "GLAT")])
def test_galactic_positions_are_rotated_to_icrs(names: tuple[str, str]) -> None:
    truth = SkyCoord([83.6, 0.1], [22.0, -89.9], unit="deg")
    table = pa.table({names[0]: [*truth.galactic.l.deg, np.nan], names[1]: [*truth.galactic.b.deg, 0.0]})
    ra, dec = positions(table)
    assert SkyCoord(ra[:2], dec[:2], unit="deg").separation(truth).arcsec.max() < 1e-6
    assert unusable(ra, dec).tolist() == [2]


@pytest.mark.parametrize("suffix", [".xml", ".bin2"])
@pytest.mark.parametrize("inside", ["RESOURCE", "TABLE", "VOTABLE"])
@pytest.mark.parametrize(
    ("system", "frame"),
    [
        ('system="eq_FK4" equinox="B1950"', "fk4"),
        ('system="eq_FK5" equinox="J2000.0"', "icrs"),
        ('system="ICRS" epoch="J2016"', "icrs"),
        ('system="galactic"', "galactic"),
    ],
)
def test_the_coordinate_system_of_a_votable_counts(
    tmp_path: Path, suffix: str, inside: str, system: str, frame: str
) -> None:
    path = write(Table({"ra": [10.0, 200.0], "dec": [-5.0, 30.0]}), tmp_path / f"list{suffix}")
    text = re.sub(rf"(<{inside}[^>]*>)", rf'\1<COOSYS ID="s" {system}/>', path.read_text(), count=1)
    path.write_text(text.replace('name="ra"', 'name="ra" ref="s"').replace('name="dec"', 'name="dec" ref="s"'))
    sky = SkyCoord([10.0, 200.0], [-5.0, 30.0], unit="deg", frame=frame).icrs
    for found in (positions(read_table(path)), read_positions(path)):
        assert np.allclose(found, (sky.ra.deg, sky.dec.deg), rtol=0, atol=1e-9)
    assert np.allclose(read_positions(path, frame="icrs"), ([10.0, 200.0], [-5.0, 30.0]))


def test_a_coordinate_system_that_is_not_known_is_refused(tmp_path: Path) -> None:
    path = write(Table({"ra": [10.0], "dec": [-5.0]}), tmp_path / "list.xml")
    text = path.read_text().replace("<TABLE>", '<COOSYS ID="s" system="ecl_FK5" equinox="J2000"/><TABLE>')
    path.write_text(text.replace('name="ra"', 'name="ra" ref="s"'))
    with pytest.raises(TableFault, match=r"list\.xml: The frame 'ecl_fk5j2000' is not known; .* icrs, galactic, fk4"):
        read_positions(path)


def test_equatorial_columns_go_before_galactic_ones() -> None:
    assert guess_positions(pa.table({"l": [1.0], "b": [1.0], "ra": [1.0], "dec": [1.0]})) == ("ra", "dec")


def test_rows_without_a_usable_position_stay_rows() -> None:
    ra = pa.array([10.0, None, np.nan, np.inf, 400.0, -999.0, -0.5])
    dec = pa.array([95.0, 1.0, 1.0, 1.0, 1.0, -999.0, 1.0])
    lon, lat = positions(pa.table({"ra": ra, "dec": dec}))
    assert unusable(lon, lat).tolist() == [0, 1, 2, 3, 4, 5]
    assert np.isnan(lon[:6]).all()
    assert np.isnan(lat[:6]).all()
    assert lon[6] == 359.5


def test_a_list_without_positions_is_told_its_columns_and_the_remedy() -> None:
    with pytest.raises(TableFault, match=r"columns are: objid, x, z\. Name two of them ra and dec"):
        guess_positions(pa.table({"objid": [1], "x": [1.0], "z": [1.0]}))


def test_half_a_position_is_no_position() -> None:
    with pytest.raises(TableFault, match="columns are: ra, z"):
        positions(pa.table({"ra": [1.0], "z": [1.0]}))
    with pytest.raises(TableFault, match="Only ra was named"):
        guess_positions(pa.table({"ra": [1.0], "dec": [1.0]}), ra="ra")
    with pytest.raises(TableFault, match="no column 'RA_TRUE'"):
        guess_positions(pa.table({"ra": [1.0], "dec": [1.0]}), ra="RA_TRUE", dec="dec")
    with pytest.raises(TableFault, match="'ra' was named for both"):
        guess_positions(pa.table({"ra": [1.0], "dec": [1.0]}), ra="ra", dec="ra")


def test_a_list_without_rows_is_refused() -> None:
    with pytest.raises(TableFault, match=r"no rows, only the columns ra, dec"):
        positions(pa.table({"ra": pa.array([], pa.float64()), "dec": pa.array([], pa.float64())}))


def test_a_unit_that_is_no_angle_is_refused() -> None:
    schema = pa.schema([pa.field("ra", pa.float64(), metadata={"unit": "km"}), pa.field("dec", pa.float64())])
    with pytest.raises(TableFault, match="unit 'km' is no angle"):
        positions(pa.table([[1.0], [1.0]], schema=schema))
    with pytest.raises(TableFault, match="holds no angles"):
        positions(pa.table({"ra": [[1.0]], "dec": [1.0]}))


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
