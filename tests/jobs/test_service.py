"""The rules of the service, with a clock that is moved by hand."""

import asyncio
import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from inzitu.errors import BusyFault, NotFoundFault, ParameterFault, PhaseFault, TableFault
from inzitu.jobs.job import Failure, Job, Result, Upload
from inzitu.jobs.phases import Phase
from inzitu.jobs.service import JobService
from inzitu.jobs.store import JobStore
from inzitu.manifest import ArchiveSection, CatalogueEntry, Limits, Manifest, SurveyEntry
from jobs.conftest import Clock

RUN = ("PHASE", "RUN")


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    archive = ArchiveSection(
        surveys=(SurveyEntry(band="r", hips="r", unit="nanomaggy"),),
        catalogue=CatalogueEntry(path="c", id="i", ra="ra", dec="dec", magnitudes=()),
    )
    limits = Limits.model_validate({"execution_seconds": 100, "destruction_days": 3, "wait_seconds": 1})
    return Manifest.model_validate({"state": tmp_path, "archive": archive, "limits": limits})


@pytest.fixture
def discarded() -> list[str]:
    return []


@pytest.fixture
def service(store: JobStore, manifest: Manifest, discarded: list[str]) -> JobService:
    def check(job: Job) -> None:
        if job.parameter("BAD"):
            raise TableFault("row 3 has no ra")

    return JobService(store, manifest, check, discard=lambda job: discarded.append(job.id))


def test_control_parameters_steer_and_are_not_the_jobs(service: JobService, clock: Clock) -> None:
    given = [
        ("pipeline", "p"),
        ("phase", "RUN"),
        ("RunId", "mine"),
        ("EXECUTIONDURATION", "7"),
        ("destruction", "2026-11-22"),
    ]
    job = service.create(given)
    assert (job.phase, job.run_id, job.execution_seconds) == (Phase.QUEUED, "mine", 7)
    assert job.destruction.isoformat() == "2026-11-22T00:00:00+00:00"
    assert job.parameters == (("pipeline", "p"),)


def test_limits_hold_for_whatever_is_asked(service: JobService, clock: Clock) -> None:
    job = service.create([])
    latest = clock.now + timedelta(days=3)
    assert (job.execution_seconds, job.destruction) == (100, latest)
    assert service.set_execution_duration(job.id, 0).execution_seconds == 100
    assert service.set_execution_duration(job.id, 101).execution_seconds == 100
    assert service.set_destruction(job.id, clock.now + timedelta(days=9)).destruction == latest
    assert service.set_destruction(job.id, clock.now - timedelta(days=9)).destruction == clock.now
    with pytest.raises(ParameterFault, match="EXECUTIONDURATION=-1 is below"):
        service.create([("EXECUTIONDURATION", "-1")])


@pytest.mark.parametrize("act", [JobService.run, JobService.estimate])
def test_a_job_that_cannot_run_is_not_created_or_ends_with_the_reason(
    service: JobService, act: Callable[[JobService, str], Job]
) -> None:
    with pytest.raises(TableFault, match="row 3"):
        service.create([("BAD", "1"), RUN])
    assert service.select() == ()
    changed = service.create([("BAD", "1")])
    service.add_parameters(changed.id, [("BAD", "")])
    assert service.run(changed.id).phase is Phase.QUEUED
    with pytest.raises(PhaseFault, match="A job runs once"):
        service.run(changed.id)
    job = service.create([("BAD", "1")])
    with pytest.raises(TableFault):
        act(service, job.id)
    ended = service.get(job.id)
    assert (ended.phase, ended.failure) == (Phase.ERROR, Failure("UsageError", "row 3 has no ra"))
    with pytest.raises(PhaseFault, match="create a new one"):
        service.run(job.id)


def test_a_job_of_which_nothing_can_come_ends_with_its_estimate_and_no_quote(
    store: JobStore, manifest: Manifest
) -> None:
    found = {"refused": "No row can be used.", "amounts": {"seconds": 50.0}}
    asked = JobService(store, manifest, examine=lambda _job, *, whole: found)
    job = asked.estimate(asked.create([]).id)
    assert (job.phase, job.failure, job.quote) == (Phase.ERROR, Failure("UsageError", "No row can be used."), None)
    assert job.estimate == found
    assert asked.estimate(job.id) == job
    with pytest.raises(TableFault, match="No row can be used"):
        asked.create([RUN])


