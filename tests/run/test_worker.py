"""The worker beside its jobs' processes, which here only sleep or die."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
from sqlalchemy.exc import OperationalError

from inzitu.jobs.database import open_engine
from inzitu.jobs.phases import Phase
from inzitu.jobs.store import JobStore
from inzitu.run import worker as workers
from inzitu.run.worker import Worker


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    engine = open_engine(f"sqlite:///{tmp_path / 'inzitu.db'}")
    store = JobStore(engine)
    store.create_tables()
    yield store
    engine.dispose()


@pytest.fixture
def worker(store: JobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Worker:
    monkeypatch.setattr(workers, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(workers, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(workers, "RETRY_SECONDS", 0.02)
    said: list[str] = []
    return Worker(manifest=tmp_path / "manifest.yaml", jobs=store, scratch=tmp_path / "scratch", say=said.append)


@pytest.fixture
def at_work(worker: Worker) -> Iterator[Callable[[], None]]:
    thread = threading.Thread(target=worker.work)
    yield thread.start
    worker.stop.set()
    if thread.ident is not None:
        thread.join(timeout=20)
    assert not thread.is_alive()


def does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str) -> None:
    """Have a shell command stand for the process of a job."""
    script = tmp_path / "child"
    script.write_text(f"#!/bin/sh\n{command}\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))


def queued(store: JobStore) -> str:
    job = store.create(
        service="jobs", parameters=[], destruction=datetime.now(UTC) + timedelta(days=1), execution_seconds=600
    )
    return store.run(job.id).id


def until(true: Callable[[], bool], *, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(("command", "how"), [("exit 3", "ended with 3"), ("kill -SEGV $$", "was killed by SIGSEGV")])
def test_a_process_that_dies_is_an_error_in_words(
    store: JobStore,
    at_work: Callable[[], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    how: str,
) -> None:
    does(monkeypatch, tmp_path, command)
    job = queued(store)
    (tmp_path / "scratch" / job).mkdir(parents=True)
    at_work()
    until(lambda: store.phase(job).ended)
    failure = store.get(job).failure
    assert store.phase(job) is Phase.ERROR
    assert failure is not None
    assert how in failure.message
    until(lambda: not (tmp_path / "scratch" / job).exists())


@pytest.mark.parametrize("ending", ["abort", "delete"])
def test_a_job_that_is_not_wanted_any_more_loses_its_process_and_all_that_this_started(
    store: JobStore, at_work: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    does(monkeypatch, tmp_path, f"sleep 60 & echo $! > {tmp_path / 'pid'}; wait")
    job = queued(store)
    at_work()
    until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text() != "")
    sleeper = psutil.Process(int((tmp_path / "pid").read_text()))
    getattr(store, ending)(job)
    until(lambda: not sleeper.is_running() or sleeper.status() == psutil.STATUS_ZOMBIE)


def test_a_worker_that_is_stopped_gives_its_job_back(
    store: JobStore, worker: Worker, at_work: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    does(monkeypatch, tmp_path, "sleep 60")
    job = queued(store)
    at_work()
    until(lambda: store.phase(job) is Phase.EXECUTING)
    worker.stop.set()
    until(lambda: store.phase(job) is Phase.QUEUED)
    claim = store.claim("another")
    assert claim is not None
    assert (claim.job.id, claim.attempt) == (job, 2)


def test_a_store_that_cannot_be_used_for_a_while_is_asked_again(
    store: JobStore, at_work: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    does(monkeypatch, tmp_path, "exit 1")
    claim, asked = store.claim, []

    def busy(*arguments: object, **options: object) -> object:
        asked.append(1)
        if len(asked) < 3:
            raise OperationalError("BEGIN", {}, Exception("database is locked"))
        return claim(*arguments, **options)  # type: ignore[arg-type]  # as it was called

    monkeypatch.setattr(store, "claim", busy)
    job = queued(store)
    at_work()
    until(lambda: store.phase(job) is Phase.ERROR)
    assert len(asked) >= 3
