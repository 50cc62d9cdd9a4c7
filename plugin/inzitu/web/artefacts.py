"""Artefacts and models by HTTP: ``/artefacts`` and ``/models``.

An artefact never changes, so its identifier is its ETag and it may be cached for ever. Each answer says where its
record is (PROV-AQ, section 3.1).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from inzitu.errors import GoneFault, NotFoundFault, ParameterFault
from inzitu.prov.documents import document
from inzitu.prov.facts import DIGEST
from inzitu.prov.formats import format_of, write
from inzitu.prov.history import UnrecordedError
from inzitu.prov.lineage import lineage
from inzitu.prov.names import identifier_of
from inzitu.vo.dali import Parameters, response_format, written
from inzitu.web.descriptions import fault
from inzitu.web.results import HAS_PROVENANCE, CountedFile
from inzitu.web.zips import zip_pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from inzitu.prov.facts import Artefact
    from inzitu.web.deployment import Deployment

_SHOWN = ("text/plain", "application/json", "image/png")
"""What a browser may show; all else it is to save, as it came from users and could be a page with a script."""

_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The content.", "content": {"*/*": {}}},
    304: {"description": "It has not changed: artefacts never do."},
    400: fault("The request cannot be served as it stands."),
    404: fault("There is no such artefact."),
    410: fault("The artefact was destroyed; its record remains."),
}
_PARTS: dict[int | str, dict[str, Any]] = {
    206: {"description": "The part of the file that was asked for.", "content": {"*/*": {}}},
    416: fault("The file has no such part."),
}
_FORMAT = {
    "name": "FORMAT",
    "in": "query",
    "required": False,
    "schema": {"type": "string", "enum": ["json", "zip"]},
    "description": "A folder as a list of its files, or whole.",
}

router = APIRouter(tags=["artefacts"])


@router.get(
    "/artefacts/{id}",
    response_class=Response,
    responses=_RESPONSES | _PARTS,
    openapi_extra={"parameters": [_FORMAT]},
)
async def artefact(request: Request, id: str) -> Response:
    """Return a file; or a folder, as a list of its files or as a zip file."""
    return await asyncio.to_thread(_artefact, request, id)


@router.get("/artefacts/{id}/{name:path}", response_class=Response, responses=_RESPONSES | _PARTS)
async def member(request: Request, id: str, name: str) -> Response:
    """Return a file of a folder."""
    return await asyncio.to_thread(_member, request, id, name)


@router.get("/models", responses={200: {"description": "The models, the latest first."}})
async def models(request: Request) -> JSONResponse:
    """List the models whose bundles are there."""
    return JSONResponse(await asyncio.to_thread(_models, request))


@router.get("/models/{id}", response_class=Response, responses=_RESPONSES)
async def model(request: Request, id: str) -> Response:
    """Return a model's bundle, with its provenance, as a zip file."""
    return await asyncio.to_thread(_model, request, id)


def _artefact(request: Request, id: str) -> Response:
    deployment: Deployment = request.app.state.deployment
    artefact, path = _find(deployment, id)
    if path.is_file():
        name = artefact.name
        return _file(request, artefact, path, name=name, media_type=artefact.media_type, tag=artefact.id)
    given = Parameters(request.query_params.multi_items())
    match (response_format(given) or "json").lower():
        case "zip" | "application/zip":
            return _zip(request, artefact, _files(deployment, artefact, path), tag=f"{artefact.id}.zip")
        case "json" | "application/json":
            return JSONResponse(_listing(request, artefact), headers=_headers(request, artefact, f"{artefact.id}.json"))
        case other:
            raise ParameterFault(f"FORMAT={other} is not known for a folder; it is json or zip.")


def _member(request: Request, id: str, name: str) -> Response:
    deployment: Deployment = request.app.state.deployment
    artefact, _ = _find(deployment, id)
    try:
        path = deployment.store.member(artefact.id, name)
    except FileNotFoundError as error:
        raise NotFoundFault(f"{error} /artefacts/{artefact.id} lists its files.") from error
    tag = hashlib.sha256(f"{artefact.id}/{name}".encode()).hexdigest()
    return _file(request, artefact, path, name=path.name, media_type="application/octet-stream", tag=tag)


def _models(request: Request) -> list[dict[str, Any]]:
    deployment: Deployment = request.app.state.deployment
    found = [model for model in deployment.recorder.of_kind("model") if deployment.store.contains(model.id)]
    return [
        {
            "id": model.id,
            "name": model.name,
            "created": written(deployment.recorder.created(model.id)),
            "bytes": model.size,
            "href": f"{_base(request)}/models/{model.id}",
            "provenance": _provenance(request, model.id),
            "about": _about(deployment.store.path(model.id)),
        }
        for model in found
    ]


