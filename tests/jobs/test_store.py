import multiprocessing
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, text

from inzitu.errors import NotFoundFault, PhaseFault
from inzitu.jobs.database import open_engine, reading
from inzitu.jobs.job import Filters, Job, Progress, Result, Upload
from inzitu.jobs.phases import Phase
from inzitu.jobs.store import JobStore, metadata
from jobs.conftest import Clock

type Create = Callable[..., Job]


def test_a_job_comes_back_as_it_was_stored(store: JobStore, clock: Clock) -> None:
    upload = Upload(name="training", path="uploads/x/a", uri="param:a", media_type="text/csv", size=12)
    job = store.create(
        owner="me",
        parameters=[("PIPELINE", "train-predict"), ("Pipeline", "again"), ("UPLOAD", "training,param:a")],
        uploads=[upload],
        run_id="mine",
        destruction=clock.now + timedelta(days=3),
        execution_seconds=100,
    )
    assert store.get(job.id) == job
    assert job.phase is Phase.PENDING
    assert job.parameters[1] == ("Pipeline", "again")
    assert job.parameter("pipeline") == "train-predict"
    assert job.uploads == (upload,)
    assert (job.created, job.owner, job.run_id) == (clock.now, "me", "mine")
    assert (job.started, job.ended, job.quote, job.failure, job.progress) == (None, None, None, None, None)


def test_an_unknown_job_is_said_to_be_unknown(store: JobStore) -> None:
    with pytest.raises(NotFoundFault, match="There is no job nothing"):
        store.get("nothing")


def test_the_road_of_a_job_from_creation_to_archive(store: JobStore, clock: Clock, create: Create) -> None:
    job = create(run=True)
    clock.move(5)
    claim = store.claim("w1")
    assert claim is not None
    assert (claim.job.id, claim.attempt, claim.job.phase) == (job.id, 1, Phase.EXECUTING)
    assert claim.job.started == clock.now
    clock.move(1)
    progress = Progress(step="train", done=10, total=40, seconds_left=3.5, info={"loss": 0.25})
    store.progress(job.id, 1, progress)
    store.log(job.id, 1, "first")
    store.log(job.id, 1, "second")
    store.account(job.id, 1, {"bytes_read": 10, "seconds": 1.5})
    store.account(job.id, 1, {"bytes_read": 5})
    store.sent(job.id, 100)
    store.sent(job.id, 11)
    results = [Result(id="predictions", reference="a" * 64, size=7), Result(id="log", reference="/jobs/x/log")]
    done = store.finish(job.id, 1, results)
    assert done == store.get(job.id)
    assert (done.phase, done.ended, done.progress) == (Phase.COMPLETED, clock.now, progress)
    assert done.results == tuple(results)
    assert done.accounts == {"bytes_read": 15, "bytes_sent": 111, "seconds": 1.5}
    assert [line.line for line in store.lines(job.id)] == ["first", "second"]
    assert [line.line for line in store.lines(job.id, after=1)] == ["second"]
    assert store.archive(job.id).results == tuple(results)
    store.delete(job.id)
    with pytest.raises(NotFoundFault):
        store.get(job.id)


def test_jobs_are_claimed_in_the_order_they_were_queued_and_by_service(
    store: JobStore, clock: Clock, create: Create
) -> None:
    waiting = create()
    late = create()
    first = create(run=True)
    clock.move(1)
    query = create(run=True, service="tap")
    store.run(late.id)
    claims = [store.claim("w"), store.claim("w"), store.claim("w")]
    assert [claim and claim.job.id for claim in claims] == [first.id, late.id, None]
    assert store.claim("w", "tap", 15).job.id == query.id  # type: ignore[union-attr]  # it was just queued
    assert store.phase(waiting.id) is Phase.PENDING


