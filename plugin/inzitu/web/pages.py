"""The pages: what the deployment offers, a job, a table. For whoever has a browser and no VO client."""

from __future__ import annotations

import asyncio
import os
import shutil
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.concurrency import run_in_threadpool

from inzitu import pipelines
from inzitu.errors import Fault, GoneFault, NotFoundFault, UserFault
from inzitu.jobs.costs import compared
from inzitu.jobs.job import Filters, Upload
from inzitu.jobs.phases import Phase
from inzitu.jobs.store import new_id
from inzitu.vo.dali import Parameters
from inzitu.web.deployment import Deployment, deployment_of
from inzitu.web.forms import Form, read_form
from inzitu.web.rendering import render

router = APIRouter(tags=["pages"], include_in_schema=False, default_response_class=HTMLResponse)

_RECENT = 20
_ROWS = 100
_LINES = 200


@router.get("/")
def front(request: Request) -> Response:
    """Show what the deployment offers."""
    deployment = deployment_of(request)
    here, lacking = pipelines.offered(deployment.manifest)
    return render(
        request,
        "front.html",
        tables=[table for table in deployment.queries.tables() if table.schema.upper() != "TAP_SCHEMA"],
        pipelines=here,
        lacking=[pipeline.name for pipeline in lacking],
        jobs=[deployment.jobs.get(entry.id) for entry in deployment.jobs.select(Filters(last=_RECENT))],
    )


@router.get("/job/{id}")
def job(request: Request, id: str) -> Response:
    """Show a job."""
    deployment = deployment_of(request)
    state = _state(deployment, id)
    job = state["job"]
    told = compared(job) if "amounts" in (job.estimate or {}) else None
    pipeline = pipelines.pipelines(deployment.manifest.pipelines).get(job.parameter("PIPELINE") or "")
    return render(request, "job.html", told=told, fault=None, pipeline=pipeline, **state)


@router.get("/job/{id}/state")
def state(request: Request, id: str) -> Response:
    """Return the part of a job's page that changes."""
    return render(request, "state.html", **_state(deployment_of(request), id))


@router.post("/job")
async def create(request: Request) -> Response:
    """Create a job from a form of the pages and show it."""
    deployment, id = deployment_of(request), new_id()
    manifest = deployment.manifest
    folder = deployment.jobs.uploads_folder(id)
    try:
        form = _with_uploads(await read_form(request, folder, file_bytes=manifest.limits.upload_bytes))
        sent = form.uploads(manifest.state)
        kept = await asyncio.to_thread(_kept, deployment, form, folder)
        parameters = [*form.parameters.without("FROM"), *(("UPLOAD", f"{table.name},{table.uri}") for table in kept)]
        await run_in_threadpool(deployment.jobs.create, parameters, [*sent, *kept], id=id)
    except BaseException:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        raise
    return RedirectResponse(f"{request.base_url}job/{id}", 303)


@router.get("/job/{id}/estimate")
def estimate(request: Request, id: str) -> Response:
    """Return the part of a job's page that says what it will take, or why it cannot run."""
    jobs = deployment_of(request).jobs
    try:
        job, fault = jobs.estimate(id), None
    except Fault as raised:
        job, fault = jobs.get(id), raised
    page = render(request, "estimate.html", job=job, told=None if fault else compared(job), fault=fault)
    if job.failure is not None:  # the whole page is another by now, and htmx loads it
        page.headers["HX-Refresh"] = "true"
    return page


@router.post("/job/{id}/run")
def run(request: Request, id: str) -> Response:
    """Queue a job that was asked first and show it."""
    deployment_of(request).jobs.run(id)
    return RedirectResponse(f"{request.base_url}job/{id}", 303)


@router.post("/job/{id}/abort")
def abort(request: Request, id: str) -> Response:
    """Abort a job and show it."""
    deployment_of(request).jobs.abort(id)
    return RedirectResponse(f"{request.base_url}job/{id}", 303)


@router.get("/table/{name}")
def table(request: Request, name: str) -> Response:
    """Show a table, and the first rows of a query."""
    deployment = deployment_of(request)
    found = next((t for t in deployment.queries.tables() if t.full_name.lower() == name.lower()), None)
    if found is None:
        raise NotFoundFault(f"There is no table {name}; / lists those there are.")
    asked = Parameters(request.query_params.multi_items()).one("QUERY")
    query = asked or f"SELECT TOP 20 * FROM {found.full_name}"
    try:
        answer, fault = _ask(deployment, query) if asked else None, None
    except UserFault as error:
        answer, fault = None, error
    made = next((t for t in deployment.published.tables() if f"predictions.{t.name}" == found.full_name), None)
    return render(request, "table.html", table=found, made=made, query=query, answer=answer, fault=fault)


@dataclass(frozen=True, slots=True)
class _Answer:
    """The first rows of a query."""

    names: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    more: bool


def _ask(deployment: Deployment, query: str) -> _Answer:
    result = deployment.queries.query(query, maxrec=_ROWS)
    rows = [tuple(row.values()) for batch in result for row in batch.to_pylist()]
    return _Answer(tuple(field.name for field in result.fields), list(islice(rows, _ROWS)), result.overflow)


def _state(deployment: Deployment, id: str) -> dict[str, Any]:
    job = deployment.jobs.get(id)
    return {
        "job": job,
        "queued": deployment.jobs.store.position(id) if job.phase is Phase.QUEUED else None,
        "lines": deployment.jobs.lines(id)[-_LINES:],
        "table": _published(deployment, id),
    }


def _published(deployment: Deployment, id: str) -> str | None:
    """Return the full name of a job's table, if it stands."""
    return next((f"predictions.{table.name}" for table in deployment.published.tables() if table.job == id), None)


def _kept(deployment: Deployment, form: Form, folder: Path) -> list[Upload]:
    """Return the tables that a form does not bring because the job that it was filled in from had them."""
    id = form.parameters.one("FROM")
    if id is None:
        return []
    state, kept = deployment.manifest.state, []
    for upload in deployment.jobs.get(id).uploads:
        if upload.name in form.files or not upload.path:
            continue
        if not (state / upload.path).is_file():
            raise GoneFault(f"The file {upload.name} of job {id} was destroyed; choose it again.")
        (own := folder / "kept" / upload.name).mkdir(parents=True)
        os.link(state / upload.path, own / Path(upload.path).name)
        kept.append(replace(upload, path=str((own / Path(upload.path).name).relative_to(state))))
    return kept


def _with_uploads(form: Form) -> Form:
    """Return a browser's form as a client of the protocol would have sent it.

    A file is the table of its field's name; a field without a file arrives as an empty one.
    """
    files = {name: part for name, part in form.files.items() if part.size}
    named = [("UPLOAD", f"{name},param:{name}") for name in files]
    filled = [(name, value) for name, value in form.parameters if value]
    return Form(Parameters([*filled, *named]), files)
