"""What the handlers work with: the parts of one deployment, opened once and closed with the app."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import inzitu.prov.recorder
import inzitu.tables.published
from inzitu.jobs.database import open_engine
from inzitu.jobs.service import JobService
from inzitu.jobs.store import JobStore
from inzitu.jobs.threads import JobThreads
from inzitu.prov.recorder import Recorder
from inzitu.prov.store import ArtefactStore
from inzitu.tables.published import PublishedTables
from inzitu.tables.query import QueryService
from inzitu.web.checks import check_job
from inzitu.web.examiner import Examiner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fastapi import Request
    from sqlalchemy import Engine

    from inzitu.jobs.job import Job, Result
    from inzitu.jobs.threads import Interrupt
    from inzitu.manifest import Manifest

type ExecuteQuery = Callable[[Deployment, Job, Callable[[Interrupt], None]], Sequence[Result]]
"""Runs an asynchronous query; hands over by its third argument what interrupts it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """The parts of a deployment.

    Attributes
    ----------
    manifest
        What it offers and allows.
    engine
        Its database.
    store
        Its artefacts.
    recorder
        Its record.
    jobs
        The jobs of the pipelines, done by workers.
    tap_jobs
        The asynchronous queries, done in threads of this process.
    published
        The tables that jobs have published.
    queries
        Answers ADQL.
    started
        Since when it is up.
    """

    manifest: Manifest
    engine: Engine
    store: ArtefactStore
    recorder: Recorder
    jobs: JobService
    tap_jobs: JobService
    published: PublishedTables
    queries: QueryService
    started: datetime


def deployment_of(request: Request) -> Deployment:
    """Return the deployment that a request is for."""
    deployment: Deployment = request.app.state.deployment
    return deployment


@contextmanager
def open_deployment(manifest: Manifest, execute_query: ExecuteQuery) -> Iterator[Deployment]:
    """Open a deployment's parts, run its queries while it is open, and close it."""
    engine = open_engine(manifest.database_url)
    for metadata in (inzitu.prov.recorder.metadata, inzitu.tables.published.metadata):
        metadata.create_all(engine)
    jobs = JobStore(engine)
    jobs.create_tables()
    store = ArtefactStore(manifest.artefacts)
    recorder = Recorder(engine, store)
    published = PublishedTables(engine, store)
    check = partial(check_job, manifest=manifest, recorder=recorder, published=published)
    discard = partial(_discard, engine, recorder, published)
    threads = JobThreads(jobs, "tap", lambda job, on_interrupt: execute_query(deployment, job, on_interrupt))
    deployment = Deployment(
        manifest=manifest,
        engine=engine,
        store=store,
        recorder=recorder,
        jobs=JobService(jobs, manifest, check, discard=discard, examine=Examiner(manifest)),
        tap_jobs=JobService(jobs, manifest, service="tap", queued=threads.wake),
        published=published,
        queries=QueryService(manifest, published),
        started=datetime.now(UTC),
    )
    threads.start()
    try:
        yield deployment
    finally:
        threads.stop()
        engine.dispose()


def _discard(engine: Engine, recorder: Recorder, published: PublishedTables, job: Job) -> None:
    """Withdraw a job's table and give up its artefacts; those that another job needs stay."""
    names = [table.name for table in published.tables() if table.job == job.id]
    with engine.begin() as connection:
        for name in names:
            published.drop(name, connection)
        recorder.release(job.id, connection=connection)
