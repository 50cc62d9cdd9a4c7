"""A query reads what it may read, for as long and as much as it may."""

import threading
import time
from contextlib import suppress
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from inzitu.errors import BusyFault, LimitFault, ParameterFault, QueryFault, UserFault
from inzitu.manifest import Manifest
from inzitu.tables import query as queries
from inzitu.tables.adql.functions import FUNCTIONS
from inzitu.tables.adql.translation import Translated, translate
from inzitu.tables.holdings import in_memory
from inzitu.tables.published import PublishedTables
from inzitu.tables.query import QueryService
from tables.sample import ROWS, Ask, Files, predictions

ENDLESS = (
    "SELECT COUNT(*) FROM quasars AS a, quasars AS b, quasars AS c WHERE SIN(a.ra * b.ra) + COS(c.ra * b.dec) > 1.9"
)


def limited(manifest: Manifest, published: PublishedTables, slots: int = 4, **limits: object) -> QueryService:
    changed = manifest.limits.model_copy(update=limits)
    return QueryService(manifest.model_copy(update={"limits": changed}), published, slots=slots)


@pytest.mark.parametrize(
    ("maxrec", "rows", "overflow"), [(None, ROWS, False), (ROWS, ROWS, False), (10, 10, True), (0, 0, True)]
)
def test_no_more_rows_come_than_maxrec_and_the_rest_is_told(
    service: QueryService, maxrec: int | None, rows: int, overflow: bool
) -> None:
    result = service.query("SELECT ra FROM quasars", maxrec=maxrec)
    assert sum(batch.num_rows for batch in result) == rows
    assert result.overflow is overflow


def test_top_within_maxrec_is_no_overflow(service: QueryService) -> None:
    result = service.query("SELECT TOP 10 ra FROM quasars", maxrec=10)
    assert sum(batch.num_rows for batch in result) == 10
    assert not result.overflow


def test_maxrec_cannot_pass_the_deployment_s_limit(manifest: Manifest, published: PublishedTables) -> None:
    result = limited(manifest, published, maxrec_hard=5).query("SELECT ra FROM quasars", maxrec=1000)
    assert sum(batch.num_rows for batch in result) == 5
    assert result.overflow


def test_a_query_that_takes_too_long_is_stopped_and_told_what_to_do(service: QueryService) -> None:
    began = time.monotonic()
    with pytest.raises(LimitFault, match=r"stopped after 0\.3 s, the limit here.*EXECUTIONDURATION"):
        list(service.query(ENDLESS, seconds=0.3))
    assert time.monotonic() - began < 30


def test_a_reader_who_takes_his_time_is_not_stopped(service: QueryService) -> None:
    rows = 0
    for batch in service.query("SELECT a.ra FROM quasars AS a, quasars AS b", maxrec=60_000, seconds=1.0):
        rows += batch.num_rows
        time.sleep(0.3)
    assert rows == 60_000


def test_a_query_can_be_interrupted_from_another_thread(service: QueryService) -> None:
    query = ENDLESS.replace("COUNT(*)", "a.ra").replace("> 1.9", "> 3")
    result = service.query(query)
    threading.Timer(0.3, result.interrupt).start()
    began = time.monotonic()
    with pytest.raises(QueryFault, match="stopped, as was asked"):
        list(result)
    assert time.monotonic() - began < 30


def test_a_query_that_needs_too_much_memory_is_stopped(manifest: Manifest, published: PublishedTables) -> None:
    small = limited(manifest, published, slots=1, query_memory_mb=40)
    with pytest.raises(LimitFault, match="more than 40 MB, the limit here"):
        list(
            small.query(
                "SELECT DISTINCT a.ra + b.dec * 2 AS s, a.source_id, b.source_id FROM quasars AS a, quasars AS b"
            )
        )


def test_queries_wait_for_a_place_and_give_it_back(
    manifest: Manifest, published: PublishedTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "_PATIENCE_SECONDS", 0.1)
    service = limited(manifest, published, slots=1)
    for _ in range(3):
        list(service.query("SELECT TOP 1 ra FROM quasars"))
        with pytest.raises(QueryFault):
            service.query("SELECT CAST(source_id AS INTEGER) + COUNT(*) FROM quasars")
    result = service.query("SELECT ra FROM quasars")
    with pytest.raises(BusyFault, match="try again"):
        service.query("SELECT ra FROM quasars")
    result.close()
    assert len(list(service.query("SELECT TOP 1 ra FROM quasars"))) == 1


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM read_csv('{secret}')",
        'SELECT * FROM "{secret}"',
        "SELECT read_text('{secret}') FROM quasars",
        "SELECT * FROM duckdb_settings",
        "SELECT * FROM information_schema.tables",
        "SELECT getenv('HOME') FROM quasars",
        "COPY (SELECT 1) TO '{secret}'",
        "ATTACH '{secret}'",
        "SELECT ra FROM quasars; ATTACH '{secret}'",
        "SELECT sky_cell(3, ra, dec) FROM quasars",
        "SELECT unnest(weights) FROM quasars",
        "SET threads = 1",
        "PRAGMA version",
        "INSTALL httpfs",
        "FROM quasars SELECT ra",
        "VALUES (1)",
    ],
)
def test_what_is_not_a_query_on_the_tables_is_refused(ask: Ask, folder: Path, query: str) -> None:
    with pytest.raises(QueryFault):
        ask(query.format(secret=folder / "secret.csv"))


