"""A store on SQLite, and on the PostgreSQL database that the environment names, whose job tables are dropped."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from inzitu.jobs.database import open_engine
from inzitu.jobs.job import Job
from inzitu.jobs.store import JobStore, metadata

POSTGRESQL = "INZITU_TEST_POSTGRESQL"


@dataclass
class Clock:
    """A clock that stands still until it is moved."""

    now: datetime = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        if not (address := os.environ.get(POSTGRESQL)):
            pytest.skip(f"{POSTGRESQL} names no database (postgresql+psycopg://...): PostgreSQL is not tried")
        return address
    return f"sqlite:///{tmp_path / 'inzitu.db'}"


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    engine = open_engine(url)
    metadata.create_all(engine)
    yield engine
    metadata.drop_all(engine)
    engine.dispose()


@pytest.fixture
def store(engine: Engine, clock: Clock) -> JobStore:
    return JobStore(engine, clock)


@pytest.fixture
def create(store: JobStore, clock: Clock) -> Callable[..., Job]:
    """Create a job; with run=True a QUEUED one."""

    def make(*, run: bool = False, **options: Any) -> Job:
        defaults: dict[str, Any] = {"destruction": clock.now + timedelta(days=1), "execution_seconds": 60}
        job = store.create(**(defaults | options))
        return store.run(job.id) if run else job

    return make