def test_a_job_that_runs_is_not_ended_by_who_asks_about_it(store: JobStore, manifest: Manifest) -> None:
    found: dict[str, object] = {"network": None}
    asked = JobService(store, manifest, examine=lambda _job, *, whole: found)
    job = asked.create([RUN])
    found |= {"refused": "No row can be used.", "amounts": {}}
    assert asked.estimate(job.id).phase is Phase.QUEUED


def test_deleting_takes_files_and_what_was_published_along(
    service: JobService, store: JobStore, manifest: Manifest, discarded: list[str]
) -> None:
    job = service.create([RUN], [Upload(name="t", path="uploads/x/t", uri="param:t")])
    claim = store.claim("w")
    assert claim is not None
    for folder in (service.uploads_folder(job.id), service.results_folder(job.id)):
        folder.mkdir(parents=True)
        (folder / "file").write_text("1")
    service.delete(job.id)
    assert discarded == [job.id]
    assert not list(manifest.state.glob("*/*/file"))
    with pytest.raises(NotFoundFault):
        store.finish(job.id, claim.attempt, [Result(id="r", reference="0" * 64)])


def test_what_a_worker_finishes_while_its_job_is_deleted_is_not_published(store: JobStore, manifest: Manifest) -> None:
    finished: list[str] = []

    def discard(job: Job) -> None:
        with pytest.raises(PhaseFault):
            store.finish(job.id, 1, [], within=lambda _: finished.append(job.id))

    service = JobService(store, manifest, discard=discard)
    job = service.create([RUN])
    store.claim("w")
    service.delete(job.id)
    assert finished == []


def test_the_sweep_archives_what_is_due_whatever_its_phase(
    service: JobService, store: JobStore, clock: Clock, discarded: list[str]
) -> None:
    pending, executing, done = service.create([]), service.create([RUN]), service.create([RUN])
    store.claim("w")
    store.claim("w")
    store.finish(done.id, 1, [])
    clock.move(86_400)
    later = service.create([])
    clock.move(2 * 86_400)
    assert service.sweep() == 3
    assert set(discarded) == {pending.id, executing.id, done.id}
    assert {service.get(job.id).phase for job in (pending, executing, done)} == {Phase.ARCHIVED}
    assert store.beat(executing.id, 1) is Phase.ARCHIVED
    assert service.get(later.id).phase is Phase.PENDING
    assert service.sweep() == 0


def test_uploads_of_a_request_that_died_are_removed_after_a_day(service: JobService, clock: Clock) -> None:
    mine = service.create([])
    for name in (mine.id, "died", "arriving"):
        service.uploads_folder(name).mkdir(parents=True)
    for name in (mine.id, "died"):
        os.utime(service.uploads_folder(name), (clock.now.timestamp() - 90_000,) * 2)
    service.tidy()
    assert {folder.name for folder in service.uploads_folder("x").parent.iterdir()} == {mine.id, "arriving"}


def test_services_share_a_store_and_do_not_see_each_other(
    service: JobService, store: JobStore, manifest: Manifest
) -> None:
    queued: list[str] = []
    queries = JobService(store, manifest, service="tap", queued=lambda job: queued.append(job.id))
    query, job = queries.create([RUN]), service.create([])
    assert queued == [query.id]
    assert [entry.id for entry in queries.select()] == [query.id]
    with pytest.raises(NotFoundFault, match="belongs to the service jobs"):
        queries.get(job.id)


def test_a_wait_ends_with_the_phase_or_with_the_limit(engine: Engine, manifest: Manifest) -> None:
    service = JobService(JobStore(engine), manifest)
    job = service.create([])

    async def changed() -> Job:
        waiting = asyncio.create_task(service.wait(job.id, seconds=-1))
        await asyncio.sleep(0.1)
        service.abort(job.id)
        return await waiting

    other = service.create([])
    began = time.monotonic()
    assert asyncio.run(service.wait(other.id, seconds=50)).phase is Phase.PENDING
    assert 0.9 < time.monotonic() - began < 30, "50 s were asked for, the deployment allows 1"
    assert asyncio.run(changed()).phase is Phase.ABORTED