def test_a_dead_workers_job_is_taken_over_and_the_old_worker_is_fenced_off(
    store: JobStore, clock: Clock, create: Create
) -> None:
    job = create(run=True)
    assert store.claim("w1", lease_seconds=15) is not None
    clock.move(10)
    assert store.beat(job.id, 1) is Phase.EXECUTING
    clock.move(10)
    assert store.claim("w2", lease_seconds=15) is None, "it was alive 10 s ago"
    clock.move(6)
    claim = store.claim("w2", lease_seconds=15)
    assert claim is not None
    assert claim.attempt == 2
    old: list[Callable[[], object]] = [
        lambda: store.beat(job.id, 1),
        lambda: store.progress(job.id, 1, Progress(step="cut")),
        lambda: store.log(job.id, 1, "late"),
        lambda: store.account(job.id, 1, {"bytes_read": 1}),
        lambda: store.finish(job.id, 1, [Result(id="late", reference="b" * 64)]),
        lambda: store.fail(job.id, 1, "Error", "late"),
        lambda: store.release(job.id, 1),
    ]
    for write in old:
        with pytest.raises(PhaseFault, match=r"Attempt 1 at job .* superseded by attempt 2, which w2 began"):
            write()
    assert store.get(job.id).results == ()
    assert store.finish(job.id, 2, []).phase is Phase.COMPLETED


def test_a_job_that_keeps_killing_its_workers_is_given_up(store: JobStore, clock: Clock, create: Create) -> None:
    job, next_job = create(run=True), create()
    for attempt in (1, 2, 3):
        claim = store.claim("w")
        assert claim is not None
        assert claim.attempt == attempt
        clock.move(60)
    clock.move(1)
    store.run(next_job.id)
    claim = store.claim("w")
    assert claim is not None
    assert claim.job.id == next_job.id
    failed = store.get(job.id)
    assert failed.phase is Phase.ERROR
    assert failed.failure is not None
    assert "died 3 times" in failed.failure.message


def test_a_released_job_is_queued_again_and_counts_no_death(store: JobStore, create: Create) -> None:
    job = create(run=True)
    for attempt in range(1, 6):
        claim = store.claim("w")
        assert claim is not None
        assert claim.attempt == attempt
        assert store.release(job.id, attempt).phase is Phase.QUEUED


def test_an_aborted_jobs_worker_is_told_and_what_it_writes_is_refused(store: JobStore, create: Create) -> None:
    job = create(run=True)
    store.claim("w")
    assert store.abort(job.id).phase is Phase.ABORTED
    assert store.abort(job.id).phase is Phase.ABORTED, "a second abort changes nothing"
    assert store.beat(job.id, 1) is Phase.ABORTED
    store.log(job.id, 1, "stopped")
    with pytest.raises(PhaseFault, match="is ABORTED, no longer EXECUTING"):
        store.progress(job.id, 1, Progress(step="train"))
    with pytest.raises(PhaseFault, match="is ABORTED"):
        store.finish(job.id, 1, [])
    assert store.claim("w") is None


def test_a_job_beyond_its_execution_duration_ends_in_error_not_in_abortion(
    store: JobStore, clock: Clock, create: Create
) -> None:
    job = create(run=True, execution_seconds=30)
    store.claim("w")
    clock.move(30)
    assert store.beat(job.id, 1) is Phase.EXECUTING
    clock.move(1)
    assert store.beat(job.id, 1) is Phase.ERROR
    failure = store.get(job.id).failure
    assert failure is not None
    assert failure.code == "LimitExceeded"
    assert "execution duration of 30 s" in failure.message


def test_results_and_what_is_written_within_appear_together_or_not_at_all(
    engine: Engine, store: JobStore, create: Create
) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE published (name VARCHAR(20))"))
    try:
        job = create(run=True)
        store.claim("w")

        def publish(connection: Connection) -> None:
            connection.execute(text("INSERT INTO published VALUES ('p_1')"))

        def fail(connection: Connection) -> None:
            publish(connection)
            raise OSError("no room")

        with pytest.raises(OSError, match="no room"):
            store.finish(job.id, 1, [Result(id="r", reference="c" * 64)], within=fail)
        assert store.get(job.id).results == ()
        assert store.phase(job.id) is Phase.EXECUTING
        store.finish(job.id, 1, [Result(id="r", reference="c" * 64)], within=publish)
        with reading(engine).connect() as connection:
            assert connection.scalars(text("SELECT name FROM published")).all() == ["p_1"]
    finally:
        with engine.begin() as connection:
            connection.execute(text("DROP TABLE published"))