def test_the_engine_opens_no_other_file_even_if_it_is_asked_to(folder: Path, service: QueryService) -> None:
    known = translate("SELECT ra FROM quasars", service.tables(), most=10)
    for sql in (
        f"SELECT * FROM read_csv('{folder / 'secret.csv'}')",
        f"SELECT * FROM '{folder / 'catalogue.parquet'}'",
        f"SELECT * FROM read_text('{folder / 'secret.csv'}')",
        f"COPY (SELECT 1) TO '{folder / 'new.csv'}'",
        f"ATTACH '{folder / 'new.db'}'",
        "SET enable_external_access = true",
        "SET allowed_paths = ['/etc/passwd']",
    ):
        connection = queries._open(Translated(sql, known.fields, known.tables, frozenset()), 100)
        with (
            connection,
            pytest.raises(duckdb.Error, match=r"disabled by config|locked|does not exist|cannot be changed"),
        ):
            connection.execute(sql).fetchall()
    assert {path.name for path in folder.iterdir()} == {"predictions.parquet", "catalogue.parquet", "secret.csv"}


def test_one_lost_file_leaves_the_other_tables(folder: Path, tmp_path: Path, manifest: Manifest) -> None:
    from inzitu.tables.published import metadata

    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
    metadata.create_all(engine)
    published = PublishedTables(engine, Files())
    pq.write_table(predictions(), tmp_path / "kept.parquet")
    with engine.begin() as connection:
        for name in ("kept", "lost"):
            artefact = str(tmp_path / f"{name}.parquet")
            published.publish(connection, name=name, artefact=artefact, job=None, description=name)
    names = [table.full_name for table in QueryService(manifest, published).tables()]
    engine.dispose()
    assert "predictions.kept" in names
    assert "predictions.lost" not in names


def test_an_upload_has_a_name_that_adql_can_write(service: QueryService) -> None:
    with pytest.raises(ParameterFault, match="is no table name"):
        service.query("SELECT 1 AS a FROM quasars", uploads={"my table": pa.table({"a": [1]})})


VOCABULARY = """SELECT FROM WHERE AND OR NOT ( ) , . * + - / = < > <= <> || ' " ; -- quasars archive.catalogue ra dec
source_id 1 2.5 1e3 'a' "ra" AS t ORDER BY GROUP HAVING COUNT(*) MAX(ra) TOP OFFSET UNION ALL EXCEPT WITH IN LIKE
BETWEEN IS NULL JOIN LEFT ON USING NATURAL CROSS EXISTS DISTINCT CAST(ra INTEGER) POINT CIRCLE CONTAINS DISTANCE
POLYGON( COALESCE( [ ] { } ? @ # $ % & : :: ~ ! ^ | \\ \x00 é ☃ /* */ LIMIT VALUES DATE TIMESTAMP INTERVAL CASE WHEN END
pz_cdf( weights LATERAL PIVOT"""
words = st.sampled_from(VOCABULARY.split())
soup = st.lists(words, max_size=25).map(" ".join)
almost = st.builds("SELECT {} FROM quasars {} WHERE {}".format, soup, soup, soup)
terms = st.sampled_from(["ra", "dec", "z_true", "1", "-2.5", "NULL", "source_id", "'a'", "weights", "POINT(ra, dec)"])
calls = st.sampled_from([*FUNCTIONS, "CONTAINS", "DISTANCE", "AREA", "pz_cdf", "IN_UNIT"])
expressions = st.recursive(
    terms,
    lambda inner: st.one_of(
        st.builds(
            "{} {} {}".format, inner, st.sampled_from(["+", "-", "*", "/", "=", "<", "AND", "OR", "||", "LIKE"]), inner
        ),
        st.builds("({})".format, inner),
        st.builds(lambda name, arguments: f"{name}({', '.join(arguments)})", calls, st.lists(inner, max_size=4)),
    ),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=80), soup, almost))
def test_no_text_makes_the_translation_fail_otherwise_than_by_a_fault(query: str) -> None:
    table = in_memory("predictions", "quasars", predictions().slice(0, 5))
    with suppress(QueryFault):
        translate(query, [table], most=5)


@settings(max_examples=60, deadline=None)
@given(expressions, expressions)
def test_no_expression_makes_the_service_fail_otherwise_than_by_a_fault(first: str, second: str) -> None:
    service = _only_uploads()
    uploads = {"quasars": predictions().slice(0, 20)}
    with suppress(UserFault):
        list(service.query(f"SELECT {first} AS a FROM TAP_UPLOAD.quasars WHERE {second} IS NOT NULL", uploads=uploads))


def _only_uploads() -> QueryService:
    class None_(PublishedTables):
        def __init__(self) -> None:
            pass

        def tables(self) -> list[object]:  # type: ignore[override]  # there are none
            return []

    archive = {"surveys": [{"band": "r", "hips": "hips"}], "catalogue": {"path": "none.parquet"}}
    return QueryService(Manifest.model_validate({"archive": archive}), None_())