def test_a_job_that_is_changed_while_it_is_examined_is_examined_again(store: JobStore, manifest: Manifest) -> None:
    seen: list[str | None] = []

    def examine(job: Job, *, whole: bool) -> dict[str, object]:
        seen.append(job.parameter("SEED"))
        if len(seen) == 1:
            asked.add_parameters(job.id, [("SEED", "2")])
        return {"amounts": {"seconds": 5.0, "seed": job.parameter("SEED")}}

    asked = JobService(store, manifest, examine=examine)
    job = asked.estimate(asked.create([("SEED", "1")]).id)
    assert seen == ["1", "2"]
    assert job.estimate == {"amounts": {"seconds": 5.0, "seed": "2"}}
    assert asked.estimate(job.id) == job


def test_the_quote_is_reckoned_anew_when_the_job_queues(store: JobStore, manifest: Manifest, clock: Clock) -> None:
    service = JobService(store, manifest, examine=lambda _job, *, whole: {"amounts": {"seconds": 50.0}})
    job = service.estimate(service.create([]).id)
    assert job.quote == clock.now + timedelta(seconds=50)
    clock.move(1000)
    assert service.run(job.id).quote == clock.now + timedelta(seconds=50)


@pytest.mark.parametrize("moment", ["check", "examine"])
def test_what_queues_is_what_was_checked_whatever_is_changed_meanwhile(
    store: JobStore, manifest: Manifest, moment: str
) -> None:
    """A file that is sent anew, under the same UPLOAD, while the one before it is looked at."""
    seen: dict[str, list[str]] = {"check": [], "examine": []}

    def see(what: str, job: Job) -> None:
        seen[what].append(job.uploads[0].path)
        if what == moment and len(seen[what]) == 1:
            asked.add_parameters(job.id, [], [Upload(name="network", path="b", uri="param:n")])

    def examine(job: Job, *, whole: bool) -> dict[str, object]:
        see("examine", job)
        return {"network": {"of": job.uploads[0].path}}

    asked = JobService(store, manifest, lambda job: see("check", job), examine=examine)
    first = Upload(name="network", path="a", uri="param:n")
    job = asked.create([("UPLOAD", "network,param:n"), RUN], [first])
    assert seen == {"check": ["a", "b"], "examine": ["a", "b"]}
    assert (job.phase, job.uploads[0].path, job.estimate) == (Phase.QUEUED, "b", {"network": {"of": "b"}})


@pytest.mark.parametrize("act", [JobService.run, JobService.estimate])
def test_a_job_that_never_rests_is_refused_and_stays(
    store: JobStore, manifest: Manifest, act: Callable[[JobService, str], Job]
) -> None:
    seen: list[str] = []

    def restless(job: Job, *, whole: bool) -> dict[str, object]:
        seen.append(job.id)
        assert len(seen) < 50
        asked.add_parameters(job.id, [("SEED", str(len(seen)))])
        return {"network": None}

    asked = JobService(store, manifest, examine=restless)
    job = asked.create([("SEED", "0")])
    with pytest.raises(PhaseFault, match=f"Job {job.id} was changed while it was looked at"):
        act(asked, job.id)
    assert (asked.get(job.id).phase, asked.get(job.id).estimate) == (Phase.PENDING, None)


def test_a_job_that_meets_a_busy_service_stays_to_be_run_later(store: JobStore, manifest: Manifest) -> None:
    def busy(_: Job, *, whole: bool) -> None:
        raise BusyFault("Too many jobs are being examined.")

    asked = JobService(store, manifest, examine=busy)
    with pytest.raises(BusyFault, match=r"Too many.* stays PENDING") as caught:
        asked.create([("SEED", "1"), RUN])
    [entry] = asked.select()
    assert (entry.phase, entry.id in str(caught.value)) == (Phase.PENDING, True)
