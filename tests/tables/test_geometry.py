"""Geometry in queries against astropy's separations, and joins by position against every pair."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlglot
from astropy import units as u
from astropy.coordinates import SkyCoord, angular_separation
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from inzitu.errors import QueryFault
from inzitu.tables.adql.translation import translate
from inzitu.tables.holdings import in_memory
from inzitu.tables.query import QueryService
from tables.sample import Ask, positions, predictions

QUASARS = predictions()
RA, DEC = QUASARS["ra"].to_numpy(), QUASARS["dec"].to_numpy()
IDS = np.array(QUASARS["source_id"].to_pylist())
FEW = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

longitudes = st.floats(0, 360, exclude_max=True)
latitudes = st.floats(-90, 90)
radii = st.floats(1e-4, 60)


def separations(ra: Any, dec: Any, ra0: Any, dec0: Any) -> np.ndarray:
    return np.asarray(np.degrees(angular_separation(*map(np.radians, (ra, dec, ra0, dec0)))))


def ids(rows: list[dict[str, Any]]) -> set[str]:
    return {row["source_id"] for row in rows}


@FEW
@given(longitudes, latitudes, radii)
@example(0.0, 0.0, 0.3)
@example(359.999, 0.5, 1.0)
@example(123.0, 90.0, 0.2)
@example(10.0, -89.9, 5.0)
@example(45.0, 41.8, 20.0)
def test_a_cone_holds_what_lies_within_its_radius(ask: Ask, ra: float, dec: float, radius: float) -> None:
    separation = separations(RA, DEC, ra, dec)
    clear = np.abs(separation - radius) > 1e-9
    expected = set(IDS[(separation <= radius) & clear])
    uncertain = set(IDS[~clear])
    for condition in (
        f"1 = CONTAINS(POINT('ICRS', ra, dec), CIRCLE('ICRS', {ra!r}, {dec!r}, {radius!r}))",
        f"INTERSECTS(CIRCLE(POINT({ra!r}, {dec!r}), {radius!r}), POINT(ra, dec)) = 1",
        f"DISTANCE(POINT(ra, dec), POINT({ra!r}, {dec!r})) <= {radius!r}",
        f"{radius!r} >= DISTANCE({ra!r}, {dec!r}, ra, dec)",
    ):
        assert ids(ask(f"SELECT source_id FROM quasars WHERE {condition}")) - uncertain == expected


@FEW
@given(longitudes, latitudes, longitudes, latitudes)
@example(0.0, 0.0, 180.0, 0.0)
@example(10.0, 20.0, 10.0, 20.0)
@example(10.0, 20.0, 10.0, 20.0000001)
def test_distance_is_the_separation(ask: Ask, a: float, b: float, c: float, d: float) -> None:
    row = ask(f"SELECT DISTANCE({a!r}, {b!r}, {c!r}, {d!r}) AS d FROM quasars WHERE source_id = 's0'")[0]
    assert row["d"] == pytest.approx(float(separations(a, b, c, d)), rel=1e-12, abs=1e-13)


def test_only_the_row_groups_that_a_cone_touches_are_read(service: QueryService, folder: Path) -> None:
    query = "SELECT COUNT(*) FROM quasars WHERE 1 = CONTAINS(POINT(ra, dec), CIRCLE(200, 30, 1))"
    sql = translate(query, service.tables(), most=10).sql
    ranges = [
        (int(between.args["low"].name), int(between.args["high"].name))
        for between in sqlglot.parse_one(sql, dialect="duckdb").find_all(sqlglot.exp.Between)
    ]
    groups = pq.read_metadata(folder / "predictions.parquet")
    column = groups.schema.names.index("_healpix_29")
    bounds = [groups.row_group(i).column(column).statistics for i in range(groups.num_row_groups)]
    touched = [b for b in bounds if any(b.min <= high and b.max >= low for low, high in ranges)]
    assert len(touched) <= 2 < 30 == len(bounds)


@FEW
@given(longitudes, st.floats(-80, 80), st.floats(0.5, 40), st.integers(3, 9), st.randoms(use_true_random=False))
def test_a_convex_polygon_holds_what_lies_left_of_all_its_edges(
    ask: Ask, ra: float, dec: float, size: float, corners: int, random: Any
) -> None:
    centre = SkyCoord(ra * u.deg, dec * u.deg)
    start = random.uniform(0, 360)
    vertices = [centre.directional_offset_by((start + 360 * i / corners) * u.deg, size * u.deg) for i in range(corners)]
    xyz = np.array([vertex.cartesian.xyz.value for vertex in vertices])
    normals = np.cross(xyz, np.roll(xyz, -1, axis=0))
    sides = SkyCoord(RA * u.deg, DEC * u.deg).cartesian.xyz.value.T @ normals.T
    sides *= np.sign(centre.cartesian.xyz.value @ normals.T)
    clear = np.abs(sides).min(axis=1) > 1e-10
    numbers = ", ".join(f"{vertex.ra.deg!r}, {vertex.dec.deg!r}" for vertex in vertices).replace("np.float64", "")
    found = ids(ask(f"SELECT source_id FROM quasars WHERE 1 = CONTAINS(POINT(ra, dec), POLYGON({numbers}))"))
    assert found - set(IDS[~clear]) == set(IDS[np.all(sides > 0, axis=1) & clear])


def test_a_polygon_need_not_be_convex(ask: Ask) -> None:
    # An L about (10, 10), whose notch is cut out.
    shape = "POLYGON(0, 0, 20, 0, 20, 10, 10, 10, 10, 20, 0, 20)"
    query = "SELECT CONTAINS(POINT({}, {}), {}) AS c FROM quasars WHERE source_id = 's1'"
    inside = [ask(query.format(x, y, shape))[0]["c"] for x, y in ((5, 5), (15, 5), (5, 15), (15, 15), (25, 5))]
    assert inside == [1, 1, 1, 0, 0]


def test_a_box_is_the_polygon_of_its_corners(ask: Ask) -> None:
    box = ids(ask("SELECT source_id FROM quasars WHERE 1 = CONTAINS(POINT(ra, dec), BOX(359, 10, 20, 10))"))
    polygon = "POLYGON(9, 15, 349, 15, 349, 5, 9, 5)"
    assert box == ids(ask(f"SELECT source_id FROM quasars WHERE 1 = CONTAINS(POINT(ra, dec), {polygon})"))
    assert box


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("CONTAINS(CIRCLE(10, 0, 1), CIRCLE(10.5, 0, 2))", 1),
        ("CONTAINS(CIRCLE(10, 0, 2), CIRCLE(10.5, 0, 2))", 0),
        ("INTERSECTS(CIRCLE(359, 0, 1), CIRCLE(1, 0, 1.01))", 1),
        ("INTERSECTS(CIRCLE(359, 0, 1), CIRCLE(1, 0, 0.99))", 0),
        ("CONTAINS(CIRCLE(5, 5, 4), POLYGON(0, 0, 10, 0, 10, 10, 0, 10))", 1),
        ("CONTAINS(CIRCLE(5, 5, 6), POLYGON(0, 0, 10, 0, 10, 10, 0, 10))", 0),
        ("CONTAINS(POLYGON(1, 1, 2, 1, 2, 2), POLYGON(0, 0, 10, 0, 10, 10, 0, 10))", 1),
        ("CONTAINS(POLYGON(1, 1, 12, 1, 2, 2), POLYGON(0, 0, 10, 0, 10, 10, 0, 10))", 0),
        ("CONTAINS(POLYGON(1, 1, 2, 1, 2, 2), CIRCLE(1.5, 1.5, 1))", 1),
        ("INTERSECTS(POLYGON(-5, 4, 15, 4, 15, 6, -5, 6), POLYGON(4, -5, 6, -5, 6, 15, 4, 15))", 1),
        ("INTERSECTS(POLYGON(0, 0, 1, 0, 1, 1), POLYGON(2, 2, 3, 2, 3, 3))", 0),
        ("INTERSECTS(POLYGON(0, 0, 10, 0, 10, 10, 0, 10), CIRCLE(12, 5, 1.9))", 0),
        ("INTERSECTS(CIRCLE(12, 5, 2.1), POLYGON(0, 0, 10, 0, 10, 10, 0, 10))", 1),
        ("CONTAINS(POINT(1, 1), POINT(1, 1))", 1),
        ("COORD1(POINT('ICRS', 12, 34))", 12),
        ("COORD2(CENTROID(CIRCLE('', 12, 34, 5)))", 34),
        ("COORD2(CENTROID(POLYGON(0, 80, 90, 80, 180, 80, 270, 80)))", 90),
        ("AREA(CIRCLE(0, 0, 90))", 2 * np.pi * np.degrees(1) ** 2),
        ("AREA(POLYGON(0, 0, 90, 0, 0, 90))", np.pi / 2 * np.degrees(1) ** 2),
    ],
)
def test_regions_are_related_as_on_a_sphere(ask: Ask, expression: str, expected: float) -> None:
    row = ask(f"SELECT {expression} AS v FROM quasars WHERE source_id = 's0'")[0]
    assert row["v"] == pytest.approx(expected, rel=1e-12)


def test_a_geometry_is_served_as_dali_writes_it(service: QueryService) -> None:
    uploads = {"mine": pa.table({"x": [10.0, None], "y": [1.0, 2.0]})}
    query = "SELECT POINT(x, y) AS p, CIRCLE(x, y, 3) AS c, POLYGON(0, 0, 1, 0, 1, 1) AS t FROM mine"
    result = service.query(query, uploads=uploads)
    rows = next(iter(result)).to_pylist()
    assert rows[0] == {"p": [10, 1], "c": [10, 1, 3], "t": [0, 0, 1, 0, 1, 1]}
    assert [(f.xtype, f.arraysize, f.unit) for f in result.fields] == [
        ("point", "2", "deg"),
        ("circle", "3", "deg"),
        ("polygon", "*", "deg"),
    ]


def test_a_column_that_holds_geometries_is_one(ask: Ask) -> None:
    meaning = {"xtype": "polygon"}
    shapes = pa.array([[0.0, 0, 10, 0, 10, 10], None, [350.0, -5, 20, -5, 20, 20, 350, 20]])
    schema = pa.schema([pa.field("region", shapes.type, metadata=meaning), pa.field("id", pa.int64())])
    uploads = {"fields": pa.table([shapes, pa.array([1, 2, 3])], schema=schema)}
    found = ask("SELECT id FROM fields WHERE 1 = CONTAINS(POINT(1, 0.5), region) ORDER BY id", uploads=uploads)
    assert found == [{"id": 1}, {"id": 3}]


NEAR = (
    "DISTANCE(POINT(q.ra, q.dec), POINT(m.ra, m.dec)) < {r}",
    "1 = CONTAINS(POINT('ICRS', m.ra, m.dec), CIRCLE('ICRS', q.ra, q.dec, {r}))",
    "DISTANCE(m.ra, m.dec, q.ra, q.dec) <= {r} AND q.source_id <> 's0'",
)


@pytest.mark.parametrize("radius", [1e-4, 0.05, 2.0, 25.0])
@pytest.mark.parametrize("near", NEAR)
def test_a_join_by_position_finds_every_pair_once(ask: Ask, near: str, radius: float) -> None:
    ra, dec = positions(7, 200)
    ra[100:], dec[100:] = RA[:100], np.clip(DEC[:100] + radius * 0.9, -90, 90)
    uploads = {"mine": pa.table({"id": np.arange(200), "ra": ra, "dec": dec})}
    wanted = near.format(r=radius)
    query = f"SELECT q.source_id AS s, m.id AS i FROM quasars AS q JOIN mine AS m ON {wanted}"
    found = [(row["s"], row["i"]) for row in ask(query, uploads=uploads, maxrec=1_000_000)]
    first, second = np.nonzero(separations(RA[:, None], DEC[:, None], ra, dec) <= radius)
    expected = {(IDS[i], j) for i, j in zip(first, second, strict=True) if "s0" not in wanted or IDS[i] != "s0"}
    assert len(found) == len(set(found))
    assert set(found) == expected
    cross = f"SELECT COUNT(*) AS n FROM mine AS m, predictions.quasars AS q WHERE {wanted}"
    assert ask(cross, uploads=uploads) == [{"n": len(expected)}]


def test_a_left_join_by_position_keeps_who_has_no_partner(ask: Ask) -> None:
    uploads = {"mine": pa.table({"id": [1, 2], "ra": [RA[0], 0.0], "dec": [DEC[0], -89.0]})}
    query = (
        "SELECT m.id, q.source_id FROM mine AS m LEFT JOIN quasars AS q ON DISTANCE(m.ra, m.dec, q.ra, q.dec) < 1e-6"
    )
    assert ask(query + " ORDER BY m.id", uploads=uploads) == [
        {"id": 1, "source_id": IDS[0]},
        {"id": 2, "source_id": None},
    ]


def test_a_join_by_position_with_itself_finds_pairs_both_ways(ask: Ask) -> None:
    query = (
        "SELECT a.source_id AS a, b.source_id AS b FROM quasars AS a, quasars AS b "
        "WHERE a.source_id <> b.source_id AND DISTANCE(a.ra, a.dec, b.ra, b.dec) < 0.3"
    )
    found = {(row["a"], row["b"]) for row in ask(query)}
    close = separations(RA[:, None], DEC[:, None], RA, DEC) < 0.3
    np.fill_diagonal(close, False)
    assert found == {(IDS[i], IDS[j]) for i, j in zip(*np.nonzero(close), strict=True)}


def test_a_join_by_position_compares_cells_and_not_all_pairs() -> None:
    tables = [in_memory("t", name, pa.table({"ra": [1.0], "dec": [1.0]})) for name in ("a", "b")]
    sql = translate("SELECT a.ra FROM a, b WHERE DISTANCE(a.ra, a.dec, b.ra, b.dec) < 0.01", tables, most=10).sql
    assert "@cell" in sql
    either = "SELECT a.ra FROM a, b WHERE a.ra = 1 OR DISTANCE(a.ra, a.dec, b.ra, b.dec) < 0.01"
    assert "@cell" not in translate(either, tables, most=10).sql


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("1 = CONTAINS(POINT('GALACTIC', ra, dec), CIRCLE(0, 0, 1))", "'GALACTIC' are not offered; all are ICRS"),
        ("1 = CONTAINS(POINT(ra, dec), CIRCLE(0, 100, 1))", "a latitude of 100"),
        ("1 = CONTAINS(POINT(ra, dec), CIRCLE(0, 10, -1))", "a radius of -1"),
        ("1 = CONTAINS(POINT(ra, dec), POLYGON(0, 0, 1, 0))", "cannot be made from 4 arguments"),
        ("1 = CONTAINS(POINT(ra, dec), POLYGON(0, 0, 120, 0, 240, 0))", "does not fit into a hemisphere"),
        ("1 = CONTAINS(ra, CIRCLE(0, 0, 1))", "a geometry is wanted here"),
        ("1 = CONTAINS(POINT(ra, dec))", "takes 2 arguments, not 1"),
        ("DISTANCE(CIRCLE(0, 0, 1), POINT(ra, dec)) < 1", "a circle where a POINT is wanted"),
        ("DISTANCE(ra, dec, 1) < 1", "two points or four numbers"),
        ("DISTANCE(ra, dec, 1, 95) < 1", "a latitude of 95"),
        ("DISTANCE(ra, dec, 1, 5) < -1", "no distance is less than -1"),
        ("COORD1(CIRCLE(0, 0, 1)) < 1", "COORD1 takes a POINT"),
        ("POINT(1) = 1", "POINT cannot be made from 1 arguments"),
    ],
)
def test_a_geometry_that_cannot_be_is_refused_before_a_row_is_read(ask: Ask, condition: str, said: str) -> None:
    with pytest.raises(QueryFault, match=said):
        ask(f"SELECT ra FROM quasars WHERE {condition}")


def test_a_position_that_is_none_is_in_no_region(ask: Ask) -> None:
    lost = pa.table({"ra": [None, np.nan, 10.0], "dec": [1.0, 2.0, 95.0], "id": [1, 2, 3]})
    query = "SELECT id FROM lost WHERE 1 = CONTAINS(POINT(ra, dec), {})"
    assert ask(query.format("CIRCLE(10, 1, 3)"), uploads={"lost": lost}) == []
    assert ask(query.format("POLYGON(0, 0, 20, 0, 20, 20)"), uploads={"lost": lost.slice(0, 2)}) == []