def test_a_job_can_be_changed_until_it_is_queued(store: JobStore, clock: Clock, create: Create) -> None:
    job = create(parameters=[("A", "1")])
    later = clock.now + timedelta(days=9)
    changed = store.change(job.id, parameters=[("B", "2")], execution_seconds=5, destruction=later)
    assert (changed.parameters, changed.execution_seconds, changed.destruction) == ((("B", "2"),), 5, later)
    store.run(job.id)
    with pytest.raises(PhaseFault, match="only a PENDING job can be changed"):
        store.change(job.id, parameters=[])
    assert store.change(job.id, quote=later, estimate={"rows": 3}).estimate == {"rows": 3}


def test_filters_hold_together(store: JobStore, clock: Clock, create: Create) -> None:
    ids = []
    for number in range(6):
        ids.append(create(run=number % 2 == 0).id)
        clock.move(1)
    for id in (ids[0], ids[1]):
        store.abort(id)
    store.archive(ids[0])

    def listed(**filters: object) -> list[int]:
        return [ids.index(entry.id) for entry in store.select(Filters(**filters))]  # type: ignore[arg-type]

    assert listed() == [5, 4, 3, 2, 1], "the latest first, and without ARCHIVED"
    assert listed(phases=frozenset({Phase.ARCHIVED, Phase.ABORTED})) == [1, 0]
    assert listed(last=2) == [5, 4]
    third = store.get(ids[3]).created
    assert listed(after=third) == [5, 4]
    assert listed(phases=frozenset({Phase.QUEUED}), after=store.get(ids[1]).created, last=1) == [4]
    assert listed(service="tap") == []


def test_expired_jobs_and_the_place_in_the_queue(store: JobStore, clock: Clock, create: Create) -> None:
    first = create(run=True, destruction=clock.now + timedelta(seconds=5))
    clock.move(1)
    second = create(run=True)
    assert (store.position(first.id), store.position(second.id), store.position(create().id)) == (0, 1, None)
    clock.move(5)
    assert store.expired() == (first.id,)


def test_a_moment_without_zone_is_refused(store: JobStore, create: Create) -> None:
    with pytest.raises(Exception, match="has no time zone"):
        create(destruction=datetime(2026, 1, 1))


def _claim_all(url: str, worker: str, claimed: "multiprocessing.Queue[tuple[str, str]]") -> None:
    store = JobStore(open_engine(url))
    while (claim := store.claim(worker)) is not None:
        claimed.put((worker, claim.job.id))
        store.finish(claim.job.id, claim.attempt, [])


def test_several_workers_at_once_claim_every_job_exactly_once(url: str, engine: Engine) -> None:
    store = JobStore(engine)
    later = datetime.now(UTC) + timedelta(days=1)
    ids = {store.run(store.create(destruction=later, execution_seconds=60).id).id for _ in range(40)}
    context = multiprocessing.get_context("spawn")
    claimed = context.Queue()
    workers = [context.Process(target=_claim_all, args=(url, f"w{n}", claimed)) for n in range(3)]
    for worker in workers:
        worker.start()
    taken = [claimed.get(timeout=30) for _ in ids]
    for worker in workers:
        worker.join(timeout=30)
        assert worker.exitcode == 0
    assert claimed.empty()
    assert {id for _, id in taken} == ids


def test_a_poll_answers_while_a_worker_holds_the_write_lock(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'inzitu.db'}")
    metadata.create_all(engine)
    store = JobStore(engine)
    job = store.create(destruction=datetime.now(UTC) + timedelta(days=1), execution_seconds=60)
    with engine.begin() as connection:
        connection.execute(text("UPDATE jobs SET phase = 'QUEUED'"))
        began = time.monotonic()
        assert store.phase(job.id) is Phase.PENDING
        assert store.get(job.id).phase is Phase.PENDING
        assert time.monotonic() - began < 5, "a writer is waited for much longer"
    engine.dispose()
