"""From a job of the store to the documents of UWS."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from vo_models.uws.types import ErrorType, ExecutionPhase

from inzitu.errors import BusyFault
from inzitu.jobs.phases import Phase
from inzitu.vo import uws

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from inzitu.jobs.job import Entry, Job

# What XML 1.0 cannot hold; a message may quote anything.
_UNWRITABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def job(job: Job, url: str, *, queued: int | None = None) -> uws.JobDocument:
    """Return the document of a job at its address; `queued` is how many run before it."""
    return uws.JobDocument(
        job_id=job.id,
        run_id=job.run_id,
        owner_id=job.owner,
        phase=ExecutionPhase(job.phase),
        quote=job.quote,
        creation_time=job.created,
        start_time=job.started,
        end_time=job.ended,
        execution_duration=job.execution_seconds,
        destruction=job.destruction,
        parameters=uws.parameter_list(job.parameters),
        results=result_list(job, url),
        error_summary=_error_summary(job),
        job_info=_info(job, queued),
    )


def job_list(entries: Iterable[Entry], url: str) -> uws.Jobs:
    """Return the document of a list of jobs at its address."""
    return uws.Jobs(
        jobref=[
            uws.ShortJobDescription(
                job_id=entry.id,
                href=f"{url}/{entry.id}",
                phase=ExecutionPhase(entry.phase),
                run_id=entry.run_id,
                owner_id=entry.owner,
                creation_time=entry.created,
            )
            for entry in entries
        ]
    )


def result_list(job: Job, url: str) -> uws.Results:
    """Return the document of a job's results."""
    return uws.Results(
        results=[
            uws.ResultReference(
                id=result.id, href=f"{url}/results/{result.id}", size=result.size, mime_type=result.media_type
            )
            for result in job.results
        ]
    )


def _error_summary(job: Job) -> uws.ErrorSummary | None:
    if job.failure is None:
        return None
    lasting = ErrorType.TRANSIENT if job.failure.code == BusyFault.code else ErrorType.FATAL
    message = _UNWRITABLE.sub("\N{REPLACEMENT CHARACTER}", f"{job.failure.code}: {job.failure.message}")
    return uws.ErrorSummary(message=message, type=lasting, has_detail=True)


def _info(job: Job, queued: int | None) -> uws.JobInfo | None:
    info = [uws.Info(name=name, value=_UNWRITABLE.sub("", value)) for name, value in _facts(job)]
    if job.progress is None:
        return uws.JobInfo(queued=[] if queued is None else [queued], info=info) if info or queued is not None else None
    if job.phase is Phase.COMPLETED:  # whichever step it was that last said how far it was
        return uws.JobInfo(progress=[100], info=info)
    seconds = job.progress.seconds_left
    return uws.JobInfo(
        progress=[round(100 * job.progress.fraction)],
        step=[job.progress.step],
        seconds_left=[] if seconds is None else [round(seconds, 1)],
        queued=[] if queued is None else [queued],
        info=info,
    )


def _facts(job: Job) -> Iterator[tuple[str, str]]:
    """Yield the losses and counts of the present step, then the account."""
    if job.progress is not None:
        yield from ((name, str(value)) for name, value in job.progress.info.items())
    yield from ((name, f"{amount:.15g}") for name, amount in job.accounts.items())
