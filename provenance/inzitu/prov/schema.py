"""The tables of the record, and how rows become facts again.

They may live in a database of their own or among others: all names begin with `prov_`. Rows are only ever added; the
one thing that changes is that an artefact's content is destroyed, or made again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from inzitu.prov.facts import Activity, Agent, Artefact, Made, Parameter, Used

metadata = sa.MetaData()
"""The tables, for `metadata.create_all(engine)`."""


class _Utc(sa.types.TypeDecorator[datetime]):
    """An aware time, kept as UTC where the database knows no time zones (SQLite)."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        return value.astimezone(UTC) if value is not None else None

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


_ID = sa.String(64)

agents = sa.Table(
    "prov_agents",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("kind", sa.String, nullable=False),
)

artefacts = sa.Table(
    "prov_artefacts",
    metadata,
    sa.Column("id", _ID, primary_key=True),
    sa.Column("kind", sa.String, nullable=False, index=True),
    sa.Column("media_type", sa.String, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("created", _Utc, nullable=False),
    sa.Column("destroyed", _Utc),
)

attributions = sa.Table(
    "prov_attributions",
    metadata,
    sa.Column("artefact", sa.ForeignKey(artefacts.c.id), primary_key=True),
    sa.Column("agent", sa.ForeignKey(agents.c.id), primary_key=True),
)

activities = sa.Table(
    "prov_activities",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("step", sa.String, nullable=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("started", _Utc, nullable=False),
    sa.Column("ended", _Utc, nullable=False),
    sa.Column("agent", sa.ForeignKey(agents.c.id), nullable=False),
    sa.Column("parameters", sa.Text, nullable=False),
    sa.Column("software", sa.Text, nullable=False),
    sa.Column("device", sa.String, nullable=False),
    sa.Column("code", sa.String, nullable=False),
    sa.Column("key", _ID, nullable=False, index=True),
    sa.Column("description", sa.Text, nullable=False),
)

used = sa.Table(
    "prov_used",
    metadata,
    sa.Column("activity", sa.ForeignKey(activities.c.id), primary_key=True),
    sa.Column("role", sa.String, primary_key=True),
    sa.Column("artefact", sa.ForeignKey(artefacts.c.id), primary_key=True, index=True),
)

made = sa.Table(
    "prov_made",
    metadata,
    sa.Column("activity", sa.ForeignKey(activities.c.id), primary_key=True),
    sa.Column("role", sa.String, primary_key=True),
    sa.Column("artefact", sa.ForeignKey(artefacts.c.id), nullable=False, index=True),
)

jobs = sa.Table(
    "prov_jobs",
    metadata,
    sa.Column("job", sa.String, primary_key=True),
    sa.Column("activity", sa.ForeignKey(activities.c.id), primary_key=True, index=True),
    sa.Column("released", sa.Boolean, nullable=False, default=False),
)

admissions = sa.Table(
    "prov_admissions",
    metadata,
    sa.Column("job", sa.String, primary_key=True),
    sa.Column("artefact", sa.ForeignKey(artefacts.c.id), primary_key=True, index=True),
    sa.Column("released", sa.Boolean, nullable=False, default=False),
)


def insert_absent(connection: sa.Connection, table: sa.Table, rows: Iterable[Mapping[str, Any]]) -> None:
    """Insert the rows whose primary key is not yet there."""
    rows = list(rows)
    if not rows:
        return
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    connection.execute(insert(table).on_conflict_do_nothing(), rows)


def agent_row(agent: Agent) -> dict[str, Any]:
    """Return the agent as a row."""
    return {"id": agent.id, "name": agent.name, "kind": str(agent.kind)}


def artefact_row(artefact: Artefact, created: datetime) -> dict[str, Any]:
    """Return the artefact as a row."""
    return {
        "id": artefact.id,
        "kind": artefact.kind,
        "media_type": artefact.media_type,
        "size": artefact.size,
        "name": artefact.name,
        "created": created,
    }


def activity_row(activity: Activity) -> dict[str, Any]:
    """Return the activity as a row, without what it used and made."""
    return {
        "id": activity.id,
        "step": activity.step,
        "kind": str(activity.kind),
        "started": activity.started,
        "ended": activity.ended,
        "agent": activity.agent.id,
        "parameters": json.dumps([[p.name, p.value, p.unit, p.description] for p in activity.parameters]),
        "software": json.dumps(dict(activity.software)),
        "device": activity.device,
        "code": activity.code,
        "key": activity.key,
        "description": activity.description,
    }


def artefact_of(row: sa.Row[Any]) -> Artefact:
    """Return the artefact of a row."""
    return Artefact(row.id, row.kind, row.media_type, row.size, row.name)


def agent_of(row: sa.Row[Any]) -> Agent:
    """Return the agent of a row."""
    return Agent(row.id, row.name, row.kind)


def activity_of(row: sa.Row[Any], *, agent: Agent, used: tuple[Used, ...], made: tuple[Made, ...]) -> Activity:
    """Return the activity of a row."""
    return Activity(
        step=row.step,
        kind=row.kind,
        started=row.started,
        ended=row.ended,
        agent=agent,
        parameters=tuple(Parameter(*parameter) for parameter in json.loads(row.parameters)),
        software=json.loads(row.software),
        device=row.device,
        code=row.code,
        used=used,
        made=made,
        key=row.key,
        description=row.description,
        id=row.id,
    )
