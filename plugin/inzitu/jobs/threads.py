"""Runs the queued jobs of one service in threads of this process: the asynchronous queries of TAP.

A process that dies leaves its jobs EXECUTING; when their lease has run out, the threads of the next one take them over.
The jobs of the pipelines are run by worker processes (`inzitu.run`), which can be killed.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from inzitu.errors import NotFoundFault, PhaseFault, as_fault
from inzitu.jobs.phases import Phase

if TYPE_CHECKING:
    from inzitu.jobs.job import Claim, Job, Result
    from inzitu.jobs.store import JobStore

type Interrupt = Callable[[], None]
type Execute = Callable[[Job, Callable[[Interrupt], None]], Sequence[Result]]
"""Does a job and returns its results; hands over by its second argument what interrupts it."""

_log = logging.getLogger(__name__)


class JobThreads:
    """Threads that claim and execute.

    Parameters
    ----------
    store
        Where the jobs are.
    service
        Whose jobs to run.
    execute
        Does one job.
    threads
        How many jobs run at once.
    lease_seconds
        A job is taken over when its process gave no sign of life for so long [s].
    beat_seconds
        Between two signs of life; an abortion is seen as soon [s].
    """

    def __init__(
        self,
        store: JobStore,
        service: str,
        execute: Execute,
        *,
        threads: int = 2,
        lease_seconds: float = 10.0,
        beat_seconds: float = 0.5,
    ) -> None:
        self._store = store
        self._service = service
        self._execute = execute
        self._lease_seconds = lease_seconds
        self._beat_seconds = beat_seconds
        self._worker = f"{service}@{socket.gethostname()}:{os.getpid()}"
        self._stopping = threading.Event()
        self._queued = threading.Semaphore(0)
        self._threads = [
            threading.Thread(target=self._work, name=f"{service}-{n}", daemon=True) for n in range(threads)
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """Interrupt what runs, give it back to the queue, and end the threads [s]."""
        self._stopping.set()
        for _ in self._threads:
            self._queued.release()
        for thread in self._threads:
            thread.join(timeout)

    def wake(self, _job: Job | None = None) -> None:
        """Say that a job has been queued, so that it need not wait for the next look."""
        self._queued.release()

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                claim = self._store.claim(self._worker, self._service, self._lease_seconds)
                if claim is not None:
                    self._attend(claim)
                    continue
            except Exception:
                # A database that is away for a while must not end the thread for good.
                _log.exception("The service %s could not take its next job", self._service)
            # Other processes queue jobs, too, and leases run out, so look again even if nobody calls.
            self._queued.acquire(timeout=2 * self._beat_seconds)

    def _attend(self, claim: Claim) -> None:
        """Execute one job while a second thread gives signs of life."""
        pulse = _Pulse(self._store, claim, self._beat_seconds, self._stopping)
        pulse.start()
        try:
            results = self._execute(claim.job, pulse.on_interrupt)
        except Exception as error:
            self._conclude_failed(claim, error)
        else:
            self._settle(lambda: self._store.finish(claim.job.id, claim.attempt, results))
        finally:
            pulse.end()

    def _conclude_failed(self, claim: Claim, error: Exception) -> None:
        fault = as_fault(error)
        if self._stopping.is_set():
            self._settle(lambda: self._store.release(claim.job.id, claim.attempt))
        else:
            if fault is not error:
                _log.error("Job %s failed", claim.job.id, exc_info=error)
            self._settle(lambda: self._store.fail(claim.job.id, claim.attempt, fault.code, str(fault)))

    @staticmethod
    def _settle(write: Callable[[], object]) -> None:
        try:
            write()
        except (PhaseFault, NotFoundFault) as fault:
            # Aborted, deleted or taken over while it ran: somebody else has had the last word.
            _log.info("%s", fault)


class _Pulse(threading.Thread):
    """Signs of life for one claim, until its end or until the job is to stop."""

    def __init__(self, store: JobStore, claim: Claim, seconds: float, stopping: threading.Event) -> None:
        super().__init__(name=f"pulse-{claim.job.id}", daemon=True)
        self._store = store
        self._claim = claim
        self._seconds = seconds
        self._stopping = stopping
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._interrupts: list[Interrupt] = []
        self._interrupted = False

    def on_interrupt(self, interrupt: Interrupt) -> None:
        """Have `interrupt` called when the job is to stop; at once, if it is."""
        with self._lock:
            self._interrupts.append(interrupt)
            late = self._interrupted
        if late:
            interrupt()

    def end(self) -> None:
        """Stop: the job is done."""
        self._ended.set()
        self.join()

    def run(self) -> None:
        """Beat."""
        while not self._ended.wait(self._seconds):
            if self._stopping.is_set() or not self._wanted():
                self._interrupt()
                return

    def _wanted(self) -> bool:
        try:
            return self._store.beat(self._claim.job.id, self._claim.attempt) is Phase.EXECUTING
        except (PhaseFault, NotFoundFault):
            return False
        except Exception:
            # The database may be back at the next beat; the lease decides.
            _log.exception("No sign of life could be given for job %s", self._claim.job.id)
            return True

    def _interrupt(self) -> None:
        with self._lock:
            self._interrupted = True
            interrupts = list(self._interrupts)
        for interrupt in interrupts:
            interrupt()
