"""The history: what the record says, as facts. See also `recorder`, which writes it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from inzitu.prov import schema
from inzitu.prov.facts import Activity, Agent, Artefact, Made, Used


class UnrecordedError(ValueError):
    """The record has nothing of that identifier."""


class History:
    """The record of what made what, for reading.

    Parameters
    ----------
    engine
        Database with the tables of `inzitu.prov.schema.metadata`.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine

    def artefact(self, id: str) -> Artefact:
        """Return the artefact of that identifier.

        Raises
        ------
        UnrecordedError
            There is none.
        """
        return self.artefacts([id])[id]

    def artefacts(self, ids: Iterable[str]) -> dict[str, Artefact]:
        """Return artefacts by identifier; raises `UnrecordedError` if there is one that is not recorded."""
        with self.engine.connect() as connection:
            return self._artefacts(connection, ids)

    def of_kind(self, kind: str) -> list[Artefact]:
        """Return the artefacts of a kind whose content has not been destroyed, the newest first."""
        table = schema.artefacts
        query = sa.select(table).where((table.c.kind == kind) & table.c.destroyed.is_(None))
        with self.engine.connect() as connection:
            return [schema.artefact_of(row) for row in connection.execute(query.order_by(table.c.created.desc()))]

    def created(self, id: str) -> datetime:
        """Return when the artefact was first recorded."""
        with self.engine.connect() as connection:
            query = sa.select(schema.artefacts.c.created).where(schema.artefacts.c.id == id)
            time: datetime | None = connection.scalar(query)
        return _known(time, "artefact", id)

    def destroyed(self, *ids: str) -> dict[str, datetime]:
        """Return when the content of those of the artefacts that have been given up was destroyed."""
        table = schema.artefacts
        query = sa.select(table.c.id, table.c.destroyed).where(table.c.id.in_(ids) & table.c.destroyed.is_not(None))
        with self.engine.connect() as connection:
            return {row.id: row.destroyed for row in connection.execute(query)}

    def attributed(self, *ids: str) -> dict[str, tuple[Agent, ...]]:
        """Return who brought those of the artefacts that came from outside."""
        links = schema.attributions
        query = sa.select(links.c.artefact, schema.agents).join(schema.agents).where(links.c.artefact.in_(ids))
        found: dict[str, tuple[Agent, ...]] = {}
        with self.engine.connect() as connection:
            for row in connection.execute(query.order_by(links.c.artefact, schema.agents.c.id)):
                found[row.artefact] = (*found.get(row.artefact, ()), schema.agent_of(row))
        return found

    def activity(self, id: str) -> Activity:
        """Return the activity of that identifier, or raise `UnrecordedError`."""
        return _known(self.activities(id).get(id), "activity", id)

    def activities(self, *ids: str) -> dict[str, Activity]:
        """Return those of the activities that are recorded, by identifier."""
        return {activity.id: activity for activity in self._select(schema.activities.c.id.in_(ids))}

    def makers(self, *ids: str) -> list[Activity]:
        """Return the activities that made the artefacts, the earliest first: equal content may be made twice."""
        return self._select(schema.activities.c.id.in_(_activities_of(schema.made, ids)))

    def users(self, *ids: str) -> list[Activity]:
        """Return the activities that used the artefacts, the earliest first."""
        return self._select(schema.activities.c.id.in_(_activities_of(schema.used, ids)))

    def of_job(self, job: str) -> list[Activity]:
        """Return the activities of a job, its own and those that it found, the earliest first."""
        return self._select(
            schema.activities.c.id.in_(sa.select(schema.jobs.c.activity).where(schema.jobs.c.job == job))
        )

    def jobs(self, activity: str) -> list[str]:
        """Return the jobs that an activity ran for."""
        query = sa.select(schema.jobs.c.job).where(schema.jobs.c.activity == activity).order_by(schema.jobs.c.job)
        with self.engine.connect() as connection:
            return list(connection.scalars(query))

    def _artefacts(self, connection: sa.Connection, ids: Iterable[str]) -> dict[str, Artefact]:
        ids = set(ids)
        rows = connection.execute(sa.select(schema.artefacts).where(schema.artefacts.c.id.in_(ids)))
        found = {row.id: schema.artefact_of(row) for row in rows}
        for id in sorted(ids - found.keys()):
            raise UnrecordedError(f"The record has no artefact {id}.")
        return found

    def _links(self, connection: sa.Connection, table: sa.Table, activities: Iterable[str]) -> list[sa.Row[Any]]:
        query = sa.select(table).where(table.c.activity.in_(list(activities)))
        return list(connection.execute(query.order_by(table.c.role, table.c.artefact)))

    def _select(self, which: sa.ColumnElement[bool]) -> list[Activity]:
        activities = schema.activities
        with self.engine.connect() as connection:
            rows = connection.execute(
                sa.select(activities).where(which).order_by(activities.c.ended, activities.c.id)
            ).all()
            present = sa.select(schema.agents).where(schema.agents.c.id.in_({row.agent for row in rows}))
            agents = {row.id: schema.agent_of(row) for row in connection.execute(present)}
            ids = [row.id for row in rows]
            used, made = (self._links(connection, table, ids) for table in (schema.used, schema.made))
        return [
            schema.activity_of(
                row,
                agent=agents[row.agent],
                used=tuple(Used(link.role, link.artefact) for link in used if link.activity == row.id),
                made=tuple(Made(link.role, link.artefact) for link in made if link.activity == row.id),
            )
            for row in rows
        ]


def _activities_of(table: sa.Table, artefacts: Iterable[str]) -> sa.Select[tuple[str]]:
    return sa.select(table.c.activity).where(table.c.artefact.in_(artefacts))


def _known[T](fact: T | None, what: str, id: str) -> T:
    if fact is None:
        raise UnrecordedError(f"The record has no {what} {id}.")
    return fact
