"""What a query means: names, clauses, functions, units, and what is said when it means nothing."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from inzitu.errors import QueryFault
from inzitu.tables.query import QueryService
from tables.sample import ROWS, Ask

MINE = {"mine": pa.table({"id": np.arange(10), "x": np.linspace(0, 9, 10), "name": [f"N{i}" for i in range(10)]})}
TWICE = {"a": MINE["mine"], "b": pa.table({"id": [3, 4, 99], "y": [1.0, None, 3.0]})}


def test_star_leaves_the_service_s_own_columns_out(ask: Ask) -> None:
    names = list(ask("SELECT TOP 1 * FROM predictions.quasars")[0])
    assert names == ["source_id", "ra", "dec", "z_mean", "z_true", "weights", "means", "sigmas"]


def test_a_hidden_column_can_be_named(ask: Ask) -> None:
    assert ask('SELECT TOP 1 "_healpix_29" FROM quasars')[0]["_healpix_29"] >= 0


def test_regular_identifiers_have_no_case_and_delimited_ones_do(ask: Ask) -> None:
    assert list(ask("SELECT TOP 1 OBJid FROM Archive.CATALOGUE")[0]) == ["objID"]
    assert ask('SELECT TOP 1 "objID" FROM archive.catalogue')
    with pytest.raises(QueryFault, match=r"no column objid .* Did you mean objID\?"):
        ask('SELECT "objid" FROM archive.catalogue')


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("SELECT COUNT(*) AS n FROM mine", [{"n": 10}]),
        ("SELECT TOP 2 id FROM mine ORDER BY id DESC", [{"id": 9}, {"id": 8}]),
        ("SELECT id FROM mine ORDER BY id OFFSET 8", [{"id": 8}, {"id": 9}]),
        ("SELECT TOP 1 id AS k FROM mine ORDER BY k OFFSET 3", [{"k": 3}]),
        ("SELECT id FROM mine WHERE x BETWEEN 2 AND 3 ORDER BY 1", [{"id": 2}, {"id": 3}]),
        ("SELECT id FROM mine WHERE name ILIKE 'n_' AND NOT (id > 0)", [{"id": 0}]),
        ("SELECT id FROM mine WHERE name LIKE 'n%'", []),
        ("SELECT id FROM mine WHERE id IN (1, 2) AND id NOT IN (SELECT 2 AS two FROM mine)", [{"id": 1}]),
        ("SELECT DISTINCT 1 AS one FROM mine", [{"one": 1}]),
        ("SELECT MOD(id, 9) AS m, COUNT(*) AS n FROM mine GROUP BY m HAVING COUNT(*) > 1", [{"m": 0, "n": 2}]),
        ("SELECT MOD(id, 3) AS m FROM mine GROUP BY m HAVING COUNT(*) > 3", [{"m": 0}]),
        ("SELECT id FROM mine WHERE id < 1 UNION SELECT id FROM mine WHERE id < 2 ORDER BY id", [{"id": 0}, {"id": 1}]),
        ("SELECT id FROM mine WHERE id < 2 EXCEPT SELECT id FROM mine WHERE id < 1", [{"id": 1}]),
        ("SELECT id FROM mine WHERE id < 3 INTERSECT SELECT id FROM mine WHERE id > 1", [{"id": 2}]),
        ("SELECT COUNT(*) AS n FROM (SELECT id FROM mine UNION ALL SELECT id FROM mine) AS t", [{"n": 20}]),
        ("WITH q AS (SELECT id, x FROM mine WHERE x > 8) SELECT MAX(id) AS m FROM q", [{"m": 9}]),
        ("WITH q (k) AS (SELECT id FROM mine) SELECT MIN(k) AS m FROM q", [{"m": 0}]),
        ("SELECT t.k FROM (SELECT id FROM mine) AS t (k) WHERE t.k = 4", [{"k": 4}]),
        ("SELECT m.id FROM mine AS m WHERE EXISTS (SELECT 1 AS one FROM mine AS n WHERE n.id = m.id + 9)", [{"id": 0}]),
        ("SELECT (SELECT MAX(id) FROM mine) AS top FROM mine WHERE id = 0", [{"top": 9}]),
        ("SELECT 'it''s' || UPPER(name) AS t FROM mine WHERE id = 1 -- a comment", [{"t": "it'sN1"}]),
        ("SELECT id FROM mine WHERE x IS NULL OR id IS NOT NULL AND id = 5", [{"id": 5}]),
    ],
)  # fmt: skip
def test_a_clause_does_what_adql_says(ask: Ask, query: str, expected: list[dict[str, Any]]) -> None:
    assert ask(query.replace("mine", "TAP_UPLOAD.mine"), uploads=MINE) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("ABS(-2)", 2),
        ("CEILING(1.2)", 2),
        ("FLOOR(-1.2)", -2),
        ("DEGREES(PI())", 180),
        ("RADIANS(180)", math.pi),
        ("EXP(1)", math.e),
        ("LOG(EXP(2))", 2),
        ("LOG10(1000)", 3),
        ("MOD(-7, 3)", -1),
        ("POWER(2, 10)", 1024),
        ("ROUND(2.567, 2)", 2.57),
        ("ROUND(-2.5)", -3),
        ("SQRT(2)", math.sqrt(2)),
        ("TRUNCATE(-2.567, 2)", -2.56),
        ("TRUNCATE(2.9)", 2),
        ("TRUNCATE(1234, -2)", 1200),
        ("ATAN2(1, -1)", 3 * math.pi / 4),
        ("COT(1)", 1 / math.tan(1)),
        ("ACOS(0.5) + ASIN(0.5)", math.pi / 2),
        ("COS(0.3) * COS(0.3) + SIN(0.3) * SIN(0.3)", 1),
        ("TAN(ATAN(2))", 2),
        ("7 / 2", 3.5),
        ("1 - 2 - 3", -4),
        ("2 * (3 + 4)", 14),
        ("-2.5e1", -25),
        ("COALESCE(NULL, 4, 5)", 4),
        ("CAST('12' AS INTEGER)", 12),
        ("CAST(1.7 AS DOUBLE PRECISION)", 1.7),
        ("CAST(12345 AS VARCHAR(3))", "123"),
        ("LOWER('ABC')", "abc"),
        ("ivo_healpix_index(0, 0, 0)", 4),
    ],
)
def test_a_function_gives_what_adql_says(ask: Ask, expression: str, expected: object) -> None:
    value = ask(f"SELECT {expression} AS v FROM TAP_UPLOAD.mine WHERE id = 0", uploads=MINE)[0]["v"]
    assert value == (expected if isinstance(expected, str) else pytest.approx(expected, rel=1e-14))


def test_rand_lies_between_0_and_1_and_differs_between_rows(ask: Ask) -> None:
    values = [row["r"] for row in ask("SELECT RAND() AS r FROM mine", uploads=MINE)]
    assert all(0 <= value < 1 for value in values)
    assert len(set(values)) == 10


def test_decimals_are_doubles_and_do_not_overflow(ask: Ask) -> None:
    factor = " * ".join(["1.23456789012345678"] * 8)
    assert ask(f"SELECT {factor} AS v FROM mine WHERE id = 0", uploads=MINE)[0]["v"] == pytest.approx(
        1.23456789012345678**8
    )


def test_joins_keep_and_merge_the_columns_that_sql_says(ask: Ask) -> None:
    assert ask("SELECT * FROM a JOIN b USING (id) ORDER BY id", uploads=TWICE) == [
        {"id": 3, "x": 3.0, "name": "N3", "y": 1.0},
        {"id": 4, "x": 4.0, "name": "N4", "y": None},
    ]
    assert ask("SELECT id FROM a NATURAL JOIN b ORDER BY id", uploads=TWICE) == [{"id": 3}, {"id": 4}]
    assert len(ask("SELECT a.id, b.id FROM a, b", uploads=TWICE)) == 30
    assert ask("SELECT b.id, a.id FROM a RIGHT OUTER JOIN b ON a.id = b.id WHERE a.id IS NULL", uploads=TWICE) == [
        {"id": 99, "id_2": None}
    ]
    assert len(ask("SELECT * FROM a FULL JOIN b ON a.id = b.id", uploads=TWICE)) == 11
    assert ask(
        "SELECT c.id FROM (a JOIN b ON a.id = b.id) JOIN a AS c ON c.id = b.id WHERE c.id = 3", uploads=TWICE
    ) == [{"id": 3}]


def test_units_are_converted_and_carried_along(service: QueryService) -> None:
    result = service.query("SELECT IN_UNIT(ra, 'arcsec') AS a, ra, MAX(dec) AS d FROM quasars GROUP BY ra")
    row = next(iter(result)).to_pylist()[0]
    assert row["a"] == pytest.approx(row["ra"] * 3600)
    assert [(field.unit, field.ucd) for field in result.fields] == [
        ("arcsec", "pos.eq.ra;meta.main"),
        ("deg", "pos.eq.ra;meta.main"),
        ("deg", None),
    ]


def test_arrays_keep_their_length_and_strings_are_char(service: QueryService) -> None:
    fields = service.query("SELECT source_id, weights, COUNT(*) AS n FROM quasars GROUP BY source_id, weights").fields
    assert [(f.name, f.datatype, f.arraysize) for f in fields] == [
        ("source_id", "char", "*"),
        ("weights", "float", "5"),
        ("n", "long", None),
    ]
    assert fields[0].description == "Name & number"


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT foo FROM quasars", r"Line 1, column 8: no column foo"),
        ("SELECT\n  zmean FROM quasars", r"Line 2, column 3: no column zmean .* Did you mean z_mean\?"),
        ("SELECT ra FROM quasar", r"Line 1, column 16: there is no table quasar\. Did you mean quasars\?"),
        ("SELECT q.ra FROM quasars AS p", r"no table or alias q in FROM"),
        ("SELECT ra FROM quasars AS a, quasars AS b", r"column ra is in a and b"),
        ("SELECT foo(ra) FROM quasars", r"there is no function foo"),
        ("SELECT CEIL(ra) FROM quasars", r"no function CEIL\. Did you mean CEILING\?"),
        ("SELECT MOD(ra) FROM quasars", r"MOD takes 2 arguments, not 1"),
        ("SELECT ra FROM quasars LIMIT 5", r"ADQL has TOP: SELECT TOP 10"),
        ("SELECT ra FROM", r"Line 1, column \d+: Expected table name"),
        ("SELECT FROM quasars", r"names no columns"),
        ("DROP TABLE quasars", r"Only SELECT is allowed"),
        ("SELECT ra FROM quasars; SELECT dec FROM quasars", r"2 statements; send one SELECT"),
        ("", r"0 statements|send one SELECT"),
        ("SELECT CASE WHEN ra > 1 THEN 1 END FROM quasars", r"CASE is not part of ADQL 2.1; COALESCE"),
        ("SELECT SUM(ra) OVER () FROM quasars", r"no window functions"),
        ("SELECT ra /* c */ FROM quasars", r"Comments begin with --"),
        ("SELECT 'open FROM quasars", r"cannot be read"),
        ("SELECT ra FROM quasars ORDER BY 2", r"there are columns 1 to 1"),
        ("SELECT ra FROM quasars WHERE ra BETWEEN SYMMETRIC 2 AND 1", r"SYMMETRIC is not part of"),
        ("WITH RECURSIVE q AS (SELECT 1 AS a) SELECT a FROM q", r"WITH RECURSIVE is not part of ADQL 2.1"),
        ("SELECT ra FROM quasars UNION SELECT ra, dec FROM quasars", r"1 and 2 columns"),
        ("SELECT ra, COUNT(*) FROM quasars", r"GROUP BY"),
        ("SELECT ra FROM quasars WHERE source_id = 3 + 'a'", r"cannot be run"),
        ("SELECT CAST(source_id AS INTEGER) FROM quasars", r"Could not convert"),
        ("SELECT CAST(ra AS BLOB) FROM quasars", r"Expected TYPE|is not offered"),
        ("SELECT IN_UNIT(z_true, 'm') FROM quasars", r"has no unit"),
        ("SELECT IN_UNIT(ra, 'm') FROM quasars", r"deg cannot be given in 'm'"),
        ("SELECT pz_cdf(weights, means, 1) FROM quasars", r"pz_cdf\(weights ARRAY, .* takes 4 arguments, not 3"),
        ("SELECT ra FROM quasars JOIN archive.catalogue USING (foo)", r"USING \(foo\)"),
        ("SELECT ra FROM quasars INNER JOIN archive.catalogue", r"JOIN without ON"),
        ("SELECT * FROM quasars TABLESAMPLE (1 PERCENT)", r"Line 1"),
        ("SELECT weights[1] FROM quasars", r"BRACKET"),
    ],
)  # fmt: skip
def test_a_fault_says_where_and_what_to_do(ask: Ask, query: str, said: str) -> None:
    with pytest.raises(QueryFault, match=said):
        ask(query)


def test_a_query_nested_without_end_is_a_fault(ask: Ask) -> None:
    with pytest.raises(QueryFault, match="nested too deeply"):
        ask("SELECT " + "(" * 20_000 + "1" + ")" * 20_000 + " FROM quasars")


def test_a_list_of_many_identifiers_is_answered(ask: Ask) -> None:
    wanted = ", ".join(f"'s{i}'" for i in range(0, ROWS, 2))
    assert ask(f"SELECT COUNT(*) AS n FROM quasars WHERE source_id IN ({wanted})") == [{"n": ROWS // 2}]


def test_many_conditions_in_a_row_are_answered_or_refused(ask: Ask) -> None:
    query = "SELECT COUNT(*) AS n FROM quasars WHERE " + " OR ".join(f"source_id = 's{i}'" for i in range(300))
    assert ask(query) == [{"n": 300}]
