"""Rows of the jobs' tables: the SQL of which `inzitu.jobs.store` makes transactions, and from rows to a job."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, func, insert, or_, select, update

from inzitu.errors import GoneFault, NotFoundFault, PhaseFault
from inzitu.jobs import schema
from inzitu.jobs.job import Claim, Failure, Filters, Job, Progress, Result, Upload
from inzitu.jobs.phases import Event, Phase, advance

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection, Row


class ChangedFault(PhaseFault):
    """Its user has changed a job since it was read."""


def of(connection: Connection, id: str, *, lock: bool = True) -> Row[Any]:
    """Return a job's row, locked for the rest of the transaction."""
    query = select(schema.jobs).where(schema.jobs.c.id == id)
    row = connection.execute(query.with_for_update() if lock else query).first()
    if row is None:
        raise NotFoundFault(f"There is no job {id}; it may have been deleted.")
    return row


def of_attempt(connection: Connection, id: str, attempt: int) -> Row[Any]:
    """Return the job's row, locked, if this attempt still is the one that counts."""
    row = of(connection, id)
    if row.attempt != attempt:
        raise PhaseFault(
            f"Attempt {attempt} at job {id} has been superseded by attempt {row.attempt}, which {row.worker} began "
            "when this one gave no sign of life. Stop the work; nothing it writes is kept."
        )
    return row


def of_executing(connection: Connection, id: str, attempt: int) -> Row[Any]:
    """Return the job's row, locked, if this attempt counts and the job is EXECUTING."""
    row = of_attempt(connection, id, attempt)
    if row.phase != Phase.EXECUTING:
        raise PhaseFault(f"Job {id} is {row.phase}, no longer EXECUTING. Stop the work; nothing it writes is kept.")
    return row


def require_pending(row: Row[Any]) -> None:
    """Refuse a job that is not PENDING."""
    if row.phase == Phase.ARCHIVED:
        raise GoneFault(f"Job {row.id} is archived. Create a new one.")
    if row.phase != Phase.PENDING:
        raise PhaseFault(f"Job {row.id} is {row.phase}: only a PENDING job can be changed. Create a new one.")


def require_unchanged(connection: Connection, seen: Job) -> None:
    """Refuse a job that asks for something else, or brings other files, than it did when it was read."""
    now = job(connection, seen.id)
    # A file that is sent anew lies elsewhere, so its path tells it from the one before.
    if (now.parameters, now.uploads) != (seen.parameters, seen.uploads):
        raise ChangedFault(f"Job {seen.id} was changed while it was looked at; ask again when it is complete.")


def change(connection: Connection, id: str, values: Mapping[str, Any]) -> None:
    """Write columns of a job."""
    if values:
        connection.execute(update(schema.jobs).where(schema.jobs.c.id == id).values(**values))


def failed(row: Row[Any], code: str, message: str, now: datetime) -> dict[str, Any]:
    """Return the columns of a job that ends in ERROR."""
    phase = advance(Phase(row.phase), Event.FAIL)
    return {"phase": phase, "ended": now, "failure_code": code, "failure_message": message}


def add_to_account(connection: Connection, id: str, name: str, amount: float) -> None:
    """Add an amount to a job's account."""
    table = schema.accounts
    here = and_(table.c.job == id, table.c.name == name)
    # The job's row is locked, so no one else inserts between the two.
    if connection.execute(update(table).where(here).values(amount=table.c.amount + amount)).rowcount == 0:
        connection.execute(insert(table).values(job=id, name=name, amount=amount))


def insert_parameters(connection: Connection, id: str, parameters: Iterable[tuple[str, str]]) -> None:
    """Write a job's parameters."""
    rows = [{"job": id, "position": n, "name": name, "value": value} for n, (name, value) in enumerate(parameters)]
    if rows:
        connection.execute(insert(schema.parameters), rows)


def insert_results(connection: Connection, id: str, results: Iterable[Result]) -> None:
    """Write a job's results."""
    rows = [{"job": id, "position": position, **asdict(result)} for position, result in enumerate(results)]
    if rows:
        connection.execute(insert(schema.results), rows)


def rival(connection: Connection, row: Row[Any]) -> Any:
    """Return another job that waits or runs and names the same table, if there is one."""
    jobs, named = schema.jobs, schema.parameters
    is_table = func.upper(named.c.name) == "TABLE"
    own = select(func.lower(named.c.value)).where(named.c.job == row.id, is_table, named.c.value != "")
    active = and_(jobs.c.phase.in_((Phase.QUEUED, Phase.EXECUTING)), jobs.c.service == row.service, jobs.c.id != row.id)
    query = select(jobs.c.id, jobs.c.phase, named.c.value).join(named, named.c.job == jobs.c.id)
    return connection.execute(query.where(active, is_table, func.lower(named.c.value).in_(own)).limit(1)).first()


def next_in_turn(service: str, now: datetime, lease_seconds: float) -> Any:
    """Return the query for the job whose turn it is."""
    table = schema.jobs
    silent = and_(table.c.phase == Phase.EXECUTING, table.c.heartbeat < now - timedelta(seconds=lease_seconds))
    waiting = and_(table.c.service == service, or_(table.c.phase == Phase.QUEUED, silent))
    return select(table).where(waiting).order_by(table.c.queued, table.c.id).limit(1)


def claim(connection: Connection, row: Row[Any], *, worker: str, now: datetime, lost: int) -> Claim:
    """Write a claim."""
    attempt = row.attempt + 1
    values = {
        "phase": advance(Phase(row.phase), Event.CLAIM),
        "attempt": attempt,
        "worker": worker,
        "claimed": now,
        "heartbeat": now,
        "started": row.started or now,
        "lost": lost,
    }
    change(connection, row.id, values)
    return Claim(job(connection, row.id), attempt)


def conditions(filters: Filters) -> list[ColumnElement[bool]]:
    """Return what the jobs of a list fulfil."""
    table = schema.jobs
    chosen = table.c.phase.in_(filters.phases) if filters.phases else table.c.phase != Phase.ARCHIVED
    held = [chosen]
    if filters.service is not None:
        held.append(table.c.service == filters.service)
    if filters.after is not None:
        held.append(table.c.created > filters.after)
    return held


def job(connection: Connection, id: str) -> Job:
    """Return a job, read from all its tables."""
    row = of(connection, id, lock=False)
    failed = row.failure_code is not None
    return Job(
        id=row.id,
        service=row.service,
        owner=row.owner,
        run_id=row.run_id,
        phase=Phase(row.phase),
        created=row.created,
        queued=row.queued,
        started=row.started,
        ended=row.ended,
        destruction=row.destruction,
        execution_seconds=row.execution_seconds,
        quote=row.quote,
        estimate=row.estimate,
        attempt=row.attempt,
        parameters=tuple((p.name, p.value) for p in _parts(connection, schema.parameters, id)),
        uploads=tuple(Upload(**upload) for upload in row.uploads),
        results=tuple(
            Result(id=r.id, reference=r.reference, media_type=r.media_type, size=r.size)
            for r in _parts(connection, schema.results, id)
        ),
        progress=Progress(**row.progress) if row.progress else None,
        failure=Failure(row.failure_code, row.failure_message) if failed else None,
        accounts={account.name: account.amount for account in _parts(connection, schema.accounts, id)},
    )


def _parts(connection: Connection, table: Any, id: str) -> Iterable[Row[Any]]:
    order = table.c.position if "position" in table.c else table.c.name
    return connection.execute(select(table).where(table.c.job == id).order_by(order))
