"""Answers queries: each in a DuckDB instance of its own that can read the tables it names, and nothing else.

An instance takes 10 ms and belongs to one query. It is told which files it may open, then every other access to the
outside is switched off and the settings are locked, so a hole in the translation would still lead nowhere. Its time,
its rows and its memory are bounded, and it can be interrupted at any moment.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import duckdb
import pyarrow as pa

from inzitu.errors import ArchiveFault, BusyFault, Fault, LimitFault, QueryFault, ServiceFault
from inzitu.manifest import Manifest
from inzitu.tables import tap_schema
from inzitu.tables.adql.sources import source_name
from inzitu.tables.adql.translation import Translated, translate
from inzitu.tables.callables import provide
from inzitu.tables.holdings import Holdings, Table, in_memory
from inzitu.tables.published import PublishedTables, check_name
from inzitu.vo.fields import Field, field_of

_BATCH_ROWS = 10_000
_SLOTS = 4
_PATIENCE_SECONDS = 20.0


class QueryService:
    """The tables of a deployment and the queries on them.

    Parameters
    ----------
    manifest
        Its limits hold for every query.
    published
        The published predictions.
    slots
        Queries that may run at the same time; they share the memory that the manifest allows.
    """

    def __init__(self, manifest: Manifest, published: PublishedTables, *, slots: int = _SLOTS) -> None:
        self._limits = manifest.limits
        self._holdings = Holdings(manifest, published)
        self._slots = slots
        self._running = 0
        self._ended = threading.Condition()
        self._memory_mb = manifest.limits.query_memory_mb // slots

    def tables(self) -> list[Table]:
        """Return all tables that can be queried now, TAP_SCHEMA's included."""
        own = tap_schema.own_tables()
        everything = [*self._holdings.tables(), *own]
        return everything[: -len(own)] + [tap_schema.filled(table, everything) for table in own]

    def query(
        self,
        adql: str,
        *,
        maxrec: int | None = None,
        uploads: Mapping[str, pa.Table] | None = None,
        seconds: float | None = None,
    ) -> Result:
        """Translate a query and have an engine ready for it; it runs when its rows are read.

        Parameters
        ----------
        adql
            The query, in ADQL 2.1.
        maxrec
            Rows that are returned at most; the deployment's default if not given.
        uploads
            Tables known as TAP_UPLOAD.<name> in this query alone.
        seconds
            Time until it is interrupted [s]; the deployment's limit for synchronous queries if not given.

        Raises
        ------
        QueryFault
            The query is wrong.
        BusyFault
            Too many queries run already.
        """
        allowed = self._limits.maxrec if maxrec is None else min(maxrec, self._limits.maxrec_hard)
        own = tap_schema.own_tables()
        tables = [*self._holdings.tables(), *own]
        sent = [in_memory("TAP_UPLOAD", check_name(name), rows) for name, rows in (uploads or {}).items()]
        translated = translate(adql, [*tables, *sent], most=allowed + 1)
        full = tuple(tap_schema.filled(table, tables) if table in own else table for table in translated.tables)
        self._take_slot()
        try:
            limit = self._limits.query_seconds if seconds is None else seconds
            return Result(
                replace(translated, tables=full),
                maxrec=allowed,
                seconds=limit,
                memory_mb=self._memory_mb,
                done=self._give_slot_back,
            )
        except BaseException:
            self._give_slot_back()
            raise

    @property
    def running(self) -> int:
        """How many queries have an engine now."""
        return self._running

    def _take_slot(self) -> None:
        with self._ended:
            if not self._ended.wait_for(lambda: self._running < self._slots, _PATIENCE_SECONDS):
                raise BusyFault(f"{self._running} queries are running; try again in a minute, or ask asynchronously.")
            self._running += 1

    def _give_slot_back(self) -> None:
        with self._ended:
            self._running -= 1
            self._ended.notify()


