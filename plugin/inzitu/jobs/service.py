"""The rules of a UWS: what a user may ask of a job, and within which limits.

What a user asks for beyond a limit is brought down to it, and shown so (UWS 1.1, sections 2.1.5 and 2.1.7). How the
store keeps a job is in `inzitu.jobs.store`; how it is said by HTTP in `inzitu.web.uws`.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from inzitu.errors import BusyFault, NotFoundFault, ParameterFault, PhaseFault, TableFault, UserFault
from inzitu.jobs.job import ALL, Entry, Filters, Job, LogLine, Upload
from inzitu.jobs.phases import Phase
from inzitu.jobs.rows import ChangedFault
from inzitu.vo.dali import Parameters

if TYPE_CHECKING:
    from pathlib import Path

    from inzitu.jobs.store import JobStore
    from inzitu.manifest import Manifest

type Check = Callable[[Job], object]
"""Looks at a job before it queues and raises a `UserFault` if it cannot run."""

type Examine = Callable[..., Mapping[str, Any] | None]
"""Tells what a job, given with ``whole=``, will find and take; or of that, before it queues, its network alone."""

_CONTROL = ("PHASE", "RUNID", "DESTRUCTION", "EXECUTIONDURATION", "WAIT", "ACTION")
_ORPHAN_SECONDS = 86_400.0
_POLL_SECONDS = (0.02, 0.25)
_RESTLESS_AT_MOST = 3


def _nothing(_job: Job, **_: bool) -> None:
    """Do nothing."""


class JobService:
    """The jobs of one service, ``jobs`` or ``tap``.

    Parameters
    ----------
    store
        Where the jobs are.
    manifest
        The limits, and the folder of the uploads.
    check
        Called before a job queues.
    service
        Jobs of another service are not found here.
    queued
        Called when a job has been queued.
    discard
        Called before a job's results are destroyed: drops what was published of them.
    examine
        Tells what a job will find and take.
    """

    def __init__(
        self,
        store: JobStore,
        manifest: Manifest,
        check: Check = _nothing,
        *,
        service: str = "jobs",
        queued: Callable[[Job], None] = _nothing,
        discard: Callable[[Job], None] = _nothing,
        examine: Examine = _nothing,
    ) -> None:
        self.store = store
        self.service = service
        self._limits = manifest.limits
        self._state = manifest.state
        self._check = check
        self._queued = queued
        self._discard = discard
        self._examine = examine

    # Creating and steering

    def create(
        self,
        parameters: Iterable[tuple[str, str]],
        uploads: Iterable[Upload] = (),
        *,
        owner: str | None = None,
        id: str | None = None,
    ) -> Job:
        """Create a job, and queue it where PHASE=RUN is among its parameters.

        Raises
        ------
        UserFault
            A parameter is malformed, or the job cannot run; then there is no job.
        BusyFault
            It cannot be examined now; it stays PENDING.
        """
        given = Parameters(parameters)
        phase = given.one("PHASE")
        if phase not in (None, "RUN"):
            raise ParameterFault(f"PHASE={phase} cannot be asked of a new job; PHASE=RUN queues it, none lets it wait.")
        job = self.store.create(
            id=id,
            service=self.service,
            owner=owner,
            parameters=given.without(*_CONTROL),
            uploads=uploads,
            run_id=given.one("RUNID"),
            destruction=self._destruction(given.moment("DESTRUCTION")),
            execution_seconds=self._execution_seconds(given.integer("EXECUTIONDURATION", at_least=0)),
        )
        try:
            return self.run(job.id) if phase == "RUN" else job
        except BusyFault as fault:
            raise BusyFault(f"{fault} Job {job.id} stays PENDING: send it PHASE=RUN later, or delete it.") from fault
        except BaseException:
            self.store.delete(job.id)
            raise

    def run(self, id: str) -> Job:
        """Check a job and queue it.

        Raises
        ------
        PhaseFault
            It has been run before.
        UserFault
            It cannot run as it stands, and has ended in ERROR.
        """
        job = self._at_rest(id, self._run)
        self._queued(job)
        return job

    def estimate(self, id: str) -> Job:
        """Return a job with its estimate, made now unless it has one or has ended; one that is refused ends in ERROR.

        Raises
        ------
        UserFault
            It cannot be examined as it stands, and has ended in ERROR.
        """
        return self._at_rest(id, self._estimate)

    def abort(self, id: str) -> Job:
        """Abort a job."""
        self.get(id)
        return self.store.abort(id)

    def add_parameters(self, id: str, parameters: Iterable[tuple[str, str]], uploads: Iterable[Upload] = ()) -> Job:
        """Set parameters of a PENDING job: a name it has already gets the new values (UWS 1.1, section 2.2.2.2)."""
        job, asked = self.get(id), Parameters(parameters)
        given = asked.without(*_CONTROL, "UPLOAD")
        kept = Parameters(job.parameters).without("UPLOAD", *(name for name, _ in given))
        sent = {upload.name.lower(): upload for upload in uploads}
        tables = [*(upload for upload in job.uploads if upload.name.lower() not in sent), *sent.values()]
        named = [("UPLOAD", f"{table.name},{table.uri}") for table in tables]
        return self.store.change(id, parameters=[*kept, *given, *named], uploads=tables, run_id=asked.one("RUNID"))

    def set_destruction(self, id: str, at: datetime) -> Job:
        """Set when a job's results are destroyed, within the limit."""
        self.get(id)
        return self.store.change(id, destruction=self._destruction(at))

    def set_execution_duration(self, id: str, seconds: int) -> Job:
        """Set how long a job may run [s], within the limit; 0 asks for as long as allowed."""
        self.get(id)
        return self.store.change(id, execution_seconds=self._execution_seconds(seconds))

    def delete(self, id: str) -> None:
        """Remove a job, its uploads and its results; work on it stops."""
        # Stopped first: a worker that finishes meanwhile would publish what is being withdrawn.
        self._destroy(self._stopped(self.get(id)))
        self.store.delete(id)

    # Looking

    def get(self, id: str) -> Job:
        """Return a job of this service."""
        job = self.store.get(id)
        if job.service != self.service:
            raise NotFoundFault(f"There is no job {id} here; it belongs to the service {job.service}.")
        return job

    def select(self, filters: Filters = ALL) -> tuple[Entry, ...]:
        """Return this service's jobs that pass the filters, the latest first."""
        return self.store.select(replace(filters, service=self.service))

    def lines(self, id: str, *, after: int = 0) -> tuple[LogLine, ...]:
        """Return the lines of a job's log whose number is above `after`."""
        self.get(id)
        return self.store.lines(id, after=after)

    async def wait(self, id: str, *, seconds: float | None = None, phase: Phase | None = None) -> Job:
        """Return a job, at the latest when its phase changes or after so many seconds (UWS 1.1, section 2.2.1.2).

        Parameters
        ----------
        seconds
            Longest wait [s]; below zero: as long as the deployment allows; None: none.
        phase
            The phase that the client has seen: where the job has left it, the answer comes at once.
        """
        job = await asyncio.to_thread(self.get, id)
        if seconds is None or not job.phase.active or (phase is not None and job.phase is not phase):
            return job
        allowed = self._limits.wait_seconds
        deadline = time.monotonic() + (allowed if seconds < 0 else min(seconds, allowed))
        pause, longest = _POLL_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            await asyncio.sleep(min(pause, left))
            pause = min(2 * pause, longest)
            if await asyncio.to_thread(self.store.phase, id) is not job.phase:
                break
        return await asyncio.to_thread(self.get, id)

    # What time brings

    def sweep(self) -> int:
        """Archive the jobs whose destruction time has come; return how many."""
        swept = 0
        for id in self.store.expired():
            job = self.store.get(id)
            if job.service != self.service:
                continue
            self._destroy(self._stopped(job))
            self.store.archive(id)
            swept += 1
        return swept

    def tidy(self) -> None:
        """Remove the uploads of requests that died with the server: folders a day old that belong to no job."""
        long_ago = self.store.now().timestamp() - _ORPHAN_SECONDS
        for folder in (self._state / "uploads").glob("*"):
            if folder.stat().st_mtime < long_ago and not self.store.exists(folder.name):
                shutil.rmtree(folder, ignore_errors=True)

    def uploads_folder(self, id: str) -> Path:
        """Return the folder of a job's uploaded files."""
        return self._state / "uploads" / id

    def results_folder(self, id: str) -> Path:
        """Return the folder of those results of a job that are no artefacts."""
        return self._state / "results" / id

    def _at_rest(self, id: str, act: Callable[[Job], Job]) -> Job:
        """Do what holds for a job only as it was read, and do it again, a few times, where the job was changed."""
        for _ in range(_RESTLESS_AT_MOST):
            with suppress(ChangedFault):
                return act(self.get(id))
        return act(self.get(id))

    def _run(self, job: Job) -> Job:
        if job.phase is Phase.PENDING:
            job = self._promising(job, whole=False)
            if job.failure is not None:
                raise TableFault(job.failure.message)
        return self.store.run(job.id, quote=self._quote(job.estimate), seen=job)

    def _estimate(self, job: Job) -> Job:
        if job.phase is Phase.PENDING:
            return self._promising(job, whole=True)
        return self._foreseen(job, whole=True) if job.phase.active else job

    def _promising(self, job: Job, *, whole: bool) -> Job:
        """Return a PENDING job as foreseen; one of which nothing can come ends in ERROR and waits for nobody."""
        try:
            self._check(job)
            foreseen = self._foreseen(job, whole=whole)
        except PhaseFault:  # it was changed meanwhile
            raise
        except UserFault as fault:
            self.store.refuse(job, fault.code, str(fault))
            raise
        refused = (foreseen.estimate or {}).get("refused")
        return foreseen if refused is None else self.store.refuse(job, TableFault.code, refused)

    def _foreseen(self, job: Job, *, whole: bool) -> Job:
        """Return a job with what it will find and take, or of that, at least, its network."""
        known = job.estimate or {}
        if "amounts" in known or ("network" in known and not whole):
            return job
        found = self._examine(job, whole=whole)
        return job if found is None else self.store.change(job.id, estimate=found, quote=self._quote(found), seen=job)

    def _quote(self, estimate: Mapping[str, Any] | None) -> datetime | None:
        """Return when a job ends that is queued now, if a worker is free (UWS 1.1, section 2.1.6)."""
        seconds = (estimate or {}).get("amounts", {}).get("seconds")
        return None if seconds is None else self.store.now() + timedelta(seconds=seconds)

    def _stopped(self, job: Job) -> Job:
        """Abort a job unless it has ended, be it in this moment."""
        try:
            return self.store.abort(job.id)
        except PhaseFault:
            return self.store.get(job.id)

    def _destroy(self, job: Job) -> None:
        self._discard(job)
        shutil.rmtree(self.uploads_folder(job.id), ignore_errors=True)
        shutil.rmtree(self.results_folder(job.id), ignore_errors=True)

    def _destruction(self, at: datetime | None) -> datetime:
        now = self.store.now()
        latest = now + timedelta(days=self._limits.destruction_days)
        return latest if at is None else max(now, min(at, latest))

    def _execution_seconds(self, seconds: int | None) -> int:
        longest = self._limits.execution_seconds
        return longest if not seconds else min(seconds, longest)
