"""The process that does one job: ``python -m inzitu.run.child MANIFEST JOB ATTEMPT WORKER``, with the worker's pid.

It is a process of its own so that an abort stops it wherever it is, in a compilation too, and so that a job that
crashes or exhausts the memory takes nobody along. What it writes about the job carries the number of its attempt; the
store refuses it once another worker has taken over. See also `inzitu.run.worker`, which starts it.
"""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from inzitu.archive.surveys import located
from inzitu.errors import Fault, UserFault, as_fault
from inzitu.jobs.database import open_engine
from inzitu.jobs.job import Job, Progress, Result
from inzitu.jobs.store import JobStore
from inzitu.learn import compilation
from inzitu.manifest import Manifest
from inzitu.pipelines import Request, check
from inzitu.prov.recorder import Recorder
from inzitu.prov.store import ArtefactStore
from inzitu.run.engine import Engine
from inzitu.run.foresight import foreseen
from inzitu.run.runner import FOLDER, Runner
from inzitu.tables.published import PublishedTables

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from inzitu.prov.facts import Artefact

_PR_SET_PDEATHSIG = 1
_SECONDS_BETWEEN_REPORTS = 0.25
FORESEEING = 5.0
"""Longest search of the catalogue for the estimate of a job that was not asked before it queued [s]."""


def main(arguments: Sequence[str] = tuple(sys.argv[1:])) -> int:
    """Do the job; return 0 when its end is in the store."""
    path, job, attempt, worker = arguments
    _die_with(int(worker))
    _JobRun(Manifest.load(path), job, int(attempt)).run()
    return 0


def _die_with(worker: int) -> None:
    """Have the kernel end this process with the worker that started it, even when that is killed (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != worker:  # it died before the kernel was told
        os.kill(os.getpid(), signal.SIGKILL)


class _JobRun:
    """One attempt at one job."""

    def __init__(self, manifest: Manifest, job: str, attempt: int) -> None:
        self.manifest, self.id, self.attempt = manifest, job, attempt
        engine = open_engine(manifest.database_url)
        self.jobs = JobStore(engine)
        self.store = ArtefactStore(manifest.artefacts)
        self.recorder = Recorder(engine, self.store)
        self.published = PublishedTables(engine, self.store)
        self.scratch = manifest.scratch / job
        self._reported = 0.0

    def run(self) -> None:
        """Run the request and write its end, whichever it is, into the store."""
        job = self.jobs.get(self.id)
        try:
            self.manifest = located(self.manifest)
            compilation.keep(self.manifest.state / "compiled")
            request = self._request(job)
            uploads = {upload.name: self.manifest.state / upload.path for upload in job.uploads}
            self.scratch.mkdir(parents=True, exist_ok=True)
            self._foresee(job)
            with Engine(self.manifest.engine) as engine:
                runner = Runner(
                    manifest=self.manifest,
                    recorder=self.recorder,
                    engine=engine,
                    job=self.id,
                    scratch=self.scratch,
                    progress=self._progress,
                    log=self._log,
                    account=lambda amounts: self.jobs.account(self.id, self.attempt, amounts),
                )
                artefacts = runner.run(request, uploads)
            memory = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            self.jobs.account(self.id, self.attempt, {"memory": memory})
            self._finish(request, artefacts)
        except Exception as error:  # whatever it is, the user must learn that the job ended, and why
            self._fail(as_fault(error), error)

    def _request(self, job: Job) -> Request:
        names = [upload.name for upload in job.uploads]
        return check(job.parameters, names, chains=self.manifest.pipelines)

    def _foresee(self, job: Job) -> None:
        """Have stand beside what the job takes what it was expected to, where nobody asked before it queued."""
        if "amounts" in (job.estimate or {}):
            return
        deadline = time.monotonic() + FORESEEING
        with suppress(Fault, ValueError, OSError):  # the step that meets it tells it
            told = foreseen(
                job, self.manifest, jobs=self.jobs, recorder=self.recorder, enough=lambda: time.monotonic() > deadline
            )
            seconds = told["amounts"].get("seconds")
            quote = None if seconds is None else self.jobs.now() + timedelta(seconds=seconds)
            self.jobs.change(job.id, estimate=told, quote=quote)

    def _progress(self, step: str, done: float, total: float, seconds_left: float | None, info: dict[str, Any]) -> None:
        now = time.monotonic()
        if done < total and now < self._reported + _SECONDS_BETWEEN_REPORTS:
            return
        self._reported = now
        progress = Progress(step=step, done=done, total=total, seconds_left=seconds_left, info=info)
        self.jobs.progress(self.id, self.attempt, progress)

    def _log(self, line: str) -> None:
        self.jobs.log(self.id, self.attempt, line)

    def _finish(self, request: Request, artefacts: Mapping[str, Artefact]) -> None:
        """Publish the table and complete the job, in one transaction."""
        made = {port.role for step in request.pipeline.steps for port in step.makes}
        predictions = artefacts.get("predictions") if "predictions" in made else None
        name = self._table_name(request)
        results = _results(artefacts, self.id, request)
        self._log(f"complete; the table is predictions.{name}" if predictions else "complete")

        def publish(connection: Any) -> None:
            if predictions is not None:
                self.published.publish(
                    connection,
                    name=name,
                    artefact=predictions.id,
                    job=self.id,
                    description=f"Redshift PDFs of job {self.id} ({request.pipeline.name})",
                )

        self.jobs.finish(self.id, self.attempt, results, publish)

    def _table_name(self, request: Request) -> str:
        """Return what the table is called: as asked, unless somebody else's has come to be called so meanwhile."""
        own = f"p_{self.id}"
        if request.table is None or self.published.is_free(request.table):
            return request.table or own
        self._log(f"predictions.{request.table} exists by now; the table is called predictions.{own} instead")
        return own

    def _fail(self, fault: Fault, error: Exception) -> None:
        """Write down that the job ended in an error; the traceback is for the operator only."""
        print(f"job {self.id}, attempt {self.attempt}:", file=sys.stderr)
        if not isinstance(fault, UserFault):
            traceback.print_exception(error)
        if self.jobs.get(self.id).attempt != self.attempt:  # another attempt goes on from the checkpoints
            return
        # The job ends here and needs its checkpoints no more; on a full disk they may be all that fills it.
        shutil.rmtree(self.scratch, ignore_errors=True)
        self._log(f"error: {fault}")
        self.jobs.fail(self.id, self.attempt, fault.code, str(fault))


def _results(artefacts: Mapping[str, Artefact], job: str, request: Request) -> list[Result]:
    """Return the job's results: what its steps made, the record of it all, and the log."""
    made = {port.role for step in request.pipeline.steps for port in step.makes}
    results = [
        # A folder is sent as a zip file of about its size.
        Result(
            id=role,
            reference=artefact.id,
            media_type="application/zip" if artefact.media_type == FOLDER else artefact.media_type,
            size=artefact.size,
        )
        for role, artefact in artefacts.items()
        if role in made
    ]
    last = artefacts.get("predictions") or artefacts[results[-1].id]
    record = f"/provenance?ID={last.id}&DEPTH=ALL&RESPONSEFORMAT=PROV-JSON"
    results.append(Result(id="provenance", reference=record, media_type="application/json"))
    results.append(Result(id="log", reference=f"/jobs/{job}/log", media_type="text/plain"))
    return results


if __name__ == "__main__":
    sys.exit(main())
