"""The two job lists: ``/jobs`` for the pipelines, ``/tap/async`` for queries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inzitu.errors import Fault, ServiceFault
from inzitu.web import faults, uws

if TYPE_CHECKING:
    from fastapi import Response

    from inzitu.jobs.job import Job


def _failed(job: Job) -> Fault:
    return faults.fault_of(job.failure) if job.failure else ServiceFault("No error.")


def _text(job: Job) -> Response:
    return faults.text(_failed(job), status=200)


def _votable(job: Job) -> Response:
    return faults.votable(_failed(job), status=200)


router = uws.router("/jobs", lambda deployment: deployment.jobs, error=_text, tag="jobs")
queries = uws.router("/tap/async", lambda deployment: deployment.tap_jobs, error=_votable, tag="tap-async")
