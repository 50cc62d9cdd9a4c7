"""Lists as people send them: names, units and frames of positions, and what is said when there are none."""

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st

from archive.test_formats import write
from inzitu.archive.catalogues import guess_positions, positions, read_table, unusable
from inzitu.archive.streams import read_positions
from inzitu.errors import TableFault


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
