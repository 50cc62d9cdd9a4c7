"""A TAP request, made into a query and into an answer: for /tap/sync and for /tap/async alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from inzitu.archive.formats import format_of, read_table
from inzitu.errors import LimitFault, ParameterFault
from inzitu.jobs.job import Result as JobResult
from inzitu.vo import dali
from inzitu.vo.dali import Parameters
from inzitu.vo.outputs import Output, output
from inzitu.vo.votable import field_meanings
from inzitu.web.fetching import fetch

if TYPE_CHECKING:
    from inzitu.jobs.job import Job, Upload
    from inzitu.tables.query import Result
    from inzitu.web.deployment import Deployment

LANGUAGES = ("ADQL", "ADQL-2.0", "ADQL-2.1")


@dataclass(frozen=True, slots=True)
class TapQuery:
    """What a client asks.

    Attributes
    ----------
    adql
        The query.
    output
        How the rows are to be written.
    maxrec
        Rows that are wanted at most; None for the deployment's default.
    """

    adql: str
    output: Output
    maxrec: int | None

    @classmethod
    def of(cls, parameters: Parameters) -> TapQuery:
        """Read the parameters of a request (TAP 1.1, section 2.7).

        Raises
        ------
        ParameterFault
            One is missing or asks for what is not offered.
        """
        request = parameters.one("REQUEST", "doQuery") or ""
        if request.lower() != "doquery":
            raise ParameterFault(f"REQUEST={request} is not offered; doQuery is, and may be left out.")
        language = parameters.one("LANG", "ADQL") or ""
        if language.upper() not in LANGUAGES:
            raise ParameterFault(f"LANG={language} is not offered; take one of {', '.join(LANGUAGES)}.")
        query = parameters.one("QUERY")
        if query is None:
            raise ParameterFault("QUERY is missing: the query, in ADQL.")
        form = output(dali.response_format(parameters))
        return cls(query, form, parameters.integer("MAXREC", at_least=0))

    def result(
        self, deployment: Deployment, uploads: Mapping[str, pa.Table], *, seconds: float | None = None
    ) -> Result:
        """Return the rows of the query on a deployment's tables."""
        return deployment.queries.query(self.adql, maxrec=self.maxrec, uploads=uploads, seconds=seconds)

    def written(self, result: Result) -> Iterator[bytes]:
        """Yield the answer, piece by piece; the query ends when it does, or when nobody wants more."""
        try:
            yield from self.output.write(result, [("QUERY", self.adql, None)])
        finally:
            result.close()


def read_uploads(deployment: Deployment, uploads: Sequence[Upload], folder: Path) -> dict[str, pa.Table]:
    """Return the tables that a request brings or points to.

    Parameters
    ----------
    deployment
        Its limits hold, and its state folder has the files that were sent.
    uploads
        The tables.
    folder
        Where tables go that are fetched from an address.

    Raises
    ------
    TableFault
        A table cannot be read.
    LimitFault
        It has too many rows, or too many bytes.
    """
    limits = deployment.manifest.limits
    tables = {}
    for i, upload in enumerate(uploads):
        if upload.path:
            path = deployment.manifest.state / upload.path
        else:
            path = fetch(upload.uri, folder / f"fetched-{i}", most_bytes=limits.upload_bytes)
        table = _with_meanings(read_table(path), path)
        if table.num_rows > limits.rows:
            raise LimitFault(f"The table {upload.name} has {table.num_rows} rows; {limits.rows} are allowed here.")
        tables[upload.name] = table
    return tables


def _with_meanings(table: pa.Table, path: Path) -> pa.Table:
    """Return a table with all that its VOTable says of its columns, xtypes and utypes among it."""
    if format_of(path) != "votable":
        return table
    said = field_meanings(path)
    if len(said) != table.num_columns:
        return table
    fields = [field.with_metadata((field.metadata or {}) | said[i]) for i, field in enumerate(table.schema)]
    return table.cast(pa.schema(fields))


def execute(
    deployment: Deployment, job: Job, on_interrupt: Callable[[Callable[[], None]], None]
) -> Sequence[JobResult]:
    """Do an asynchronous query and return its one result, a file below the deployment's state folder.

    Parameters
    ----------
    deployment
        Where it runs.
    job
        Its parameters and uploads.
    on_interrupt
        Is told what interrupts the query.
    """
    query = TapQuery.of(Parameters(job.parameters))
    state = deployment.manifest.state
    folder = state / "results" / job.id
    folder.mkdir(parents=True, exist_ok=True)
    uploads = read_uploads(deployment, job.uploads, state / "uploads" / job.id)
    result = query.result(deployment, uploads, seconds=job.execution_seconds)
    on_interrupt(result.interrupt)
    path = folder / f"result.{query.output.suffix}"
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        for piece in query.written(result):
            file.write(piece)
    size = partial.stat().st_size
    partial.rename(path)
    reference = str(path.relative_to(state))
    return [JobResult(id="result", reference=reference, media_type=query.output.media_type, size=size)]
