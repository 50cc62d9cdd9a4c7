"""The list of published tables: names in the schema `predictions` and the artefacts that they stand for.

A table is published inside the transaction that finishes its job, so it exists exactly when the job is complete.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa

from inzitu.errors import NotFoundFault, ParameterFault

metadata = sa.MetaData()

_published = sa.Table(
    "published_table",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True, comment="as written by the user"),
    sa.Column("folded", sa.String(64), nullable=False, unique=True, comment="the name without regard to case"),
    sa.Column("artefact", sa.String(80), nullable=False),
    sa.Column("job", sa.String(64), index=True),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("created", sa.String(32), nullable=False),
)

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")


@dataclass(frozen=True, slots=True)
class PublishedTable:
    """A table that ADQL knows as `predictions.<name>`."""

    name: str
    artefact: str
    job: str | None
    description: str
    created: datetime


class Artefacts(Protocol):
    """Where the files are."""

    def path(self, artefact: str, /) -> Path:
        """Return the file of an artefact."""


def check_name(name: str) -> str:
    """Return a table's name if ADQL can write it without quotes.

    Raises
    ------
    ParameterFault
        It is no regular identifier of ADQL.
    """
    if not _NAME.fullmatch(name):
        raise ParameterFault(
            f"TABLE={name!r} is no table name: take a letter and then letters, digits or _, 64 characters at most."
        )
    return name


class PublishedTables:
    """The published tables of a deployment."""

    def __init__(
        self, engine: sa.Engine, store: Artefacts, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._engine = engine
        self._store = store
        self._clock = clock

    def publish(
        self, connection: sa.Connection, *, name: str, artefact: str, job: str | None, description: str
    ) -> PublishedTable:
        """Publish a table in the caller's transaction.

        Publishing the same artefact under the same name again changes nothing, so a job that is run again after a
        crash may publish again.

        Raises
        ------
        ParameterFault
            The name cannot be used, or stands for another table.
        """
        table = PublishedTable(check_name(name), artefact, job, description, self._clock())
        present = connection.execute(sa.select(_published).where(_published.c.folded == name.lower())).one_or_none()
        if present is None:
            connection.execute(_published.insert().values(**_row(table)))
        elif present.artefact != artefact:
            raise ParameterFault(f"The table predictions.{present.name} exists; choose another name with TABLE=.")
        return table

    def is_free(self, name: str) -> bool:
        """Whether no table of that name is published."""
        with self._engine.connect() as connection:
            chosen = sa.select(_published.c.name).where(_published.c.folded == name.lower())
            return connection.execute(chosen).first() is None

    def tables(self) -> list[PublishedTable]:
        """Return all published tables, by name."""
        with self._engine.connect() as connection:
            rows = connection.execute(sa.select(_published).order_by(_published.c.folded)).all()
        return [_table(row) for row in rows]

    def path(self, table: PublishedTable) -> Path:
        """Return the Parquet file that holds a table's rows."""
        return self._store.path(table.artefact)

    def drop(self, name: str, connection: sa.Connection | None = None) -> None:
        """Withdraw a table; its artefact stays.

        Raises
        ------
        NotFoundFault
            There is no such table.
        """
        gone = _published.delete().where(_published.c.folded == name.lower())
        if connection is not None:
            count = connection.execute(gone).rowcount
        else:
            with self._engine.begin() as own:
                count = own.execute(gone).rowcount
        if not count:
            raise NotFoundFault(f"There is no table predictions.{name}; TAP_SCHEMA.tables lists those that exist.")


def _row(table: PublishedTable) -> dict[str, str | None]:
    return {
        "name": table.name,
        "folded": table.name.lower(),
        "artefact": table.artefact,
        "job": table.job,
        "description": table.description,
        "created": table.created.astimezone(UTC).isoformat(timespec="seconds"),
    }


def _table(row: sa.Row[tuple[object, ...]]) -> PublishedTable:
    return PublishedTable(row.name, row.artefact, row.job, row.description, datetime.fromisoformat(row.created))
