"""Lists of redshifts from SDSS and from tables behind TAP; services that fail, cut, repeat and lie."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from archive.sdss_server import FIRST, ROWS, SdssServer
from archive.tap_server import IMPATIENT, MORE_SO, own_service, running
from inzitu.archive import spectra
from inzitu.archive.sdss import composed, restricted, table_of
from inzitu.archive.spectra import check_download, fetch_spectra
from inzitu.errors import ArchiveFault, LimitFault, ManifestFault, ParameterFault
from inzitu.manifest import Manifest, SdssSource, TapSource
from inzitu.pipelines.download import DownloadParameters
from inzitu.prov.readings import read_reading

RECORDED = """#Table1
ra,dec,objid,run,rerun,camcol,field,z,plate,mjd,fiberID,specobjid,run2d,instrument
2.02344596303,14.8398237521,1237652943176138868,1739,301,3,315,0.04559058,751,52251,160,845594848269461504,26,SDSS
"""
"""As SkyServer sends it; from the test data of astroquery (BSD-3), with a line break at its end."""


@pytest.fixture
def server() -> Iterator[SdssServer]:
    server = SdssServer()
    with running(server):
        yield server


def fetched(server: SdssServer, folder: Path, **parameters: object) -> pa.Table:
    asked = DownloadParameters.model_validate(parameters)
    return fetch_spectra(asked, SdssSource(server=server.url), folder=folder, patience=IMPATIENT)[0]


def numbers(table: pa.Table) -> list[int]:
    """Which of the server's rows came."""
    return [int(name) - FIRST for name in table["specObjID"].to_pylist()]


def test_the_filters_are_what_comes(server: SdssServer, tmp_path: Path) -> None:
    table = fetched(server, tmp_path, z_min=1, z_max=4, spectral_class="qso", mag_max=22, circle="5 0.5 3")
    expected = [
        i
        for i in range(ROWS)
        if 1 <= i * 0.05 <= 4 and i % 2 == 0 and 15 + i * 0.1 <= 22 and (i * 0.1 - 5) ** 2 + (i * 0.01 - 0.5) ** 2 <= 9
    ]
    assert numbers(table) == [i for i in expected if i % 10 != 9]
    assert table.schema.names[:9] == ["specObjID", "ra", "dec", "z", "zErr", "zWarning", "class", "subClass", "survey"]
    assert table["survey"].to_pylist() == ["eboss"] * len(table)


def test_warnings_come_if_wanted(server: SdssServer, tmp_path: Path) -> None:
    assert numbers(fetched(server, tmp_path / "a")) == [i for i in range(ROWS) if i % 10 != 9]
    assert numbers(fetched(server, tmp_path / "b", clean=False)) == list(range(ROWS))


def test_identifiers_beyond_a_signed_number_keep_every_digit(server: SdssServer, tmp_path: Path) -> None:
    assert fetched(server, tmp_path, top=2)["specObjID"].to_pylist() == ["9300000000000000000", "9300000000000000001"]


def test_a_list_comes_in_pages_and_ends_where_none_comes(
    server: SdssServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spectra, "PAGE", 30)
    asked = DownloadParameters(clean=False)
    table, reading = fetch_spectra(asked, SdssSource(server=server.url), folder=tmp_path, patience=IMPATIENT)
    assert numbers(table) == list(range(ROWS))
    assert len(server.queries) == 5
    read = read_reading(reading)
    assert len(read) == 5
    assert read[0].uri.startswith(f"{server.url}/dr17/en/tools/search/x_results.aspx?cmd=+SELECT+TOP+30+s.specObjID")


def test_an_answer_that_was_cut_to_the_servers_limit_is_gone_on_with(server: SdssServer, tmp_path: Path) -> None:
    server.most = 13
    assert numbers(fetched(server, tmp_path, clean=False, top=50)) == list(range(50))


