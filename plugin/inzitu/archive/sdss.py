"""Spectra of SDSS: the SQL that asks for them, SkyServer through astroquery, and what both SkyServer and CasJobs send.

SDSS's images are no part of this: they are HiPS like any other survey's. See `inzitu.archive.casjobs` for CasJobs and
`inzitu.archive.spectra` for how a list is put together.
"""

from __future__ import annotations

import io
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa
import pyarrow.csv
import requests
import sqlglot
from sqlglot import exp

from inzitu.archive.delimited import NULLS
from inzitu.archive.patience import Answer, Patience, patient_session
from inzitu.errors import ArchiveFault, ParameterFault

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from inzitu.manifest import SdssSource
    from inzitu.pipelines.download import DownloadParameters

KEY = "specObjID"
MOST_ROWS = 500_000
"""SkyServer's own limit; it sends no more, and does not say so."""
BANDS = "ugriz"
_COLUMNS = ("specObjID", "ra", "dec", "z", "zErr", "zWarning", "class", "subClass", "survey")
_TEXT = {"specObjID": pa.string(), "class": pa.string(), "subClass": pa.string(), "survey": pa.string()}
"""The identifiers are unsigned numbers of 64 bits, beyond what a signed one holds: they stay text."""


def composed(parameters: DownloadParameters) -> str:
    """Return the SQL for the spectra that the filters ask for, without TOP and order.

    Raises
    ------
    ParameterFault
        A band that SDSS has not.
    """
    if parameters.band not in BANDS:
        raise ParameterFault(f"BAND={parameters.band} is no band of SDSS; it has {', '.join(BANDS)}.")
    columns = [*(f"s.{name}" for name in _COLUMNS), *(f"p.modelMag_{band}" for band in BANDS)]
    conditions = [f"s.z >= {parameters.z_min!r}"]
    if parameters.z_max is not None:
        conditions.append(f"s.z <= {parameters.z_max!r}")
    if parameters.clean:
        conditions.append("s.zWarning = 0")
    if parameters.spectral_class is not None:
        conditions.append(f"s.class = '{parameters.spectral_class.upper()}'")
    magnitude = f"p.modelMag_{parameters.band}"
    conditions += [f"{magnitude} >= {parameters.mag_min!r}"] if parameters.mag_min is not None else []
    conditions += [f"{magnitude} <= {parameters.mag_max!r}"] if parameters.mag_max is not None else []
    if (circle := parameters.area) is not None:
        ra, dec, radius = circle
        conditions.append(f"s.dec BETWEEN {dec - radius!r} AND {dec + radius!r}")
        conditions.append(f"dbo.fDistanceArcMinEq({ra!r}, {dec!r}, s.ra, s.dec) <= {60 * radius!r}")
    return (
        f"SELECT {', '.join(columns)} FROM SpecObj AS s JOIN PhotoObj AS p ON p.objID = s.bestObjID "
        f"WHERE {' AND '.join(conditions)}"
    )


def next_rows(sql: str, after: str | None, most: int) -> str:
    """Return the query for the rows of another that follow an identifier, in order."""
    rest = sql if after is None else f"{sql} AND s.{KEY} > {int(after)}"
    return rest.replace("SELECT ", f"SELECT TOP {most} ", 1) + f" ORDER BY s.{KEY}"


def restricted(query: str, most: int) -> str:
    """Return a user's query with a limit to its rows, if it only reads.

    Raises
    ------
    ParameterFault
        It is not one SELECT, or it writes, or reads somebody's own tables.
    """
    try:
        trees = sqlglot.parse(query, read="tsql")
    except sqlglot.errors.SqlglotError as error:
        raise ParameterFault(f"QUERY cannot be read as SQL: {str(error).partition(chr(10))[0]}") from error
    tree = trees[0] if len(trees) == 1 else None
    if not isinstance(tree, exp.Query) or tree.find(exp.Into, exp.Insert, exp.Update, exp.Delete, exp.Command):
        raise ParameterFault("QUERY must be one SELECT that writes nothing; SELECT ... INTO is not allowed.")
    if any("mydb" in (table.db.lower(), table.catalog.lower()) for table in tree.find_all(exp.Table)):
        raise ParameterFault("QUERY reads mydb; only the tables of the survey can be read.")
    own = tree.args.get("limit")
    rows = int(own.expression.name) if own is not None and own.expression.name.isdecimal() else most
    return str(tree.limit(min(rows, most), copy=True).sql(dialect="tsql", comments=False))


def table_of(text: str, server: str) -> pa.Table:
    """Return the rows of an answer in CSV: ``#Table1``, a header, rows.

    Raises
    ------
    ArchiveFault
        It is something else, or ends in the middle of a row.
    """
    if text.lstrip().startswith(("{", "[")) or "error_message" in text[:400].lower():
        raise ArchiveFault(f"{server} refuses the query: {' '.join(text.split())[:300]}")
    lines = text.removeprefix("#Table1").lstrip("\r\n")
    if not lines:
        return pa.table({})
    if not lines.endswith("\n"):
        raise ArchiveFault(f"The answer of {server} ends in the middle of a row: {lines[-60:]!r}.")
    convert = pyarrow.csv.ConvertOptions(column_types=_TEXT, null_values=NULLS, strings_can_be_null=True)
    try:
        return pyarrow.csv.read_csv(io.BytesIO(lines.encode()), convert_options=convert)
    except pa.ArrowInvalid as error:
        raise ArchiveFault(f"The answer of {server} is no table: {str(error).partition(chr(10))[0]}.") from error


class SkyServer:
    """The SQL service of SDSS, for the length of a block.

    Parameters
    ----------
    source
        The manifest's entry.
    patience
        How long it is waited for.
    """

    key = KEY

    def __init__(self, source: SdssSource, patience: Patience) -> None:
        self._source = source
        self._session, self._adapter = patient_session(patience)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.close()

    def rows(self, sql: str, after: str | None, most: int) -> tuple[pa.Table, Answer]:
        """Return the rows of a composed query that follow an identifier, in order.

        Raises
        ------
        ArchiveFault
            The server fails, or refuses the query.
        """
        return self.ask(next_rows(sql, after, most))

    def ask(self, sql: str, _most: int | None = None) -> tuple[pa.Table, Answer]:
        """Return the rows of a query, as they come.

        Raises
        ------
        ArchiveFault
            The server fails, or refuses the query.
        """
        with self._client() as client:
            try:
                response = client.query_sql_async(sql, data_release=self._source.release, cache=False)
            except requests.RequestException as error:
                raise ArchiveFault(f"SkyServer does not answer: {error}.") from error
        if not response.ok:
            said = " ".join(response.text.split())[:300]
            raise ArchiveFault(f"SkyServer answers {response.status_code} to the query: {said}")
        answer = self._adapter.last
        assert answer is not None
        return table_of(response.text, "SkyServer"), answer

    @contextmanager
    def _client(self) -> Iterator[Any]:
        # astroquery takes a second to import, and keeps the address of the server in its configuration.
        from astroquery.sdss import SDSSClass, conf

        client = SDSSClass()
        client._session = self._session
        with conf.set_temp("skyserver_baseurl", self._source.server or conf.skyserver_baseurl):
            yield client
