"""TAP_SCHEMA: the tables that describe the tables, themselves included (TAP 1.1, section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
from vo_models.adql.misc import ADQL_SQL_KEYWORDS

from inzitu.tables.holdings import Column, Table, in_memory
from inzitu.vo.fields import Field

SCHEMAS = {
    "archive": "What the host holds.",
    "predictions": "Redshifts that jobs have predicted, one table a job.",
    "tap_schema": "The tables that describe the tables.",
}
"""The schemas and what they are."""

_TEXT: tuple[str, str | None] = ("char", "*")
_INT: tuple[str, str | None] = ("int", None)

_LAYOUT: dict[str, tuple[str, dict[str, tuple[tuple[str, str | None], str]]]] = {
    "schemas": (
        "The schemas of this service.",
        {
            "schema_name": (_TEXT, "Name of the schema."),
            "utype": (_TEXT, "Data model that the schema follows."),
            "description": (_TEXT, "What the schema holds."),
            "schema_index": (_INT, "Recommended order."),
        },
    ),
    "tables": (
        "The tables of this service.",
        {
            "schema_name": (_TEXT, "Schema of the table."),
            "table_name": (_TEXT, "Name of the table, as a query writes it."),
            "table_type": (_TEXT, "table or view."),
            "utype": (_TEXT, "Data model that the table follows."),
            "description": (_TEXT, "What the table holds."),
            "table_index": (_INT, "Recommended order."),
            "nrows": (("long", None), "Number of rows."),
        },
    ),
    "columns": (
        "The columns of all tables.",
        {
            "table_name": (_TEXT, "Table of the column."),
            "column_name": (_TEXT, "Name of the column, as a query writes it."),
            "datatype": (_TEXT, "Type of the values, as in VOTable."),
            "arraysize": (_TEXT, "Shape of the values, as in VOTable."),
            "xtype": (_TEXT, "What the values stand for (DALI)."),
            '"size"': (_INT, "Length of the values; deprecated, see arraysize."),
            "description": (_TEXT, "What the column holds."),
            "utype": (_TEXT, "Data model that the column follows."),
            "unit": (_TEXT, "Unit of the values (VOUnits)."),
            "ucd": (_TEXT, "What the values are (UCD1+)."),
            "indexed": (_INT, "1 if a condition on the column is fast."),
            "principal": (_INT, "1 if the column is one to look at first."),
            "std": (_INT, "1 if a standard defines the column."),
            "column_index": (_INT, "Recommended order."),
        },
    ),
    "keys": (
        "Pairs of tables that belong together.",
        {
            "key_id": (_TEXT, "Name of the key."),
            "from_table": (_TEXT, "Table that refers."),
            "target_table": (_TEXT, "Table referred to."),
            "utype": (_TEXT, "Data model that the key follows."),
            "description": (_TEXT, "What the key says."),
        },
    ),
    "key_columns": (
        "The columns of the keys.",
        {
            "key_id": (_TEXT, "Name of the key."),
            "from_column": (_TEXT, "Column of the table that refers."),
            "target_column": (_TEXT, "Column of the table referred to."),
        },
    ),
}

KEYS = (
    ("tables_schema", "tap_schema.tables", "tap_schema.schemas", "schema_name", "The schema of a table."),
    ("columns_table", "tap_schema.columns", "tap_schema.tables", "table_name", "The table of a column."),
    ("keys_from", "tap_schema.keys", "tap_schema.tables", "from_table", "The table that refers."),
    ("keys_target", "tap_schema.keys", "tap_schema.tables", "target_table", "The table referred to."),
    ("key_columns_key", "tap_schema.key_columns", "tap_schema.keys", "key_id", "The key of a pair of columns."),
)
"""Name of the key, table that refers, table referred to, column, description."""


def own_tables() -> list[Table]:
    """Return the tables of TAP_SCHEMA without their rows."""
    return [_empty(name) for name in _LAYOUT]


def filled(own: Table, tables: Sequence[Table]) -> Table:
    """Return a table of TAP_SCHEMA with the rows that describe these tables, itself among them."""
    match own.name:
        case "schemas":
            rows = _schema_rows(tables)
        case "tables":
            rows = [_table_row(table, i) for i, table in enumerate(tables)]
        case "columns":
            rows = [row for table in tables for row in _column_rows(table)]
        case "keys":
            names = ("key_id", "from_table", "target_table", "description")
            rows = [dict(zip(names, (k, f, t, d), strict=True)) for k, f, t, _, d in KEYS]
        case _:
            rows = [{"key_id": k, "from_column": c, "target_column": target_column(c)} for k, _, _, c, _ in KEYS]
    assert isinstance(own.rows, pa.Table)
    full = pa.Table.from_pylist(rows, schema=own.rows.schema)
    return replace(own, rows=full, count=full.num_rows)


def target_column(column: str) -> str:
    """Return the column that a key's column refers to."""
    return "table_name" if column in ("from_table", "target_table") else column


def _empty(name: str) -> Table:
    description, layout = _LAYOUT[name]
    fields = [
        Field(column.strip('"'), datatype, arraysize, description=meaning).arrow()
        for column, ((datatype, arraysize), meaning) in layout.items()
    ]
    table = in_memory("tap_schema", name, pa.schema(fields).empty_table(), description)
    principal = tuple(replace(column, std=True, principal=True) for column in table.columns)
    return replace(table, columns=principal, count=None)


def _schema_rows(tables: Sequence[Table]) -> list[dict[str, Any]]:
    present = {table.schema for table in tables}
    return [
        {"schema_name": name, "description": description, "schema_index": i}
        for i, (name, description) in enumerate(SCHEMAS.items())
        if name in present
    ]


def _table_row(table: Table, index: int) -> dict[str, Any]:
    return {
        "schema_name": table.schema,
        "table_name": written(table),
        "table_type": "table",
        "description": table.description,
        "table_index": index,
        "nrows": table.count,
    }


def written(table: Table) -> str:
    """Return a table's name as a query writes it."""
    return f"{table.schema}.{_delimited(table.name)}"


def column_written(column: Column) -> str:
    """Return a column's name as a query writes it: delimited where it is no regular identifier, or reserved."""
    return _delimited(column.name)


_RESERVED = frozenset(word.lower() for word in ADQL_SQL_KEYWORDS)


def _delimited(name: str) -> str:
    regular = name.isascii() and name[:1].isalpha() and name.replace("_", "a").isalnum()
    if regular and name.lower() not in _RESERVED:
        return name
    return '"' + name.replace('"', '""') + '"'


def _column_rows(table: Table) -> list[dict[str, Any]]:
    return [_column_row(table, column, i) for i, column in enumerate(table.shown)]


def _column_row(table: Table, column: Column, index: int) -> dict[str, Any]:
    field = column.field
    return {
        "table_name": written(table),
        "column_name": column_written(column),
        "datatype": field.datatype,
        "arraysize": field.arraysize,
        "xtype": field.xtype,
        "size": field.length,
        "description": field.description,
        "utype": field.utype,
        "unit": field.unit,
        "ucd": field.ucd,
        "indexed": int(column.indexed),
        "principal": int(column.principal),
        "std": int(column.std),
        "column_index": index,
    }