@pytest.mark.parametrize(
    ("manner", "said"),
    [
        ("busy", "503"),
        ("hang", "Read timed out"),
        ("half", "IncompleteRead"),
        ("html", "page for people, not data: 'SkyServer Down for maintenance'"),
        ("cut", "ends in the middle of a row"),
        ("again", "sends rows twice"),
        ("more", "sends 80 rows, though asked for at most 20"),
        ("wrong columns", "sends no column ra"),
        ("error with 200", "refuses the query: .*60 queries allowed"),
        ("ragged", "is no table"),
    ],
)
def test_a_server_that_misbehaves_is_named_in_bounded_time_and_the_finished_pages_kept(
    server: SdssServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, manner: str, said: str
) -> None:
    monkeypatch.setattr(spectra, "PAGE", 20)
    server.manner, server.well_for = manner, 1
    impatient, began = replace(IMPATIENT, parts=1, attempts=1, **MORE_SO.get(manner, {})), time.monotonic()
    source, asked = SdssSource(server=server.url), DownloadParameters(clean=False, top=60)
    with pytest.raises(ArchiveFault, match=said):
        fetch_spectra(asked, source, folder=tmp_path, patience=impatient)
    assert time.monotonic() - began < 30
    assert [path.name for path in tmp_path.glob("part-*")] == ["part-0.parquet"]
    server.manner, count = "well", len(server.queries)
    assert numbers(fetched(server, tmp_path, clean=False, top=60)) == list(range(60))
    assert len(server.queries) == count + 2


def test_a_broken_answer_is_asked_for_again(server: SdssServer, tmp_path: Path) -> None:
    server.manner = "cut"
    patience = replace(IMPATIENT, pause=0.2)

    def mend(seconds: float) -> None:
        server.manner = "well"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("inzitu.archive.patience.time.sleep", mend)
        source = SdssSource(server=server.url)
        table, _ = fetch_spectra(DownloadParameters(top=5), source, folder=tmp_path, patience=patience)
    assert numbers(table) == [0, 1, 2, 3, 4]


def test_sql_that_the_server_refuses_is_refused_in_its_words(server: SdssServer, tmp_path: Path) -> None:
    with pytest.raises(ArchiveFault, match=r"answers 400 to the query: .*no_such_column"):
        fetched(server, tmp_path, query="SELECT no_such_column FROM SpecObj")


