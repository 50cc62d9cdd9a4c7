import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from sqlalchemy import Engine

from inzitu.errors import QueryFault
from inzitu.jobs.job import Job, Result
from inzitu.jobs.phases import Phase
from inzitu.jobs.store import JobStore, utc_now
from inzitu.jobs.threads import Execute, Interrupt, JobThreads

RESULT = Result(id="result", reference="results/x/result.vot")


@pytest.fixture
def running(engine: Engine) -> JobStore:
    """A store with a clock that runs."""
    return JobStore(engine)


@contextmanager
def threads(store: JobStore, execute: Execute, *, count: int = 1, lease: float = 10) -> Iterator[JobThreads]:
    runner = JobThreads(store, "tap", execute, threads=count, lease_seconds=lease, beat_seconds=0.05)
    runner.start()
    try:
        yield runner
    finally:
        runner.stop()


def queue(store: JobStore, query: str = "SELECT 1", *, seconds: int = 60) -> str:
    later = utc_now() + timedelta(days=1)
    job = store.create(service="tap", parameters=[("QUERY", query)], destruction=later, execution_seconds=seconds)
    return store.run(job.id).id


def ended(store: JobStore, id: str, *, seconds: float = 10) -> Job:
    deadline = time.monotonic() + seconds
    while not (job := store.get(id)).phase.ended:
        assert time.monotonic() < deadline, f"still {job.phase}"
        time.sleep(0.01)
    return job


class Slow:
    """A query that lasts until it is interrupted."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.interrupted = threading.Event()

    def __call__(self, job: Job, on_interrupt: Callable[[Interrupt], None]) -> list[Result]:
        on_interrupt(self.interrupted.set)
        self.began.set()
        assert self.interrupted.wait(10)
        raise RuntimeError("interrupted")


def test_queued_jobs_are_executed_and_completed(running: JobStore) -> None:
    with threads(running, lambda job, _: [RESULT], count=2) as runner:
        ids = [queue(running) for _ in range(5)]
        runner.wake()
        assert [ended(running, id).results for id in ids] == [(RESULT,)] * 5


def test_a_fault_becomes_the_jobs_error_and_the_thread_goes_on(running: JobStore) -> None:
    def execute(job: Job, _: object) -> list[Result]:
        if job.parameter("QUERY") == "wrong":
            raise QueryFault("no table x")
        return [RESULT]

    with threads(running, execute):
        wrong, right = queue(running, "wrong"), queue(running)
        failure = ended(running, wrong).failure
        assert failure is not None
        assert (failure.code, failure.message) == ("UsageError", "no table x")
        assert ended(running, right).phase is Phase.COMPLETED


def test_an_abort_interrupts_within_a_second(running: JobStore) -> None:
    slow = Slow()
    with threads(running, slow):
        id = queue(running)
        assert slow.began.wait(5)
        running.abort(id)
        assert slow.interrupted.wait(1)
        time.sleep(0.1)
        assert running.get(id).phase is Phase.ABORTED
        assert running.get(id).failure is None


def test_a_query_beyond_its_execution_duration_is_interrupted_and_ends_in_error(running: JobStore) -> None:
    slow = Slow()
    with threads(running, slow):
        id = queue(running, seconds=1)
        assert slow.interrupted.wait(5)
        failure = ended(running, id).failure
        assert failure is not None
        assert failure.code == "LimitExceeded"


def test_stopping_gives_the_running_job_back_to_the_queue(running: JobStore) -> None:
    slow = Slow()
    with threads(running, slow):
        id = queue(running)
        assert slow.began.wait(5)
    assert running.get(id).phase is Phase.QUEUED
    with threads(running, lambda job, _: [RESULT]):
        assert ended(running, id).phase is Phase.COMPLETED


def test_what_a_dead_process_left_executing_is_taken_over(running: JobStore) -> None:
    id = queue(running)
    assert running.claim("a process that died", "tap") is not None
    with threads(running, lambda job, _: [RESULT], lease=0.3):
        done = ended(running, id)
    assert (done.phase, done.attempt) == (Phase.COMPLETED, 2)


def test_an_interrupt_that_is_handed_over_late_is_called_at_once(running: JobStore) -> None:
    late = threading.Event()

    def execute(job: Job, on_interrupt: Callable[[Interrupt], None]) -> list[Result]:
        running.abort(job.id)
        time.sleep(0.3)
        on_interrupt(late.set)
        return []

    with threads(running, execute):
        id = queue(running)
        assert late.wait(5)
        assert ended(running, id).phase is Phase.ABORTED
