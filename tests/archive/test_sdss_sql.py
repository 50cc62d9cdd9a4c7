"""The SQL that SDSS is asked, and what is no query for a list; the answers that SkyServer sends."""

from __future__ import annotations

import re

import pytest
from pydantic import ValidationError

from inzitu.archive.sdss import composed, restricted, table_of
from inzitu.errors import ParameterFault
from inzitu.pipelines.download import DownloadParameters

RECORDED = """#Table1
ra,dec,objid,run,rerun,camcol,field,z,plate,mjd,fiberID,specobjid,run2d,instrument
2.02344596303,14.8398237521,1237652943176138868,1739,301,3,315,0.04559058,751,52251,160,845594848269461504,26,SDSS
"""
"""As SkyServer sends it; from the test data of astroquery (BSD-3), with a line break at its end."""


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


def test_sql_holds_numbers_as_they_are() -> None:
    sql = composed(DownloadParameters(z_min=0.1, mag_max=19.5, circle="10.5,-2,0.25"))
    assert "s.z >= 0.1 AND s.zWarning = 0 AND p.modelMag_r <= 19.5" in sql
    assert "s.dec BETWEEN -2.25 AND -1.75 AND dbo.fDistanceArcMinEq(10.5, -2.0, s.ra, s.dec) <= 15.0" in sql