def test_a_query_of_ones_own_is_limited(server: SdssServer, tmp_path: Path) -> None:
    table = fetched(server, tmp_path, query="select ra, dec, z from SpecObj where z > 1 order by z", top=7)
    assert table["z"].to_pylist() == pytest.approx([0.05 * i for i in range(21, 28)])
    assert server.queries == [" SELECT TOP 7 ra, dec, z FROM SpecObj WHERE z > 1 ORDER BY z"]
    assert "TOP 3 " in restricted("SELECT TOP 3 ra FROM SpecObj", 7)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT * INTO mydb.stolen FROM SpecObj", "one SELECT that writes nothing"),
        ("SELECT 1; DROP TABLE SpecObj", "one SELECT"),
        ("DELETE FROM SpecObj", "one SELECT"),
        ("WITH gone AS (SELECT 1 AS a) DELETE FROM SpecObj", "one SELECT"),
        ("EXEC xp_cmdshell 'ls'", "one SELECT"),
        ("SELECT * FROM mydb.secret", "reads mydb"),
        ("SELECT a FROM (SELECT * FROM MyDB..secret) AS b", "reads mydb"),
        ("SELECT mydb.dbo.fSecret(1) FROM SpecObj", "reads mydb"),
        ("SELECT ra FROM SpecObj OUTER APPLY srv.best.dbo.fSecret(1) AS s", "reads srv|reads best"),
        ("SELECT FROM WHERE", "cannot be read as SQL"),
        ("", "cannot be read as SQL|one SELECT"),
        ("SELECT ra FROM SpecObj ORDER BY z OFFSET 0 ROWS FETCH NEXT 5 ROWS ONLY", "FETCH NEXT 5 ROWS.*write TOP n"),
        ("SELECT TOP 10 PERCENT ra FROM SpecObj", "PERCENT.*write TOP n"),
        ("SELECT TOP 10 WITH TIES ra FROM SpecObj ORDER BY z", "WITH TIES.*write TOP n"),
        ("SELECT TOP (2 + 3) ra FROM SpecObj", r"TOP 2 \+ 3.*write TOP n"),
        ("SELECT * FROM OPENROWSET('SQLNCLI', 'x', 'DROP TABLE t')", "OPENROWSET"),
        ("SELECT * FROM OPENQUERY(srv, 'drop table t')", "OPENQUERY"),
        ("SELECT ra FROM SpecObj WHERE EXISTS (SELECT * FROM OPENQUERY(srv, 'drop table t'))", "OPENQUERY"),
        ("SELECT * FROM OPENDATASOURCE('SQLNCLI', 'x').a.b.c", "OPENDATASOURCE"),
        ("SELECT * FROM srv.db.dbo.t", "srv.db.dbo.t"),
        ("SELECT * FROM sys.objects", "reads sys"),
        ("SELECT NEXT VALUE FOR ids", "NEXT VALUE FOR ids"),
        ("SELECT @@version", "@@version"),
        ("SELECT ra FROM SpecObj OPTION (MAXDOP 64)", "MAXDOP 64"),
        (f"SELECT {'(' * 2000}1{')' * 2000}", "nested"),
        (f"SELECT TOP {'9' * 5000} ra FROM SpecObj", "write TOP n"),
    ],
)
def test_a_query_that_does_more_than_read_the_survey_is_refused(query: str, said: str) -> None:
    with pytest.raises(ParameterFault, match=said):
        restricted(query, 10)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT TOP 7 s.ra, s.dec, AVG(s.z) AS z, COUNT(*) AS n FROM BESTDR17..SpecObj AS s JOIN "
        "BestDR17.dbo.fGetNearbyObjEq(1, 2, 3) AS n ON n.objID = s.bestObjID GROUP BY s.ra, s.dec HAVING COUNT(*) > 1",
        "WITH a AS (SELECT ra AS ra, dec AS dec, z AS z, flags & BestDR17.dbo.fPhotoFlags('EDGE') AS f FROM "
        "dbo.SpecObj) SELECT DISTINCT TOP 7 ra, dec, CASE WHEN z < 0 THEN NULL ELSE POWER(z, 2) END AS z FROM a WHERE "
        "EXISTS(SELECT 1 FROM PhotoObj WHERE (type IN (3, 6) OR name LIKE 'x%') AND NOT ra BETWEEN 1 AND 2)",
        "SELECT TOP 7 s.ra, CAST(s.dec AS FLOAT) AS dec, ISNULL(s.z, 0) AS z, ROW_NUMBER() OVER (PARTITION BY plate "
        "ORDER BY z DESC) AS k FROM SpecObj AS s CROSS APPLY dbo.fGetNearestObjEq(s.ra, s.dec, 1) AS t "
        "WHERE htmid * 37 & 0x00FF < 500 ORDER BY SQRT(ABS(s.z)), LOG10(s.ra)",
    ],
)
def test_what_a_query_for_a_list_needs_passes_as_it_is(query: str) -> None:
    def same(sql: str) -> str:
        return (
            re.sub(r"\W", "", sql)
            .lower()
            .replace("log10sra", "logsra10")
            .replace("x00ff", "255")
            .replace("0255", "255")
        )

    assert same(restricted(query, 7)) == same(query)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"circle": "1 2"}, "three numbers"),
        ({"circle": "1 2 3); DROP"}, "three numbers"),
        ({"circle": "370 0 1"}, "from 0 to 360"),
        ({"circle": "nan 0 1"}, "from 0 to 360"),
        ({"z_min": 2, "z_max": 1}, "nothing lies between 2 and 1"),
        ({"query": "SELECT 1", "z_min": 2}, "leave out Z_MIN"),
        ({"spectral_class": "qso' OR 1=1"}, "galaxy"),
        ({"top": 0}, "greater than or equal to 1"),
    ],
)
def test_filters_that_make_no_sense_are_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        DownloadParameters.model_validate(given)


def test_a_recorded_answer_is_read() -> None:
    [row] = table_of(RECORDED, "SkyServer").to_pylist()
    assert (row["ra"], row["z"], row["objid"]) == (2.02344596303, 0.04559058, 1237652943176138868)


@pytest.mark.parametrize("text", ["#Table1\n", "#Table1\n\n", ""])
def test_an_answer_without_rows_is_none(text: str) -> None:
    assert table_of(text, "SkyServer").num_rows == 0


CASJOBS = {"casjobs_user": "TEST_CAS_USER", "casjobs_password": "TEST_CAS_PASSWORD"}


@pytest.fixture
def casjobs(server: SdssServer, monkeypatch: pytest.MonkeyPatch) -> SdssSource:
    monkeypatch.setenv("TEST_CAS_USER", "hubble")
    monkeypatch.setenv("TEST_CAS_PASSWORD", "redshift")
    return SdssSource(server=server.url, casjobs_login=f"{server.url}/keystone/v3/tokens", **CASJOBS)


