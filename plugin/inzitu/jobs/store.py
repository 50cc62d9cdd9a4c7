"""The durable store of jobs, shared by the web process and any number of workers.

Every change is one transaction and goes through the table of `inzitu.jobs.phases`. A worker holds a job by a *claim*
that it renews; a claim whose last sign of life is older than the lease may be taken over, and the number of the attempt
then fences the old worker off: whatever it still tries to write is refused.

Does not cover limits or who may do what (`inzitu.jobs.service`), nor files.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, delete, func, insert, select

from inzitu.errors import LimitFault, ParameterFault, ServiceFault
from inzitu.jobs import rows, schema
from inzitu.jobs.database import reading
from inzitu.jobs.job import ALL, Claim, Entry, Filters, Job, LogLine, Progress, Result, Upload
from inzitu.jobs.phases import Event, Phase, advance

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

type Clock = Callable[[], datetime]

metadata = schema.metadata

_LOST_AT_MOST = 3


def utc_now() -> datetime:
    """Return the time, in UTC."""
    return datetime.now(UTC)


class JobStore:
    """Jobs in an SQL database.

    Parameters
    ----------
    engine
        From `inzitu.jobs.database.open_engine`.
    clock
        Tells the time, in UTC.
    """

    def __init__(self, engine: Engine, clock: Clock = utc_now) -> None:
        self._engine = engine
        self._reader = reading(engine)
        self._clock = clock

    def create_tables(self) -> None:
        """Make the tables that are not there yet."""
        metadata.create_all(self._engine)

    def now(self) -> datetime:
        """Return the store's time."""
        return self._clock()

    # Users

    def create(
        self,
        *,
        service: str = "jobs",
        owner: str | None = None,
        parameters: Iterable[tuple[str, str]] = (),
        uploads: Iterable[Upload] = (),
        run_id: str | None = None,
        destruction: datetime,
        execution_seconds: int,
        id: str | None = None,
    ) -> Job:
        """Store a new job, PENDING; `id` is given where its uploads already lie in a folder of that name."""
        id = id or new_id()
        row = {
            "id": id,
            "service": service,
            "owner": owner,
            "run_id": run_id,
            "phase": Phase.PENDING,
            "created": self._clock(),
            "destruction": destruction,
            "execution_seconds": execution_seconds,
            "uploads": [asdict(upload) for upload in uploads],
        }
        with self._engine.begin() as connection:
            connection.execute(insert(schema.jobs).values(row))
            rows.insert_parameters(connection, id, parameters)
            return rows.job(connection, id)

    def get(self, id: str) -> Job:
        """Return a job.

        Raises
        ------
        NotFoundFault
            There is none of that id.
        """
        with self._reader.connect() as connection:
            return rows.job(connection, id)

    def exists(self, id: str) -> bool:
        """Return whether there is a job of that id."""
        with self._reader.connect() as connection:
            return connection.scalar(select(schema.jobs.c.id).where(schema.jobs.c.id == id)) is not None

    def phase(self, id: str) -> Phase:
        """Return a job's phase alone: what a poll needs, in one short query."""
        with self._reader.connect() as connection:
            return Phase(rows.of(connection, id, lock=False).phase)

    def select(self, filters: Filters = ALL) -> tuple[Entry, ...]:
        """Return the jobs that pass all filters, the latest first."""
        table = schema.jobs
        query = select(*(table.c[name] for name in Entry.__dataclass_fields__)).where(*rows.conditions(filters))
        query = query.order_by(table.c.created.desc(), table.c.id.desc()).limit(filters.last)
        with self._reader.connect() as connection:
            found = connection.execute(query).all()
        return tuple(Entry(**{**row._asdict(), "phase": Phase(row.phase)}) for row in found)

    def change(
        self,
        id: str,
        *,
        parameters: Iterable[tuple[str, str]] | None = None,
        uploads: Iterable[Upload] | None = None,
        destruction: datetime | None = None,
        execution_seconds: int | None = None,
        quote: datetime | None = None,
        estimate: Mapping[str, Any] | None = None,
        run_id: str | None = None,
        seen: Job | None = None,
    ) -> Job:
        """Change what is given; parameters, uploads and the execution duration only while the job is PENDING.

        Raises
        ------
        PhaseFault
            The job no longer is.
        ChangedFault
            It is not as it was `seen`.
        """
        values: dict[str, Any] = {"destruction": destruction, "quote": quote, "estimate": estimate, "run_id": run_id}
        with self._engine.begin() as connection:
            row = rows.of(connection, id)
            if seen is not None:
                rows.require_unchanged(connection, seen)
            if any(value is not None for value in (parameters, uploads, execution_seconds)):
                rows.require_pending(row)
                values["execution_seconds"] = execution_seconds
                values["uploads"] = None if uploads is None else [asdict(upload) for upload in uploads]
            if parameters is not None:
                connection.execute(delete(schema.parameters).where(schema.parameters.c.job == id))
                rows.insert_parameters(connection, id, parameters)
            written = {name: value for name, value in values.items() if value is not None}
            if parameters is not None:  # it is another job now, and what was foreseen holds no longer
                written |= {"quote": None, "estimate": None}
            rows.change(connection, id, written)
            return rows.job(connection, id)

    def run(self, id: str, *, quote: datetime | None = None, seen: Job | None = None) -> Job:
        """Queue a job, which is expected to end at `quote`.

        Raises
        ------
        PhaseFault
            It has been queued before; a job runs once.
        ChangedFault
            It is not as it was `seen`.
        ParameterFault
            Another job that waits or runs is to publish a table of the same name.
        """
        with self._engine.begin() as connection:
            row = rows.of(connection, id)
            phase = advance(Phase(row.phase), Event.RUN)
            if seen is not None:
                rows.require_unchanged(connection, seen)
            if (other := rows.rival(connection, row)) is not None:
                raise ParameterFault(
                    f"TABLE={other.value} is the table of job {other.id}, which is {other.phase}; choose another name."
                )
            values = {"phase": phase, "queued": self._clock(), "quote": quote or row.quote}
            rows.change(connection, id, values)
            return rows.job(connection, id)

    def refuse(self, seen: Job, code: str, message: str) -> Job:
        """End a PENDING job in ERROR, for it cannot run as it was `seen`.

        Raises
        ------
        ChangedFault
            It is another by now.
        """
        with self._engine.begin() as connection:
            row = rows.of(connection, seen.id)
            rows.require_unchanged(connection, seen)
            rows.change(connection, row.id, rows.failed(row, code, message, self._clock()) | {"quote": None})
            return rows.job(connection, row.id)

    def completed(self, service: str = "jobs", *, last: int) -> tuple[Job, ...]:
        """Return the jobs that were completed last, the latest first."""
        table = schema.jobs
        done = and_(table.c.service == service, table.c.phase == Phase.COMPLETED)
        query = select(table.c.id).where(done).order_by(table.c.ended.desc()).limit(last)
        with self._reader.connect() as connection:
            return tuple(rows.job(connection, id) for id in connection.scalars(query).all())

    def abort(self, id: str) -> Job:
        """Abort a job; its worker learns of it at its next beat."""
        now = self._clock()
        with self._engine.begin() as connection:
            row = rows.of(connection, id)
            phase = advance(Phase(row.phase), Event.ABORT)
            rows.change(connection, id, {"phase": phase, "ended": row.ended or now})
            return rows.job(connection, id)

    def archive(self, id: str) -> Job:
        """Mark the results of an ended job as gone; its metadata stay."""
        return self._advance(id, Event.ARCHIVE)

    def delete(self, id: str) -> None:
        """Remove a job and all that the store knows of it."""
        with self._engine.begin() as connection:
            rows.of(connection, id)
            for table in (schema.parameters, schema.results, schema.accounts, schema.log):
                connection.execute(delete(table).where(table.c.job == id))
            connection.execute(delete(schema.jobs).where(schema.jobs.c.id == id))

    def expired(self) -> tuple[str, ...]:
        """Return the ids of the jobs whose destruction time has come."""
        table = schema.jobs
        due = and_(table.c.destruction <= self._clock(), table.c.phase != Phase.ARCHIVED)
        with self._reader.connect() as connection:
            return tuple(connection.scalars(select(table.c.id).where(due).order_by(table.c.destruction)))

    def position(self, id: str) -> int | None:
        """Return how many jobs of its service run before a QUEUED one; None in any other phase."""
        table = schema.jobs
        with self._reader.connect() as connection:
            row = rows.of(connection, id, lock=False)
            if row.phase != Phase.QUEUED:
                return None
            earlier = and_(table.c.service == row.service, table.c.phase == Phase.QUEUED, table.c.queued < row.queued)
            return connection.scalar(select(func.count()).where(earlier))

    def lines(self, id: str, *, after: int = 0) -> tuple[LogLine, ...]:
        """Return the lines of a job's log whose number is above `after`."""
        table = schema.log
        query = select(table).where(table.c.job == id, table.c.number > after).order_by(table.c.number)
        with self._reader.connect() as connection:
            rows.of(connection, id, lock=False)
            return tuple(LogLine(row.number, row.at, row.line) for row in connection.execute(query))

    def sent(self, id: str, size: int) -> None:
        """Add bytes [byte] to what was sent of a job's results to its user; a job deleted meanwhile is no error."""
        with self._engine.begin() as connection:
            if connection.scalar(select(schema.jobs.c.id).where(schema.jobs.c.id == id).with_for_update()):
                rows.add_to_account(connection, id, "bytes_sent", size)

    # Workers

    def claim(self, worker: str, service: str = "jobs", lease_seconds: float = 15.0) -> Claim | None:
        """Take the job whose turn it is: the first QUEUED one, or an EXECUTING one whose worker gave no sign of life.

        A job whose worker was lost several times is given up: it probably kills its workers.
        """
        with self._reader.connect() as connection:
            if connection.execute(rows.next_in_turn(service, self._clock(), lease_seconds)).first() is None:
                return None
        with self._engine.begin() as connection:
            now = self._clock()
            query = rows.next_in_turn(service, now, lease_seconds).with_for_update(skip_locked=True)
            while (row := connection.execute(query).first()) is not None:
                lost = row.lost + (row.phase == Phase.EXECUTING)
                if lost < _LOST_AT_MOST:
                    return rows.claim(connection, row, worker=worker, now=now, lost=lost)
                message = (
                    f"The worker of this job died {lost} times. The operator's log says why; a smaller job may pass."
                )
                rows.change(connection, row.id, rows.failed(row, ServiceFault.code, message, now) | {"lost": lost})
        return None

    def beat(self, id: str, attempt: int) -> Phase:
        """Renew a claim and return the job's phase: unless it is EXECUTING, the worker has to stop.

        A job that has run longer than its execution duration ends here, in ERROR.
        """
        now = self._clock()
        with self._engine.begin() as connection:
            row = rows.of_attempt(connection, id, attempt)
            if row.phase != Phase.EXECUTING:
                return Phase(row.phase)
            if row.execution_seconds and now > row.claimed + timedelta(seconds=row.execution_seconds):
                message = (
                    f"The job ran longer than its execution duration of {row.execution_seconds} s. "
                    "Ask for less, or for a longer EXECUTIONDURATION within the deployment's limit."
                )
                rows.change(connection, id, rows.failed(row, LimitFault.code, message, now))
                return Phase.ERROR
            rows.change(connection, id, {"heartbeat": now})
            return Phase.EXECUTING

    def progress(self, id: str, attempt: int, progress: Progress) -> None:
        """Say how far a job is; this is a sign of life, too."""
        with self._engine.begin() as connection:
            rows.of_executing(connection, id, attempt)
            rows.change(connection, id, {"progress": asdict(progress), "heartbeat": self._clock()})

    def log(self, id: str, attempt: int, line: str) -> None:
        """Append a line to a job's log."""
        number = select(func.coalesce(func.max(schema.log.c.number), 0) + 1).where(schema.log.c.job == id)
        with self._engine.begin() as connection:
            rows.of_attempt(connection, id, attempt)
            values = {
                "job": id,
                "number": number.scalar_subquery(),
                "at": self._clock(),
                "attempt": attempt,
                "line": line,
            }
            connection.execute(insert(schema.log).values(values))

    def account(self, id: str, attempt: int, amounts: Mapping[str, float]) -> None:
        """Add to a job's account: bytes_read, seconds..., by name."""
        with self._engine.begin() as connection:
            rows.of_attempt(connection, id, attempt)
            for name, amount in amounts.items():
                rows.add_to_account(connection, id, name, amount)

    def finish(
        self,
        id: str,
        attempt: int,
        results: Iterable[Result],
        within: Callable[[Connection], object] | None = None,
    ) -> Job:
        """Complete a job; `within` writes what must become visible in the same moment, such as its table."""
        with self._engine.begin() as connection:
            row = rows.of_executing(connection, id, attempt)
            rows.insert_results(connection, id, results)
            if within is not None:
                within(connection)
            rows.change(connection, id, {"phase": advance(Phase(row.phase), Event.FINISH), "ended": self._clock()})
            return rows.job(connection, id)

    def fail(self, id: str, attempt: int, code: str, message: str) -> Job:
        """End a job in ERROR."""
        with self._engine.begin() as connection:
            row = rows.of_executing(connection, id, attempt)
            rows.change(connection, id, rows.failed(row, code, message, self._clock()))
            return rows.job(connection, id)

    def release(self, id: str, attempt: int) -> Job:
        """Give a job back to the queue, as a worker does that is told to stop."""
        with self._engine.begin() as connection:
            row = rows.of_executing(connection, id, attempt)
            rows.change(
                connection, id, {"phase": advance(Phase(row.phase), Event.RELEASE), "worker": None, "heartbeat": None}
            )
            return rows.job(connection, id)

    def _advance(self, id: str, event: Event, **values: Any) -> Job:
        with self._engine.begin() as connection:
            row = rows.of(connection, id)
            rows.change(connection, id, {"phase": advance(Phase(row.phase), event), **values})
            return rows.job(connection, id)


def new_id() -> str:
    """Return the id of a new job: short enough to read out, too long to guess."""
    return uuid.uuid4().hex[:16]
