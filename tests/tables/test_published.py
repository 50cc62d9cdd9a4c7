"""Published tables and TAP_SCHEMA, which describes them."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from inzitu.errors import NotFoundFault, ParameterFault
from inzitu.tables.published import PublishedTables, metadata
from inzitu.tables.query import QueryService
from tables.sample import Ask, Files


@pytest.fixture
def tables(tmp_path: Path) -> PublishedTables:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'jobs.db'}", poolclass=sa.NullPool)
    metadata.create_all(engine)
    return PublishedTables(engine, Files())


def publish(tables: PublishedTables, name: str, artefact: str = "a") -> None:
    with tables._engine.begin() as connection:
        tables.publish(connection, name=name, artefact=artefact, job="j", description="d")


def test_a_table_is_published_with_its_transaction_or_not_at_all(tables: PublishedTables) -> None:
    with tables._engine.connect() as connection:
        tables.publish(connection, name="mine", artefact="a", job="j", description="d")
        connection.rollback()
    assert tables.tables() == []
    publish(tables, "mine")
    assert [table.name for table in tables.tables()] == ["mine"]


def test_publishing_the_same_again_changes_nothing_and_another_is_refused(tables: PublishedTables) -> None:
    publish(tables, "mine")
    publish(tables, "mine")
    with pytest.raises(ParameterFault, match=r"predictions\.mine exists; choose another name with TABLE="):
        publish(tables, "MINE", "b")
    assert len(tables.tables()) == 1
    assert not tables.is_free("Mine")
    assert tables.is_free("other")


@pytest.mark.parametrize("name", ["", "2mass", "a b", 'a"b', "a.b", "a" * 65, "é", "a;drop"])
def test_a_name_that_adql_cannot_write_is_refused(tables: PublishedTables, name: str) -> None:
    with pytest.raises(ParameterFault, match="is no table name"):
        publish(tables, name)


def test_a_table_can_be_dropped_once(tables: PublishedTables) -> None:
    publish(tables, "mine")
    tables.drop("Mine")
    with pytest.raises(NotFoundFault):
        tables.drop("mine")
    assert tables.is_free("mine")


def test_tap_schema_describes_every_table_itself_included(ask: Ask, service: QueryService) -> None:
    names = {row["table_name"] for row in ask("SELECT table_name FROM TAP_SCHEMA.tables")}
    assert {"archive.catalogue", "predictions.quasars", "tap_schema.columns"} <= names
    for table in service.tables():
        columns = ask(f"SELECT column_name FROM tap_schema.columns WHERE table_name = '{table.schema}.{table.name}'")
        assert len(columns) == len(table.shown)
        result = service.query(f"SELECT TOP 1 * FROM {table.schema}.{table.name}")
        assert [field.name for field in result.fields] == [column.name for column in table.shown]
        declared = [(column.field.datatype, column.field.arraysize) for column in table.shown]
        assert [(field.datatype, field.arraysize) for field in result.fields] == declared
        result.close()


def test_tap_schema_tells_meaning_and_index_and_hides_the_service_s_own(ask: Ask) -> None:
    wanted = "column_name, unit, ucd, indexed, arraysize"
    query = f"SELECT {wanted} FROM tap_schema.columns WHERE table_name = 'predictions.quasars'"
    columns = {row["column_name"]: row for row in ask(query)}
    assert "_healpix_29" not in columns
    assert columns["ra"] | {"column_name": ""} == {
        "column_name": "", "unit": "deg", "ucd": "pos.eq.ra;meta.main", "indexed": 1, "arraysize": None,
    }  # fmt: skip
    assert columns["weights"]["arraysize"] == "5"


def test_the_catalogue_s_columns_mean_what_the_manifest_says(ask: Ask) -> None:
    query = (
        "SELECT column_name, ucd FROM tap_schema.columns WHERE table_name = 'archive.catalogue' ORDER BY column_index"
    )
    assert [(row["column_name"], row["ucd"]) for row in ask(query)] == [
        ("objID", "meta.id;meta.main"),
        ("ra", "pos.eq.ra;meta.main"),
        ("dec", "pos.eq.dec;meta.main"),
        ('"size"', None),
    ]
    assert ask('SELECT TOP 1 "size" FROM archive.catalogue') == [{"size": 1}]


def test_every_key_leads_from_a_column_to_a_column(ask: Ask) -> None:
    query = (
        "SELECT k.from_table, c.from_column, k.target_table, c.target_column FROM tap_schema.keys AS k "
        "JOIN tap_schema.key_columns AS c USING (key_id)"
    )
    keys = ask(query)
    assert len(keys) == 5
    for key in keys:
        for table, column in (("from_table", "from_column"), ("target_table", "target_column")):
            ask(f"SELECT TOP 1 {key[column]} FROM {key[table]}")
