"""What is written is read back by astropy, and accepted by STILTS."""

import io
import json
import math
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io.votable import parse
from astropy.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st

from inzitu.errors import LimitFault, ParameterFault, QueryFault
from inzitu.vo.fields import Field, field_of
from inzitu.vo.outputs import OUTPUTS, output
from inzitu.vo.votable import Serialization, error_document, field_meanings, votable


@dataclass
class Sent:
    """Rows on their way out, in batches."""

    table: pa.Table
    size: int = 3
    overflow: bool = False
    fault: Exception | None = None

    @property
    def fields(self) -> tuple[Field, ...]:
        return tuple(map(field_of, self.table.schema))

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        yield from self.table.to_batches(self.size)
        if self.fault is not None:
            raise self.fault


def described(name: str, kind: pa.DataType, **meaning: str) -> pa.Field:
    return pa.field(name, kind, metadata=meaning)


SCHEMA = pa.schema(
    [
        described("flag", pa.bool_()),
        described("small", pa.int16(), unit="adu"),
        described("count", pa.int64(), ucd="meta.number", description="More & <less>"),
        described("flux", pa.float32(), unit="nJy"),
        described("ra", pa.float64(), unit="deg", ucd="pos.eq.ra;meta.main"),
        described("name", pa.string(), ucd="meta.id"),
        described("weights", pa.list_(pa.float32(), 3)),
        described("ragged", pa.list_(pa.float64())),
        described("seen", pa.timestamp("us")),
    ]
)
ROWS: list[dict[str, Any]] = [
    {"flag": True, "small": -3, "count": 2**60, "flux": 1.5, "ra": 359.99999999999994, "name": "a<b>&\"c'",
     "weights": [0.1, 0.2, 0.7], "ragged": [1.0, 2.0], "seen": "2026-11-21T03:15:00"},
    {"flag": False, "small": 7, "count": -1, "flux": math.inf, "ra": -0.0, "name": "",
     "weights": [1, math.nan, -math.inf], "ragged": [], "seen": "1999-12-31T23:59:59.5"},
    dict.fromkeys(SCHEMA.names),
    {"flag": True, "small": 0, "count": 0, "flux": math.nan, "ra": 1e-300, "name": "tab\tand, \"quote\"\nline",
     "weights": [0, 0, 0], "ragged": [3.25], "seen": "2026-11-21T03:15:00"},
]  # fmt: skip


def table() -> pa.Table:
    rows = [row | {"seen": row["seen"] and np.datetime64(row["seen"], "us").item()} for row in ROWS]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def written(rows: Sent, name: str) -> bytes:
    return b"".join(output(name).write(rows, [("QUERY", "SELECT '<'", None)]))


@pytest.mark.parametrize("name", ["votable", "votable/td"])
@pytest.mark.parametrize("size", [1, 3, 100])
def test_astropy_reads_what_was_written(name: str, size: int) -> None:
    document = parse(io.BytesIO(written(Sent(table(), size), name)), verify="exception")
    first = document.get_first_table()
    assert [(f.name, f.datatype, f.arraysize, str(f.unit or "")) for f in first.fields] == [
        ("flag", "boolean", None, ""),
        ("small", "short", None, "adu"),
        ("count", "long", None, ""),
        ("flux", "float", None, "nJy"),
        ("ra", "double", None, "deg"),
        ("name", "char", "*", ""),
        ("weights", "float", "3", ""),
        ("ragged", "double", "*", ""),
        ("seen", "char", "*", ""),
    ]
    assert first.fields[2].description == "More & <less>"
    assert first.fields[8].xtype == "timestamp"
    array = first.array
    for i in (0, 1, 3):
        assert array["count"][i] == ROWS[i]["count"]
        assert array["ra"][i] == ROWS[i]["ra"]
        assert array["name"][i] == ROWS[i]["name"]
        assert array["flag"][i] == ROWS[i]["flag"]
        np.testing.assert_array_equal(
            np.ma.filled(array["weights"][i], np.nan), np.array(ROWS[i]["weights"], np.float32)
        )
        np.testing.assert_array_equal(np.ravel(array["ragged"][i]), ROWS[i]["ragged"])
        np.testing.assert_equal(float(np.ma.filled(array["flux"], np.nan)[i]), float(np.float32(ROWS[i]["flux"])))
    assert bool(array["small"].mask[2])
    assert bool(array["count"].mask[2])
    assert array["seen"][0].startswith("2026-11-21T03:15:00")


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.none() | st.integers(-(2**63), 2**63 - 1),
            st.none() | st.floats(allow_nan=False),
            st.none() | st.text(st.characters(max_codepoint=126, min_codepoint=32), max_size=20),
            st.none() | st.lists(st.floats(allow_nan=False), max_size=4),
        ),
        max_size=12,
    ),
    st.integers(1, 5),
)
def test_binary2_brings_back_any_row(rows: list[tuple[Any, ...]], size: int) -> None:
    types = [pa.int64(), pa.float64(), pa.string(), pa.list_(pa.float64())]
    columns = [pa.array([row[i] for row in rows], kind) for i, kind in enumerate(types)]
    sent = Sent(pa.table(columns, names=["i", "x", "s", "a"]), size)
    array = parse(io.BytesIO(b"".join(votable(sent, Serialization.BINARY2)))).get_first_table().array
    assert len(array) == len(rows)
    for found, (i, x, s, a) in zip(array, rows, strict=True):
        assert (i is None and np.ma.is_masked(found["i"])) or found["i"] == i
        assert (x is None and (np.ma.is_masked(found["x"]) or np.isnan(found["x"]))) or found["x"] == x
        assert str(np.ma.filled(found["s"], "") or "") == (s or "")
        assert list(np.ma.compressed(found["a"])) == (a or [])


