"""TAP by HTTP: queries at once, and the documents that describe the service. See `inzitu.web.jobs` for /tap/async."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from inzitu.errors import NotFoundFault, ParameterFault
from inzitu.jobs.store import new_id
from inzitu.tables import tap_schema
from inzitu.tables.adql import geometry
from inzitu.tables.adql.functions import USER_FUNCTIONS
from inzitu.tables.holdings import Table
from inzitu.vo import tap, vosi
from inzitu.vo.dali import Parameters
from inzitu.web.deployment import Deployment, deployment_of
from inzitu.web.forms import read_form
from inzitu.web.queries import TapQuery, execute, read_uploads

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["execute", "router"]

router = APIRouter(prefix="/tap", tags=["tap"])

OPTIONAL = {
    "adqlgeo": (*geometry.CONSTRUCTORS, *geometry.PREDICATES, *geometry.MEASURES),
    "adql-string": ("LOWER", "UPPER", "ILIKE"),
    "adql-sets": ("UNION", "EXCEPT", "INTERSECT"),
    "adql-common-table": ("WITH",),
    "adql-type": ("CAST",),
    "adql-unit": ("IN_UNIT",),
    "adql-offset": ("OFFSET",),
}
"""The optional groups of ADQL 2.1 and what is offered of each; COALESCE is among the functions."""

_OWN = [(function.form, function.description) for function in USER_FUNCTIONS.values()]
_COALESCE = (
    "COALESCE(value ANY, other ANY) -> ANY",
    "The first of the values that is not null; any number of them.",
)
"""ADQL 2.1's group adql-conditional. Validators of before its recommendation count that key as an error, and their
clients refuse the function; as a function of ours both know it."""


@router.get("/sync", operation_id="tap-sync-get", response_class=Response)
@router.post("/sync", operation_id="tap-sync-post", response_class=Response)
async def sync(request: Request) -> Response:
    """Answer a query at once."""
    deployment = deployment_of(request)
    folder = deployment.manifest.state / "uploads" / f"sync-{new_id()}"
    try:
        form = await read_form(request, folder, file_bytes=deployment.manifest.limits.upload_bytes)
        query = TapQuery.of(form.parameters)
        uploads = form.uploads(deployment.manifest.state)
        pieces = await run_in_threadpool(_begun, deployment, query, uploads, folder)
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    return StreamingResponse(pieces, media_type=query.output.media_type, headers=_disposition(query))


def _begun(deployment: Deployment, query: TapQuery, uploads: Any, folder: Any) -> Iterator[bytes]:
    """Compute the first rows of a query, so that what is wrong with it is known before the answer begins."""
    tables = read_uploads(deployment, uploads, folder)
    result = query.result(deployment, tables)
    try:
        result.begin()
    except BaseException:
        result.close()
        raise
    pieces = query.written(result)
    return _chained(next(pieces), pieces)


def _chained(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _disposition(query: TapQuery) -> dict[str, str]:
    return {"content-disposition": f'inline; filename="result.{query.output.suffix}"'}


@router.get("/capabilities", operation_id="tap-capabilities", response_class=Response)
async def capabilities(request: Request) -> Response:
    """Say what the service offers and allows."""
    limits = deployment_of(request).manifest.limits
    days = limits.destruction_days * 86_400
    described = tap.TapLimits(
        rows=(limits.maxrec, limits.maxrec_hard),
        upload_bytes=limits.upload_bytes,
        execution_seconds=(limits.execution_seconds, limits.execution_seconds),
        retention_seconds=(days, days),
    )
    base = f"{str(request.base_url).rstrip('/')}/tap"
    return _xml(tap.capabilities(base, limits=described, functions=[*_OWN, _COALESCE], optional=OPTIONAL))


@router.get("/availability", operation_id="tap-availability", response_class=Response)
async def availability(request: Request) -> Response:
    """Say whether the service is up."""
    return _xml(vosi.availability(up_since=deployment_of(request).started))


@router.get("/tables", operation_id="tap-tables", response_class=Response)
async def tables(request: Request) -> Response:
    """Describe all tables."""
    detail = (Parameters(request.query_params.multi_items()).one("DETAIL") or "max").lower()
    if detail not in ("min", "max"):
        raise ParameterFault(f"DETAIL={detail} is not offered; min leaves the columns out, max gives them.")
    found = await asyncio.to_thread(deployment_of(request).queries.tables)
    return _xml(tap.tables([_described(table) for table in found], tap_schema.SCHEMAS, detail=detail == "max"))


@router.get("/tables/{name}", operation_id="tap-table", response_class=Response)
async def table(request: Request, name: str) -> Response:
    """Describe one table."""
    for found in await asyncio.to_thread(deployment_of(request).queries.tables):
        if tap_schema.written(found).lower() == name.lower():
            return _xml(tap.table(_described(found)))
    raise NotFoundFault(f"There is no table {name}; /tap/tables describes those that there are.")


@router.get("/examples", operation_id="tap-examples", response_class=Response)
async def examples(request: Request) -> Response:
    """Give queries to begin with."""
    found = await asyncio.to_thread(deployment_of(request).queries.tables)
    return Response(tap.examples(_examples(found)), media_type="application/xhtml+xml")


def _examples(tables: list[Table]) -> list[tuple[str, str, str, str]]:
    """Return examples that run as they stand on the tables that there are."""
    listed = "SELECT table_name, description FROM tap_schema.tables"
    found = [("tables", "The tables", listed, "What can be queried here.")]
    for table in tables:
        if table.position is not None:
            ra, dec = table.position
            cone = (
                f"SELECT TOP 10 * FROM {tap_schema.written(table)} "
                f"WHERE 1 = CONTAINS(POINT('ICRS', {ra}, {dec}), CIRCLE('ICRS', 150.1, 2.2, 5))"
            )
            found.append((f"cone-{table.name}", f"A cone in {table.name}", cone, "Sources within 5 degrees."))
        if {"weights", "means", "sigmas"} <= {column.name for column in table.columns}:
            high = (
                f"SELECT TOP 10 source_id, ra, dec, pz_quantile(weights, means, sigmas, 0.5) AS z_median "
                f"FROM {tap_schema.written(table)} WHERE pz_prob(weights, means, sigmas, 3, 4) > 0.9"
            )
            text = "Sources whose redshift lies between 3 and 4 with a probability above 0.9."
            found.append((f"pdf-{table.name}", f"Redshift PDFs in {table.name}", high, text))
    return found


def _described(table: Table) -> tap.DescribedTable:
    columns = tuple(
        tap.DescribedColumn(tap_schema.column_written(column), column.field, ("indexed",) if column.indexed else ())
        for column in table.shown
    )
    keys = tuple(
        (target, column, tap_schema.target_column(column), description)
        for _, origin, target, column, description in tap_schema.KEYS
        if origin == table.full_name
    )
    return tap.DescribedTable(table.schema, tap_schema.written(table), table.description, table.count, columns, keys)


def _xml(content: bytes) -> Response:
    return Response(content, media_type="text/xml")
