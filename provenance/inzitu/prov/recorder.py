"""The recorder: puts artefacts into the store and what made them into the database, together.

Content goes first and rows last, in one transaction: a row never names content that is not there. Content whose rows
were never written (the process was killed between the two) belongs to nobody, and `sweep` clears it.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

import sqlalchemy as sa

from inzitu.prov import schema
from inzitu.prov.facts import READING, Activity, Agent, Artefact, Made, Product, Used
from inzitu.prov.history import History, UnrecordedError
from inzitu.prov.schema import metadata
from inzitu.prov.store import ArtefactStore

__all__ = ["Recorder", "UnrecordedError", "metadata"]

PARQUET = "application/vnd.apache.parquet"
GRACE = 3600.0
"""Content younger than this is not swept [s]."""

_NOTHING: Mapping[str, Path] = MappingProxyType({})


class Recorder(History):
    """The record of what made what, and the only way by which artefacts come to be.

    Parameters
    ----------
    engine
        Database with the tables of `metadata`.
    store
        Where the content goes.
    clock
        Tells the time, with a time zone.

    Notes
    -----
    Every method that takes a `connection` writes within the caller's transaction; without one it makes its own.
    """

    def __init__(
        self, engine: sa.Engine, store: ArtefactStore, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        super().__init__(engine)
        self.store = store
        self.clock = clock

    def admit(
        self,
        path: str | Path,
        *,
        kind: str,
        media_type: str,
        name: str,
        agent: Agent,
        job: str | None = None,
        connection: sa.Connection | None = None,
    ) -> Artefact:
        """Record a file or folder that came from outside, attributed to who brought it. The original is kept.

        Content that is already recorded keeps the kind and name that it has. What came with a job is released with it,
        also where nothing ever used it.
        """
        id, size = self.store.adopt(path, keep=True)
        with self._writing(connection) as open_connection:
            self._add_artefacts(open_connection, [Artefact(id, kind, media_type, size, name)])
            self._attribute(open_connection, [id], agent)
            if job is not None:
                admitted = {"job": job, "artefact": id, "released": False}
                schema.insert_absent(open_connection, schema.admissions, [admitted])
            return self._artefacts(open_connection, [id])[id]

    def record(
        self,
        activity: Activity,
        made: Mapping[str, Product | tuple[Path, str, str, str]],
        *,
        readings: Mapping[str, Path] = _NOTHING,
        job: str | None = None,
        connection: sa.Connection | None = None,
    ) -> dict[str, Artefact]:
        """Record an activity with what it made, and return its artefacts by role.

        Parameters
        ----------
        activity
            What ran; its `made` is filled in here.
        made
            Path, kind, media type and name of each product, by role. The paths are moved into the store.
        readings
            Lists of the outside files that it read, by role: Parquet files with columns uri, sha256 and bytes.
        job
            The job that it ran for.

        Raises
        ------
        UnrecordedError
            It used an artefact that the record does not know.
        OSError
            No room or no right to write; nothing is recorded.
        """
        lists = {
            role: self._take(Product(path, READING, PARQUET, f"{role}.parquet")) for role, path in readings.items()
        }
        products = {role: self._take(Product(*product)) for role, product in made.items()}
        whole = replace(
            activity,
            used=(*activity.used, *(Used(role, reading.id) for role, reading in lists.items())),
            made=tuple(Made(role, product.id) for role, product in products.items()),
        )
        with self._writing(connection) as open_connection:
            self._add_artefacts(open_connection, [*lists.values(), *products.values()])
            self._attribute(open_connection, [reading.id for reading in lists.values()], activity.agent)
            self._add_activity(open_connection, whole, job)
            recorded = self._artefacts(open_connection, [product.id for product in products.values()])
        return {role: recorded[product.id] for role, product in products.items()}

    def found(
        self, key: str, *, job: str | None = None, connection: sa.Connection | None = None
    ) -> dict[str, Artefact] | None:
        """Return what the last activity with that key made, by role, if all of it is still there.

        The activity is then also one of `job`, which keeps its artefacts from being released with the earlier job.
        """
        with self._writing(connection) as open_connection:
            _queue_up(open_connection)
            newest = sa.select(schema.activities.c.id).where(schema.activities.c.key == key)
            for id in open_connection.scalars(newest.order_by(schema.activities.c.ended.desc())).all():
                roles = self._links(open_connection, schema.made, [id])
                lock = sa.select(schema.artefacts).where(schema.artefacts.c.id.in_([r.artefact for r in roles]))
                rows = open_connection.execute(lock.with_for_update()).all()
                if roles and all(row.destroyed is None and self.store.contains(row.id) for row in rows):
                    self._link(open_connection, job, id)
                    artefacts = {row.id: schema.artefact_of(row) for row in rows}
                    return {role.role: artefacts[role.artefact] for role in roles}
        return None

    def release(self, job: str, *, connection: sa.Connection | None = None) -> list[str]:
        """Give up the content of a job and return the identifiers that no other job needs; `sweep` removes them.

        The record stays: it still says what they were and what made them. Readings are kept, being part of it.
        """
        with self._writing(connection) as open_connection:
            _queue_up(open_connection)
            mine = self._touched(open_connection, lambda table: table.c.job == job)
            open_connection.execute(
                sa.select(schema.artefacts.c.id).where(schema.artefacts.c.id.in_(mine)).with_for_update()
            )
            free = mine - self._touched(open_connection, lambda table: (table.c.job != job) & ~table.c.released)
            doomed = (schema.artefacts.c.id.in_(free)) & (schema.artefacts.c.kind != READING)
            for table in (schema.jobs, schema.admissions):
                open_connection.execute(table.update().where(table.c.job == job).values(released=True))
            open_connection.execute(schema.artefacts.update().where(doomed).values(destroyed=self.clock()))
            return list(open_connection.scalars(sa.select(schema.artefacts.c.id).where(doomed)))

    def sweep(self, *, grace: float = GRACE) -> list[str]:
        """Remove released content, and content without a record, and return its identifiers.

        Parameters
        ----------
        grace
            [s] Content younger than this stays, as its record may be about to be written.
        """
        with self.engine.connect() as connection:
            wanted = connection.scalars(sa.select(schema.artefacts.c.id).where(schema.artefacts.c.destroyed.is_(None)))
            return self.store.sweep(wanted=set(wanted), grace=grace)

    def _take(self, product: Product) -> Artefact:
        id, size = self.store.adopt(product.path)
        return Artefact(id, product.kind, product.media_type, size, product.name)

    @contextmanager
    def _writing(self, connection: sa.Connection | None) -> Iterator[sa.Connection]:
        try:
            if connection is not None:
                yield connection
            else:
                with self.engine.begin() as own:
                    yield own
        except sa.exc.OperationalError as error:
            if "full" in str(error.orig) or "No space" in str(error.orig):
                raise OSError(errno.ENOSPC, "No room for the record in the database") from error
            raise

    def _add_artefacts(self, connection: sa.Connection, artefacts: list[Artefact]) -> None:
        now, table = self.clock(), schema.artefacts
        schema.insert_absent(connection, table, (schema.artefact_row(artefact, now) for artefact in artefacts))
        # All rows, so that a release of the same artefacts waits until this transaction has ended.
        ids = [artefact.id for artefact in artefacts]
        connection.execute(table.update().where(table.c.id.in_(ids)).values(destroyed=None))

    def _attribute(self, connection: sa.Connection, ids: Iterable[str], agent: Agent) -> None:
        schema.insert_absent(connection, schema.agents, [schema.agent_row(agent)])
        rows = [{"artefact": id, "agent": agent.id} for id in ids]
        schema.insert_absent(connection, schema.attributions, rows)

    def _add_activity(self, connection: sa.Connection, activity: Activity, job: str | None) -> None:
        self._artefacts(connection, [item.artefact for item in activity.used])
        schema.insert_absent(connection, schema.agents, [schema.agent_row(activity.agent)])
        connection.execute(schema.activities.insert(), schema.activity_row(activity))
        for table, items in ((schema.used, activity.used), (schema.made, activity.made)):
            rows = [{"activity": activity.id, "role": item.role, "artefact": item.artefact} for item in items]
            schema.insert_absent(connection, table, rows)
        self._link(connection, job, activity.id)

    def _link(self, connection: sa.Connection, job: str | None, activity: str) -> None:
        if job is not None:
            schema.insert_absent(connection, schema.jobs, [{"job": job, "activity": activity, "released": False}])

    def _touched(self, connection: sa.Connection, which: Callable[[sa.Table], sa.ColumnElement[bool]]) -> set[str]:
        """Return the artefacts that some jobs brought, or that their activities used or made."""
        ids = set(connection.scalars(sa.select(schema.admissions.c.artefact).where(which(schema.admissions))))
        for table in (schema.used, schema.made):
            query = sa.select(table.c.artefact).join(schema.jobs, schema.jobs.c.activity == table.c.activity)
            ids.update(connection.scalars(query.where(which(schema.jobs))))
        return ids


def _queue_up(connection: sa.Connection) -> None:
    """Take the one write lock that SQLite has before reading what the write depends on; elsewhere rows are locked."""
    connection.execute(schema.jobs.update().where(sa.false()).values(released=True))