class Result:
    """The rows of a query: `fields` now, batches as they are read, `overflow` once they are.

    Nothing is computed before `begin` or the first batch, so that whoever has a result can interrupt it. Batches are
    computed while they are fetched, and only the time that this takes is counted: a slow reader does not
    use up the time of the query. A result that is read to its end, closed or forgotten leaves nothing behind.

    Parameters
    ----------
    query
        What to run.
    maxrec
        Rows that are returned at most.
    seconds
        Time that the query may take [s].
    memory_mb
        Memory that it may use [MB].
    done
        Called once, when it has ended.
    """

    def __init__(
        self, query: Translated, *, maxrec: int, seconds: float, memory_mb: int, done: Callable[[], None]
    ) -> None:
        self.overflow = False
        self._maxrec, self._seconds, self._memory_mb = maxrec, seconds, memory_mb
        self._left = seconds
        self._done = done
        self._lock = threading.RLock()
        self._stopped_by: str | None = None
        self._first: pa.RecordBatch | None = None
        self._reader: pa.RecordBatchReader | None = None
        self._connection = _open(query, memory_mb)
        try:
            with self._running():
                self._relation = self._connection.sql(query.sql)
                schema = self._relation.limit(0).to_arrow_table().schema
            self.fields = tuple(map(_served, query.fields, schema))
        except BaseException:
            self._connection.close()
            raise

    def begin(self) -> None:
        """Compute the first rows.

        Raises
        ------
        LimitFault
            That took more time or memory than allowed.
        QueryFault
            A value made the query fail, or it was interrupted.
        """
        if self._reader is None:
            with self._running():
                self._reader = self._relation.to_arrow_reader(_BATCH_ROWS)
                self._first = next(self._reader, None)

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows, once.

        Raises
        ------
        Fault
            As `begin` does.
        """
        left = self._maxrec
        try:
            while (batch := self._next()) is not None:
                self.overflow |= batch.num_rows > left
                if left and batch.num_rows:
                    yield batch.slice(0, left)
                left -= min(left, batch.num_rows)
        finally:
            self.close()

    def interrupt(self) -> None:
        """Stop the query, from any thread; whoever reads it gets a fault."""
        self._stop("request")

    def close(self) -> None:
        """End the query and free what it holds."""
        with self._lock:
            done, self._done = self._done, _nothing
            if done is not _nothing:
                self._connection.close()
                done()

    def __del__(self) -> None:
        if hasattr(self, "fields"):
            self.close()

    def _next(self) -> pa.RecordBatch | None:
        self.begin()
        batch, self._first = self._first, None
        if batch is not None:
            return batch
        with self._running():
            return next(self._reader, None) if self._reader is not None else None

    def _stop(self, why: str) -> None:
        with self._lock:
            if self._done is not _nothing:
                self._stopped_by = self._stopped_by or why
                self._connection.interrupt()

    @contextmanager
    def _running(self) -> Iterator[None]:
        """Let the engine work for as long as there is time left, and raise its errors as faults."""
        watch = threading.Timer(max(self._left, 0.0), self._stop, ["time"])
        watch.daemon = True
        began = time.monotonic()
        watch.start()
        try:
            if self._stopped_by is not None:
                raise duckdb.InterruptException(self._stopped_by)
            yield
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            raise self._fault(error) from error
        finally:
            watch.cancel()
            self._left -= time.monotonic() - began

    def _fault(self, error: Exception) -> Fault:
        match self._stopped_by:
            case "time":
                return LimitFault(
                    f"The query was stopped after {self._seconds:g} s, the limit here. Ask for fewer rows or a "
                    "smaller region, or send it to /tap/async with a longer EXECUTIONDURATION."
                )
            case "request":
                return QueryFault("The query was stopped, as was asked.")
            case _:
                return _fault(error, self._memory_mb)


def _nothing() -> None:
    """Do nothing."""


def _open(query: Translated, memory_mb: int) -> duckdb.DuckDBPyConnection:
    """Return an engine that can read what a query names and nothing else."""
    connection = duckdb.connect(
        ":memory:",
        config={
            "memory_limit": f"{memory_mb}MB",
            "threads": os.cpu_count() or 1,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "python_enable_replacements": False,
            "temp_directory": "",
        },
    )
    files = [str(path) for table in query.tables if isinstance(table.rows, tuple) for path in table.rows]
    try:
        provide(connection, query.functions)
        for table in query.tables:
            if isinstance(table.rows, pa.Table):
                connection.register(source_name(table), table.rows)
        connection.execute("SET allowed_paths = ?", [files])
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
    except BaseException:
        connection.close()
        raise
    return connection


def _served(known: Field, column: pa.Field) -> Field:
    """Return a column of a result: its type as the engine gives it, its meaning as the tables have it."""
    served = field_of(column)
    arraysize = known.arraysize if served.arraysize == "*" and known.length and not served.is_text else served.arraysize
    xtype = served.xtype or known.xtype
    return replace(known, datatype=served.datatype, arraysize=arraysize, xtype=xtype, name=known.name)


def _fault(error: Exception, memory_mb: int) -> Fault:
    """Return the fault that stands for an error of the engine."""
    said = re.split(r"\n\s*\n|\nLINE |\nCandidate|\nPossible solutions", str(error))[0]
    said = " ".join(re.sub(r"^(\w+ )*Error: ", "", said).split())
    match error:
        case duckdb.OutOfMemoryException():
            return LimitFault(
                f"The query needs more than {memory_mb} MB, the limit here. Sort, group or join fewer rows."
            )
        case duckdb.IOException() | OSError():
            return ArchiveFault("A table's file cannot be read; the operator can mend it.")
        case duckdb.InternalException() | duckdb.FatalException() | duckdb.PermissionException():
            return ServiceFault(f"The query engine failed: {said}")
        case _:
            said = re.sub(r"^Python exception occurred while executing the UDF: ValueError: ", "", said)
            return QueryFault(f"The query cannot be run: {said}")
