"""The SQL tables of the jobs."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Float, ForeignKey, Index, Integer, MetaData, String, Table, Text

from inzitu.jobs.database import Instant

metadata = MetaData()

jobs = Table(
    "jobs",
    metadata,
    Column("id", String, primary_key=True),
    Column("service", String, nullable=False),
    Column("owner", String),
    Column("run_id", Text),
    Column("phase", String, nullable=False),
    Column("created", Instant, nullable=False),
    Column("queued", Instant),
    Column("started", Instant),
    Column("ended", Instant),
    Column("destruction", Instant, nullable=False),
    Column("execution_seconds", Integer, nullable=False),
    Column("quote", Instant),
    Column("estimate", JSON(none_as_null=True)),
    Column("uploads", JSON, nullable=False),
    Column("progress", JSON(none_as_null=True)),
    Column("failure_code", String),
    Column("failure_message", Text),
    # Who has it: the number of the claim, the worker, the beginning of the claim and the last sign of life.
    Column("attempt", Integer, nullable=False, default=0),
    Column("worker", String),
    Column("claimed", Instant),
    Column("heartbeat", Instant),
    Column("lost", Integer, nullable=False, default=0),
    Index("jobs_by_turn", "service", "phase", "queued"),
    Index("jobs_by_creation", "service", "created"),
)


def _of_job() -> Column[str]:
    return Column("job", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)


parameters = Table(
    "job_parameters",
    metadata,
    _of_job(),
    Column("position", Integer, primary_key=True),
    Column("name", String, nullable=False),
    Column("value", Text, nullable=False),
)

results = Table(
    "job_results",
    metadata,
    _of_job(),
    Column("position", Integer, primary_key=True),
    Column("id", String, nullable=False),
    Column("reference", Text, nullable=False),
    Column("media_type", String, nullable=False),
    Column("size", BigInteger),
)

accounts = Table(
    "job_accounts",
    metadata,
    _of_job(),
    Column("name", String, primary_key=True),
    Column("amount", Float, nullable=False),
)

log = Table(
    "job_log",
    metadata,
    _of_job(),
    Column("number", Integer, primary_key=True),
    Column("at", Instant, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("line", Text, nullable=False),
)