def test_a_slice_of_a_batch_is_written_as_it_is() -> None:
    whole = pa.table({"s": ["aa", None, "b", "cccc"], "a": [[1.0], [2.0, 3.0], None, [4.0]], "x": [1, 2, None, 4]})
    for name in ("votable", "votable/td", "csv"):
        cut = written(Sent(whole.slice(1, 2)), name)
        fresh = written(Sent(pa.Table.from_pylist(whole.slice(1, 2).to_pylist(), schema=whole.schema)), name)
        assert cut == fresh


def test_an_overflow_and_a_late_fault_stand_after_the_table() -> None:
    over = parse(io.BytesIO(written(Sent(table(), overflow=True), "votable")))
    assert [info.value for info in over.resources[0].infos if info.name == "QUERY_STATUS"] == ["OK", "OVERFLOW"]
    for name in ("votable", "votable/td"):
        late = parse(io.BytesIO(written(Sent(table(), fault=LimitFault("Too <long>.")), name)))
        last = late.resources[0].infos[-1]
        assert (last.name, last.value, last.content) == ("QUERY_STATUS", "ERROR", "Too <long>.")
        assert len(late.get_first_table().array) == len(ROWS)


def test_no_rows_are_a_table_without_rows() -> None:
    for form in OUTPUTS:
        data = written(Sent(table().slice(0, 0)), form.aliases[0])
        if "votable" in form.media_type:
            assert len(parse(io.BytesIO(data)).get_first_table().fields) == len(SCHEMA)


def test_a_fault_is_a_votable_that_says_so() -> None:
    document = parse(io.BytesIO(error_document(QueryFault("Line 1: <no> & such."))))
    info = document.resources[0].infos[0]
    assert (info.name, info.value, info.content) == ("QUERY_STATUS", "ERROR", "UsageError: Line 1: <no> & such.")


def test_what_a_votable_says_of_its_fields_is_found_without_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "t.vot"
    path.write_bytes(written(Sent(table()), "votable"))
    said = field_meanings(path)
    assert said[4] == {"unit": "deg", "ucd": "pos.eq.ra;meta.main"}
    assert said[8] == {"xtype": "timestamp"}


def test_csv_and_tsv_are_read_back() -> None:
    lines = written(Sent(table()), "csv").decode()
    header, first = lines.split("\r\n")[:2]
    assert header == "flag,small,count,flux,ra,name,weights,ragged,seen"
    assert (
        first
        == 'true,-3,1152921504606846976,1.5,359.99999999999994,"a<b>&""c\'",0.1 0.2 0.7,1 2,2026-11-21T03:15:00.000000'
    )
    found = Table.read(lines, format="ascii.csv", fast_reader=False)
    assert found["name"][3] == ROWS[3]["name"]
    tsv = written(Sent(table()), "tsv").decode().split("\r\n")
    assert tsv[4].split("\t")[5] == 'tab and, "quote" line'
    assert tsv[3] == "\t" * (len(SCHEMA) - 1)


def test_json_has_metadata_and_data_and_no_nan() -> None:
    found = json.loads(written(Sent(table()), "json"))
    assert [column["name"] for column in found["metadata"]] == SCHEMA.names
    assert found["data"][0][:2] == [True, -3]
    assert found["data"][1][6] == [1.0, None, None]
    assert found["overflow"] is False


def test_fits_is_read_back_by_astropy() -> None:
    found = Table.read(io.BytesIO(written(Sent(table()), "fits")), format="fits")
    assert found.colnames == SCHEMA.names
    assert found["count"][0] == 2**60
    assert str(found["ra"].unit) == "deg"
    assert found["name"][0] == ROWS[0]["name"]
    np.testing.assert_array_equal(found["weights"][0], np.array([0.1, 0.2, 0.7], np.float32))
    assert bool(found["count"].mask[2])
    assert np.isnan(np.ma.filled(found["ra"], np.nan)[2])


def test_parquet_keeps_types_and_carries_a_votable() -> None:
    data = written(Sent(table()), "parquet")
    found = pq.read_table(io.BytesIO(data))
    assert found["count"].to_pylist() == [row["count"] for row in ROWS]
    assert found["weights"].to_pylist()[0] == pytest.approx([0.1, 0.2, 0.7])
    assert found["weights"].to_pylist()[2] is None
    metadata = pq.read_schema(io.BytesIO(data)).metadata
    document = parse(io.BytesIO(metadata[b"IVOA.VOTable-Parquet.content"]))
    assert [field.name for field in document.get_first_table().fields] == SCHEMA.names


@pytest.mark.parametrize(
    "name", ["TEXT/CSV", "application/x-votable+xml; serialization=BINARY2", "votable/TD", "text/xml"]
)
def test_a_format_is_known_by_alias_and_media_type_in_any_spelling(name: str) -> None:
    assert output(name) in OUTPUTS


def test_an_unknown_format_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(
        ParameterFault, match=r"RESPONSEFORMAT=xlsx is not offered; take one of votable, votable/td, csv"
    ):
        output("xlsx")


@pytest.mark.parametrize("name", ["votable", "votable/td"])
def test_stilts_finds_nothing_wrong(tmp_path: Path, name: str) -> None:
    if shutil.which("stilts") is None:
        pytest.skip("stilts is not installed: apt-get install stilts")
    path = tmp_path / "t.vot"
    path.write_bytes(written(Sent(table()), name))
    run = subprocess.run(["stilts", "votlint", str(path)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "ERROR" not in run.stdout + run.stderr
