"""The ASGI app of a deployment.

Anonymous: whoever reaches the service may use it within its limits, so a request forged by another site can do no more
than that site could do itself. `inzitu serve` runs the app; a data centre may mount it wherever ASGI goes.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.routing import APIRoute
from fastapi.staticfiles import StaticFiles

from inzitu.web import artefacts, descriptions, faults, jobs, pages, provenance, tap
from inzitu.web.deployment import open_deployment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fastapi import APIRouter

    from inzitu.manifest import Manifest
    from inzitu.web.deployment import Deployment

_SWEEP_SECONDS = 60.0
_log = logging.getLogger(__name__)


def create_app(manifest: Manifest) -> FastAPI:
    """Return the app of a deployment; its parts are opened when the server starts it."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with open_deployment(manifest, tap.execute) as deployment:
            app.state.deployment = deployment
            sweeper = asyncio.create_task(_sweep(deployment))
            try:
                yield
            finally:
                sweeper.cancel()

    app = FastAPI(
        title=manifest.title, version=metadata.version("inzitu"), lifespan=lifespan, docs_url=None, redoc_url=None
    )
    for router in (
        pages.router,
        jobs.offers,
        jobs.router,
        jobs.queries,
        tap.router,
        provenance.router,
        artefacts.router,
    ):
        include(app, router)
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"), name="static")
    described = app.openapi
    app.openapi = lambda: descriptions.complete(described())  # type: ignore[method-assign]  # as FastAPI has it done
    faults.install(app)
    # Firefly and Aladin Lite ask from the user's browser; there are no credentials to protect.
    app.add_middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["*"], expose_headers=["Link", "Location"])
    return app


def include(app: FastAPI, router: APIRouter) -> None:
    """Add routes, and HEAD wherever GET is answered, by the same handler; the server leaves out the body."""
    app.include_router(router)
    for route in router.routes:
        if isinstance(route, APIRoute) and "GET" in (route.methods or ()):
            app.add_api_route(route.path, route.endpoint, methods=["HEAD"], include_in_schema=False)


async def _sweep(deployment: Deployment) -> None:
    """Destroy the results of jobs whose time has come, and what deleted jobs left, once a minute."""
    duties = (deployment.jobs.tidy, deployment.jobs.sweep, deployment.tap_jobs.sweep, deployment.recorder.sweep)
    while True:
        for duty in duties:
            try:
                await asyncio.to_thread(duty)
            except Exception:
                # The next minute may be better; the service goes on meanwhile.
                _log.exception("What has expired could not be swept")
        await asyncio.sleep(_SWEEP_SECONDS)