def test_casjobs_gives_the_list_that_skyserver_gives(
    server: SdssServer, casjobs: SdssSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spectra, "PAGE", 30)
    expected = fetched(server, tmp_path / "sky", z_max=3)
    server.queries.clear()
    asked = DownloadParameters(z_max=3)
    table, reading = fetch_spectra(asked, casjobs, folder=tmp_path / "cas", patience=IMPATIENT)
    assert table.equals(expected)
    assert " INTO mydb.inzitu_" in server.queries[0]
    assert server.queries[0].startswith("SELECT TOP 1000 s.specObjID")  # not all that there is, into a small MyDB
    assert server.queries[-1].startswith("DROP TABLE inzitu_")
    assert {headers["X-Auth-Token"] for headers in server.headers} == {"a-token"}
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"redshift" not in kept.replace(b"redshifts", b"")
    assert b"a-token" not in kept
    assert all("token" not in file.uri for file in read_reading(reading))


def leave(casjobs: SdssSource, folder: Path, what: str) -> None:
    """Ask for all spectra, and end at some function of the adapter."""

    def killed(*_: object) -> None:
        raise ArchiveFault("killed")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"inzitu.archive.casjobs.{what}", killed)
        with pytest.raises(ArchiveFault, match="killed"):
            fetch_spectra(DownloadParameters(), casjobs, folder=folder, patience=replace(IMPATIENT, parts=1))


def written(server: SdssServer) -> int:
    return sum(" INTO " in query for query in server.queries)


@pytest.mark.parametrize("what", ["table_of", "time.sleep"])  # while it reads the table, while that is written
def test_casjobs_goes_on_with_the_job_that_an_earlier_attempt_began(
    server: SdssServer, casjobs: SdssSource, tmp_path: Path, what: str
) -> None:
    leave(casjobs, tmp_path, what)
    [job] = server.tables
    assert len(fetch_spectra(DownloadParameters(), casjobs, folder=tmp_path, patience=IMPATIENT)[0]) > 50
    assert written(server) == 1
    assert set(server.polls) == {job}
    assert not server.tables


def test_casjobs_does_not_take_a_table_whose_job_did_not_finish(
    server: SdssServer, casjobs: SdssSource, tmp_path: Path
) -> None:
    server.manner = "job fails"
    with pytest.raises(ArchiveFault, match="cancelled"):
        fetch_spectra(DownloadParameters(), casjobs, folder=tmp_path, patience=replace(IMPATIENT, parts=1))
    server.failed, server.manner = set(server.tables), "well"
    assert len(fetch_spectra(DownloadParameters(), casjobs, folder=tmp_path, patience=IMPATIENT)[0]) > 50
    assert written(server) == 2


def test_what_another_job_left_in_mydb_is_neither_an_answer_nor_removed(
    server: SdssServer, casjobs: SdssSource, tmp_path: Path
) -> None:
    leave(casjobs, tmp_path / "yesterday", "table_of")
    left = dict(server.tables)
    server.hold(np.array([1.0, 2.0]), np.array([3.0, 4.0]), np.array([0.5, 0.6]))
    today, _ = fetch_spectra(DownloadParameters(), casjobs, folder=tmp_path / "today", patience=IMPATIENT)
    assert today["z"].to_pylist() == [0.5, 0.6]
    assert server.tables == left


