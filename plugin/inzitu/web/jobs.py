"""The two job lists, ``/jobs`` for the pipelines and ``/tap/async`` for queries, and what the pipelines are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from inzitu import pipelines
from inzitu.errors import Fault, ServiceFault
from inzitu.web import faults, uws
from inzitu.web.deployment import deployment_of

if TYPE_CHECKING:
    from fastapi import Response

    from inzitu.jobs.job import Job


def _failed(job: Job) -> Fault:
    return faults.fault_of(job.failure) if job.failure else ServiceFault("No error.")


def _text(job: Job) -> Response:
    return faults.text(_failed(job), status=200)


def _votable(job: Job) -> Response:
    return faults.votable(_failed(job), status=200)


router = uws.router("/jobs", lambda deployment: deployment.jobs, error=_text, tag="jobs", examined=True)
queries = uws.router("/tap/async", lambda deployment: deployment.tap_jobs, error=_votable, tag="tap-async")
offers = APIRouter(tags=["jobs"])


@offers.get("/pipelines")
def list_pipelines(request: Request) -> JSONResponse:
    """List what can be asked for: each pipeline's files and parameters."""
    here, _ = pipelines.offered(deployment_of(request).manifest)
    return JSONResponse([pipelines.offer(pipeline) for pipeline in here])
