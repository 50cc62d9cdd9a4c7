"""The SQL database behind the job store, the record and the list of published tables.

SQLite in WAL mode by default: a reader never waits for a writer, so a poll answers in milliseconds while a worker
writes. PostgreSQL by its URL. A transaction of the engine is a writing one; `reading` gives one that only reads.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import DateTime, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.types import TypeDecorator

from inzitu.errors import ManifestFault

if TYPE_CHECKING:
    from sqlalchemy import Connection, Dialect, Engine
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry

_BUSY_SECONDS = 30.0


class Instant(TypeDecorator[datetime]):
    """A moment in UTC; what goes in must know its zone, what comes out does."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turn a moment into what the database stores; SQLite keeps no zone, so all are UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} has no time zone; use datetime.now(UTC)")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turn what the database stores into a moment in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def open_engine(url: str) -> Engine:
    """Open a database by its SQLAlchemy URL; the folder of an SQLite file is made.

    Raises
    ------
    ManifestFault
        The URL is malformed or its driver is not installed.
    """
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() != "sqlite":
            return create_engine(parsed, pool_pre_ping=True, pool_size=16)
        if parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(parsed, connect_args={"timeout": _BUSY_SECONDS}, pool_size=16, max_overflow=48)
    except (ValueError, ImportError, TypeError) as error:
        raise ManifestFault(f"Cannot open the database {url!r}: {error}. See SQLAlchemy on database URLs.") from error
    event.listen(engine, "connect", _set_pragmas)
    event.listen(engine, "begin", _begin)
    return engine


def reading(engine: Engine) -> Engine:
    """Return the same database for transactions that only read: they wait for no writer and block none."""
    return engine.execution_options(reading=True)


def _set_pragmas(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    # The driver's own BEGIN comes too late, before the first write: see `_begin`.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    # In WAL mode NORMAL may lose the last commits at a power cut; a job that was reported finished must stay so.
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin(connection: Connection) -> None:
    # A deferred transaction that reads and then writes fails at once where another has written in between; an
    # immediate one waits for its turn before it reads.
    deferred = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN" if deferred else "BEGIN IMMEDIATE")