def _about(bundle: Path) -> Any:
    """Return what a bundle says of itself, or nothing if it says nothing."""
    try:
        return json.loads((bundle / "model.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _model(request: Request, id: str) -> Response:
    deployment: Deployment = request.app.state.deployment
    artefact, path = _find(deployment, id)
    if artefact.kind != "model":
        raise NotFoundFault(f"{artefact.id} is no model but a {artefact.kind}; /models lists the models.")
    record = document(lineage(deployment.recorder, artefact.id), base=str(request.base_url))
    entries: dict[str, Path | bytes] = {**_files(deployment, artefact, path)}
    entries["provenance.json"] = write(record, format_of("PROV-JSON"))
    return _zip(request, artefact, entries, tag=None)


def _files(deployment: Deployment, artefact: Artefact, path: Path) -> dict[str, Path]:
    """Return the files that an artefact consists of by their names."""
    if path.is_file():
        return {artefact.name: path}
    return {name: path / name for name in deployment.store.files(artefact.id)}


def _find(deployment: Deployment, id: str) -> tuple[Artefact, Path]:
    """Return an artefact and where it is, by its identifier or its name in a PROV document."""
    id = identifier_of(id)
    if not DIGEST.fullmatch(id):
        raise NotFoundFault(f"{id!r} is no artefact's identifier: that has 64 lower-case hexadecimal digits.")
    try:
        artefact = deployment.recorder.artefact(id)
    except UnrecordedError as error:
        raise NotFoundFault(f"There is no artefact {id}; the results of a job name its artefacts.") from error
    if destroyed := deployment.recorder.destroyed(id).get(id):
        raise GoneFault(
            f"{artefact.name} was destroyed on {destroyed:%Y-%m-%d}; its record is still at /provenance?ID={id}, "
            "and an equal job makes it again."
        )
    try:
        return artefact, deployment.store.path(id)
    except FileNotFoundError as error:
        raise GoneFault(f"{error} It is recorded, so it was lost; an equal job makes it again.") from error


def _file(request: Request, artefact: Artefact, path: Path, *, name: str, media_type: str, tag: str) -> Response:
    shown = media_type.partition(";")[0] in _SHOWN
    headers = _headers(request, artefact, tag) | {"content-disposition": _disposition(name, inline=shown)}
    if _known(request, tag):
        return Response(status_code=304, headers=headers)
    return CountedFile(path, _sent(request, artefact), media_type=media_type, headers=headers)


def _zip(request: Request, artefact: Artefact, entries: Mapping[str, Path | bytes], *, tag: str | None) -> Response:
    name = f"{artefact.kind}-{artefact.id[:12]}.zip"
    headers = _headers(request, artefact, tag) | {"content-disposition": _disposition(name, inline=False)}
    if tag is not None and _known(request, tag):
        return Response(status_code=304, headers=headers)
    if request.method == "HEAD":
        return Response(media_type="application/zip", headers=headers)
    pieces = _counted(zip_pieces(entries.items()), _sent(request, artefact))
    return StreamingResponse(pieces, media_type="application/zip", headers=headers)


def _counted(pieces: Iterator[bytes], sent: Callable[[int], None]) -> Iterator[bytes]:
    size = 0
    try:
        for piece in pieces:
            yield piece
            size += len(piece)
    finally:
        sent(size)


def _sent(request: Request, artefact: Artefact) -> Callable[[int], None]:
    """Return what adds bytes to the account of the job that made the artefact; of several, JOB says which."""
    deployment: Deployment = request.app.state.deployment
    makers = deployment.recorder.makers(artefact.id)
    jobs = {job for activity in makers for job in deployment.recorder.jobs(activity.id)}
    asked = Parameters(request.query_params.multi_items()).one("JOB")
    chosen = jobs & {asked} if asked else jobs
    if len(chosen) != 1:
        return lambda size: None
    (job,) = chosen
    return lambda size: deployment.jobs.store.sent(job, size)


def _listing(request: Request, artefact: Artefact) -> dict[str, Any]:
    deployment: Deployment = request.app.state.deployment
    address = f"{_base(request)}/artefacts/{artefact.id}"
    files = deployment.store.files(artefact.id)
    return {
        "id": artefact.id,
        "kind": artefact.kind,
        "name": artefact.name,
        "bytes": artefact.size,
        "files": [
            {"path": name, "bytes": size, "href": f"{address}/{quote(name, safe='/')}"} for name, size in files.items()
        ],
        "zip": f"{address}?FORMAT=zip",
        "provenance": _provenance(request, artefact.id),
    }


def _headers(request: Request, artefact: Artefact, tag: str | None) -> dict[str, str]:
    headers = {
        "link": f'<{_provenance(request, artefact.id)}>; rel="{HAS_PROVENANCE}"; '
        f'anchor="{_base(request)}/artefacts/{artefact.id}"',
        "x-content-type-options": "nosniff",
        "content-security-policy": "default-src 'none'; sandbox",
    }
    if tag is not None:
        headers |= {"etag": f'"{tag}"', "cache-control": "public, max-age=31536000, immutable"}
    return headers


def _known(request: Request, tag: str) -> bool:
    """Return whether the client has the content already (RFC 9110, section 13.1.2)."""
    tags = [item.strip().removeprefix("W/") for item in request.headers.get("if-none-match", "").split(",")]
    return f'"{tag}"' in tags or "*" in tags


def _disposition(name: str, *, inline: bool) -> str:
    plain = quote(name, safe=" ()[],+@=") == name
    filename = f'filename="{name}"' if plain else f"filename*=utf-8''{quote(name, safe='')}"
    return f"{'inline' if inline else 'attachment'}; {filename}"


def _provenance(request: Request, id: str) -> str:
    return f"{_base(request)}/provenance?ID={id}"


def _base(request: Request) -> str:
    return str(request.base_url).rstrip("/")
