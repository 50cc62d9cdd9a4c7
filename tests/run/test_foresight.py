"""A job that nobody asked before it queued has its estimate all the same, from its own process."""

from __future__ import annotations

import shutil
import time
from datetime import timedelta

import pytest
from sqlalchemy import Engine

from inzitu.errors import ArchiveFault
from inzitu.jobs.job import Job, Upload
from inzitu.jobs.store import JobStore
from inzitu.manifest import Manifest
from inzitu.prov.recorder import Recorder
from inzitu.prov.store import ArtefactStore
from inzitu.run.child import _JobRun
from inzitu.run.foresight import foreseen
from story.stage import Stage

PARAMETERS = [("PIPELINE", "train-predict"), ("SIZE", "28"), ("EPOCHS", "2"), ("MEMBERS", "1")]


@pytest.fixture
def run(few: Stage, manifest: Manifest, database: Engine, monkeypatch: pytest.MonkeyPatch) -> _JobRun:
    """A job that a worker has claimed."""
    monkeypatch.setattr("inzitu.run.estimate.FEWEST_ROWS", 6)
    store = JobStore(database)
    store.create_tables()
    folder = manifest.state / "uploads" / "job"
    folder.mkdir(parents=True)
    uploads = []
    for name, rows in (("training", slice(0, 8)), ("targets", slice(8, 12))):
        shutil.move(few.list(f"foreseen-{name}", rows=rows), folder / name)
        uploads.append(Upload(name=name, uri=f"param:{name}", path=f"uploads/job/{name}"))
    job = store.create(parameters=PARAMETERS, uploads=uploads, destruction=store.now(), execution_seconds=60)
    store.run(job.id)
    claim = store.claim("a worker")
    assert claim is not None
    return _JobRun(manifest, job.id, claim.attempt)


def job_of(run: _JobRun) -> Job:
    return run.jobs.get(run.id)


def test_it_is_what_would_have_been_said_when_asked(
    run: _JobRun, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(run.jobs._engine, ArtefactStore(manifest.artefacts))
    told = foreseen(job_of(run), manifest, jobs=run.jobs, recorder=recorder, enough=lambda: False)
    run.jobs.change(run.id, estimate={"network": told["network"]})  # what is looked at before a job queues

    def again(*_: object, **__: object) -> None:
        raise AssertionError("a network is looked at once")

    monkeypatch.setattr("inzitu.run.trainings._examined", again)
    began = run.jobs.now()
    run._foresee(job_of(run))
    job = job_of(run)
    assert job.estimate == told
    assert told["amounts"]["usable"] == 12
    assert job.quote is not None
    assert began <= job.quote - timedelta(seconds=told["amounts"]["seconds"]) <= run.jobs.now()
    monkeypatch.setattr("inzitu.run.child.foreseen", again)
    run._foresee(job)
    run.jobs._engine.dispose()


def test_its_search_of_the_catalogue_is_bounded_and_says_how_far_it_came(
    run: _JobRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def patient(*_: object, enough: object, **__: object) -> dict[str, dict[str, float]]:
        asked.append(enough)
        return {"amounts": {}}

    monkeypatch.setattr("inzitu.run.child.FORESEEING", 0.2)
    monkeypatch.setattr("inzitu.run.child.foreseen", patient)
    run._foresee(job_of(run))
    [enough] = asked
    assert callable(enough)
    time.sleep(0.3)
    assert enough()
    run.jobs._engine.dispose()


def test_what_fails_there_is_left_to_the_step_to_tell(run: _JobRun, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise ArchiveFault("The catalogue is gone.")

    monkeypatch.setattr("inzitu.run.child.foreseen", fails)
    run._foresee(job_of(run))
    assert job_of(run).estimate is None
    run.jobs._engine.dispose()
