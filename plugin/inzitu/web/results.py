"""A result of a job as an HTTP answer, its bytes counted for the job's account."""

from __future__ import annotations

import asyncio
import mimetypes
from typing import TYPE_CHECKING

from fastapi.responses import FileResponse, RedirectResponse

from inzitu.errors import GoneFault, NotFoundFault
from inzitu.jobs.phases import Phase

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from starlette.responses import Response
    from starlette.types import Message, Receive, Scope, Send

    from inzitu.jobs.job import Job, Result
    from inzitu.web.deployment import Deployment

HAS_PROVENANCE = "http://www.w3.org/ns/prov#has_provenance"


class CountedFile(FileResponse):
    """A file whose bytes are counted when they have been sent, also where the client hangs up half-way."""

    def __init__(self, path: Path, sent: Callable[[int], None], *, media_type: str, headers: dict[str, str]) -> None:
        super().__init__(path, media_type=media_type, headers=headers)
        self._sent = sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file."""
        size = 0

        async def counting(message: Message) -> None:
            nonlocal size
            await send(message)
            size += len(message.get("body", b""))

        try:
            await super().__call__(scope, receive, counting)
        finally:
            await asyncio.to_thread(self._sent, size)


def respond(deployment: Deployment, job: Job, name: str, base: str) -> Response:
    """Return the answer that brings a job's result; `base` is the server's address, for links.

    Raises
    ------
    NotFoundFault
        The job has no such result.
    GoneFault
        It had.
    """
    result = next((result for result in job.results if result.id == name), None)
    if result is None:
        there = ", ".join(result.id for result in job.results) or f"none, as it is {job.phase}"
        raise NotFoundFault(f"Job {job.id} has no result {name}; it has {there}.")
    base = base.rstrip("/")
    if result.reference.startswith("/"):
        return RedirectResponse(base + result.reference, 303)
    if job.phase is Phase.ARCHIVED:
        raise _gone(job, result)
    if "/" in result.reference:
        return _file(deployment, job, result, deployment.manifest.state / result.reference, {})
    return _artefact(deployment, job, result, base)


def _artefact(deployment: Deployment, job: Job, result: Result, base: str) -> Response:
    link = {"link": f'<{base}/provenance?ID={result.reference}>; rel="{HAS_PROVENANCE}"'}
    try:
        path = deployment.store.path(result.reference)
    except FileNotFoundError as error:
        raise _gone(job, result) from error
    if path.is_dir():
        return RedirectResponse(f"{base}/artefacts/{result.reference}?FORMAT=zip", 303, headers=link)
    return _file(deployment, job, result, path, link)


def _file(deployment: Deployment, job: Job, result: Result, path: Path, headers: dict[str, str]) -> Response:
    if not path.is_file():
        raise _gone(job, result)
    suffix = _SUFFIXES.get(result.media_type) or mimetypes.guess_extension(result.media_type.partition(";")[0]) or ""
    shown = "inline" if result.media_type.partition(";")[0] in _SHOWN else "attachment"
    disposition = {
        "content-disposition": f'{shown}; filename="{result.id}{suffix}"',
        "x-content-type-options": "nosniff",
    }
    sent = deployment.jobs.store.sent
    return CountedFile(
        path, lambda size: sent(job.id, size), media_type=result.media_type, headers=disposition | headers
    )


_SHOWN = frozenset({"text/plain", "application/json", "image/png", "application/x-votable+xml"})
"""What a browser may show; it saves the rest, which comes from users and could be a page with a script."""

_SUFFIXES = {"application/vnd.apache.parquet": ".parquet", "application/x-votable+xml": ".vot"}


def _gone(job: Job, result: Result) -> GoneFault:
    return GoneFault(
        f"The result {result.id} of job {job.id} was destroyed after {job.destruction:%Y-%m-%d}; "
        "its record is still at /provenance, and an equal job makes it again."
    )
