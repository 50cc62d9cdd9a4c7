"""UWS 1.1 by HTTP: one set of routes for ``/jobs`` and for ``/tap/async``.

What may be asked of a job is in `inzitu.jobs.service`, the documents are in `inzitu.vo.uws`, the text of the
descriptions for ``/openapi.json`` in `inzitu.web.descriptions`.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse
from starlette.concurrency import run_in_threadpool

from inzitu.errors import NotFoundFault, ParameterFault, UserFault
from inzitu.jobs.costs import compared
from inzitu.jobs.job import Filters, Job, Upload
from inzitu.jobs.phases import Phase
from inzitu.jobs.store import new_id
from inzitu.vo import dali, uws
from inzitu.vo.dali import Parameters
from inzitu.web import descriptions, documents
from inzitu.web.deployment import deployment_of
from inzitu.web.drawing import draw_estimate
from inzitu.web.forms import Form, read_form
from inzitu.web.results import respond

if TYPE_CHECKING:
    from pydantic_xml import BaseXmlModel

    from inzitu.jobs.service import JobService
    from inzitu.web.deployment import Deployment

type ServiceOf = Callable[[Deployment], JobService]
type ErrorDocument = Callable[[Job], Response]


def router(prefix: str, service_of: ServiceOf, *, error: ErrorDocument, tag: str, examined: bool = False) -> APIRouter:
    """Return the routes of a job list.

    Parameters
    ----------
    prefix
        Where the list is: ``/jobs``.
    service_of
        Chooses the service of a deployment.
    error
        Says why a job failed, in the form of the service.
    tag
        The heading in ``/openapi.json``.
    examined
        Whether its jobs can be asked what they will find and take.
    """
    routes = _Routes(prefix, service_of, error)
    router = APIRouter(prefix=prefix, tags=[tag])
    for method, path, name in (*_PATHS, *(_ESTIMATE if examined else ())):
        router.add_api_route(
            path,
            getattr(routes, name),
            methods=[method],
            operation_id=f"{tag}-{name}".replace("_", "-"),
            response_class=Response,
            **descriptions.of(name),
        )
    return router


_PATHS = (
    ("GET", "", "list_jobs"),
    ("POST", "", "create"),
    ("GET", "/{id}", "job"),
    ("POST", "/{id}", "act"),
    ("DELETE", "/{id}", "delete"),
    ("GET", "/{id}/phase", "phase"),
    ("POST", "/{id}/phase", "set_phase"),
    ("GET", "/{id}/executionduration", "execution_duration"),
    ("POST", "/{id}/executionduration", "set_execution_duration"),
    ("GET", "/{id}/destruction", "destruction"),
    ("POST", "/{id}/destruction", "set_destruction"),
    ("GET", "/{id}/quote", "quote"),
    ("GET", "/{id}/error", "error"),
    ("GET", "/{id}/parameters", "parameters"),
    ("POST", "/{id}/parameters", "set_parameters"),
    ("GET", "/{id}/results", "results"),
    ("GET", "/{id}/results/{result}", "result"),
    ("GET", "/{id}/owner", "owner"),
    ("GET", "/{id}/log", "log"),
)
_ESTIMATE = (("GET", "/{id}/estimate", "estimate"), ("GET", "/{id}/estimate.png", "estimate_picture"))


class _Routes:
    """The handlers of one job list.

    They work in the pool of `asyncio.to_thread`, so that a poll never queues behind long queries and the examination of
    jobs, which use that of `run_in_threadpool`.
    """

    def __init__(self, prefix: str, service_of: ServiceOf, error: ErrorDocument) -> None:
        self._prefix = prefix
        self._service_of = service_of
        self._error = error

    async def list_jobs(self, request: Request) -> Response:
        """List the jobs, the latest first."""
        given = Parameters(request.query_params.multi_items())
        filters = Filters(
            phases=frozenset(_phase(value) for value in given.all("PHASE")),
            after=given.moment("AFTER"),
            last=given.integer("LAST", at_least=1),
        )
        entries = await asyncio.to_thread(self._service(request).select, filters)
        return _xml(documents.job_list(entries, self._url(request)))

    async def create(self, request: Request) -> Response:
        """Create a job; with PHASE=RUN it is queued at once."""
        service, id = self._service(request), new_id()
        folder = service.uploads_folder(id)
        try:
            form, uploads = await self._form(request, id)
            await run_in_threadpool(service.create, form.parameters, uploads, id=id)
        except BaseException:
            if not await asyncio.to_thread(service.store.exists, id):
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
            raise
        return self._see(request, id)

    async def job(self, request: Request, id: str) -> Response:
        """Return the document of a job; with WAIT, when its phase has changed."""
        given, service = Parameters(request.query_params.multi_items()), self._service(request)
        seen = given.one("PHASE")
        job = await service.wait(id, seconds=given.integer("WAIT"), phase=_phase(seen) if seen else None)
        queued = await asyncio.to_thread(service.store.position, id) if job.phase is Phase.QUEUED else None
        return _xml(documents.job(job, self._url(request, id), queued=queued))

    async def act(self, request: Request, id: str) -> Response:
        """Delete a job by ACTION=DELETE, for clients that have no DELETE."""
        action = (await self._parameters(request)).one("ACTION")
        if action != "DELETE":
            raise ParameterFault(f"ACTION={action} cannot be done with a job; ACTION=DELETE can.")
        return await self.delete(request, id)

    async def delete(self, request: Request, id: str) -> Response:
        """Delete a job and its results; work on it stops."""
        await asyncio.to_thread(self._service(request).delete, id)
        return RedirectResponse(self._url(request), 303)

    async def phase(self, request: Request, id: str) -> Response:
        """Return a job's phase."""
        return PlainTextResponse((await self._job(request, id)).phase)

    async def set_phase(self, request: Request, id: str) -> Response:
        """Queue a job by PHASE=RUN, abort it by PHASE=ABORT."""
        service = self._service(request)
        match (await self._parameters(request)).one("PHASE"):
            case "RUN":
                await run_in_threadpool(service.run, id)
            case "ABORT":
                await asyncio.to_thread(service.abort, id)
            case other:
                raise ParameterFault(f"PHASE={other} cannot be asked of a job; PHASE=RUN and PHASE=ABORT can.")
        return self._see(request, id)

    async def execution_duration(self, request: Request, id: str) -> Response:
        """Return how long a job may run [s]."""
        return PlainTextResponse(str((await self._job(request, id)).execution_seconds))

    async def set_execution_duration(self, request: Request, id: str) -> Response:
        """Set how long a PENDING job may run [s], within the deployment's limit."""
        seconds = (await self._parameters(request)).integer("EXECUTIONDURATION", at_least=0)
        if seconds is None:
            raise ParameterFault("EXECUTIONDURATION is missing: seconds, 0 for as long as allowed.")
        await asyncio.to_thread(self._service(request).set_execution_duration, id, seconds)
        return self._see(request, id)

    async def destruction(self, request: Request, id: str) -> Response:
        """Return when a job's results are destroyed."""
        return PlainTextResponse(dali.written((await self._job(request, id)).destruction))

    async def set_destruction(self, request: Request, id: str) -> Response:
        """Set when a job's results are destroyed, within the deployment's limit."""
        at = (await self._parameters(request)).moment("DESTRUCTION")
        if at is None:
            raise ParameterFault("DESTRUCTION is missing: a moment in UTC, such as 2026-11-21T03:15:00Z.")
        await asyncio.to_thread(self._service(request).set_destruction, id, at)
        return self._see(request, id)

    async def quote(self, request: Request, id: str) -> Response:
        """Return when a job is expected to end, which a PENDING one is examined for; or nothing."""
        job = await self._job(request, id)
        if job.phase is Phase.PENDING:
            with suppress(UserFault):  # of a job that cannot run as it stands, nobody knows
                job = await run_in_threadpool(self._service(request).estimate, id)
        return PlainTextResponse("" if job.quote is None else dali.written(job.quote))

    async def estimate(self, request: Request, id: str) -> Response:
        """Return what a job will find and take, beside what it took."""
        return JSONResponse(compared(await run_in_threadpool(self._service(request).estimate, id)))

    async def estimate_picture(self, request: Request, id: str) -> Response:
        """Return the estimate as a picture."""
        job = await run_in_threadpool(self._service(request).estimate, id)
        return Response(await run_in_threadpool(draw_estimate, compared(job)), media_type="image/png")

    async def error(self, request: Request, id: str) -> Response:
        """Return why a job failed."""
        job = await self._job(request, id)
        if job.failure is None:
            raise NotFoundFault(f"Job {id} has no error; it is {job.phase}.")
        return self._error(job)

    async def parameters(self, request: Request, id: str) -> Response:
        """Return a job's parameters."""
        return _xml(uws.parameter_list((await self._job(request, id)).parameters))

    async def set_parameters(self, request: Request, id: str) -> Response:
        """Set parameters of a PENDING job."""
        await self._job(request, id)  # before a file is written for it
        form, uploads = await self._form(request, id, part=new_id())
        await asyncio.to_thread(self._service(request).add_parameters, id, form.parameters, uploads)
        return self._see(request, id)

    async def results(self, request: Request, id: str) -> Response:
        """List a job's results."""
        return _xml(documents.result_list(await self._job(request, id), self._url(request, id)))

    async def result(self, request: Request, id: str, result: str) -> Response:
        """Return a result of a job, or where it is."""
        job = await self._job(request, id)
        return await asyncio.to_thread(respond, deployment_of(request), job, result, str(request.base_url))

    async def owner(self, request: Request, id: str) -> Response:
        """Return a job's owner: nothing, as the service is anonymous."""
        return PlainTextResponse((await self._job(request, id)).owner or "")

    async def log(self, request: Request, id: str) -> Response:
        """Return a job's log, or its lines after a number."""
        after = Parameters(request.query_params.multi_items()).integer("AFTER", at_least=0) or 0
        lines = await asyncio.to_thread(self._service(request).lines, id, after=after)
        return PlainTextResponse("".join(f"{dali.written(line.at)} {line.line}\n" for line in lines))

    def _service(self, request: Request) -> JobService:
        return self._service_of(deployment_of(request))

    async def _job(self, request: Request, id: str) -> Job:
        return await asyncio.to_thread(self._service(request).get, id)

    async def _form(self, request: Request, id: str, part: str = "") -> tuple[Form, tuple[Upload, ...]]:
        deployment = deployment_of(request)
        folder = self._service(request).uploads_folder(id) / part
        form = await read_form(request, folder, file_bytes=deployment.manifest.limits.upload_bytes)
        return form, form.uploads(deployment.manifest.state)

    async def _parameters(self, request: Request) -> Parameters:
        """Return the parameters of a request that brings no file."""
        nowhere = deployment_of(request).manifest.state / "uploads" / "none"
        return (await read_form(request, nowhere, file_bytes=0)).parameters

    def _url(self, request: Request, id: str = "") -> str:
        base = f"{str(request.base_url).rstrip('/')}{self._prefix}"
        return f"{base}/{id}" if id else base

    def _see(self, request: Request, id: str) -> Response:
        return RedirectResponse(self._url(request, id), 303)


def _phase(text: str) -> Phase:
    try:
        return Phase(text)
    except ValueError:
        raise ParameterFault(f"PHASE={text} is no phase; there are {', '.join(Phase)}.") from None


def _xml(document: BaseXmlModel) -> Response:
    return Response(uws.xml(document), media_type="text/xml")
