"""The worker, ``inzitu work``: takes jobs from the store and has each done by a process of its own.

While the process works the worker renews its claim on the job; when the job is aborted, has run too long or has been
taken over by another worker, it kills the process and all that this has started. A worker that is killed takes its
process along, and the next worker goes on with the job from its checkpoints once the claim has lapsed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy.exc import OperationalError

from inzitu.errors import NotFoundFault, PhaseFault, ServiceFault
from inzitu.jobs.database import open_engine
from inzitu.jobs.phases import Phase
from inzitu.jobs.store import JobStore
from inzitu.manifest import Manifest
from inzitu.prov.recorder import metadata as record_tables
from inzitu.tables.published import metadata as table_tables

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from inzitu.jobs.job import Claim

LEASE_SECONDS = 5.0
"""A worker that gives no sign of life for so long has lost its job [s]."""
BEAT_SECONDS = 0.5
POLL_SECONDS = 0.25
RETRY_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """Does the jobs of a deployment, one at a time.

    Attributes
    ----------
    manifest
        Path of the deployment's manifest.
    jobs
        Its job store.
    scratch
        The folder in which each job has a folder of its own while it runs.
    stop
        Set to end after giving the running job back to the queue.
    say
        Told what happens, a line at a time.
    """

    manifest: Path
    jobs: JobStore
    scratch: Path
    say: Callable[[str], None]
    stop: threading.Event = field(default_factory=threading.Event)
    name: str = field(default_factory=lambda: f"{os.uname().nodename}:{os.getpid()}:{uuid.uuid4().hex[:6]}")

    def work(self) -> None:
        """Take jobs and do them until told to stop."""
        while not self.stop.is_set():
            try:
                claim = self.jobs.claim(self.name, lease_seconds=LEASE_SECONDS)
                if claim is None:
                    self.stop.wait(POLL_SECONDS)
                else:
                    self._do(claim)
            except OperationalError as error:  # a full disk, a database that restarts: it may pass
                self.say(f"the job store cannot be used: {error.orig}")
                self.stop.wait(RETRY_SECONDS)

    def _do(self, claim: Claim) -> None:
        job = claim.job.id
        again = f", attempt {claim.attempt}" if claim.attempt > 1 else ""
        self.say(f"job {job}{again}: started")
        arguments = [sys.executable, "-m", "inzitu.run.child", str(self.manifest), job]
        arguments += [str(claim.attempt), str(os.getpid())]
        # A session of its own makes a process group that can be killed whole.
        process = subprocess.Popen(arguments, start_new_session=True)
        try:
            self._watch(process, claim)
        finally:
            _kill_group(process)
        try:
            phase = self.jobs.phase(job)
        except NotFoundFault:  # its user deleted it
            phase = Phase.ABORTED
        if phase.ended:
            shutil.rmtree(self.scratch / job, ignore_errors=True)
        self.say(f"job {job}: {phase}")

    def _watch(self, process: subprocess.Popen[bytes], claim: Claim) -> None:
        """Renew the claim until the process ends or is no longer wanted."""
        job, attempt = claim.job.id, claim.attempt
        renewed = time.monotonic()
        while process.poll() is None:
            try:
                if self.jobs.beat(job, attempt) is not Phase.EXECUTING:
                    return
                renewed = time.monotonic()
                if self.stop.is_set():
                    self.jobs.release(job, attempt)
                    return
            except (PhaseFault, NotFoundFault):  # another worker has taken over, or the job was deleted
                return
            except OperationalError:  # the store may be back before the claim lapses
                if time.monotonic() > renewed + LEASE_SECONDS:
                    raise
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(BEAT_SECONDS)
        if process.returncode != 0:
            self._bury(claim, process.returncode)

    def _bury(self, claim: Claim, returncode: int) -> None:
        """Say that a job's process died without writing its end."""
        how = f"was killed by {signal.Signals(-returncode).name}" if returncode < 0 else f"ended with {returncode}"
        message = (
            f"The process of the job {how}; the operator's log says more. If memory ran out, a smaller job may pass."
        )
        with contextlib.suppress(PhaseFault, NotFoundFault):
            self.jobs.fail(claim.job.id, claim.attempt, ServiceFault.code, message)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def run(manifest_path: Path, say: Callable[[str], None]) -> None:
    """Work for the deployment of a manifest until SIGTERM or SIGINT."""
    manifest = Manifest.load(manifest_path)
    engine = open_engine(manifest.database_url)
    jobs = JobStore(engine)
    jobs.create_tables()
    record_tables.create_all(engine)
    table_tables.create_all(engine)
    worker = Worker(manifest=manifest_path.resolve(), jobs=jobs, scratch=manifest.scratch, say=say)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: worker.stop.set())
    say(f"worker {worker.name} waits for jobs of {manifest.title}")
    worker.work()