def test_a_table_that_cannot_be_dropped_does_not_cost_the_list(
    server: SdssServer, casjobs: SdssSource, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.manner = "keeps tables"
    assert len(fetch_spectra(DownloadParameters(), casjobs, folder=tmp_path, patience=IMPATIENT)[0]) > 50
    [name] = server.tables.values()
    assert f"The table {name} stays in MyDB" in caplog.text
    assert "The table is locked" in caplog.text


@pytest.mark.parametrize(
    ("manner", "said"), [("job fails", "Query was cancelled by its limit"), ("never ends", "has not ended after 0.5 s")]
)
def test_a_job_of_casjobs_that_fails_is_named(
    server: SdssServer, casjobs: SdssSource, tmp_path: Path, manner: str, said: str
) -> None:
    server.manner = manner
    impatient = replace(IMPATIENT, parts=1, **MORE_SO.get(manner, {}))
    with pytest.raises(ArchiveFault, match=said):
        fetch_spectra(DownloadParameters(), casjobs, folder=tmp_path, patience=impatient)


def test_wrong_credentials_are_not_repeated_in_the_error(
    casjobs: SdssSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_CAS_PASSWORD", "opensesame")
    with pytest.raises(ArchiveFault, match=r"answers 401.*TEST_CAS_USER") as caught:
        fetch_spectra(DownloadParameters(), casjobs, folder=tmp_path, patience=IMPATIENT)
    assert "opensesame" not in str(caught.value)
    monkeypatch.delenv("TEST_CAS_PASSWORD")
    with pytest.raises(ManifestFault, match="TEST_CAS_PASSWORD for CasJobs, which is not set"):
        fetch_spectra(DownloadParameters(), casjobs, folder=tmp_path, patience=IMPATIENT)


@pytest.fixture(scope="module")
def table_behind_tap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TapSource]:
    """A table of 100 spectra behind the project's own TAP service."""
    i = np.arange(ROWS)
    rows = {
        "objID": 1000 + i,
        "ra": i * 0.1,
        "dec": i * 0.01,
        "Z_BEST": i * 0.05,
        "warn": (i % 10 == 9) * 4,
        "rmag": 15 + i * 0.1,
    }
    rows |= {"kind": np.where(i % 2, "GALAXY", "QSO")}
    with own_service(tmp_path_factory.mktemp("own"), pa.table(rows)) as url:
        columns = {"id": "objID", "z": "Z_BEST", "warning": "warn", "spectral_class": "kind", "columns": ("rmag",)}
        asked = {"kind": "tap", "url": url, "table": "archive.catalogue", "magnitudes": {"r": "rmag"}}
        yield TapSource.model_validate(asked | columns)


def test_a_table_behind_tap_is_asked_with_the_same_filters(
    table_behind_tap: TapSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spectra, "PAGE", 15)
    asked = DownloadParameters(z_min=1, spectral_class="galaxy", mag_max=23, circle="5 0.5 5", clean=True, top=50)
    found, reading = fetch_spectra(asked, table_behind_tap, folder=tmp_path)
    assert found.column_names == ["source_id", "ra", "dec", "z", "kind", "warn", "rmag"]
    expected = [
        i for i in range(20, 81) if i % 2 == 1 and i % 10 != 9 and (i * 0.1 - 5) ** 2 + (i * 0.01 - 0.5) ** 2 <= 25
    ]
    assert found["source_id"].to_pylist() == [1000 + i for i in expected]
    assert len(read_reading(reading)) > 1


def test_a_query_in_adql_is_passed_on_with_the_limit(table_behind_tap: TapSource, tmp_path: Path) -> None:
    asked = DownloadParameters(query="SELECT ra, dec, Z_BEST AS z FROM archive.catalogue ORDER BY Z_BEST DESC", top=4)
    found, _ = fetch_spectra(asked, table_behind_tap, folder=tmp_path)
    assert found["z"].to_pylist() == pytest.approx([4.95, 4.9, 4.85, 4.8])


SOURCES = {"sdss": {"kind": "sdss"}, "bare": {"kind": "tap", "url": "http://127.0.0.1:9", "table": "t", "id": "id"}}


@pytest.mark.parametrize(
    ("given", "fault", "said"),
    [
        ({"source": "gaia"}, ParameterFault, "SOURCE=gaia is no source of this service; it has sdss, bare"),
        ({"top": 2_000_000}, LimitFault, "TOP=2,000,000 is more than the 1,000,000 rows"),
        ({"band": "w1", "mag_max": 20}, ParameterFault, "BAND=w1 is no band of SDSS"),
        ({"query": "DROP TABLE SpecObj"}, ParameterFault, "one SELECT"),
        ({"source": "bare", "spectral_class": "qso"}, ParameterFault, "SPECTRAL_CLASS: the manifest names no column"),
        ({"source": "bare", "mag_min": 20}, ParameterFault, "MAG_MIN in r: the manifest names no column"),
    ],
)
def test_what_a_source_cannot_be_asked_is_known_before_it_is(
    given: dict[str, object], fault: type[Exception], said: str
) -> None:
    archive = {"surveys": [{"band": "r", "hips": "r"}], "catalogue": {"path": "c"}}
    manifest = Manifest.model_validate({"archive": archive, "sources": SOURCES})
    with pytest.raises(fault, match=said):
        check_download(DownloadParameters.model_validate(given), manifest)


def test_sql_holds_numbers_as_they_are() -> None:
    sql = composed(DownloadParameters(z_min=0.1, mag_max=19.5, circle="10.5,-2,0.25"))
    assert "s.z >= 0.1 AND s.zWarning = 0 AND p.modelMag_r <= 19.5" in sql
    assert "s.dec BETWEEN -2.25 AND -1.75 AND dbo.fDistanceArcMinEq(10.5, -2.0, s.ra, s.dec) <= 15.0" in sql
